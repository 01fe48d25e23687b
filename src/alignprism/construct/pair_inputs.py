"""What pairs are made of, read from files: training prompts, and pairs that were made elsewhere, each row kept or counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alignprism.construct.mix import Kind
from alignprism.construct.output import SetAside, first_unreadable, unreadable
from alignprism.construct.pairing import refuse_unjudged
from alignprism.errors import InputError
from alignprism.judging.protocol import HarmJudge, Item
from alignprism.models.protocol import Progress
from alignprism.prompts.formats.format import Bad, Options
from alignprism.prompts.formats.trl import FORMAT
from alignprism.prompts.handling import forbidden
from alignprism.prompts.held_out import HELD_OUT, held_out_beside
from alignprism.prompts.prompt_files import read_prompts
from alignprism.prompts.sources import Unreadable, read_source
from alignprism.prompts.values import BadValue
from alignprism.rows import Pair, Prompt, by_id

HANDLING = "handling rules"
HARMFUL = "chosen harmful"

RECORDED_HARMFUL = 0.5
"""A chosen side with a recorded P(harmful) from here on is refused whatever its judge's own threshold was."""


@dataclass
class Given:
    """Rows of a file: those to be used, the others with their reason, and how many there were."""

    prompts: list[Prompt] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Rows read, used, and set aside by reason."""
        reasons = Counter(row.reason for row in self.set_aside)
        return {
            "read": len(self.prompts) + len(self.set_aside),
            "used": len(self.prompts),
            **dict(sorted(reasons.items())),
        }


def read_training_prompts(path: Path, languages: Collection[str]) -> Given:
    """The prompts of split train, in some languages (none named: all). No held-out prompt gets into a pair.

    Raises
    ------
    RowError
        the file cannot be read at all, or an id occurs twice.
    InputError
        no prompt is left.
    """
    given = Given()
    for read in read_prompts([path], Options()):
        if isinstance(read, Unreadable):
            given.set_aside.append(unreadable(read))
            continue
        prompt = read[2]
        reason = forbidden(prompt.text, (*prompt.categories, *prompt.tags))
        if reason is not None:
            given.set_aside.append(SetAside(prompt.id, HANDLING, reason))
        elif prompt.split != "train":
            given.set_aside.append(SetAside(prompt.id, f"split {prompt.split}"))
        elif languages and prompt.language not in languages:
            given.set_aside.append(SetAside(prompt.id, "another language"))
        else:
            given.prompts.append(prompt)
    by_id(given.prompts)
    if not given.prompts:
        listed = ", ".join(f"{n} {reason}" for reason, n in given.counts.items() if reason not in ("read", "used"))
        listed += first_unreadable(given.set_aside)
        raise InputError(f"{path}: no prompt of split train to make pairs of ({listed})")
    return given


@dataclass(frozen=True, slots=True)
class ReadPairs:
    """Pairs of a file, and the rows that are none, by file and row or by id."""

    pairs: list[Pair]
    set_aside: list[SetAside]


def read_pairs(path: Path, kind: Kind, language: str | None = None) -> ReadPairs:
    """Pairs of one kind: a table or folder of ours, or any file in TRL's preference format.

    Set aside: rows with an empty side, or two sides alike; of the other kind; kept out by the handling rules; whose
    chosen side is harmful by the score that stands there; of split dev or test, by their own column or by the
    ``prompts.parquet`` beside them; and repeated ones. `language` is that of rows that name none.

    Raises
    ------
    InputError
        the file cannot be read at all, or nothing in it can be used.
    """
    pairs: dict[str, Pair] = {}
    aside: list[SetAside] = []
    for where, found in _read(path, kind, language):
        reason = found if isinstance(found, str) else _refused(found, pairs)
        if reason is None and isinstance(found, Pair):
            pairs[found.id] = found
        else:
            aside.append(SetAside(where if isinstance(found, str) else f"{where}, id {found.id}", reason or ""))
    if not pairs:
        first = f"; the first, {aside[0].id}: {aside[0].reason}" if aside else ""
        raise InputError(f"{path}: no {kind} pair can be used of {len(aside)} rows{first}")
    return ReadPairs(list(pairs.values()), aside)


def check_pairs(path: Path, kind: Kind) -> None:
    """Whether there is a pair of the kind in a file: rows are read until one can be used.

    Raises
    ------
    InputError
        see `read_pairs`.
    """
    if not any(isinstance(found, Pair) and _refused(found, ()) is None for _, found in _read(path, kind, None)):
        read_pairs(path, kind)  # says why there is none


def _read(path: Path, kind: Kind, language: str | None) -> Iterator[tuple[str, Pair | str]]:
    """Place, and the pair or why there is none."""
    options = Options(language=language)
    held_out = held_out_beside(path)
    if path.is_dir() and (path / "pairs.parquet").is_file():
        path = path / "pairs.parquet"
    for record in read_source(path):
        where = f"{record.file}: row {record.row}"
        if isinstance(record, Unreadable):
            yield where, f"{record.column}: {record.reason}" if record.column else record.reason
            continue
        try:
            (item,) = FORMAT.read(record, "pairs", options, None)
        except BadValue as bad:
            yield where, f"column {bad.column}: {bad.reason}"
            continue
        if isinstance(item, Bad):
            yield where, f"column {item.column}: {item.reason}"
            continue
        (pair,) = item.rows
        assert isinstance(pair, Pair)
        named = str(record.values.get("kind") or kind)
        if named != kind:
            yield where, f"a {named} pair in a file of {kind} pairs"
        elif pair.split != "train":
            yield where, f"split {pair.split}"
        elif held_out.holds(pair.prompt_id, pair.seed_id):
            yield where, HELD_OUT
        else:
            yield where, replace(pair, kind=kind)


def _refused(pair: Pair, known: Collection[str]) -> str | None:
    if pair.chosen.strip() == pair.rejected.strip():
        return "chosen and rejected are the same"
    for text in (pair.prompt, pair.chosen, pair.rejected):
        if reason := forbidden(text, (*pair.categories, *pair.tags)):
            return f"{HANDLING} ({reason})"
    scored = pair.kind == "safety" and pair.chosen_score is not None and pair.chosen_score >= RECORDED_HARMFUL
    if scored:
        return HARMFUL
    return "an id that occurs before" if pair.id in known else None


def refuse_harmful(pairs: Sequence[Pair], judge: HarmJudge, progress: Progress | None = None) -> ReadPairs:
    """Safety pairs whose chosen side the judge calls harmless; the others are set aside: harmful, or not decided.

    Raises
    ------
    PairsStopped
        the budget or the run ended before all were judged, or the judge answered no call.
    """
    items = [Item(p.id, p.prompt, p.chosen, p.language, p.seed_id, p.scope) for p in pairs]
    verdicts = list(judge.judge(items, progress))
    refuse_unjudged(verdicts, judge.name, "chosen sides were not judged")
    kept: list[Pair] = []
    aside: list[SetAside] = []
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if verdict.harm == "harmless":
            score = pair.chosen_score if verdict.score is None else verdict.score
            kept.append(replace(pair, chosen_score=score))
        elif verdict.harm == "harmful":
            aside.append(SetAside(pair.id, HARMFUL, language=pair.language))
        else:
            aside.append(SetAside(pair.id, "chosen not judged", verdict.reason, pair.language))
    return ReadPairs(kept, aside)
