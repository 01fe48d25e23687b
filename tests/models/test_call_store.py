"""Version 2 of the call store: older files go on, many callers share a transaction, replies are kept beside answers."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from alignprism.models.protocol import Request
from alignprism.models.store import Call, CallStore, Purpose, call_key
from alignprism.models.store_file import STORE_VERSION, file_system, on_network_disk

VERSION_1 = """
CREATE TABLE calls (
    key TEXT PRIMARY KEY, model_digest TEXT NOT NULL, text TEXT NOT NULL, n_tokens INTEGER NOT NULL,
    truncated INTEGER NOT NULL, latency REAL NOT NULL, status TEXT NOT NULL CHECK (status IN ('answered', 'failed')),
    error TEXT NOT NULL, created REAL NOT NULL
) WITHOUT ROWID
"""


def _call(key: str, text: str = "t", **others: object) -> Call:
    return Call(key, "d", text, 1, False, 0.1, **others)  # type: ignore[arg-type]


def _version_1(path: Path, calls: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(VERSION_1)
        connection.executemany(
            "INSERT INTO calls VALUES (?, 'd', ?, 3, ?, 0.5, ?, ?, 7.5)",
            [
                (
                    f"k{n}",
                    "" if n % 5 == 0 else f"نص {n}",
                    n % 2,
                    *(("failed", "timeout") if n % 5 == 0 else ("answered", "")),
                )
                for n in range(calls)
            ],
        )
        connection.execute("PRAGMA user_version = 1")
        connection.commit()


def test_a_file_of_version_1_keeps_every_answer_and_failure(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    _version_1(path, 50)
    for _ in range(2):  # the second opening finds it done
        with CallStore(path) as store:
            assert len(store) == 40
            found = store.get_many([f"k{n}" for n in range(50)])
            assert found["k7"] == Call("k7", "d", "نص 7", 3, True, 0.5, created=7.5)
            assert {c.error for c in store.failures([f"k{n}" for n in range(50)]).values()} == {"timeout"}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (STORE_VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_processes_that_open_an_old_file_at_once_migrate_it_once(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    _version_1(path, 2000)
    sizes: list[int] = []

    def open_it() -> None:
        with CallStore(path) as store:
            sizes.append(len(store))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [1600] * 4


def test_keys_of_version_1_are_the_keys_of_today() -> None:
    expected = "5487c221c86779ee7fe80b4e730c7cefd7cd8fdde18aad4f4ce15a30d892053d"
    assert call_key("m", "p", {"max_new_tokens": 8}, 0, 0) == expected


def test_many_callers_share_a_transaction_and_each_is_on_disk_when_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    commits: list[str] = []
    with CallStore(path) as store, closing(sqlite3.connect(path)) as other:
        store._writer.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)

        async def put(number: int) -> None:
            call = await store.put(_call(f"k{number}", f"text {number}"))
            seen = other.execute("SELECT text FROM calls WHERE key = ?", (call.key,)).fetchone()
            assert seen == (f"text {number}",)

        async def run() -> None:
            await asyncio.gather(*(put(n) for n in range(500)))

        asyncio.run(run())
        assert len(store) == 500
    assert 1 <= len(commits) < 50


def test_a_reader_never_sees_what_is_not_committed(tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        store._writer.execute("BEGIN IMMEDIATE")
        store._writer.execute(
            "INSERT INTO calls (key, model_digest, text, n_tokens, truncated, latency, status, error, created) "
            "VALUES ('k', 'd', 't', 1, 0, 0.1, 'answered', '', 0)"
        )
        assert store.get_many(["k"]) == {}
        store._writer.execute("ROLLBACK")


def test_who_comes_second_gets_the_answer_that_stays(tmp_path: Path) -> None:
    async def run(store: CallStore) -> Call:
        return await store.put(_call("a", "second"))

    with CallStore(tmp_path / "calls.sqlite") as store:
        store.put_many([_call("a", "first")])
        assert asyncio.run(run(store)).text == "first"


def test_a_transaction_that_fails_is_told_to_all_who_wait_and_the_store_goes_on(tmp_path: Path) -> None:
    async def run(store: CallStore) -> list[object]:
        return await asyncio.gather(
            store.put(_call("a")), store.put(_call("b", status="nonsense")), return_exceptions=True
        )

    with CallStore(tmp_path / "calls.sqlite") as store:
        assert [type(end) for end in asyncio.run(run(store))] == [sqlite3.IntegrityError] * 2
        assert len(store) == 0
        assert asyncio.run(store.put(_call("c"))).key == "c"


def test_an_error_of_any_kind_is_told_and_the_store_goes_on(tmp_path: Path) -> None:
    async def both(store: CallStore) -> Call:
        with pytest.raises(
            UnicodeEncodeError
        ):  # half of a surrogate pair: no SQLite error; the caller once waited for ever
            await asyncio.wait_for(store.put(_call("a", "\ud800")), 10)
        return await asyncio.wait_for(store.put(_call("b")), 10)

    with CallStore(tmp_path / "c.sqlite") as store:
        assert asyncio.run(both(store)).key == "b"
        assert set(store.get_many(["a", "b"])) == {"b"}


def test_what_nobody_waits_for_is_on_disk_when_the_store_is_closed(tmp_path: Path) -> None:
    with CallStore(tmp_path / "c.sqlite") as store:
        store.put_soon(_call("a", status="failed", error="interrupted", cost=2.0), [Purpose("a", "judge", "m", "r", 0)])
    with CallStore(tmp_path / "c.sqlite") as store:
        assert store.spent() == 2.0
        assert store.failures(["a"])["a"].error == "interrupted"
        assert [purpose.request_id for purpose in store.purposes()] == ["r"]


def test_failures_add_up_and_give_way(tmp_path: Path) -> None:
    failed = _call("a", "", status="failed", error="timeout", attempts=3, cost=0.25, detail="no reply")
    with CallStore(tmp_path / "calls.sqlite") as store:
        store.put_many([failed])
        store.put_many([failed])
        assert (store.failures(["a"])["a"].attempts, store.spent()) == (6, 0.5)
        store.put_many([_call("a", "now", attempts=1, cost=0.125)])
        assert (store.get_many(["a"])["a"].attempts, store.spent()) == (7, 0.625)
        assert store.failures(["a"]) == {}


def test_all_that_was_said_comes_back(tmp_path: Path) -> None:
    raw = '{"choices": ["ünïcode"]}'.encode() * 50
    call = _call(
        "a", filtered=True, finish="length", served="m", fingerprint="f", prompt_tokens=7, completion_tokens=None,
        parse="ok", log_probs=(-0.5, -1.25), tokens=("न", "\n"), raw=raw,
    )  # fmt: skip
    with CallStore(tmp_path / "calls.sqlite") as store:
        store.put_many([call])
        found = store.get_many(["a"])["a"]
        assert found.raw is None  # not read with the answer
        assert store.raw_reply("a") == raw
        assert store.raw_reply("b") is None
        for name in (
            "filtered",
            "finish",
            "served",
            "fingerprint",
            "prompt_tokens",
            "completion_tokens",
            "log_probs",
            "tokens",
        ):
            assert getattr(found, name) == getattr(call, name)


def test_one_answer_may_serve_many_questions(tmp_path: Path) -> None:
    requests = [Request("p1", "same"), Request("p2", "same", role="judge")]
    purposes = [Purpose.of("a", "m", request, 0) for request in requests]
    with CallStore(tmp_path / "calls.sqlite") as store:
        store.put_many([_call("a")], purposes)
        store.add_purposes([*purposes, Purpose("absent", "judge", "m", "p3", 0)])
        assert list(store.purposes()) == purposes


def test_purging_leaves_no_reply_in_the_file(tmp_path: Path) -> None:
    secret = b"a very particular sentence"
    with CallStore(tmp_path / "calls.sqlite") as store:
        call = _call("a", secret.decode(), raw=secret, tokens=(secret.decode(),))
        store.put_many([call, _call("b", "", status="failed", error="invalid reply", raw=secret)])
        assert store.purge_texts() == 2
        assert store.raw_reply("a") is None and store.raw_reply("b") is None
        assert store.purge_texts() == 0
    assert all(secret not in file.read_bytes() for file in tmp_path.iterdir())


MOUNTS = """22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:30 / /home rw,nosuid shared:2 - nfs4 server:/home rw,vers=4.2
31 30 0:31 / /home/a\\040b rw - xfs /dev/sdb rw
32 22 0:32 / /mnt/s rw - fuse.sshfs user@host:/ rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/x", "ext4"),
        ("/home/me/run", "nfs4"),
        ("/homestead", "ext4"),
        ("/home/a b/run", "xfs"),
        ("/mnt/s/r", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_longest_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_the_journal_fits_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with CallStore(tmp_path / "local.sqlite") as store:
        mode = "delete" if on_network_disk(tmp_path / "local.sqlite") else "wal"
        assert store._writer.execute("PRAGMA journal_mode").fetchone() == (mode,)
    monkeypatch.setattr("alignprism.models.store_file.on_network_disk", lambda _: True)
    with CallStore(tmp_path / "local.sqlite") as store:  # also a file that was made elsewhere
        assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        store.put_many([_call("a")])
        assert set(store.get_many(["a"])) == {"a"}
