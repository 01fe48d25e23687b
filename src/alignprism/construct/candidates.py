"""Candidate answers to a prompt: sampled from generators, supplied in a file, written by people, or the prompt's own.

`Written` is an answer and where it is from; `Candidate` is an answer and what the judge and the rules say of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alignprism.construct.output import SetAside, unreadable
from alignprism.models.protocol import Answer, Decoding, Engine, Outcome
from alignprism.prompts.handling import forbidden
from alignprism.prompts.sources import Unreadable, read_source
from alignprism.prompts.values import BadValue, optional_text, text
from alignprism.rows import Completion, Prompt, content_id

Origin = Literal["model", "human", "supplied", "reference"]
SUPPLIED_KINDS: tuple[Origin, ...] = ("model", "human", "supplied")

WITHHELD = "withheld by the handling rules"


@dataclass(frozen=True, slots=True)
class Written:
    """An answer to a prompt. ``digest``, ``completion`` and ``call`` say which weights wrote it, and where it is kept."""

    text: str
    source: str
    origin: Origin
    digest: str = ""
    completion: str = ""
    call: str = ""
    licence: str = ""
    redistribute: bool = True

    @property
    def key(self) -> str:
        """One name among the answers to a prompt, which are distinct texts."""
        return self.completion or content_id(self.text.strip())


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer as the ranking sees it.

    ``harm``: the preference judge's P(harmful); ``nll``: negative log-likelihood per character under the base (nats).
    """

    written: Written
    harm: float
    on_language: bool = True
    degenerate: bool = False
    nll: float = 0.0

    @property
    def text(self) -> str:
        """The answer."""
        return self.written.text

    @property
    def reference(self) -> bool:
        """Whether it came with the prompt."""
        return self.written.origin == "reference"

    @property
    def usable(self) -> bool:
        """Whether somebody could want it: in the prompt's language and not broken."""
        return self.on_language and not self.degenerate


@dataclass(frozen=True, slots=True)
class Supplied:
    """Answers of a file by the id of their prompt, and the rows that are no candidate of any."""

    by_prompt: Mapping[str, list[Written]]
    set_aside: list[SetAside]

    @property
    def sources(self) -> set[str]:
        """Who wrote them."""
        return {written.source for found in self.by_prompt.values() for written in found}


def candidates_of(prompt: Prompt, completions: Iterable[Completion], supplied: Iterable[Written] = ()) -> list[Written]:
    """Distinct answers to a prompt: its reference first, then the supplied ones, then what models wrote."""
    found: dict[str, Written] = {}
    reference = prompt.reference
    own = [Written(reference, "reference", "reference")] if reference is not None else []
    for written in (*own, *supplied, *(written_of(row) for row in completions)):
        if key := written.text.strip():
            found.setdefault(key, written)
    return list(found.values())


def written_of(row: Completion) -> Written:
    """A completion as an answer; one whose weights nobody knows is supplied. A failure is an empty answer, never used."""
    origin: Origin = "model" if row.model_digest else "supplied"
    # What a model of the study samples belongs to whoever runs it; what others wrote may be passed on only if they say so.
    own = origin == "model" and not row.licence
    return Written(
        row.text, row.model, origin, row.model_digest, row.id, row.call, row.licence, row.redistribute or own
    )


def completion_rows(
    engine: Engine, outcomes: Iterable[Outcome], decoding: Decoding
) -> tuple[list[Completion], list[SetAside]]:
    """Sampled answers as rows, and those that are withheld or missing, each with its reason.

    Ids are made of the model's digest, the prompt and the sample.
    """
    rows: list[Completion] = []
    aside: list[SetAside] = []
    for outcome in outcomes:
        name = f"{outcome.request_id}/{engine.name}/{outcome.sample}"
        if not isinstance(outcome, Answer):
            aside.append(SetAside(name, f"no answer: {outcome.reason}", outcome.detail))
        elif reason := forbidden(outcome.text):
            aside.append(SetAside(name, WITHHELD, reason))
        else:
            rows.append(
                Completion(
                    id=content_id(engine.digest, outcome.request_id, outcome.sample, "candidate"),
                    prompt_id=outcome.request_id, model=engine.name, model_digest=engine.digest, text=outcome.text,
                    sample=outcome.sample, n_tokens=outcome.n_tokens, truncated=outcome.truncated,
                    temperature=decoding.temperature, seed=decoding.seed, filtered=outcome.filtered, call=outcome.call,
                )
            )  # fmt: skip
    return rows, aside


