"""PolyRefuse (mainlp/Multilingual-Refusal): parallel prompts, refusals against harmful compliance, completions.

The compact files of one repository commit: ``prompts_XX``, ``pairs_XX``, ``completions_XX``. Labels are WildGuard's.
Completions and rejected sides are really harmful text, so they are never republished; the harmless prompts come from
a set with a non-commercial licence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, make_pair, ratings, set_split, supplied
from alignprism.prompts.sources import Record, SourceFile, read_source_file
from alignprism.prompts.values import BadValue, identifier, language_code, one_of, optional_text, text
from alignprism.rows import Prompt

SOURCE = "mainlp/Multilingual-Refusal (PolyRefuse)"
# Where the set's label (a mixture of several naming schemes) says the same as one of the nine categories.
CATEGORIES = {
    "Hate, harassment and discrimination": ("hate_speech", "bullying_harassment", "discrimination_injustice"),
    "Harassment/Discrimination": ("bullying_harassment", "discrimination_injustice"),
    "harassment_bullying": ("bullying_harassment",),
    "Violence": ("violence_threats_incitement",),
    # A tag of what never enters a generating stage.
    "chemical_biological": ("cbrn",),
}
_LABELS = ("request_harmful", "refusal", "response_harmful")


def prepare(files: Sequence[SourceFile], options: Options) -> dict[str, str]:
    """Prompt id to the id of the earlier row with the same English text, from one file of prompts (ids are parallel)."""
    for file in files:
        if FORMAT.parts["prompts"].takes(file.name):
            rows = (r.values for r in read_source_file(file) if isinstance(r, Record))
            return {str(row.get("id")): str(row["duplicate_of"]) for row in rows if row.get("duplicate_of")}
    return {}


def read(record: Record, part: str, options: Options, prepared: Mapping[str, str]) -> Iterator[Item | Bad]:
    """A prompt, a pair, or a completion with its labels."""
    row = record.values
    code = language_code(row, "language")
    if part == "prompts":
        yield _prompt(row, code, options)
    elif part == "pairs":
        yield _pair(row, code, options, prepared)
    else:
        yield _completion(row, code, options)


def _id(name: str, code: str) -> str:
    return f"polyrefuse-{name}-{code}"


def _prompt(row: dict[str, Any], code: str, options: Options) -> Item:
    name = identifier(row, "id")
    harmful = one_of(row, "label", ("harmful", "harmless")) == "harmful"
    seed_id = f"polyrefuse-{optional_text(row, 'duplicate_of') or name}"
    category = optional_text(row, "category")
    rights: dict[str, Any] = {"licence": FORMAT.licence, "redistribute": harmful}
    if not harmful:
        rights["licence"] = "Apache-2.0 (texts from Alpaca: CC-BY-NC-4.0)"
    return Item(
        (
            Prompt(
                id=_id(name, code),
                text=text(row, "prompt", options.max_characters),
                language=code,
                set="translated" if harmful else "general",
                split=set_split(optional_text(row, "split"), seed_id),
                seed_id=seed_id,
                categories=CATEGORIES.get(category or "", ()),
                source=SOURCE,
                semantic_translation=optional_text(row, "prompt_en") if code != "en" else None,
                tags=(category,) if category else (),
                **rights,
            ),
        )
    )


def _pair(row: dict[str, Any], code: str, options: Options, duplicates: Mapping[str, str]) -> Item:
    prompt = identifier(row, "prompt_id")
    chosen_labels, rejected_labels = _labels(row, "chosen_labels"), _labels(row, "rejected_labels")
    category = optional_text(row, "category") or ""
    pair = make_pair(
        id=_id(identifier(row, "id"), code),
        prompt=text(row, "prompt", options.max_characters),
        chosen=text(row, "chosen", options.max_characters),
        rejected=text(row, "rejected", options.max_characters),
        prompt_id=_id(prompt, code),
        seed_id=f"polyrefuse-{duplicates.get(prompt, prompt)}",
        language=code,
        kind="safety",
        categories=CATEGORIES.get(category, ()),
        chosen_source=text(row, "chosen_model"),
        rejected_source=text(row, "rejected_model"),
        chosen_score=float(chosen_labels["response_harmful"]),
        rejected_score=float(rejected_labels["response_harmful"]),
        judge="WildGuard, on machine translations (1 = harmful)",
        tags=(category,) if category else (),
        **FORMAT.rights(options),
    )
    return Item((pair,))


def _completion(row: dict[str, Any], code: str, options: Options) -> Item:
    prompt = identifier(row, "prompt_id")
    model = f"{text(row, 'model')} {one_of(row, 'variant', ('baseline', 'ablated'))}"
    identity = _id(f"{prompt}-{model.replace(' ', '-')}", code)
    rights = FORMAT.rights(options)
    # An empty answer is an answer: the models gave some.
    response = row.get("response")
    if not isinstance(response, str):
        raise BadValue("response", "missing; a text is expected, if an empty one")
    completion = supplied(
        id=identity,
        prompt_id=_id(prompt, code),
        model=model,
        text=response if not response.strip() else text(row, "response", options.max_characters),
        truncated=bool(row.get("truncated")),
        **rights,
    )
    return Item(
        (completion, *ratings("completion", identity, "WildGuard", _labels(row, "labels"), source=SOURCE, **rights))
    )


def _labels(row: dict[str, Any], column: str) -> dict[str, int]:
    found = row.get(column)
    if not isinstance(found, dict) or not all(found.get(name) in (0, 1, None) for name in _LABELS):
        raise BadValue(column, f"{{{', '.join(_LABELS)}}} with 0 or 1 is expected")
    return {name: found[name] for name in _LABELS if found.get(name) is not None}


FORMAT = Format(
    name="polyrefuse",
    about="PolyRefuse: parallel harmful and harmless prompts, refusals against compliance, labelled completions",
    tested_on="published files",
    parts={
        "prompts": Part(r"prompts_\w+\.jsonl$", ("id", "language", "label", "prompt")),
        "pairs": Part(r"pairs_\w+\.jsonl$", ("id", "prompt_id", "language", "prompt", "chosen", "rejected")),
        "completions": Part(r"completions_\w+\.jsonl$", ("prompt_id", "language", "model", "variant", "response")),
    },
    read=read,
    licence="Apache-2.0",
    redistribute=False,
    prepare=prepare,
)
