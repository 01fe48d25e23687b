"""How many requests are in flight, and when the next may go: grown while all is well, cut when a provider says stop.

The rules are pure state machines over a time that is passed in (`Concurrency`, `Bucket`, `Outage`, `retry_delay`); `Gate` applies
them in an event loop. After Inspect AI's adaptive connections: start at 20, double while clean, then 5 % per clean round;
one episode of "too many requests" costs a fifth, whatever the number of replies that say so.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections import deque
from collections.abc import Callable

START = 20
GROWTH = 1.05
CUT = 0.8
COOL_DOWN_SECONDS = 15.0
LONGEST_WAIT_SECONDS = 300.0
"""A provider that asks for more is out of quota: the call is a failure now, and the same command asks again later."""
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.5, 60.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_FIRST_SCOUT_SECONDS, _LONGEST_SCOUT_SECONDS = 0.5, 10.0


class Concurrency:
    """How many requests may be in flight. Times are in seconds of any one clock."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = float(min(START, most))
        self._doubling = True
        self._clean = 0
        self._cool_until = 0.0
        self._pause = 0.0
        self._pause_until = 0.0

    @property
    def limit(self) -> int:
        """Requests that may be in flight now, at least one."""
        return max(1, int(self._limit))

    def succeeded(self, now: float) -> None:
        """An answer came. A round is clean when as many came in a row as may be in flight."""
        self._pause = 0.0
        if now < self._cool_until:
            return
        self._clean += 1
        if self._clean >= self.limit:
            self._clean = 0
            grown = self._limit * 2 if self._doubling else max(self._limit * GROWTH, self._limit + 1)
            self._limit = min(float(self.most), grown)

    def throttled(self, now: float, retry_after: float | None = None) -> float:
        """The provider said "too many requests". Within the cool-down it is still the same episode.

        Returns the seconds that nobody should go for: those that it named, else 0.5 s and twice as long each time that no
        answer came in between.
        """
        self._doubling = False
        self._clean = 0
        if now >= self._cool_until:
            self._limit = max(1.0, self._limit * CUT)
        self._cool_until = max(self._cool_until, now + max(COOL_DOWN_SECONDS, retry_after or 0.0))
        if retry_after is not None:
            return retry_after
        if now >= self._pause_until:
            self._pause = min(_LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, 2.0 * self._pause))
            self._pause_until = now + self._pause
        return self._pause_until - now

    def stumbled(self) -> None:
        """A server error, a lost connection or a timeout: no reason to send less, but none to grow."""
        self._clean = 0


class Bucket:
    """A provider's limit per minute, for requests or tokens: no 60 seconds hold more than `per_minute`.

    A second's worth may go at once and the rest is spread evenly. What is larger than that goes when the bucket is full and
    is paid off by those who come later, so that a window may then hold one such request more.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._capacity = max(1.0, per_minute / 61.0)
        self._per_second = per_minute / (61.0 if per_minute > 61.0 else 60.0)
        self._level = self._capacity
        self._then = now

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` may go; 0.0 if now."""
        self._fill(now)
        missing = min(amount, self._capacity) - self._level
        return 0.0 if missing <= 1e-9 else missing / self._per_second

    def take(self, now: float, amount: float) -> None:
        """Let `amount` go. A negative amount is given back: less was used than was thought."""
        self._fill(now)
        self._level = min(self._capacity, self._level - amount)

    def _fill(self, now: float) -> None:
        self._level = min(self._capacity, self._level + (now - self._then) * self._per_second)
        self._then = now


