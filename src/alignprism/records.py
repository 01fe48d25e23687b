"""Rows of files that people save: JSON lines, CSV or Parquet, one dict each, with the number that errors name."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from alignprism.prompts.csv_records import csv_rows, uneven
from alignprism.rows import RowError

_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row number (of the line, for JSON lines) and row, one after the other.

    Raises
    ------
    RowError
        the file cannot be read; a CSV row has broken quotes or another number of cells than the header; or a value is not
        Unicode text, naming row and column.
    """
    for number, record in _records(path):
        for column, value in record.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            if _HALF_CHARACTER.search(text):
                raise RowError(f"{path}: row {number}: column {column}: half of a surrogate pair; not Unicode text")
        yield number, record


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    suffix = path.suffix.lower()
    if not path.exists():
        raise RowError(f"{path}: cannot be read (no such file)")
    if path.is_dir() and suffix != ".parquet":
        raise RowError(f"{path}: a folder; name a file in it that ends in .jsonl, .csv or .parquet")
    if suffix == ".parquet":
        try:
            yield from enumerate(pq.read_table(path).to_pylist(), 1)
        except (OSError, ValueError) as error:
            raise RowError(f"{path}: not a readable Parquet file ({error})") from error
        return
    if suffix not in (".jsonl", ".csv"):
        raise RowError(f"{path}: the name ends in {suffix or 'nothing'}; accepted: .jsonl, .csv, .parquet")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RowError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise RowError(f"{path}: cannot be read ({error.strerror})") from error
    if suffix == ".csv":
        yield from _csv_records(path, text)
        return
    # Not splitlines(): U+2028 and its like are legal inside JSON strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise RowError(f"{path}: row {number}: not JSON ({error.msg} at column {error.colno})") from error
        if not isinstance(record, dict):
            raise RowError(f"{path}: row {number}: a JSON object is expected")
        yield number, record


def _csv_records(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    columns: list[str] | None = None
    number = 0
    # The file ends an open quote: a limit of lines would refuse long answers, and the first damage stops the reading anyway.
    for line, cells in csv_rows(io.StringIO(text, newline=""), ",", sys.maxsize):
        if columns is None:
            if isinstance(cells, str):
                raise RowError(f"{path}: header: {cells}")
            columns = cells
            continue
        number += 1
        if isinstance(cells, str):
            raise RowError(f"{path}: row {number}: {cells}")
        if len(cells) != len(columns):
            raise RowError(f"{path}: row {number}: {uneven(len(cells), len(columns), line)}")
        yield number, dict(zip(columns, cells, strict=True))
