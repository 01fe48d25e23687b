"""An answer is on disk before it is used, whole batches at a time, and is never asked for twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from alignprism.models.protocol import Decoding
from alignprism.models.store import Call, CallStore, StoreError, call_key
from alignprism.models.units import UNIT_BATCHES


def _call(key: str, text: str = "t", status: str = "answered") -> Call:
    return Call(key, "d", text, 1, False, 0.1, status=status)  # type: ignore[arg-type]


def test_a_failure_is_no_answer_and_gives_way_to_one(tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        store.put_many([_call("a", "", "failed"), _call("b")])
        assert set(store.get_many(["a", "b", "c"])) == {"b"}
        assert set(store.failures(["a", "b"])) == {"a"}
        store.put_many([_call("a", "now")])
        assert store.get_many(["a"])["a"].text == "now"


def test_the_first_answer_stays(tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        store.put_many([_call("a", "first")])
        store.put_many([_call("a", "second"), _call("a", "", "failed")])
        assert store.get_many(["a"])["a"].text == "first"


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        with pytest.raises(sqlite3.IntegrityError):
            store.put_many([_call("a"), _call("b", status="nonsense")])
        assert len(store) == 0
        store.put_many([_call("c")])  # and the store still works
        assert len(store) == 1


def test_thousands_of_keys_can_be_read_at_once(tmp_path: Path) -> None:
    keys = [f"k{n}" for n in range(3000)]
    with CallStore(tmp_path / "calls.sqlite") as store:
        store.put_many(_call(key, text="نص\n") for key in keys)
        assert {call.text for call in store.get_many(keys).values()} == {"نص\n"}
        assert len(store) == 3000


def test_purging_leaves_no_text_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with CallStore(path) as store:
        store.put_many([_call("a", "a very particular sentence")])
        assert store.purge_texts() == 1
        assert store.get_many(["a"]) == {}
    assert all(b"very particular" not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_damaged_or_newer_store_is_refused_untouched(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"this is no database, and long enough to be looked at " * 20)
    with pytest.raises(StoreError, match="not a readable call store"):
        CallStore(damaged)
    newer = tmp_path / "newer.sqlite"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = newer.read_bytes()
    with pytest.raises(StoreError, match="newer alignprism"):
        CallStore(newer)
    assert newer.read_bytes() == before


@pytest.mark.parametrize(
    "other",
    [
        ("other", "p", {"max_new_tokens": 8}, 0, 0),
        ("m", "p ", {"max_new_tokens": 8}, 0, 0),
        ("m", "p", {"max_new_tokens": 9}, 0, 0),
        ("m", "p", {"max_new_tokens": 8}, 1, 0),
        ("m", "p", {"max_new_tokens": 8}, 0, 1),
    ],
)
def test_everything_that_can_change_an_answer_changes_its_key(
    other: tuple[str, str, dict[str, object], int, int],
) -> None:
    assert call_key("m", "p", {"max_new_tokens": 8}, 0, 0) != call_key(*other)


def test_two_checkpoints_never_share_a_call(tiny_gemma: Path, tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        for digest in ("one", "two"):
            list(tiny.engine(tiny_gemma, store, digest).complete(tiny.requests(), Decoding(max_new_tokens=2)))
        assert len(store) == 2 * len(tiny.PROMPTS)


def test_a_stored_run_asks_the_model_nothing(tiny_gemma: Path, tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        first = tiny.answers(tiny_gemma, store)
        engine = tiny.engine(tiny_gemma, store)
        engine.model.forward = None  # any call would now fail
        assert tiny.complete(engine, tiny.requests(), tiny.SAMPLED) == first


def test_a_killed_run_goes_on_to_the_same_answers(tiny_gemma: Path, tmp_path: Path) -> None:
    path, log = tmp_path / "calls.sqlite", tmp_path / "acknowledged"
    command = [sys.executable, str(Path(tiny.__file__)), str(tiny_gemma), str(path), str(log)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    deadline = time.monotonic() + 90
    while not log.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    acknowledged = log.read_text().split()
    with tiny.LoggedStore(path, log) as store:
        assert set(store.get_many(acknowledged)) == set(acknowledged)  # what was acknowledged survived
        unit = UNIT_BATCHES * tiny.SAMPLED.batch_size
        assert len(store) % unit in {0, 30 % unit}  # whole units only
        resumed = tiny.answers(tiny_gemma, store)
    assert resumed == tiny.answers(tiny_gemma, None)
    keys = log.read_text().split()
    assert len(keys) == len(set(keys))  # no answer was asked for twice
