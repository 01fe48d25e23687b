"""Every answer a model gave, on disk before anyone uses it.

One SQLite file. A row's key is a hash over everything that can change the answer (see `call_key`), so that an answer
is asked for once and two different questions never share a row. A batch is written in one transaction: after a power
cut it is there whole or not at all. Many callers that wait at the same time share a transaction (`CallStore.put`).
What a server sent is kept beside what was read from it, so that reading can be done again without asking.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from alignprism.models.group_commit import GroupCommit
from alignprism.models.protocol import Request, Role
from alignprism.models.store_file import StoreError, connect, folder_room, prepare

__all__ = ["Call", "CallStore", "Purpose", "Served", "StoreError", "call_key"]

_KEY_VERSION = 1
_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
_MAX_PARAMETERS = 500  # of one SQL statement; SQLite's own limit is higher, but not the same everywhere
_ROOM = 2**17  # bytes; SQLite's log and its index want this much at once

Status = Literal["answered", "failed"]


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a model and its raw answer. A failed call keeps its reason in `error` and is no answer.

    ``latency`` is in seconds, for local engines that of the whole batch; ``created`` is Unix time. ``detail`` is one
    line for people. ``served`` and ``fingerprint`` are what a server said answered; ``finish`` its word for why the
    answer ended; ``parse`` is "ok", or what was wrong with the reply (empty: there was nothing to read). Token counts
    are the server's, None where it gave none; ``cost`` is in dollars, over all ``attempts``. ``raw`` is the reply as it
    came; it is written but not read with the answer (see `CallStore.raw_reply`).
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
    detail: str = ""
    attempts: int = 1
    filtered: bool = False
    finish: str = ""
    served: str = ""
    fingerprint: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float = 0.0
    parse: str = ""
    log_probs: tuple[float, ...] | None = None
    tokens: tuple[str, ...] | None = None
    raw: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a call was made for: the role, the asking model's name, the request and its sample. One answer may have many."""

    key: str
    role: Role
    model: str
    request_id: str
    sample: int

    @classmethod
    def of(cls, key: str, model: str, request: Request, sample: int) -> Purpose:
        """The purpose of one sample of a request."""
        return cls(key, request.role, model, request.id, sample)


@dataclass(frozen=True, slots=True)
class Served:
    """What an address said it served when it was last asked: the model's name and what else it told of its weights."""

    address: str
    model: str
    served: str
    description: str
    seen: float


def call_key(model_digest: str, rendered_prompt: str, decoding: Mapping[str, object], sample: int, seed: int) -> str:
    """sha256 (hex) over all that can change an answer: the model, the text it saw, how it was decoded, which sample."""
    parts = [_KEY_VERSION, model_digest, rendered_prompt, dict(decoding), sample, seed]
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()


_READ = (
    "key, model_digest, text, n_tokens, truncated, latency, status, error, created, detail, attempts, filtered, finish, "
    "served, fingerprint, prompt_tokens, completion_tokens, cost, parse, log_probs, tokens"
)
_REPLACED = [name for name in f"{_READ}, raw".split(", ") if name not in {"key", "model_digest", "attempts", "cost"}]
# The first answer stays: someone may have used it already. A failure gives way to what comes later; what both cost adds up.
_PUT = f"""
INSERT INTO calls ({_READ}, raw) VALUES ({", ".join("?" * (_READ.count(",") + 2))})
ON CONFLICT (key) DO UPDATE SET
    attempts = calls.attempts + excluded.attempts, cost = calls.cost + excluded.cost,
    {", ".join(f"{name} = excluded.{name}" for name in _REPLACED)}
WHERE calls.status = 'failed'
"""
_PUT_PURPOSE = """
INSERT OR IGNORE INTO purposes (call, role, model, request, sample) SELECT id, ?, ?, ?, ? FROM calls WHERE key = ?
"""


