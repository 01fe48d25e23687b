"""Rows that lie on disk while all are being checked: read back by number, without holding them in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa

_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "seed_id", "language", "split", "file", "text", "folded")]
                    + [("row", pa.int64())])  # fmt: skip


class Spill:
    """An Arrow file of rows in a scratch folder; written once, then mapped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pa.RecordBatchFileWriter | None = pa.ipc.new_file(str(path), _SCHEMA)
        self._starts: list[int] = []
        self.rows = 0

    def __enter__(self) -> Spill:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, columns: dict[str, Sequence[str] | Sequence[int]]) -> None:
        """Add rows, column by column."""
        batch = pa.record_batch({name: columns[name] for name in _SCHEMA.names}, schema=_SCHEMA)
        if self._writer is None:
            raise RuntimeError("rows cannot be added once they are being read")
        self._writer.write_batch(batch)
        self._starts.append(self.rows)
        self.rows += batch.num_rows

    def read(self) -> SpilledRows:
        """Close for writing, and map."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        return SpilledRows(self._path, self._starts)


class SpilledRows:
    """Any value of any row."""

    def __init__(self, path: Path, starts: Sequence[int]) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._starts = list(starts)
        self._batches = [self._reader.get_batch(number) for number in range(self._reader.num_record_batches)]

    def value(self, column: str, row: int) -> str:
        """One text."""
        number = self._batch_of(row)
        found: str = self._batches[number].column(column)[row - self._starts[number]].as_py()
        return found

    def number(self, row: int) -> int:
        """The row number in its file."""
        batch = self._batch_of(row)
        return int(self._batches[batch].column("row")[row - self._starts[batch]].as_py())

    def column(self, name: str) -> list[str]:
        """A whole column."""
        return [value for batch in self._batches for value in batch.column(name).to_pylist()]

    def _batch_of(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1
