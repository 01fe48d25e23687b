"""Tables of rows as Parquet files, written and read in pieces, so that memory does not grow with the rows."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignprism.rows import Completion, Label, Pair, Prompt, Rating, RowError, arrow_schema

TABLES: dict[type[Any], str] = {
    Prompt: "prompts", Completion: "completions", Pair: "pairs", Label: "labels", Rating: "ratings"
}  # fmt: skip
"""Row type to the name of its file, without ``.parquet``."""

HELD_OUT_PAIRS = "held_out_pairs.parquet"
"""Pairs of dev and test prompts, apart from ``pairs.parquet``, so that whoever trains on that file learns none of them."""

PIECE = 5000


class TableWriter:
    """Writes rows of one type to ``PATH``; the file appears when all is written, or not at all."""

    def __init__(self, path: Path, row_type: type[Any]) -> None:
        self.path, self.count = path, 0
        self._schema = arrow_schema(row_type)
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._waiting: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> TableWriter:
        self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd", write_page_checksum=True)
        return self

    def write(self, row: Any) -> None:
        """Add one row."""
        # Not asdict(): its deep copies are most of an import's time.
        self._waiting.append({f.name: getattr(row, f.name) for f in dataclasses.fields(row)})
        self.count += 1
        if len(self._waiting) >= PIECE:
            self._flush()

    def _flush(self) -> None:
        if self._waiting and self._writer is not None:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                with self._temporary.open("rb") as handle:
                    os.fsync(handle.fileno())
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


def read_table(path: Path, row_type: type[Any]) -> Iterator[Any]:
    """The rows of a file written by `TableWriter` or `rows.write_rows`, one after the other.

    Raises
    ------
    RowError
        the file is damaged, or holds other rows.
    """
    known = {f.name for f in dataclasses.fields(row_type)}
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            listed = [f.name for f in file.schema_arrow if pa.types.is_list(f.type) and f.name in known]
            if (found := _row_name(file)) != row_type.__name__:
                raise RowError(f"{path}: holds {found} rows, {row_type.__name__} expected")
            for batch in file.iter_batches(batch_size=PIECE):
                for record in batch.to_pylist():
                    for name in listed:
                        record[name] = tuple(record[name] or ())
                    yield row_type(**{name: value for name, value in record.items() if name in known})
    except (pa.ArrowException, OSError, TypeError) as error:
        raise RowError(f"{path}: not a readable file of {row_type.__name__} rows ({error})") from error


def _row_name(file: pq.ParquetFile) -> str:
    metadata = file.schema_arrow.metadata or {}
    return str(metadata.get(b"alignprism.row", b"unknown").decode())


def row_type_of(path: Path) -> type[Any] | None:
    """The type of rows that one of our Parquet files holds; None for other files."""
    try:
        with pq.ParquetFile(path) as file:
            name = _row_name(file)
    except (pa.ArrowException, OSError):
        return None
    return next((kind for kind in TABLES if kind.__name__ == name), None)


def read_folder(folder: Path, *, held_out: bool = False) -> dict[str, list[Any]]:
    """All tables of an imported folder, by name; empty lists for those it does not have.

    With `held_out` the pairs of dev and test prompts that `data split` wrote apart are among the pairs.

    Raises
    ------
    RowError
        the folder holds none of them.
    """
    found = {
        name: list(read_table(path, kind)) if (path := folder / f"{name}.parquet").is_file() else []
        for kind, name in TABLES.items()
    }
    if held_out and (folder / HELD_OUT_PAIRS).is_file():
        found["pairs"] += read_table(folder / HELD_OUT_PAIRS, Pair)
    if not any(found.values()):
        raise RowError(
            f"{folder}: holds none of {', '.join(f'{name}.parquet' for name in TABLES.values())}; "
            "give a folder that `alignprism data import` wrote"
        )
    return found