def _raise_if_full(path: Path, error: sqlite3.Error) -> None:
    """Say that the disk is full where it is. SQLite calls it an I/O error when its shared memory finds no room."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    no_room = code == sqlite3.SQLITE_IOERR and folder_room(path) < _ROOM
    if code == sqlite3.SQLITE_FULL or no_room:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


class CallStore:
    """The ``calls.sqlite`` of a run. Safe for several processes and threads; a context manager that closes itself.

    Raises
    ------
    StoreError
        the file is no call store, or of a newer version; it is left untouched.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = connect(path)
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        try:
            prepare(self._writer, path)
            # A connection of its own: whoever reads must not see what is not committed yet.
            self._reader = connect(path)
        except sqlite3.DatabaseError as error:
            self._writer.close()
            _raise_if_full(path, error)
            raise StoreError(f"{path}: not a readable call store ({error}); move it away and run again") from error
        except StoreError:
            self._writer.close()
            raise
        self._group = GroupCommit(self._write)

    # --- writing -----------------------------------------------------------------------------------------------------

    def put_many(self, calls: Iterable[Call], purposes: Iterable[Purpose] = ()) -> None:
        """Write a batch of calls: all of them or none, and on disk when this returns."""
        self._write(list(calls), list(purposes))

    async def put(self, call: Call, purposes: Sequence[Purpose] = ()) -> Call:
        """Write one call, in one transaction with whatever else waits; returns when it is on disk.

        The result is the call that counts: if the key had an answer before, that one.
        """
        return (await self._group.put([call], purposes)).get(call.key, call)

    def put_soon(self, call: Call, purposes: Sequence[Purpose] = ()) -> None:
        """Write one call without waiting for it; it is on disk when the store is closed, if the disk has room."""
        self._group.put_soon([call], purposes)

    async def note(self, purposes: Sequence[Purpose]) -> None:
        """Note what stored answers are used for as well, in one transaction with whatever else waits."""
        await self._group.put([], purposes)

    def add_purposes(self, purposes: Sequence[Purpose]) -> None:
        """Note what stored answers are used for as well."""
        if purposes:
            self._write([], list(purposes))

    def _write(self, calls: list[Call], purposes: list[Purpose]) -> dict[str, Call]:
        """One transaction; returns the answers that were there before, which stay."""
        with self._writing:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                before = {c.key: c for c in _read(self._writer, [c.key for c in calls]) if c.status == "answered"}
                self._writer.executemany(_PUT, map(_row, calls))
                self._writer.executemany(
                    _PUT_PURPOSE, [(p.role, p.model, p.request_id, p.sample, p.key) for p in purposes]
                )
                self._writer.execute("COMMIT")
            except sqlite3.OperationalError as error:
                _raise_if_full(self.path, error)
                raise
            finally:  # also Ctrl-C: an open transaction would block every other process
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
        return before

    # --- reading -----------------------------------------------------------------------------------------------------

    def get_many(self, keys: Sequence[str]) -> dict[str, Call]:
        """The answers among `keys`; failed calls are no answers and are left out."""
        return {call.key: call for call in self._found(keys) if call.status == "answered"}

    def failures(self, keys: Sequence[str]) -> dict[str, Call]:
        """The failed calls among `keys`."""
        return {call.key: call for call in self._found(keys) if call.status == "failed"}

    def _found(self, keys: Sequence[str]) -> list[Call]:
        with self._reading:
            return _read(self._reader, keys)

    def raw_reply(self, key: str) -> bytes | None:
        """What the server sent for a call, as it came; None for a call without one (a local model, a lost connection)."""
        row = self._one("SELECT raw FROM calls WHERE key = ?", (key,))
        return None if row is None or row[0] is None else zlib.decompress(row[0])

    def spent(self) -> float:
        """What all calls cost together, in dollars."""
        return float(self._one("SELECT coalesce(sum(cost), 0.0) FROM calls")[0])

    def index(self) -> Iterator[tuple[str, str, str, str, str, str]]:
        """Key, status, reason, model digest, served name and fingerprint of every call, in the order of their making."""
        yield from self._stream("SELECT key, status, error, model_digest, served, fingerprint FROM calls ORDER BY id")

    def purposes(self) -> Iterator[Purpose]:
        """What every call was made for, in the order of the calls."""
        for row in self._stream(
            "SELECT key, role, model, request, p.sample FROM purposes p JOIN calls ON calls.id = p.call ORDER BY call"
        ):
            yield Purpose(*row)

    def _stream(self, statement: str) -> Iterator[Any]:
        with closing(connect(self.path)) as connection:
            yield from connection.execute(statement)

    def _one(self, statement: str, values: tuple[object, ...] = ()) -> Any:
        with self._reading:
            return self._reader.execute(statement, values).fetchone()

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM calls WHERE status = 'answered'")[0])

    # --- addresses ---------------------------------------------------------------------------------------------------

    def remember_served(self, served: Served) -> None:
        """Note what an address serves."""
        values = (served.address, served.model, served.served, served.description, served.seen)
        with self._writing:
            self._writer.execute("INSERT OR REPLACE INTO endpoints VALUES (?, ?, ?, ?, ?)", values)

    def served_before(self, address: str, model: str) -> Served | None:
        """What an address served when it was last asked for a model, if it was."""
        row = self._one("SELECT * FROM endpoints WHERE address = ? AND model = ?", (address, model))
        return None if row is None else Served(*row)

    # --- the end -----------------------------------------------------------------------------------------------------

    def purge_texts(self) -> int:
        """Empty every stored text and raw reply, keeping keys and counts; returns how many rows. Emptied rows answer no
        more."""
        with self._writing:
            changed = self._writer.execute(
                "UPDATE calls SET text = '', raw = NULL, log_probs = NULL, tokens = NULL, detail = '', status = 'failed', "
                "error = 'purged' WHERE text <> '' OR raw IS NOT NULL OR error <> 'purged'"
            ).rowcount
            # Deleted text stays in free pages and in the write-ahead log until the file is written anew.
            self._writer.execute("VACUUM")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(changed)

    def close(self) -> None:
        """Write what waits and close the file; the store cannot be used afterwards."""
        self._group.close()
        self._reader.close()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _row(call: Call) -> tuple[object, ...]:
    log_probs = None if call.log_probs is None else json.dumps(call.log_probs)
    tokens = None if call.tokens is None else json.dumps(call.tokens, ensure_ascii=False)
    raw = None if call.raw is None else zlib.compress(call.raw, 1)
    return (
        call.key, call.model_digest, call.text, call.n_tokens, call.truncated, call.latency, call.status, call.error,
        call.created, call.detail, call.attempts, call.filtered, call.finish, call.served, call.fingerprint,
        call.prompt_tokens, call.completion_tokens, call.cost, call.parse, log_probs, tokens, raw,
    )  # fmt: skip


def _read(connection: sqlite3.Connection, keys: Sequence[str]) -> list[Call]:
    found: list[Call] = []
    for start in range(0, len(keys), _MAX_PARAMETERS):
        part = list(keys[start : start + _MAX_PARAMETERS])
        marks = ", ".join("?" * len(part))
        rows = connection.execute(f"SELECT {_READ} FROM calls WHERE key IN ({marks})", part)
        found.extend(map(_call, rows))
    return found


def _call(row: tuple[Any, ...]) -> Call:
    # SQLite has no booleans: truncated (4) and filtered (11) come back as 0 or 1.
    log_probs = None if row[19] is None else tuple(json.loads(row[19]))
    tokens = None if row[20] is None else tuple(json.loads(row[20]))
    values = [*row[:4], bool(row[4]), *row[5:11], bool(row[11]), *row[12:19], log_probs, tokens]
    return Call(*values)
