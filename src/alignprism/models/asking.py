"""From one item to its stored call: the tries, their limits and costs, and what a reply means. Lives in an event loop."""

from __future__ import annotations

import asyncio
import queue
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from alignprism.models import replies
from alignprism.models.addresses import Address
from alignprism.models.cost import Budget, dollars, prompt_tokens
from alignprism.models.limits import LONGEST_WAIT_SECONDS, Gate, retry_delay
from alignprism.models.probe import Probed
from alignprism.models.protocol import Decoding
from alignprism.models.settings import EndpointSettings
from alignprism.models.store import Call, CallStore, Purpose
from alignprism.models.tally import Say, Tally
from alignprism.models.wire import Attempt, Item, Wire, answer_length

_OPEN_PER_CONNECTION = 8  # calls that wait for their next try hold no connection, but they hold memory
_BUDGET_POLL_SECONDS = 0.05
_TOLD_AFTER_SECONDS = 1.0  # a stray 503 between answers is no news


Came = queue.SimpleQueue[list[tuple[Item, Call]] | BaseException]


@dataclass(slots=True, eq=False)
class _Caller:
    """One list of requests: who asks, how, and where its calls go."""

    name: str
    decoding: Decoding
    came: Came
    stopped: bool = False


@dataclass(slots=True)
class _Paid:
    """What one item has cost so far, in dollars, and in how many tries; ``spared`` of them do not count as such.

    ``spared_since`` is when the first of these was made.
    """

    attempts: int = 0
    cost: float = 0.0
    spared: int = 0
    spared_since: float | None = None

    @property
    def tries(self) -> int:
        """Tries that somebody was there for, or that nobody waited with."""
        return self.attempts - self.spared


