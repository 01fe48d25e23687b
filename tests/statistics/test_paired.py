"""Paired changes: signs, methods by number of clusters, degenerate samples, seeds, oracles."""

from __future__ import annotations

import time

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from alignprism.statistics import mcnemar_exact, paired_change, paired_mean_change


def sample(groups: int, size: int, before: float, after: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    seed_effect = np.repeat(rng.normal(size=groups), size) * 0.5
    shares = (stats.norm.cdf(stats.norm.ppf(p) * 1.1 + seed_effect) for p in (before, after))
    a, b = (rng.random(groups * size) < share for share in shares)
    return a, b, np.repeat(np.arange(groups), size)


def test_a_fall_is_negative_and_swapping_the_models_turns_it_round() -> None:
    a, b, clusters = sample(60, 3, 0.5, 0.2, 1)
    fall = paired_change(a, b, clusters, np.random.default_rng(0))
    rise = paired_change(b, a, clusters, np.random.default_rng(0))
    assert fall.estimate == pytest.approx(b.mean() - a.mean())
    assert fall.high < 0 < rise.low
    assert rise.estimate == pytest.approx(-fall.estimate)
    assert (rise.low, rise.high) == pytest.approx((-fall.high, -fall.low), abs=0.02)


@pytest.mark.parametrize(("groups", "method"), [(12, "t on 11 df"), (29, "t on 28 df"), (30, "bootstrap")])
def test_the_method_follows_the_number_of_clusters_and_is_named(groups: int, method: str) -> None:
    a, b, clusters = sample(groups, 4, 0.5, 0.3, 2)
    assert method in paired_change(a, b, clusters, np.random.default_rng(0)).interval


def test_the_t_interval_is_cluster_robust_least_squares() -> None:
    a, b, clusters = sample(20, 4, 0.6, 0.3, 3)
    difference = b.astype(float) - a
    fitted = sm.OLS(difference, np.ones(len(a))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "df_correction": True}, use_t=True
    )
    # statsmodels multiplies by (n - 1) / (n - k) as well, which is 1 for a mean
    low, high = fitted.conf_int()[0]
    found = paired_change(a, b, clusters, np.random.default_rng(0))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.p_value == pytest.approx(fitted.pvalues[0], rel=1e-6)


def test_the_bootstrap_is_near_the_t_interval_when_there_are_many_clusters() -> None:
    a, b, clusters = sample(400, 3, 0.4, 0.3, 4)
    found = paired_change(a, b, clusters, np.random.default_rng(0))
    mean = paired_mean_change(a, b, clusters)
    assert (found.low, found.high) == pytest.approx((mean.low, mean.high), abs=0.004)


@pytest.mark.parametrize("changed", [0, 1, 3])
def test_next_to_no_change_still_has_an_interval_with_a_width(changed: int) -> None:
    a = np.arange(96) % 3 == 0
    b = a.copy()
    b[np.flatnonzero(a)[:changed]] = False
    found = paired_change(a, b, np.arange(96), np.random.default_rng(0))
    assert "Bonett-Price" in found.interval
    assert found.low < -0.01 and found.high > 0.01
    assert found.low <= found.estimate <= found.high


def test_everything_changed_keeps_to_possible_values() -> None:
    found = paired_change(np.ones(40, bool), np.zeros(40, bool), np.arange(40), np.random.default_rng(0))
    assert found.estimate == -1.0
    assert found.low == -1.0 and -0.95 < found.high < -0.7


def test_too_few_clusters_and_no_rows() -> None:
    few = paired_change([True] * 9, [False] * 9, np.arange(9), np.random.default_rng(0))
    assert (few.estimate, few.low, few.reason) == (-1.0, None, "too few clusters (9 < 10)")
    assert paired_change([], [], [], np.random.default_rng(0)).reason == "no rows"
    with pytest.raises(ValueError, match="a 1, b 2"):
        paired_change([True], [True, False], [1], np.random.default_rng(0))


def test_one_seed_gives_one_answer_whatever_order_and_names() -> None:
    a, b, clusters = sample(48, 2, 0.5, 0.3, 5)
    found = paired_change(a, b, clusters, np.random.default_rng(7))
    order = np.random.default_rng(8).permutation(len(a))
    names = np.array([f"seed {(5 * c) % 48}" for c in clusters])
    assert paired_change(a[order], b[order], names[order], np.random.default_rng(7)) == found


def test_undecidable_counted_as_harmful_and_harmless_bracket_the_change() -> None:
    a, b, clusters = sample(60, 2, 0.5, 0.3, 6)
    undecidable = np.random.default_rng(9).random(len(b)) < 0.1
    changes = [
        paired_change(a, outcome, clusters, np.random.default_rng(0)).estimate
        for outcome in (b & ~undecidable, b, b | undecidable)
    ]
    assert changes == sorted(changes)


@given(st.integers(30, 60), st.integers(1, 4), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_p_value_agrees_with_the_interval(groups: int, size: int, seed: int) -> None:
    a, b, clusters = sample(groups, size, 0.5, 0.35, seed)
    found = paired_change(a, b, clusters, np.random.default_rng(0), resamples=2_000)
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    if abs(found.p_value - 0.05) > 0.005:
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
@settings(max_examples=100, deadline=None)
def test_mcnemar_is_statsmodels(pairs: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
    found = mcnemar_exact(a, b)
    assert (found.only_a, found.only_b) == (table[0][1], table[1][0])
    expected = mcnemar(table, exact=True).pvalue if found.only_a + found.only_b else 1.0
    assert found.p_value == pytest.approx(expected)


def test_mcnemar_of_nothing_has_a_reason() -> None:
    assert (mcnemar_exact([], []).p_value, mcnemar_exact([], []).reason) == (None, "no rows")


def test_a_mean_change_of_single_rows_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(10)
    a = rng.normal(2, 1, 25)
    b = a + rng.normal(0.1, 0.3, 25)
    found, oracle = paired_mean_change(a, b, np.arange(25)), stats.ttest_rel(b, a)
    interval = oracle.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(oracle.pvalue)


def test_weights_give_the_change_of_total_over_total() -> None:
    rng = np.random.default_rng(11)
    characters = rng.integers(20, 400, 40).astype(float)
    a, b = rng.gamma(20, 5, 40), rng.gamma(20, 4, 40)
    found = paired_mean_change(a / characters, b / characters, np.arange(40), characters)
    assert found.estimate == pytest.approx((b.sum() - a.sum()) / characters.sum())


def test_a_constant_change_has_no_interval_and_says_so() -> None:
    found = paired_mean_change(np.arange(20.0), np.arange(20.0) + 0.5, np.arange(20))
    assert (found.estimate, found.low, found.reason) == (0.5, None, "no variation between clusters")


def test_nan_and_weights_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1"):
        paired_mean_change([0.0, float("nan")], [0.0, 1.0], [1, 2])
    with pytest.raises(ValueError, match="positive: row 0"):
        paired_mean_change([0.0, 0.0], [0.0, 1.0], [1, 2], [0.0, 1.0])


def test_a_million_rows_are_quick() -> None:
    a, b, clusters = sample(100_000, 10, 0.3, 0.2, 12)
    start = time.perf_counter()
    paired_change(a, b, clusters, np.random.default_rng(0), resamples=10_000)
    assert time.perf_counter() - start < 10
