"""Win rates, flips, position bias and the length-controlled win rate: conventions, oracles, degenerate samples, coverage."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from alignprism.statistics.pairwise import (
    flip_rate,
    length_controlled_win_rate,
    position_bias,
    win_rates,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_two_conventions_differ_by_what_becomes_of_ties() -> None:
    found = win_rates([1] * 50 + [0] * 30 + [-1] * 20, np.arange(100), rng())
    assert (found.wins, found.ties, found.losses) == (50, 30, 20)
    assert found.ties_half.estimate == pytest.approx(0.65)
    assert found.ties_dropped.estimate == pytest.approx(50 / 70)
    assert (found.ties_half.n, found.ties_dropped.n) == (100, 70)
    assert found.ties_half.p_value < 0.05 < found.ties_half.low


def test_swapping_the_models_turns_every_win_rate_round() -> None:
    results = np.random.default_rng(1).choice([1, 0, -1], size=200, p=[0.5, 0.2, 0.3])
    clusters = np.repeat(np.arange(50), 4)
    there, back = (win_rates(side, clusters, rng()) for side in (results, -results))
    for one, other in ((there.ties_half, back.ties_half), (there.ties_dropped, back.ties_dropped)):
        assert one.estimate == pytest.approx(1 - other.estimate)
        assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=0.02)


def test_ties_only_few_prompts_and_none_are_values_with_reasons() -> None:
    ties = win_rates([0] * 40, np.arange(40), rng())
    assert ties.ties_half.estimate == 0.5 and ties.ties_half.low < 0.5 < ties.ties_half.high
    assert (ties.ties_dropped.estimate, ties.ties_dropped.reason) == (None, "ties only")
    few = win_rates([1] * 9, np.arange(9), rng())
    assert (few.ties_half.estimate, few.ties_half.low) == (1.0, None)
    assert few.ties_half.reason == few.ties_dropped.reason == "too few clusters (9 < 10)"
    assert win_rates([], [], rng()).ties_dropped.reason == "no rows"
    with pytest.raises(ValueError, match="must be 1"):
        win_rates([2.0], [0], rng())


def test_only_wins_still_have_an_interval_with_a_width() -> None:
    found = win_rates([1] * 60, np.arange(60), rng())
    assert found.ties_half.estimate == 1.0 and 0.9 < found.ties_half.low < 0.99
    controlled = length_controlled_win_rate([1] * 60, np.full(60, 90), np.arange(60) + 60, np.arange(60))
    assert 0.97 < controlled.estimate < 1 and controlled.low < 0.97 < controlled.high


def test_a_judge_that_always_takes_the_first_flips_always_and_has_full_bias() -> None:
    first, second = np.ones(80, bool), np.zeros(80, bool)
    assert position_bias(first, second, np.repeat(np.arange(40), 2), rng()).estimate == 1.0
    assert flip_rate(np.ones(40, bool), np.arange(40)).estimate == 1.0
    fair = np.tile([True, False], 40)
    assert position_bias(fair, ~fair, np.repeat(np.arange(40), 2), rng()).estimate == 0.0


def simulated(n: int, seed: int, alpha: float, beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    made = np.random.default_rng(seed)
    a, b = made.gamma(4, 50, n), made.gamma(5, 50, n)
    scaled = np.tanh((b - a) / (b - a).std())
    return np.where(made.random(n) < special.expit(alpha + beta * scaled), 1, -1), a, b


def test_length_control_finds_the_rate_at_equal_length() -> None:
    results, a, b = simulated(20_000, 3, alpha=-0.4, beta=1.5)
    raw = win_rates(results, np.arange(20_000), rng()).ties_half
    controlled = length_controlled_win_rate(results, a, b, np.arange(20_000))
    assert controlled.estimate == pytest.approx(special.expit(-0.4), abs=0.012)
    assert raw.estimate > controlled.high
    doubled = length_controlled_win_rate(results, 2 * a, 2 * b, np.arange(20_000))
    assert doubled.estimate == pytest.approx(controlled.estimate)


def test_the_length_model_is_statsmodels_where_the_penalty_does_not_matter() -> None:
    results, a, b = simulated(4_000, 4, alpha=0.3, beta=0.8)
    clusters = np.repeat(np.arange(800), 5)
    scaled = np.tanh((b - a) / (b - a).std())
    model = sm.GLM((results + 1) / 2, np.column_stack([np.ones(4_000), scaled]), family=sm.families.Binomial())
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": clusters})
    low, high = special.expit(fitted.conf_int()[0])
    found = length_controlled_win_rate(results, a, b, clusters)
    assert found.estimate == pytest.approx(special.expit(fitted.params[0]), abs=2e-4)
    assert (found.low, found.high) == pytest.approx((low, high), abs=3e-4)


@pytest.mark.parametrize("separated", [False, True])
def test_the_penalised_estimate_maximises_firths_likelihood(separated: bool) -> None:
    results, a, b = simulated(60, 5, alpha=0.2, beta=1.0)
    if separated:
        results = np.where(b > a, 1, -1)
    scaled = np.tanh((b - a) / (b - a).std())
    design, wins = np.column_stack([np.ones(60), scaled]), results > 0

    def loss(coefficients: np.ndarray) -> float:
        linear = design @ coefficients
        likelihood = np.where(wins, special.log_expit(linear), special.log_expit(-linear)).sum()
        weight = special.expit(linear) * special.expit(-linear)
        return -likelihood - 0.5 * np.linalg.slogdet((design * weight[:, None]).T @ design)[1]

    best = optimize.minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-8})
    found = length_controlled_win_rate(results, a, b, np.arange(60))
    assert found.estimate == pytest.approx(special.expit(best.x[0]), abs=1e-5)
    assert found.low < found.estimate < found.high


def test_languages_have_levels_of_their_own_and_scales_of_their_own() -> None:
    first, a, b = simulated(3_000, 6, alpha=1.0, beta=1.0)
    second, *_ = simulated(3_000, 6, alpha=-1.0, beta=1.0)
    language = np.repeat(["en", "hi"], 3_000)
    found = length_controlled_win_rate(
        np.r_[first, second], np.r_[a, 3 * a], np.r_[b, 3 * b], np.arange(6_000), language
    )
    assert found.estimate == pytest.approx(0.5, abs=0.02)


def test_what_length_cannot_tell_is_said() -> None:
    results, n = np.tile([1, -1, 1], 20), 60
    equal = length_controlled_win_rate(results, np.full(n, 7), np.full(n, 7), np.arange(n))
    assert equal.estimate == pytest.approx(40.5 / 61)
    alike = length_controlled_win_rate(results, np.full(n, 7), np.full(n, 9), np.arange(n))
    assert alike.estimate is None and "cannot be told apart" in alike.reason
    longer = length_controlled_win_rate(results, np.full(n, 7), 8 + np.arange(n), np.arange(n))
    assert longer.reason == "extrapolated: every answer of b is longer"
    assert length_controlled_win_rate(results[:9], [1] * 9, range(9), range(9)).reason == "too few clusters (9 < 10)"


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 0, -1]), st.integers(0, 400), st.integers(0, 400), st.integers(0, 40)),
        max_size=120,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_sample_gives_shares_or_reasons(rows: list[tuple[int, int, int, int]]) -> None:
    results, a, b, clusters = (np.array([row[k] for row in rows]) for k in range(4))
    found = win_rates(results, clusters, rng(), resamples=200)
    for estimate in (found.ties_half, found.ties_dropped, length_controlled_win_rate(results, a, b, clusters)):
        assert estimate.reason if estimate.estimate is None else 0 <= estimate.estimate <= 1
    assert found.wins + found.ties + found.losses == len(rows)


@pytest.mark.parametrize("groups", [24, 96])
def test_intervals_of_win_rates_cover(groups: int) -> None:
    """400 seeded samples of five prompts a seed; a wider grid is benchmarks/pairwise.py."""
    made, index, hits = np.random.default_rng(groups), np.repeat(np.arange(groups), 5), np.zeros(2)
    seeds, gaps = -0.2 + 0.5 * made.normal(size=200_000), np.tanh(made.normal(size=200_000))
    raw, at_equal_length = special.expit(seeds + gaps).mean(), special.expit(seeds).mean()
    for _ in range(400):
        gap = made.normal(size=len(index))
        chance = special.expit(-0.2 + 0.5 * made.normal(size=groups)[index] + 1.0 * np.tanh(gap / gap.std()))
        results = np.where(made.random(len(index)) < chance, 1, -1)
        controlled = length_controlled_win_rate(results, np.full(len(index), 9.0), 9.0 + gap, index)
        half = win_rates(results, index, made, resamples=400).ties_half
        hits += [half.low <= raw <= half.high, controlled.low <= at_equal_length <= controlled.high]
    assert (hits / 400 >= 0.92).all() and (hits / 400 <= 0.985).all(), hits / 400
