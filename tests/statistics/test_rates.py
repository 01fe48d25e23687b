"""A rate's interval: Wilson when rows are independent, honest about clusters, never absent without a reason."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from statsmodels.stats.proportion import proportion_confint

from alignprism.statistics import Estimate, rate
from alignprism.statistics.rates import beta


@pytest.mark.parametrize(("yes", "n"), [(0, 10), (3, 12), (12, 12), (17, 96), (200, 1000)])
def test_independent_rows_get_wilsons_interval(yes: int, n: int) -> None:
    found = rate(np.arange(n) < yes, np.arange(n))
    low, high = proportion_confint(yes, n, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.interval == "Wilson"


@pytest.mark.parametrize(("yes", "n"), [(0, 10), (1, 30), (30, 30), (17, 96)])
def test_the_beta_form_is_clopper_and_pearsons_for_whole_numbers(yes: int, n: int) -> None:
    assert beta(yes / n, n) == pytest.approx(proportion_confint(yes, n, method="beta"), abs=1e-9)


def test_rows_that_repeat_their_cluster_say_no_more_than_one_row_each() -> None:
    once = np.arange(40) % 3 == 0
    single = rate(once, np.arange(40))
    repeated = rate(np.repeat(once, 5), np.repeat(np.arange(40), 5))
    assert repeated.high - repeated.low >= single.high - single.low


@pytest.mark.parametrize("outcome", [False, True])
def test_all_or_none_still_leaves_room_on_the_other_side(outcome: bool) -> None:
    found = rate(np.full(100, outcome), np.repeat(np.arange(20), 5))
    assert found.estimate == float(outcome)
    assert found.low == 1.0 or found.high < 1.0 if not outcome else found.high == 1.0
    assert 0.1 < found.high - found.low < 0.25


def test_fewer_than_ten_clusters_have_a_rate_and_a_reason() -> None:
    found = rate([True, False] * 9, np.repeat(np.arange(9), 2))
    assert (found.estimate, found.low, found.high) == (0.5, None, None)
    assert found.reason == "too few clusters (9 < 10)"


def test_no_rows_have_a_reason_only() -> None:
    assert rate([], []) == Estimate(None, None, None, 0, 0, reason="no rows")


def test_bad_arrays_are_named() -> None:
    with pytest.raises(ValueError, match="true and false"):
        rate([0.5, 1.0], [1, 2])
    with pytest.raises(ValueError, match="one label for each of 2 rows"):
        rate([True, False], [1, 2, 3])


@pytest.mark.parametrize(
    "values",
    [
        (float("nan"), 0.0, 1.0, ""),
        (0.5, None, 1.0, "why"),
        (0.5, 0.6, 0.7, ""),
        (0.5, None, None, ""),
        (None, None, None, ""),
    ],
)
def test_an_estimate_cannot_hold_nan_half_an_interval_or_silence(values: tuple[float, float, float, str]) -> None:
    with pytest.raises(ValueError):
        Estimate(*values[:3], n=1, clusters=1, reason=values[3])


outcomes_and_clusters = st.integers(1, 60).flatmap(
    lambda n: st.tuples(arrays.arrays(bool, n), arrays.arrays(np.int64, n, elements=st.integers(0, 20)))
)


@given(outcomes_and_clusters, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_bounds_and_blindness_to_names_and_order(
    drawn: tuple[np.ndarray, np.ndarray], shuffler: np.random.Generator
) -> None:
    outcomes, clusters = drawn
    found = rate(outcomes, clusters)
    if found.low is not None:
        assert 0 <= found.low <= found.estimate <= found.high <= 1
        assert found.high > found.low
    order = list(range(len(outcomes)))
    shuffler.shuffle(order)
    names = np.array([f"seed-{(7 * c) % 23}" for c in clusters])
    again = rate(outcomes[order], names[order])
    assert (again.estimate, again.n, again.clusters) == (found.estimate, found.n, found.clusters)
    assert again.reason == found.reason
    if found.low is not None:
        assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=1e-9)


@given(outcomes_and_clusters)
@settings(max_examples=100, deadline=None)
def test_the_rate_of_the_opposite_is_the_mirror_image(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    outcomes, clusters = drawn
    found, opposite = rate(outcomes, clusters), rate(~outcomes, clusters)
    if found.low is not None:
        assert (opposite.low, opposite.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-9)


@given(st.integers(10, 80), st.data())
@settings(max_examples=100, deadline=None)
def test_more_harm_moves_both_ends_up(n: int, data: st.DataObject) -> None:
    yes = data.draw(st.integers(0, n - 1))
    fewer, more = (rate(np.arange(n) < k, np.arange(n)) for k in (yes, yes + 1))
    assert fewer.low <= more.low and fewer.high <= more.high


@given(st.integers(1, 6), st.integers(10, 40))
@settings(max_examples=50, deadline=None)
def test_a_higher_confidence_is_never_narrower(size: int, groups: int) -> None:
    outcomes, clusters = np.arange(size * groups) % 4 == 0, np.repeat(np.arange(groups), size)
    narrow, wide = rate(outcomes, clusters, confidence=0.8), rate(outcomes, clusters, confidence=0.99)
    assert wide.low <= narrow.low and narrow.high <= wide.high
