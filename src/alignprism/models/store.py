"""Every answer a model gave, on disk before anyone uses it.

One SQLite file. A row's key is a hash over everything that can change the answer (see `call_key`), so that an answer
is asked for once and two different questions never share a row. A batch is written in one transaction: after a power
cut it is there whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from alignprism.errors import Failure

STORE_VERSION = 1
_MAX_PARAMETERS = 500  # of one SQL statement; SQLite's own limit is higher, but not the same everywhere

_ROOM = 2**17  # bytes; SQLite's log and its index want this much at once

Status = Literal["answered", "failed"]


class StoreError(Failure):
    """A call store that cannot be read by this version."""


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a model and its raw answer. A failed call keeps its reason in `error` and is no answer.

    ``latency`` is in seconds, for local engines that of the whole batch; ``created`` is Unix time.
    """

    key: str
    model_digest: str
    text: str
    n_tokens: int
    truncated: bool
    latency: float
    status: Status = "answered"
    error: str = ""
    created: float = field(default_factory=time.time)


def call_key(model_digest: str, rendered_prompt: str, decoding: Mapping[str, object], sample: int, seed: int) -> str:
    """sha256 (hex) over all that can change an answer: the model, the text it saw, how it was decoded, which sample."""
    parts = [STORE_VERSION, model_digest, rendered_prompt, dict(decoding), sample, seed]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, model_digest TEXT NOT NULL, text TEXT NOT NULL, n_tokens INTEGER NOT NULL,
    truncated INTEGER NOT NULL, latency REAL NOT NULL, status TEXT NOT NULL CHECK (status IN ('answered', 'failed')),
    error TEXT NOT NULL, created REAL NOT NULL
) WITHOUT ROWID
"""
_COLUMNS = "key, model_digest, text, n_tokens, truncated, latency, status, error, created"
# The first answer stays: someone may have used it already. A failure gives way to an answer.
_PUT = f"""
INSERT INTO calls ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    text = excluded.text, n_tokens = excluded.n_tokens, truncated = excluded.truncated, latency = excluded.latency,
    status = excluded.status, error = excluded.error, created = excluded.created
WHERE calls.status = 'failed'
"""


def _raise_if_full(path: Path, error: sqlite3.Error) -> None:
    """Say that the disk is full where it is. SQLite calls it an I/O error when its shared memory finds no room."""
    code = error.sqlite_errorcode & 0xFF
    no_room = code == sqlite3.SQLITE_IOERR and shutil.disk_usage(path.parent).free < _ROOM
    if code == sqlite3.SQLITE_FULL or no_room:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


class CallStore:
    """The ``calls.sqlite`` of a run. Safe for several processes; a context manager that closes itself.

    Raises
    ------
    StoreError
        the file is no call store, or of a newer version; it is left untouched.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
        try:
            version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
            if version > STORE_VERSION:
                raise StoreError(f"{path}: written by a newer alignprism (store {version}, this reads {STORE_VERSION})")
            self._connection.execute("PRAGMA journal_mode = WAL")
            # FULL: a transaction that was acknowledged survives a power cut, not only a killed process.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(_SCHEMA)
            self._connection.execute(f"PRAGMA user_version = {STORE_VERSION}")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            _raise_if_full(path, error)
            raise StoreError(f"{path}: not a readable call store ({error}); move it away and run again") from error
        except StoreError:
            self._connection.close()
            raise

    def put_many(self, calls: Iterable[Call]) -> None:
        """Write a batch of calls: all of them or none, and on disk when this returns."""
        rows = [
            (c.key, c.model_digest, c.text, c.n_tokens, c.truncated, c.latency, c.status, c.error, c.created)
            for c in calls
        ]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_PUT, rows)
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            _raise_if_full(self.path, error)
            raise
        finally:  # also Ctrl-C: an open transaction would block every other process
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def get_many(self, keys: Sequence[str]) -> dict[str, Call]:
        """The answers among `keys`; failed calls are no answers and are left out."""
        return {call.key: call for call in self._read(keys) if call.status == "answered"}

    def failures(self, keys: Sequence[str]) -> dict[str, Call]:
        """The failed calls among `keys`."""
        return {call.key: call for call in self._read(keys) if call.status == "failed"}

    def _read(self, keys: Sequence[str]) -> list[Call]:
        found: list[Call] = []
        for start in range(0, len(keys), _MAX_PARAMETERS):
            part = list(keys[start : start + _MAX_PARAMETERS])
            marks = ", ".join("?" * len(part))
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM calls WHERE key IN ({marks})", part)
            # SQLite has no booleans: truncated comes back as 0 or 1.
            found.extend(replace(call, truncated=bool(call.truncated)) for call in (Call(*row) for row in rows))
        return found

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM calls WHERE status = 'answered'").fetchone()[0])

    def purge_texts(self) -> int:
        """Empty every stored text, keeping keys and counts; returns how many rows. Emptied rows answer no more."""
        changed = self._connection.execute(
            "UPDATE calls SET text = '', status = 'failed', error = 'purged' WHERE text <> '' OR error <> 'purged'"
        ).rowcount
        # Deleted text stays in free pages and in the write-ahead log until the file is written anew.
        self._connection.execute("VACUUM")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(changed)

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
