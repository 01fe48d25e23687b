"""Many callers, one transaction: whoever waits at the same time is written and told together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alignprism.models.store import Call, Purpose

_GATHER_SECONDS = 0.01  # a transaction waits so long for company; nobody's place in the queue to the model waits

Write = Callable[[list["Call"], list["Purpose"]], dict[str, "Call"]]
"""Writes calls and purposes in one transaction; returns the answers that were there before, by key."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What one caller wants written, and how to wake it: with the answers that were there before. Some do not wait."""

    calls: Sequence[Call]
    purposes: Sequence[Purpose]
    done: asyncio.Future[dict[str, Call]] | None = None


class GroupCommit:
    """The one thread that writes for all who wait: it takes what there is, commits once and wakes them together."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    async def put(self, calls: Sequence[Call], purposes: Sequence[Purpose]) -> dict[str, Call]:
        """Have calls and purposes written; returns when they are on disk, with the answers that were there before."""
        done: asyncio.Future[dict[str, Call]] = asyncio.get_running_loop().create_future()
        self._take(_Waiting(calls, purposes, done))
        return await done

    def put_soon(self, calls: Sequence[Call], purposes: Sequence[Purpose]) -> None:
        """Have calls and purposes written, by `close` at the latest. Whether that went well nobody is told: for one who
        has no time to wait, because it is being stopped.
        """
        self._take(_Waiting(calls, purposes))

    def _take(self, entry: _Waiting) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="calls.sqlite", daemon=True)
                self._thread.start()
            self._waiting.append(entry)
            if len(self._waiting) == 1:
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                closing = self._closing
            if not closing:
                time.sleep(_GATHER_SECONDS)
            with self._changed:
                batch, self._waiting = self._waiting, []
            self._commit(batch)

    def _commit(self, batch: list[_Waiting]) -> None:
        before: dict[str, Call] = {}
        failed: Exception | None = None
        try:
            before = self._write([c for entry in batch for c in entry.calls], [p for e in batch for p in e.purposes])
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits raises it; they would wait for ever
            failed = error
        waiting = [entry.done for entry in batch if entry.done is not None]
        for loop in {done.get_loop() for done in waiting}:
            with suppress(RuntimeError):  # its loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_wake, [d for d in waiting if d.get_loop() is loop], before, failed)

    def close(self) -> None:
        """Write what waits and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()


def _wake(ends: list[asyncio.Future[dict[str, Call]]], before: dict[str, Call], failed: Exception | None) -> None:
    for done in ends:
        if done.done():  # cancelled: nobody waits any more, but the answer is stored
            continue
        if failed is not None:
            done.set_exception(failed)
        else:
            done.set_result(before)
