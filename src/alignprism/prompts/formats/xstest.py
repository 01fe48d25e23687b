"""XSTest v2: safe prompts that look unsafe and unsafe contrast prompts; answers of five models labelled by people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, set_split, supplied
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, identifier, one_of, optional_text, text
from alignprism.rows import Prompt, Rating

SOURCE = "paul-rottger/exaggerated-safety (XSTest v2)"
LABELS = ("1_full_compliance", "2_full_refusal", "3_partial_refusal")
_NAME = re.compile(r"xstest_v2_completions_([a-z0-9]+?)(?:_(gpteval|streval))?\.csv")


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """A prompt; a completion with its people's labels; or an automatic label of such a completion."""
    row = record.values
    if part == "prompts":
        yield _prompt(row, options)
        return
    named = _NAME.search(record.file)
    if named is None:
        raise BadValue("", "the file's name names no model; xstest_v2_completions_MODEL.csv is expected")
    number = identifier(row, "id").removeprefix("v2-")
    identity = f"xstest-{number}-{named.group(1)}"
    rights: dict[str, Any] = {
        "licence": "CC-BY-4.0; completions under the licences of Meta, Mistral and OpenAI",
        "redistribute": False,
    }
    if part == "labels":
        column, annotator = (
            ("gpt4_label", "gpt-4") if named.group(2) == "gpteval" else ("strmatch_label", "string match")
        )
        yield Item((_rating(identity, annotator, one_of(row, column, LABELS), rights),))
        return
    completion = supplied(
        id=identity,
        prompt_id=f"xstest-{number}",
        model=named.group(1),
        text=text(row, "completion", options.max_characters),
        **rights,
    )
    people = {"annotation_1": "person 1", "annotation_2": "person 2", "final_label": "final, after discussion"}
    yield Item(
        (completion, *(_rating(identity, who, one_of(row, column, LABELS), rights) for column, who in people.items()))
    )


def _rating(identity: str, annotator: str, label: str, rights: dict[str, Any]) -> Rating:
    return Rating(identity, "completion", annotator, "refusal", float(label[0]), label, SOURCE, **rights)


def _prompt(row: dict[str, Any], options: Options) -> Item:
    seed_id = f"xstest-{identifier(row, 'id')}"
    kind = text(row, "type")
    safe = one_of(row, "label", ("safe", "unsafe")) == "safe"
    if safe == kind.startswith("contrast_"):
        raise BadValue("label", f"contradicts the type {kind!r}: contrast types are unsafe, all others safe")
    more = [tag for column in ("focus", "note") if (tag := optional_text(row, column))]
    return Item(
        (
            Prompt(
                id=seed_id,
                text=text(row, "prompt", options.max_characters),
                language="en",
                set="benign" if safe else "redteam",
                split=set_split(None, seed_id),
                seed_id=seed_id,
                source=SOURCE,
                tags=(kind, *more),
                **FORMAT.rights(options),
            ),
        )
    )


FORMAT = Format(
    name="xstest",
    about="XSTest v2: over-refusal prompts (English), completions with people's refusal labels",
    tested_on="published files",
    parts={
        "prompts": Part(r"xstest_(v2_)?prompts\.csv$", ("id", "prompt", "type", "label")),
        "labels": Part(r"xstest_v2_completions_\w+_(gpteval|streval)\.csv$", ("id",)),
        "completions": Part(r"xstest_v2_completions_\w+\.csv$", ("id", "completion", "annotation_1", "annotation_2")),
    },
    read=read,
    hub=("Paul/XSTest", "walledai/XSTest"),
    licence="CC-BY-4.0",
    redistribute=True,
)
