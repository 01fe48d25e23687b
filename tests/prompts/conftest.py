"""Importing small sources: files written for a test, or the first records of real ones."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from alignprism.prompts.exports import export_tables
from alignprism.prompts.formats import find_format
from alignprism.prompts.formats.format import Options
from alignprism.prompts.imports import Imported, import_files
from alignprism.prompts.sources import list_files
from alignprism.prompts.tables import read_folder

Tables = dict[str, list[Any]]


class Outcome:
    """What an import gave: its counts, its tables, and the rows it set aside."""

    def __init__(self, imported: Imported, folder: Path) -> None:
        self.imported, self.folder = imported, folder
        self.tables: Tables = read_folder(folder)
        lines = (folder / "set_aside.jsonl").read_text(encoding="utf-8").split("\n")
        self.aside: list[dict[str, Any]] = [json.loads(line) for line in lines if line]
        total = imported.total
        assert total.read == total.kept + total.set_aside, "counts do not add up"
        assert len(self.aside) == total.set_aside
        assert {name: len(rows) for name, rows in self.tables.items() if rows} == imported.rows


Import = Callable[..., Outcome]


@pytest.fixture
def importing(tmp_path: Path) -> Import:
    """Import a path with a format; options by name."""
    number = 0

    def run(source: Path, form: str, encoding: str = "utf-8-sig", **options: Any) -> Outcome:
        nonlocal number
        number += 1
        out = tmp_path / f"imported-{number}"
        return Outcome(import_files(list_files(source), find_format(form), out, Options(**options), encoding), out)

    return run


@pytest.fixture
def made(tmp_path: Path, importing: Import) -> Import:
    """Import records that a test makes: ``made("aya", {"aya_eng.jsonl": [...]})``."""

    def run(form: str, files: dict[str, Sequence[dict[str, Any]]], **options: Any) -> Outcome:
        folder = tmp_path / f"source-{len(list(tmp_path.iterdir()))}"
        for name, records in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(rendered(name, records))
        return importing(folder, form, **options)

    return run


def rendered(name: str, records: Sequence[dict[str, Any]]) -> bytes:
    """Records as JSON lines or CSV."""
    if name.endswith(".csv"):
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
        return out.getvalue().encode()
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


@pytest.fixture
def slice_of(tmp_path: Path) -> Callable[[Path, int], Path]:
    """The first lines of real gzip'd files, copied out of a folder into the test's own."""

    def run(folder: Path, lines: int) -> Path:
        target = tmp_path / "slice" / folder.name
        for path in sorted(folder.rglob("*.gz")):
            if path.name.endswith(".tar.gz"):
                continue
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(path, "rb") as read, gzip.open(copy, "wb", compresslevel=1) as write:
                for _ in range(lines):
                    write.write(read.readline())
        return target

    return run


@pytest.fixture
def round_trip(tmp_path: Path, importing: Import) -> Callable[[Outcome, str], Tables]:
    """Tables after export and import in a format."""

    def run(outcome: Outcome, form: str) -> Tables:
        out = tmp_path / f"exported-{form}"
        exported = export_tables(outcome.tables, find_format(form), out)
        assert exported.equal == exported.rows
        return importing(out, form).tables

    return run