def supplied_candidates(path: Path, prompts: Sequence[Prompt]) -> Supplied:
    """Answers that somebody brings: a table of any kind that `data import` reads, or a folder of ours; one answer a row.

    Columns: ``prompt_id``, or ``prompt`` (the prompt's text, with ``language`` where a text stands in several);
    ``text`` or ``completion``; ``source`` or ``model`` (who wrote it); optional ``kind`` (model, human, supplied),
    ``model_digest``, ``id``, ``call``, ``licence``, ``redistribute``, ``failure``. Tables of our own completions are such
    files. Rows of prompts that are not among `prompts`, without an answer, not readable, or kept out by the handling
    rules are set aside, as are repetitions.

    Raises
    ------
    RowError
        the file cannot be read at all.
    """
    places = _places(prompts)
    found: dict[str, list[Written]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    aside: list[SetAside] = []
    table = path / "completions.parquet"
    for record in read_source(table if table.is_file() else path):
        if isinstance(record, Unreadable):
            aside.append(unreadable(record))
            continue
        row = f"{record.file}: row {record.row}"
        try:
            prompt_id, written = _prompt_of(record.values, places), _supplied(record.values)
        except BadValue as bad:
            aside.append(SetAside(row, f"column {bad.column}: {bad.reason}"))
            continue
        if prompt_id is None:
            aside.append(SetAside(row, "no such prompt"))
        elif reason := forbidden(written.text):
            aside.append(SetAside(row, WITHHELD, reason))
        elif (prompt_id, written.text.strip()) in seen:
            aside.append(SetAside(row, "the same text as an earlier answer to its prompt"))
        elif (prompt_id, written.key) in seen:
            aside.append(SetAside(row, "the same id as an earlier answer to its prompt"))
        else:
            seen |= {(prompt_id, written.text.strip()), (prompt_id, written.key)}
            found[prompt_id].append(written)
    return Supplied(dict(found), aside)


def _places(prompts: Sequence[Prompt]) -> dict[tuple[str, ...], str]:
    """Prompt ids by id, by text with language, and by text where it stands in one prompt only."""
    by_text: dict[str, list[str]] = defaultdict(list)
    places: dict[tuple[str, ...], str] = {}
    for prompt in prompts:
        places["id", prompt.id] = prompt.id
        places[prompt.language, prompt.text.strip()] = prompt.id
        by_text[prompt.text.strip()].append(prompt.id)
    return places | {("", known): ids[0] for known, ids in by_text.items() if len(ids) == 1}


def _prompt_of(record: Mapping[str, Any], places: Mapping[tuple[str, ...], str]) -> str | None:
    """The prompt that a row answers; None if it is not among them."""
    named = optional_text(record, "prompt_id")
    if named is not None:
        return places.get(("id", named))
    asked = text(record, "prompt").strip()
    code = optional_text(record, "language")
    return places.get((code, asked)) if code else places.get(("", asked))


def _supplied(record: Mapping[str, Any]) -> Written:
    """The answer of a row.

    Raises
    ------
    BadValue
        no text, no source, or an unknown kind.
    """
    if failure := optional_text(record, "failure"):
        raise BadValue("failure", f"the row holds no answer ({failure})")
    kind = optional_text(record, "kind") or ("model" if optional_text(record, "model_digest") else "supplied")
    origin = next((known for known in SUPPLIED_KINDS if known == kind), None)
    if origin is None:
        raise BadValue("kind", f"accepted: {', '.join(SUPPLIED_KINDS)}")
    source = optional_text(record, "source") or optional_text(record, "model")
    if source is None:
        raise BadValue("source", "missing; say who wrote the answer (a model's or a person's name)")
    licence = optional_text(record, "licence") or ""
    return Written(
        text=text(record, "completion" if record.get("completion") else "text"),
        source=source,
        origin=origin,
        digest=optional_text(record, "model_digest") or "",
        # Beside a prompt's text an id may as well be the prompt's, as in files of `alignprism generate`.
        completion=(optional_text(record, "id") or "") if record.get("prompt_id") else "",
        call=optional_text(record, "call") or "",
        licence=licence,
        redistribute=str(record.get("redistribute", "")).lower() in ("true", "1", "yes"),
    )
