"""Our own rows, as ``data import`` and ``data export --format alignprism`` write them: every column, nothing lost."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alignprism.errors import shown
from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, check_text
from alignprism.rows import Completion, Label, Pair, Prompt, Rating

TABLES: dict[str, type[Any]] = {
    "prompts": Prompt, "completions": Completion, "pairs": Pair, "labels": Label, "ratings": Rating
}  # fmt: skip
_NEEDED = {
    name: tuple(f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING)
    for name, kind in TABLES.items()
}


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One row of the part's type."""
    kind = TABLES[part]
    hints = typing.get_type_hints(kind)
    made = {}
    for field in dataclasses.fields(kind):
        if field.name in record.values:
            made[field.name] = _typed(record.values[field.name], hints[field.name], field.name, options)
        elif field.default is dataclasses.MISSING:
            raise BadValue(field.name, "missing")
    yield Item((kind(**made),))


def _typed(value: Any, hint: Any, column: str, options: Options) -> Any:
    if isinstance(value, str):
        check_text(value, column, options.max_characters)
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise BadValue(column, "a list of texts is expected")
        return tuple(value)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise BadValue(column, f"{shown(value)}; accepted: {', '.join(map(str, typing.get_args(hint)))}")
        return value
    if origin is not None:  # X | None
        inner = next(a for a in typing.get_args(hint) if a is not type(None))
        return None if value is None else _typed(value, inner, column, options)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise BadValue(column, f"{hint.__name__} is expected, not {type(value).__name__}")
    return value


def export(tables: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    """A file of JSON lines for each table that has rows."""
    return {f"{name}.jsonl": [dataclasses.asdict(row) for row in rows] for name, rows in tables.items() if rows}


FORMAT = Format(
    name="alignprism",
    about="Our own rows, every column: prompts, completions, pairs, labels, ratings",
    tested_on="own files",
    parts={name: Part(rf"(^|/){name}(-\w+)?\.(jsonl|parquet)$", columns) for name, columns in _NEEDED.items()},
    read=read,
    export=export,
)
