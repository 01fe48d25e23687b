"""Preference pairs in TRL's format: ``prompt``, ``chosen``, ``rejected`` as strings or messages, prompt also implicit.

Our own pairs are a superset: their other columns are read back where they are there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alignprism.errors import shown
from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, as_scope, make_pair, named_split
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, check_text, language_code, listed, number, optional_text, text
from alignprism.rows import content_id

_NUMBERS = ("chosen_score", "rejected_score", "margin")
_WORDS = (
    "judge", "judge_digest", "comparer", "comparer_digest", "ranking",
    *(f"{side}_{name}" for side in ("chosen", "rejected") for name in ("source", "origin", "digest", "completion", "call")),
)  # fmt: skip
"""What our own pairs say of where they are from, read back where it is there."""


def last_answer(row: Mapping[str, Any], column: str, options: Options) -> str:
    """The text of a side: a string, or the content of the last message, which is the assistant's."""
    given = row.get(column)
    if not isinstance(given, list):
        return text(row, column, options.max_characters)
    if not given or not isinstance(given[-1], Mapping) or given[-1].get("role") != "assistant":
        raise BadValue(column, "the last message has to be the assistant's")
    return text(given[-1], "content", options.max_characters)


def _asked(row: Mapping[str, Any], options: Options) -> str:
    """The prompt: a string, one user message, or the messages before the last of ``chosen``."""
    given = row.get("prompt")
    if given is None and isinstance(row.get("chosen"), list):
        given = row["chosen"][:-1]
    if isinstance(given, str):
        check_text(given, "prompt", options.max_characters)
        return text(row, "prompt", options.max_characters)
    if not isinstance(given, list) or not given:
        raise BadValue("prompt", "missing; a string, messages, or whole conversations in chosen and rejected")
    if len(given) != 1 or not isinstance(given[0], Mapping) or given[0].get("role") != "user":
        raise BadValue(
            "prompt", "several turns or a system message: rows hold one user message; train on the file itself"
        )
    return text(given[0], "content", options.max_characters)


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One pair."""
    row = record.values
    asked = _asked(row, options)
    chosen, rejected = last_answer(row, "chosen", options), last_answer(row, "rejected", options)
    if chosen == rejected:
        raise BadValue("rejected", "the same as chosen: no preference")
    code = language_code({"language": row.get("language") or options.language}, "language")
    prompt_id = optional_text(row, "prompt_id") or f"trl-{content_id(code, asked)}"
    rights = FORMAT.rights(options)
    if optional_text(row, "licence"):
        rights = {"licence": row["licence"], "redistribute": str(row.get("redistribute")).lower() in ("true", "1")}
    known: dict[str, Any] = {name: _finite(row, name) for name in _NUMBERS if not _empty(row.get(name))}
    known |= {name: str(row[name]) for name in _WORDS if row.get(name)}
    if row.get("random_side") in ("chosen", "rejected"):
        known["random_side"] = row["random_side"]
    pair = make_pair(
        id=optional_text(row, "id") or f"trl-{content_id(code, asked, chosen, rejected)}",
        prompt=asked, chosen=chosen, rejected=rejected, language=code, prompt_id=prompt_id,
        seed_id=optional_text(row, "seed_id") or prompt_id,
        kind="safety" if row.get("kind") == "safety" else "general",
        scope=as_scope(optional_text(row, "scope")), categories=listed(row.get("categories"), "categories"),
        split=named_split(row) or "train", tags=listed(row.get("tags"), "tags"), **known, **rights,
    )  # fmt: skip
    yield Item((pair,))


def _empty(found: Any) -> bool:
    return found is None or (isinstance(found, str) and not found.strip())


def _finite(row: Mapping[str, Any], column: str) -> float:
    """A score, also as the text that a CSV cell is: one that is not read would let a harmful chosen side pass."""
    found = number(row, column)
    if isinstance(row[column], bool) or not math.isfinite(found):
        raise BadValue(column, f"{shown(row[column])} is not a number; leave it empty where it is not known")
    return found


def export(tables: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    """TRL's three columns first, then all others of a pair."""
    if not tables["pairs"]:
        raise BadValue("pairs", "there are none; TRL's preference format holds pairs")
    rows = []
    for pair in tables["pairs"]:
        values = dataclasses.asdict(pair) | {"categories": list(pair.categories)}
        rows.append({name: values.pop(name) for name in ("prompt", "chosen", "rejected")} | values)
    return {"pairs.jsonl": rows}


FORMAT = Format(
    name="trl",
    about="Preference pairs in TRL's format (prompt, chosen, rejected)",
    tested_on="own files",
    parts={"pairs": Part(r"\.(jsonl?|csv|tsv|parquet|xlsx)$|/\w+$", ("chosen", "rejected"))},
    read=read,
    export=export,
)
