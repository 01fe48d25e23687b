"""Limits as state machines: the time is passed in, so that minutes pass at once."""

from __future__ import annotations

import asyncio
import email.utils
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignprism.models.limits import Bucket, Concurrency, Gate, Outage, retry_after_seconds, retry_delay


def _clean_rounds(state: Concurrency, rounds: int, now: float) -> list[int]:
    limits = []
    for _ in range(rounds):
        for _ in range(state.limit):
            state.succeeded(now)
        limits.append(state.limit)
    return limits


def test_it_starts_at_twenty_doubles_while_clean_and_stops_at_the_most() -> None:
    state = Concurrency(100)
    assert state.limit == 20
    assert _clean_rounds(state, 4, 0.0) == [40, 80, 100, 100]
    assert Concurrency(8).limit == 8


def test_one_episode_costs_a_fifth_and_growth_is_slow_after_the_cool_down() -> None:
    state = Concurrency(1000)
    _clean_rounds(state, 2, 0.0)
    for _ in range(30):  # everything in flight is told the same
        state.throttled(10.0)
    assert state.limit == 64
    assert _clean_rounds(state, 1, 24.9) == [64]  # cooling down
    assert _clean_rounds(state, 2, 25.0) == [67, 70]  # 5 % a round
    state.throttled(26.0, retry_after=60.0)
    assert state.limit == 56
    state.throttled(85.0)  # still the same episode: Retry-After extended the cool-down
    assert state.limit == 56
    state.throttled(101.0)
    assert state.limit == 45


def test_server_errors_pause_growth_and_cut_nothing() -> None:
    state = Concurrency(100)
    for _ in range(19):
        state.succeeded(0.0)
    state.stumbled()
    state.succeeded(0.0)
    assert state.limit == 20
    for _ in range(19):
        state.succeeded(0.0)
    assert state.limit == 40


def test_a_limit_never_falls_below_one() -> None:
    state = Concurrency(3)
    for episode in range(20):
        state.throttled(100.0 * episode)
    assert state.limit == 1
    assert _clean_rounds(state, 1, 10_000.0) == [2]


@given(st.floats(0.5, 5000.0), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60))
def test_no_minute_holds_more_requests_than_the_limit(per_minute: float, pauses: list[float]) -> None:
    bucket, now, went = Bucket(per_minute, 0.0), 0.0, []
    for pause in pauses * 4:
        now += pause
        now += bucket.wait(now, 1.0)
        bucket.take(now, 1.0)
        went.append(now)
    for start in went:
        assert sum(start <= time < start + 60.0 - 1e-6 for time in went) <= math.ceil(per_minute)


def test_tokens_are_paid_off_and_given_back() -> None:
    bucket = Bucket(6100.0, 0.0)  # 100 a second
    assert bucket.wait(0.0, 1000.0) == 0.0  # larger than the bucket: goes when it is full
    bucket.take(0.0, 1000.0)
    assert bucket.wait(0.0, 100.0) == pytest.approx(10.0)
    bucket.take(0.0, -500.0)
    assert bucket.wait(0.0, 100.0) == pytest.approx(5.0)


def test_too_many_requests_without_a_time_pauses_longer_each_time_until_an_answer_comes() -> None:
    state = Concurrency(64)
    assert [state.throttled(0.0), state.throttled(0.2)] == [0.5, pytest.approx(0.3)]  # the same pause
    assert [state.throttled(now) for now in (0.6, 2.0, 5.0)] == [1.0, 2.0, 4.0]
    assert state.throttled(5.1, retry_after=7.0) == 7.0
    assert [state.throttled(100.0 * n) for n in range(1, 6)] == [8.0, 16.0, 30.0, 30.0, 30.0]
    state.succeeded(700.0)
    assert state.throttled(701.0) == 0.5


def test_in_an_outage_one_scout_goes_at_a_time_and_patience_ends() -> None:
    state = Outage(patience=20.0)
    assert (state.wait(0.0), state.bearable(0.0)) == (0.0, False)
    state.begins(0.0)
    state.begins(0.4)  # found out by another that was in flight
    now, gone = 0.0, []
    while state.bearable(now) and now < 100.0:
        now += state.wait(now)
        gone.append(now)
        state.scout(now)
    assert gone == [0.5, 1.5, 3.5, 7.5, 15.5, 25.5]
    assert state.wait(26.0) == 0.0  # nobody is held back any more
    state.ends()
    state.begins(30.0)  # a new outage has a patience of its own
    assert (state.wait(30.0), state.bearable(49.0), state.bearable(50.0)) == (0.5, True, False)


def test_delays_double_jitter_fully_and_never_come_before_retry_after() -> None:
    assert [retry_delay(n, None, lambda: 1.0) for n in (1, 2, 3, 20)] == [0.5, 1.0, 2.0, 60.0]
    assert retry_delay(3, None, lambda: 0.0) == 0.0
    assert retry_delay(1, 7.0, lambda: 0.0) == 7.0
    assert 7.0 <= retry_delay(5, 7.0) <= 8.0


def test_retry_after_is_seconds_milliseconds_or_a_date() -> None:
    now = 1_800_000_000.0
    assert retry_after_seconds("12", None, now) == 12.0
    assert retry_after_seconds("0.5", None, now) == 0.5
    assert retry_after_seconds("12", "1500", now) == 1.5
    assert retry_after_seconds(email.utils.formatdate(now + 90, usegmt=True), None, now) == pytest.approx(90.0)
    assert retry_after_seconds(email.utils.formatdate(now - 90, usegmt=True), None, now) == 0.0
    assert retry_after_seconds("soon", None, now) is None
    assert retry_after_seconds("-3", None, now) is None
    assert retry_after_seconds(None, None, now) is None


@given(st.none() | st.text(), st.none() | st.text())
def test_no_header_breaks_it(header: str | None, milliseconds: str | None) -> None:
    seconds = retry_after_seconds(header, milliseconds, 0.0)
    assert seconds is None or 0.0 <= seconds < float("inf")


def test_the_gate_lets_go_in_order_and_no_more_than_the_limit_at_once() -> None:
    async def run() -> tuple[list[int], int]:
        gate, order, most = Gate(3), [], 0

        async def one(number: int) -> None:
            nonlocal most
            await gate.enter(1)
            order.append(number)
            most = max(most, gate.in_flight)
            await asyncio.sleep(0.001)
            gate.leave()

        await asyncio.gather(*(one(n) for n in range(20)))
        return order, most

    assert asyncio.run(run()) == (list(range(20)), 3)


def test_a_waiter_that_gives_up_keeps_no_place() -> None:
    async def run() -> int:
        gate = Gate(1)
        await gate.enter(1)
        waiting = [asyncio.create_task(gate.enter(1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.leave()  # the first is gone: the second goes
        waiting[1].cancel()  # and gives up in the moment it is let go
        await asyncio.wait(waiting[:2])
        await asyncio.wait_for(waiting[2], 1.0)
        return gate.in_flight

    assert asyncio.run(run()) == 1


def test_nobody_goes_before_the_time_that_the_provider_named() -> None:
    async def run() -> float:
        gate = Gate(5)
        gate.throttled(0.15)
        began = asyncio.get_running_loop().time()
        await gate.enter(1)
        return asyncio.get_running_loop().time() - began

    assert 0.14 <= asyncio.run(run()) < 1.0
