"""The file under the call store: its schema, its older version, and how its journal is kept on this disk."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from alignprism.errors import Failure

STORE_VERSION = 2


class StoreError(Failure):
    """A call store that cannot be read by this version."""


# Answers are appended (rowid), so that a transaction writes few pages; the raw reply is last, so that reading an answer
# does not read it.
_CALLS = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model_digest TEXT NOT NULL, text TEXT NOT NULL,
    n_tokens INTEGER NOT NULL, truncated INTEGER NOT NULL, latency REAL NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('answered', 'failed')), error TEXT NOT NULL, created REAL NOT NULL,
    detail TEXT NOT NULL DEFAULT '', attempts INTEGER NOT NULL DEFAULT 1, filtered INTEGER NOT NULL DEFAULT 0,
    finish TEXT NOT NULL DEFAULT '', served TEXT NOT NULL DEFAULT '', fingerprint TEXT NOT NULL DEFAULT '',
    prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL NOT NULL DEFAULT 0,
    parse TEXT NOT NULL DEFAULT '', log_probs TEXT, tokens TEXT, raw BLOB
)
"""
# One answer may serve several questions (two prompts with the same text, a judge asked twice about one sentence).
_PURPOSES = """
CREATE TABLE purposes (
    call INTEGER NOT NULL REFERENCES calls (id), role TEXT NOT NULL, model TEXT NOT NULL, request TEXT NOT NULL,
    sample INTEGER NOT NULL, PRIMARY KEY (call, role, model, request, sample)
) WITHOUT ROWID
"""
# What an address said it served, so that a finished run can be read when its servers are gone.
_ENDPOINTS = """
CREATE TABLE endpoints (
    address TEXT NOT NULL, model TEXT NOT NULL, served TEXT NOT NULL, description TEXT NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (address, model)
) WITHOUT ROWID
"""
_FROM_VERSION_1 = """
INSERT INTO calls (key, model_digest, text, n_tokens, truncated, latency, status, error, created)
SELECT key, model_digest, text, n_tokens, truncated, latency, status, error, created FROM calls_1 ORDER BY created, key
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that waits for other writers, in autocommit mode: transactions are begun by hand."""
    return sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring those of an older version up to date, in one transaction.

    Raises
    ------
    StoreError
        the file was written by a newer version; it is left untouched.
    """
    version = _version(connection)
    if version > STORE_VERSION:
        raise StoreError(f"{path}: written by a newer alignprism (store {version}, this reads {STORE_VERSION})")
    # The write-ahead log needs shared memory, which network disks do not give to two machines (sqlite.org/wal.html).
    connection.execute(f"PRAGMA journal_mode = {'DELETE' if on_network_disk(path) else 'WAL'}")
    # FULL: a transaction that was acknowledged survives a power cut, not only a killed process.
    connection.execute("PRAGMA synchronous = FULL")
    if version == STORE_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have been faster
        if version < STORE_VERSION:
            old = version == 1 or _has_table(connection, "calls")
            if old:
                connection.execute("ALTER TABLE calls RENAME TO calls_1")
            for table in (_CALLS, _PURPOSES, _ENDPOINTS):
                connection.execute(table)
            if old:
                connection.execute(_FROM_VERSION_1)
                connection.execute("DROP TABLE calls_1")
            connection.execute(f"PRAGMA user_version = {STORE_VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)).fetchone()
    return found is not None


_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "9p",
    "glusterfs",
    "afs",
    "ncpfs",
    "ocfs2",
    "gfs2",
)


def on_network_disk(path: Path) -> bool:
    """Whether a file lies on a disk that several machines share, as far as the system tells (Linux)."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    kind = file_system(path.resolve(), mounts)
    return kind.removeprefix("fuse.").startswith((*_NETWORK, "sshfs"))


def file_system(path: Path, mountinfo: str) -> str:
    """The type of the file system that holds an absolute path, from the text of ``/proc/self/mountinfo``.

    The format is that of proc(5): the mount point is the fifth field, the type follows a lone hyphen. Of two mounts on
    one point the later one is seen.
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), after.split(" ")[0]
    return kind


def folder_room(path: Path) -> int:
    """Free bytes of the disk that holds a file's folder."""
    state = os.statvfs(path.parent)
    return state.f_bavail * state.f_frsize
