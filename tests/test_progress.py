"""Progress: a bar in a terminal, plain lines elsewhere, with rate, failures and cost where an engine counts them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from alignprism import progress
from alignprism.models.protocol import Answer, Failed
from alignprism.models.tally import Tally


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    rate = progress.Rate(0.0)
    for second in range(1, 101):
        rate.add(float(second), 10 * second if second <= 60 else 600 + 2 * (second - 60))
    assert rate.per_second == pytest.approx(2.0)
    assert rate.words(680, 1880) == "2.0/s, 10 min left"
    assert progress.Rate(0.0).words(0, 10) == ""


@pytest.mark.parametrize(("left", "words"), [(80, "40 s"), (400, "3 min"), (20_000, "2.8 h")])
def test_time_left_has_a_fitting_unit(left: int, words: str) -> None:
    rate = progress.Rate(0.0)
    rate.add(10.0, 20)
    assert rate.words(0, left) == f"2.0/s, {words} left"


def test_lines_without_a_terminal_say_rate_failures_and_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    out = io.StringIO()
    reporter = progress.ConsoleReporter(Console(file=out, width=200))
    tally = Tally(dollars=0.5)
    tally.count(Answer("a", 0, "x", 1, False))
    tally.count(Failed("b", 0, "timeout"))
    advance = reporter.progress("completions of m", 400, lambda: tally)
    advance(1, 400)
    assert out.getvalue() == ""
    now += 20.0
    advance(100, 400)
    assert out.getvalue() == "      completions of m: 100 of 400, 5.0/s, 60 s left, 1 failed, $0.50\n"


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    out = io.StringIO()
    reporter = progress.ConsoleReporter(Console(file=out, width=160, force_terminal=True))
    advance = reporter.progress("completions of [m]", 2, lambda: Tally(failed=3))
    advance(1, 2)
    assert reporter._live is not None
    reporter._live.refresh()
    assert "completions of [m]" in out.getvalue() and "1/2" in out.getvalue() and "3 failed" in out.getvalue()
    advance(2, 2)
    assert reporter._live is None
