"""Lengths of chosen and rejected: measured as said, and matched by dropping few pairs, counted and seeded."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alignprism.construct.balance import balance, lengths_of, match_lengths, matched, within
from alignprism.rows import Pair

Lengths = list[tuple[int, int]]


def pair(chosen: int, rejected: int, name: str = "x", language: str = "en") -> Pair:
    return Pair(
        name, "p", "c" * chosen, "r" * rejected, "p", "s", language, "safety", None, (), "", "", 0.0, 1.0, "j", "", True, "chosen"
    )  # fmt: skip


def test_the_measures_are_those_of_the_standard_library() -> None:
    lengths = [(10, 4), (3, 3), (7, 12), (20, 5)]
    found = lengths_of([pair(a, b) for a, b in lengths])
    differences = [a - b for a, b in lengths]
    assert (found.n, found.chosen, found.rejected) == (4, 10.0, 6.0)
    assert found.difference == statistics.mean(differences)
    assert found.standardised == pytest.approx(statistics.mean(differences) / statistics.stdev(differences))
    assert found.chosen_longer == (2 + 0.5) / 4


def test_what_cannot_be_measured_is_none() -> None:
    empty = lengths_of([])
    assert (empty.n, empty.chosen, empty.difference, empty.chosen_longer) == (0, None, None, None)
    assert lengths_of([pair(3, 1)]).standardised is None
    assert lengths_of([pair(3, 1), pair(4, 2)]).standardised is None


def test_balance_is_given_by_kind_and_language() -> None:
    found = balance([pair(4, 2, "a"), pair(2, 2, "b", "hi")])
    assert {kind: sorted(groups) for kind, groups in found.items()} == {"safety": ["all", "en", "hi"]}
    assert found["safety"]["all"]["difference"] == 1.0
    assert found["safety"]["hi"]["chosen_longer"] == 0.5


lengths = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=60)
tolerances = st.sampled_from([0.0, 0.02, 0.05, 0.3])


@settings(deadline=None)
@given(lengths, tolerances)
def test_what_stays_is_within_the_tolerance_and_nothing_is_dropped_from_what_is(
    given_lengths: Lengths, tolerance: float
) -> None:
    kept = [given_lengths[place] for place in matched(given_lengths, tolerance)]
    assert within(kept, tolerance)
    if within(given_lengths, tolerance):
        assert kept == given_lengths


@settings(deadline=None)
@given(lengths, tolerances)
@example([(1, 1), (1, 2), (3, 1)], 0.0)
def test_swapping_the_sides_drops_as_many(given_lengths: Lengths, tolerance: float) -> None:
    swapped = [(b, a) for a, b in given_lengths]
    distinct = len({a - b for a, b in given_lengths}) == len(given_lengths)
    if distinct:
        assert len(matched(given_lengths, tolerance)) == len(matched(swapped, tolerance))


@pytest.mark.parametrize("seed", range(5))
def test_no_set_of_fewer_drops_would_do(seed: int) -> None:
    draw = random.Random(seed)
    found = [(draw.randint(20, 200), draw.randint(20, 160)) for _ in range(300)]
    dropped = len(found) - len(matched(found, 0.02))
    assert dropped > 5
    # The most that this many drops, less one, can take away is the largest differences.
    rest = sorted(found, key=lambda sides: sides[0] - sides[1])[: len(found) - dropped + 1]
    assert not within(rest, 0.02) and sum(a - b for a, b in rest) > 0


def test_every_language_is_matched_by_itself_in_the_order_given() -> None:
    made = [pair(30, 10, f"en-{n}") for n in range(5)] + [pair(10, 30, f"hi-{n}", "hi") for n in range(5)]
    assert match_lengths(made, 0.05, seed=0) == []  # together they would balance
    mixed = [pair(10 + n % 2, 11 - n % 2, str(n)) for n in range(10)]
    assert match_lengths([*mixed, pair(90, 5, "long")], 0.05, seed=0) == mixed


def test_which_of_equals_goes_is_drawn_by_the_seed() -> None:
    made = [pair(30, 10, f"long-{n}") for n in range(20)] + [pair(10, 30, f"short-{n}") for n in range(4)]
    kept = [tuple(p.id for p in match_lengths(made, 0.0, seed)) for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]
    assert [len(ids) for ids in kept] == [8, 8, 8]
