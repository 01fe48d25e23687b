"""What every step of construction leaves: a new folder with tables, what was set aside and why, and a report in numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignprism.prompts.sources import Unreadable
from alignprism.rows import RowError, write_atomic

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row that is not used. ``id`` is the row's, or of what it was made from; ``reason`` is one of few, to be counted.

    ``language`` is empty where the row has none that is known.
    """

    id: str
    reason: str
    detail: str = ""
    language: str = ""


UNREADABLE = "unreadable row"

ORIGINS = "origins.jsonl"
"""Beside written prompts: id, seed, and the keys of the calls that each was read in and checked by."""


def unreadable(row: Unreadable) -> SetAside:
    """A row of a file that cannot be read: where it is, and what is wrong in which column."""
    why = f"{row.column}: {row.reason}" if row.column else row.reason
    return SetAside(f"{row.file}: row {row.row}", UNREADABLE, why)


def first_unreadable(rows: Sequence[SetAside]) -> str:
    """The end of a message that nothing can be used: the first row that could not be read; empty if all could."""
    first = next((row for row in rows if row.reason == UNREADABLE), None)
    return f"; the first unreadable one, {first.id}: {first.detail}" if first is not None else ""


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under its name when all is written, or not at all. Private, as its texts are harmful.

    Raises
    ------
    RowError
        there is one already.
    """
    if path.exists():
        raise RowError(f"{path} exists; name a new folder")
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True, mode=0o700)
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_set_aside(folder: Path, rows: Iterable[SetAside]) -> None:
    """``set_aside.jsonl``: id, reason, detail and language of every row that is not used."""
    write_lines(folder / "set_aside.jsonl", rows)


def write_lines(path: Path, rows: Iterable[DataclassInstance]) -> None:
    """JSON lines of rows that are data classes."""
    write_atomic(path, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows).encode())


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """``report.json``: what was asked for, made, set aside and measured, in numbers; no texts."""
    text = json.dumps(report, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
    write_atomic(folder / "report.json", (text + "\n").encode())
