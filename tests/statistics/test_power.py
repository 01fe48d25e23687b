"""Power against a simulated exact McNemar test, and the smallest change that can be found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from alignprism.statistics import detectable_change, effective_pairs, paired_power, smallest_detectable_change


def simulated_power(n: int, only_a: float, only_b: float, repetitions: int = 20_000) -> float:
    rng = np.random.default_rng(3)
    counts = rng.multinomial(n, [only_a, only_b, 1 - only_a - only_b], size=repetitions)
    smaller, total = counts[:, :2].min(axis=1), counts[:, :2].sum(axis=1)
    p_values = np.minimum(1.0, 2 * stats.binom.cdf(smaller, total, 0.5))
    return float((p_values <= 0.05).mean())


@pytest.mark.parametrize(
    ("n", "only_a", "only_b"), [(24, 0.25, 0.03), (40, 0.2, 0.0), (96, 0.15, 0.04), (120, 0.1, 0.1), (400, 0.06, 0.02)]
)
def test_power_is_what_simulated_exact_mcnemar_finds(n: int, only_a: float, only_b: float) -> None:
    assert paired_power(n, only_a, only_b) == pytest.approx(simulated_power(n, only_a, only_b), abs=0.012)


def test_the_normal_form_joins_the_exact_one() -> None:
    assert paired_power(4_001, 0.03, 0.02) == pytest.approx(paired_power(4_000, 0.03, 0.02), abs=0.02)


@pytest.mark.parametrize(("n", "base"), [(40, 0.5), (96, 0.2), (96, 0.35), (300, 0.1)])
def test_the_smallest_detectable_change_is_found_four_times_in_five(n: int, base: float) -> None:
    change = smallest_detectable_change(n, base)
    only_b = 0.4 * (base - change)
    assert simulated_power(n, change + only_b, only_b) == pytest.approx(0.80, abs=0.015)


@given(st.integers(20, 300), st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None)
def test_more_clusters_find_no_less_up_to_the_exact_tests_saw_teeth(n: int, base: float) -> None:
    few, many = smallest_detectable_change(n, base), smallest_detectable_change(2 * n, base)
    if few is not None:
        assert 0 < many <= few <= base


def test_rows_of_one_seed_are_worth_less_than_rows() -> None:
    assert effective_pairs(50, 4, 0.0) == 200
    assert effective_pairs(50, 4, 1.0) == pytest.approx(50)
    loose, tight = (smallest_detectable_change(50, 0.35, 4, icc) for icc in (0.0, 0.5))
    assert loose < tight < smallest_detectable_change(50, 0.35)


def test_too_few_is_said_in_words() -> None:
    found = detectable_change(8, 0.35)
    assert found.change is None
    assert found.reason == "too few to say: with 8 independent pairs no fall from 35% is found at 80% power"
    assert detectable_change(0, 0.35).change is None
    assert detectable_change(96, 0.0).change is None


def test_impossible_assumptions_are_refused() -> None:
    with pytest.raises(ValueError):
        detectable_change(96, 1.2)
    with pytest.raises(ValueError):
        paired_power(10, 0.8, 0.4)
    with pytest.raises(ValueError):
        effective_pairs(10, 0.5)


@pytest.mark.parametrize(("n", "from_20", "from_35"), [(24, 0.06, 0.24), (40, 0.22, 0.47), (96, 0.67, 0.92)])
def test_a_fall_by_55_percent_is_found_as_often_as_earlier_planning_found(
    n: int, from_20: float, from_35: float
) -> None:
    for base, expected in ((0.2, from_20), (0.35, from_35)):
        only_b = 0.4 * 0.45 * base
        assert paired_power(n, 0.55 * base + only_b, only_b) == pytest.approx(expected, abs=0.03)