class Asker:
    """Asks one endpoint for everybody who shares its engine."""

    def __init__(
        self,
        settings: EndpointSettings,
        probed: Probed,
        digest: str,
        store: CallStore,
        session: aiohttp.ClientSession,
        budget: Budget | None,
        tally: Tally,
        say: Say = lambda _: None,
    ) -> None:
        self._settings = settings
        self._probed = probed
        self._digest = digest
        self._store = store
        self._budget = budget
        self._tally = tally
        self._say = say
        self._told = 0.0  # when the outage began that people were told of last
        self._gate = Gate(
            settings.connections, settings.requests_per_minute, settings.tokens_per_minute, settings.patience_seconds
        )
        self._wire = Wire(settings, probed, session, self._gate)
        self._most_open = _OPEN_PER_CONNECTION * settings.connections
        self._waiting: deque[tuple[_Caller, Item]] = deque()
        self._callers: dict[int, _Caller] = {}
        self._open: dict[asyncio.Task[None], _Caller] = {}
        self._asked: set[asyncio.Task[None]] = set()  # those of the open ones that do not wait for another's call
        self._flying: dict[str, asyncio.Future[Call]] = {}
        self._sending: set[asyncio.Task[Any]] = set()
        self._read_again: dict[str, Call] = {}
        self._delivery: dict[int, tuple[Came, list[tuple[Item, Call]]]] = {}
        self._beside: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Requests that a server is working on."""
        return len(self._sending)

    # --- callers -----------------------------------------------------------------------------------------------------

    def add(self, name: str, items: Sequence[Item], decoding: Decoding, came: Came) -> None:
        """Take items in; their calls are put into `came`, in lists, and errors too."""
        try:
            self._take(name, items, decoding, came)
        except Exception as error:  # noqa: BLE001 - raised here, the loop would log it and the caller wait for ever
            came.put(error)

    def _take(self, name: str, items: Sequence[Item], decoding: Decoding, came: Came) -> None:
        caller = self._callers.setdefault(id(came), _Caller(name, decoding, came))
        # What was in flight when the caller looked may be stored by now: look again, before anything new is in flight.
        keys = [item.key for item in items if item.key not in self._flying]
        found = self._store.get_many(keys)
        for key, call in self._store.failures(keys).items():
            if call.error == "invalid reply" and not call.parse.startswith(f"{replies.VERSION}:"):
                self._read_again[key] = call
        for item in items:
            if item.key in found:
                self._start(caller, self._also(caller, item, found[item.key]))
            elif item.key in self._flying:
                self._start(caller, self._merged(caller, item, self._flying[item.key]))
            else:
                self._flying[item.key] = asyncio.get_running_loop().create_future()
                self._waiting.append((caller, item))
        self._pump()

    def forget(self, came: Came) -> None:
        """A caller has all its calls."""
        self._callers.pop(id(came), None)

    async def stop(self, came: Came, seconds: float) -> None:
        """Ask nothing more for a caller; wait for what is in flight, at most so long."""
        caller = self._callers.pop(id(came), None)
        if caller is None:
            return
        caller.stopped = True
        kept = deque(entry for entry in self._waiting if entry[0] is not caller)
        for _, item in (entry for entry in self._waiting if entry[0] is caller):
            self._flying.pop(item.key).cancel()
        self._waiting = kept
        mine = {task for task, its_caller in self._open.items() if its_caller is caller}
        for task in mine - self._sending:
            task.cancel()
        if mine:
            _, late = await asyncio.wait(mine, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def close(self) -> None:
        """Give up all that is still open; what it may have cost is stored."""
        self._waiting.clear()
        tasks = [*self._open, *self._beside]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- addresses ---------------------------------------------------------------------------------------------------

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the calls, until it ends or the asker is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def join(self, url: str) -> None:
        """From now on this address is asked as well."""
        self._wire.addresses.add(url)

    # --- tasks -------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        # Who waits for another's call takes no room: it may wait for one that is not started yet.
        while self._waiting and len(self._asked) < self._most_open:
            caller, item = self._waiting.popleft()
            self._asked.add(self._start(caller, self._answer(caller, item)))

    def _start(self, caller: _Caller, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._open[task] = caller
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._asked.discard(task)
        caller = self._open.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            caller.came.put(error)
        self._pump()

    def _deliver(self, caller: _Caller, item: Item, call: Call) -> None:
        """Hand a call to its caller, together with all that are ready in this turn of the loop."""
        if not self._delivery:
            asyncio.get_running_loop().call_soon(self._flush)
        self._delivery.setdefault(id(caller.came), (caller.came, []))[1].append((item, call))

    def _flush(self) -> None:
        delivery, self._delivery = self._delivery, {}
        for came, calls in delivery.values():
            came.put(calls)

    # --- one item ----------------------------------------------------------------------------------------------------

    async def _answer(self, caller: _Caller, item: Item) -> None:
        flying = self._flying[item.key]
        try:
            call = await self._store.put(await self._asked_for(caller, item), [self._purpose(caller, item)])
        except BaseException:
            flying.cancel()  # whoever waits for the same call asks it himself
            raise
        else:
            flying.set_result(call)
        finally:
            self._flying.pop(item.key, None)
        self._deliver(caller, item, call)

    async def _asked_for(self, caller: _Caller, item: Item) -> Call:
        """As `_call`. One that is stopped leaves what it has cost in the store, so that the next run's cap counts it."""
        paid = _Paid()
        try:
            return await self._call(caller, item, paid)
        except asyncio.CancelledError:
            if paid.attempts:
                detail = "stopped before there was an answer; run the same command to ask again"
                last = Attempt(0.0, reason="interrupted", detail=detail)
                self._store.put_soon(self._failure(item, last, paid), [self._purpose(caller, item)])
            raise

    async def _merged(self, caller: _Caller, item: Item, flying: asyncio.Future[Call]) -> None:
        """The same call is in flight already: wait for it instead of asking twice."""
        await asyncio.wait([flying])
        if flying.cancelled():
            self.add(caller.name, [item], caller.decoding, caller.came)
            return
        await self._also(caller, item, flying.result())

    async def _also(self, caller: _Caller, item: Item, call: Call) -> None:
        await self._store.note([self._purpose(caller, item)])
        self._deliver(caller, item, call)

    @staticmethod
    def _purpose(caller: _Caller, item: Item) -> Purpose:
        return Purpose.of(item.key, caller.name, item.request, item.sample)

    async def _call(self, caller: _Caller, item: Item, paid: _Paid) -> Call:
        """Ask until there is an answer, or no reason to try again."""
        before = self._read_again.pop(item.key, None)
        if before is not None and (call := self._from_raw(item, before)) is not None:
            return call
        body = self._wire.body(item, caller.decoding)
        n_prompt = prompt_tokens(item.request.prompt)
        worst = dollars(self._settings.price, n_prompt, caller.decoding.max_new_tokens)
        address: Address | None = None
        while True:
            if (refused := self._wire.no_use()) is not None:
                return self._failure(item, refused, paid)
            if not await self._afford(worst):
                last = Attempt(0.0, reason="over budget", detail="raise the cap and run the same command", again=False)
                return self._failure(item, last, paid)
            tokens = n_prompt, caller.decoding.max_new_tokens
            address, attempt = await self._try(item, body, tokens, worst, paid, address)
            if attempt.answer is not None:
                return self._success(item, attempt, attempt.answer, paid)
            if self._spare(attempt, paid):
                self._waits_for_a_server(caller)
                await asyncio.sleep(retry_delay(1, attempt.wait))
                continue
            if (
                not attempt.again
                or paid.tries >= self._settings.attempts
                or (attempt.wait or 0.0) > LONGEST_WAIT_SECONDS
            ):
                return self._failure(item, attempt, paid)
            if caller.stopped:
                raise asyncio.CancelledError
            self._tally.retries += 1
            await asyncio.sleep(retry_delay(paid.tries, attempt.wait))

    def _spare(self, attempt: Attempt, paid: _Paid) -> bool:
        """Whether a try does not count, because no server was there and one is waited for.

        An item is spared no longer than patience lasts: one that brings its server down each time, while others are
        answered in between, would be sent for ever.
        """
        now = time.monotonic()
        since = now if paid.spared_since is None else paid.spared_since
        too_long = (attempt.wait or 0.0) > LONGEST_WAIT_SECONDS or now - since >= self._settings.patience_seconds
        if not attempt.away or too_long or not self._gate.waits_for_a_server:
            return False
        paid.spared_since = since
        paid.spared += 1
        return True

    def _waits_for_a_server(self, caller: _Caller) -> None:
        if caller.stopped:
            raise asyncio.CancelledError
        self._tally.retries += 1
        since = self._gate.outage.since
        if since is not None and since != self._told and time.monotonic() - since > _TOLD_AFTER_SECONDS:
            self._told = since
            self._say(
                f"model {caller.name!r}: no server answers; waiting for one, up to {self._settings.patience_seconds:.0f} s."
            )

    async def _afford(self, worst: float) -> bool:
        """Reserve what a try may cost; waits while what is in flight may leave room."""
        if self._budget is None:
            return True
        while (reserved := self._budget.reserve(worst)) is None:
            await asyncio.sleep(_BUDGET_POLL_SECONDS)
        return reserved

    async def _try(
        self, item: Item, body: bytes, tokens: tuple[int, int], worst: float, paid: _Paid, avoid: Address | None
    ) -> tuple[Address | None, Attempt]:
        """One try, when its turn comes; no address if there was no use in sending it. `tokens`: prompt and answer."""
        task = asyncio.current_task()
        assert task is not None
        attempt: Attempt | None = None
        address: Address | None = None
        entered = False
        try:
            await self._gate.enter(sum(tokens))
            entered = True
            attempt = self._wire.no_use()
            if attempt is None:
                address = self._wire.addresses.pick(time.monotonic(), avoid)
                address.in_flight += 1
                self._sending.add(task)
                attempt = await self._wire.send(address, item, body, worst)
        finally:
            if address is not None:
                address.in_flight -= 1
            self._sending.discard(task)
            # Cancelled on its way: it may have been paid for.
            cost = attempt.cost if attempt is not None else worst if address else 0.0
            paid.attempts += address is not None
            paid.cost += cost
            self._tally.dollars += cost
            if self._budget is not None:
                self._budget.settle(worst, cost)
            if entered:
                self._gate.leave(_unused(attempt, *tokens))
        return address, attempt

    # --- what is stored ----------------------------------------------------------------------------------------------

    def _success(self, item: Item, attempt: Attempt, reply: replies.Reply, paid: _Paid) -> Call:
        return Call(
            item.key, self._digest, reply.text, answer_length(reply), reply.truncated, attempt.latency,
            attempts=paid.attempts, filtered=reply.filtered, finish=reply.finish, served=reply.served,
            fingerprint=reply.fingerprint, prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens, cost=paid.cost, parse="ok", log_probs=reply.log_probs,
            tokens=reply.tokens, raw=attempt.raw,
        )  # fmt: skip

    def _failure(self, item: Item, attempt: Attempt, paid: _Paid) -> Call:
        parse = f"{replies.VERSION}: {attempt.problem}" if attempt.problem else ""
        return Call(
            item.key, self._digest, "", 0, False, attempt.latency, status="failed", error=attempt.reason,
            detail=attempt.detail, attempts=paid.attempts, cost=paid.cost, parse=parse, raw=attempt.raw,
        )  # fmt: skip

    def _from_raw(self, item: Item, before: Call) -> Call | None:
        """An answer from a stored reply that an older version could not read; None if this one cannot either."""
        raw = self._store.raw_reply(item.key)
        reply = None if raw is None else replies.read_reply(raw, plain=item.request.plain)
        if reply is None or reply.problem or reply.served != self._probed.served:
            return None
        return replace(self._success(item, Attempt(before.latency, raw=raw), reply, _Paid()), created=before.created)


def _unused(attempt: Attempt | None, n_prompt: int, n_answer: int) -> int:
    if attempt is None or attempt.answer is None:
        return 0
    reply = attempt.answer
    used = (n_prompt if reply.prompt_tokens is None else reply.prompt_tokens) + answer_length(reply)
    return n_prompt + n_answer - used
