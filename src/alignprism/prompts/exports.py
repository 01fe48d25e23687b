"""Exporting tables in a published format, and proof of what comes back when the export is imported again."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignprism.errors import InputError
from alignprism.prompts.formats import formats
from alignprism.prompts.formats.format import Format, Options
from alignprism.prompts.imports import import_files
from alignprism.prompts.sources import list_files
from alignprism.prompts.tables import read_folder
from alignprism.prompts.values import BadValue
from alignprism.rows import RowError, write_atomic


@dataclass(frozen=True, slots=True)
class Exported:
    """Files written, rows by table that the format takes, and how many of them an import brings back unchanged."""

    files: tuple[str, ...]
    rows: Mapping[str, int]
    equal: Mapping[str, int]


def render(name: str, records: Sequence[Mapping[str, Any]]) -> bytes:
    """The bytes of one exported file: CSV, JSON lines, or plain lines of the column ``text``."""
    if name.endswith(".jsonl"):
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    if name.endswith(".csv"):
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, list(records[0]) if records else [], lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(records)
        return out.getvalue().encode()
    return "".join(f"{record['text']}\n" for record in records).encode()


def export_tables(tables: Mapping[str, Sequence[Any]], form: Format, out: Path) -> Exported:
    """Write the tables in a format's files into a new folder, then import them again and compare row by row.

    Raises
    ------
    InputError
        the format cannot be written, or has no place for a row (naming it).
    RowError
        the folder exists.
    """
    if form.export is None:
        known = ", ".join(name for name, found in formats().items() if found.export is not None)
        raise InputError(f"--format {form.name}: can be read only; accepted here: {known}")
    if out.exists():
        raise RowError(f"{out} exists; name a new folder")
    try:
        files = form.export(tables)
    except BadValue as bad:
        raise InputError(f"--format {form.name}: column {bad.column}: {bad.reason}") from bad
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for name, records in files.items():
            write_atomic(temporary / name, render(name, records))
        rows, equal = _come_back(tables, form, temporary)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(tuple(files), rows, equal)


def _come_back(
    tables: Mapping[str, Sequence[Any]], form: Format, folder: Path
) -> tuple[dict[str, int], dict[str, int]]:
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch) / "again"
        import_files(list_files(folder), form, again, Options())
        found = read_folder(again)
    taken = {name: len(tables[name]) for name, rows in found.items() if rows}
    return taken, {name: len(set(tables[name]) & set(found[name])) for name in taken}