class Outage:
    """Nobody answers, such as while a server is started again. Times are in seconds of any one clock.

    For `patience` seconds one request after the other looks whether somebody is back, after 0.5 s, 1 s, 2 s, ..., 10 s;
    then everybody goes again, so that a run against a server that stays away comes to its end.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._scouts = 0
        self._next = 0.0
        self.since: float | None = None

    def begins(self, now: float) -> None:
        """Nobody answers; of those who find out together only the first counts."""
        if self.since is None:
            self.since, self._scouts, self._next = now, 0, now + _FIRST_SCOUT_SECONDS

    def ends(self) -> None:
        """Somebody answered."""
        self.since = None

    def bearable(self, now: float) -> bool:
        """Whether there is an outage that is waited for."""
        return self.since is not None and now - self.since < self._patience

    def wait(self, now: float) -> float:
        """Seconds until the next scout may go; 0.0 if now, or if nobody needs to wait."""
        return max(0.0, self._next - now) if self.bearable(now) else 0.0

    def scout(self, now: float) -> None:
        """A request goes to look."""
        self._scouts += 1
        self._next = now + min(_LONGEST_SCOUT_SECONDS, _FIRST_SCOUT_SECONDS * 2.0 ** min(self._scouts, 16))


def retry_delay(attempt: int, retry_after: float | None, draw: Callable[[], float] = random.random) -> float:
    """Seconds before try number `attempt` + 1: full jitter over 0.5 s, 1 s, 2 s, ... and never before Retry-After.

    "Full jitter" is that of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
    """
    widest = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(attempt - 1, 16))
    jitter = draw() * widest
    # Everybody was told the same time: come back spread over a little more than that.
    return jitter if retry_after is None else retry_after + draw() * min(1.0, widest)


def retry_after_seconds(header: str | None, milliseconds: str | None, now: float) -> float | None:
    """What a ``Retry-After`` header (seconds, or an HTTP date; RFC 9110, section 10.2.3) asks for; None if nothing.

    `milliseconds` is the header ``retry-after-ms`` of some providers; `now` is Unix time.
    """
    for text, unit in ((milliseconds, 0.001), (header, 1.0)):
        if text is None:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        return seconds if 0.0 <= seconds < float("inf") else None
    if header is None:
        return None
    try:
        when = email.utils.parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return max(0.0, when - now)


class Gate:
    """Lets requests go in the order they came, as many at once and as fast as the limits allow. For one event loop."""

    def __init__(
        self,
        most: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        patience_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.outage = Outage(patience_seconds)
        self.concurrency = Concurrency(most)
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute, clock())
        self._tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute, clock())
        self._paused_until = 0.0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.in_flight = 0

    async def enter(self, tokens: int) -> None:
        """Wait for a place; `tokens` is what the request may use, answer included."""
        if not self._waiting and self._wait(tokens) == 0.0:
            self._let_go(tokens)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, tokens))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self, unused_tokens: int = 0) -> None:
        """A request is over; tokens that it did not use may be used by others."""
        self.in_flight -= 1
        if self._tokens is not None and unused_tokens:
            self._tokens.take(self._clock(), -unused_tokens)
        self._admit()

    def succeeded(self) -> None:
        """An answer came."""
        self.concurrency.succeeded(self._clock())

    def throttled(self, retry_after: float | None) -> None:
        """The provider said "too many requests": nobody goes before the time that it named, or for a while."""
        now = self._clock()
        self._paused_until = max(self._paused_until, now + self.concurrency.throttled(now, retry_after))

    def stumbled(self) -> None:
        """A server error, a lost connection or a timeout."""
        self.concurrency.stumbled()

    def nobody_answers(self) -> None:
        """No server can be reached: until one answers, one request after the other goes to look, for a while."""
        self.outage.begins(self._clock())

    def answered(self) -> None:
        """A server answered something."""
        if self.outage.since is not None:
            self.outage.ends()
            self._admit()

    @property
    def waits_for_a_server(self) -> bool:
        """Whether a try that reached nobody costs nothing but time."""
        return self.outage.bearable(self._clock())

    def _wait(self, tokens: int) -> float | None:
        """Seconds until a request may go; None: as soon as another one is over."""
        if self.in_flight >= self.concurrency.limit:
            return None
        now = self._clock()
        waits = [self._paused_until - now, self.outage.wait(now)]
        if self._requests is not None:
            waits.append(self._requests.wait(now, 1.0))
        if self._tokens is not None:
            waits.append(self._tokens.wait(now, tokens))
        return max(waits)

    def _let_go(self, tokens: int) -> None:
        self.in_flight += 1
        self.outage.scout(self._clock())
        if self._requests is not None:
            self._requests.take(self._clock(), 1.0)
        if self._tokens is not None:
            self._tokens.take(self._clock(), tokens)

    def _admit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            turn, tokens = self._waiting[0]
            if not turn.done():
                seconds = self._wait(tokens)
                if seconds is None:
                    return
                if seconds > 0.0:
                    self._timer = asyncio.get_running_loop().call_later(seconds, self._admit)
                    return
                self._let_go(tokens)
                turn.set_result(None)
            self._waiting.popleft()
