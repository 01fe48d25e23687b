"""Bradley-Terry strengths: a published example, statsmodels, what has no bound, intervals."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from alignprism.statistics.bradley_terry import bradley_terry

# American League, Eastern Division 1987: wins of the row's team over the column's (Agresti 2002, table 10.10).
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
WINS = (
    (0, 7, 9, 7, 7, 9, 11),
    (6, 0, 7, 5, 11, 9, 9),
    (4, 6, 0, 7, 7, 8, 12),
    (6, 8, 6, 0, 6, 7, 10),
    (6, 2, 6, 7, 0, 7, 12),
    (4, 4, 5, 6, 6, 0, 6),
    (2, 4, 1, 3, 1, 7, 0),
)
PUBLISHED = {"Milwaukee": 1.58, "Detroit": 1.44, "Toronto": 1.29, "New York": 1.25, "Boston": 1.11, "Cleveland": 0.68}


def season() -> tuple[list[str], list[str], list[int]]:
    games = [
        (loser, winner) for i, winner in enumerate(TEAMS) for j, loser in enumerate(TEAMS) for _ in range(WINS[i][j])
    ]
    return [loser for loser, _ in games], [winner for _, winner in games], [1] * len(games)


def test_the_published_strengths_of_the_1987_season() -> None:
    a, b, results = season()
    found = bradley_terry(a, b, results, np.arange(len(a)), "Baltimore", np.random.default_rng(0))
    assert found[0].model == "Baltimore" and found[0].log_strength.estimate == 0
    assert {s.model: round(s.log_strength.estimate, 2) for s in found[1:]} == PUBLISHED
    milwaukee = next(s for s in found if s.model == "Milwaukee")
    assert milwaukee.win_probability.estimate == pytest.approx(special.expit(milwaukee.log_strength.estimate))
    assert milwaukee.log_strength.low == pytest.approx(1.58 - 1.96 * 0.343, abs=0.12)  # published standard error


def played(
    games: int, seed: int, strengths: dict[str, float], ties: float = 0.0
) -> tuple[list[str], list[str], np.ndarray]:
    made, names = np.random.default_rng(seed), sorted(strengths)
    pairs = [made.choice(names, 2, replace=False) for _ in range(games)]
    a, b = ([str(pair[side]) for pair in pairs] for side in (0, 1))
    chance = special.expit([strengths[y] - strengths[x] for x, y in zip(a, b, strict=True)])
    results = np.where(made.random(games) < chance, 1, -1)
    return a, b, np.where(made.random(games) < ties, 0, results)


def test_strengths_with_half_ties_are_statsmodels_logistic_regression() -> None:
    a, b, results = played(600, 1, {"base": 0, "dpo": 1.0, "sft": 0.4}, ties=0.2)
    clusters = np.repeat(np.arange(20), 30)
    names = ("dpo", "sft")
    design = np.column_stack([np.array([(y == m) - (x == m) for x, y in zip(a, b, strict=True)], float) for m in names])
    fitted = sm.GLM((results + 1) / 2, design, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True
    )
    found = bradley_terry(a, b, results, clusters, "base", np.random.default_rng(0))
    assert [s.model for s in found] == ["base", "dpo", "sft"]
    assert [s.log_strength.estimate for s in found[1:]] == pytest.approx(list(fitted.params), abs=1e-7)
    # statsmodels' factor is G/(G-1) * (n-1)/(n-p); ours the first part
    error = fitted.bse * np.sqrt((600 - 2) / (600 - 1))
    ends = [s.log_strength.high - s.log_strength.estimate for s in found[1:]]
    assert ends == pytest.approx(list(error * 2.093024), rel=1e-5)


def test_models_that_were_never_compared_have_no_common_scale() -> None:
    found = bradley_terry(
        ["a", "b", "c", "d"], ["b", "a", "d", "c"], [1, 1, 1, 1], range(4), "a", np.random.default_rng(0)
    )
    assert all(s.log_strength.estimate is None for s in found)
    assert found[0].log_strength.reason == "models were never compared with each other: {a, b} | {c, d}"


def test_an_unbeaten_model_has_no_bound() -> None:
    a, b, results = played(100, 2, {"base": 0, "sft": 0.4})
    found = bradley_terry(
        [*a, *["base"] * 5], [*b, *["dpo"] * 5], [*results, 1, 1, 1, 1, 1], range(105), "base", np.random.default_rng(0)
    )
    assert "{dpo} never lost to" in found[1].win_probability.reason


def test_a_rarely_beaten_model_gets_the_interval_that_needs_no_resamples() -> None:
    a, b, results = played(200, 3, {"base": 0, "sft": 0.3})
    wins = [1] * 40 + [-1]
    found = bradley_terry(
        [*a, *["base"] * 41], [*b, *["dpo"] * 41], [*results, *wins], range(241), "base", np.random.default_rng(0)
    )
    dpo = next(s for s in found if s.model == "dpo")
    assert "cluster-robust" in dpo.log_strength.interval
    assert dpo.log_strength.estimate == pytest.approx(np.log(40))


def test_few_clusters_carry_no_interval_and_wrong_rows_are_refused() -> None:
    a, b, results = played(90, 4, {"base": 0, "sft": 0.3})
    few = bradley_terry(a, b, results, np.arange(90) % 9, "base", np.random.default_rng(0))
    assert few[1].win_probability.reason == "too few clusters (9 < 10)"
    with pytest.raises(ValueError, match="with itself"):
        bradley_terry(["x"], ["x"], [1], [0], "x", np.random.default_rng(0))
    with pytest.raises(ValueError, match="'gpt' was never compared"):
        bradley_terry(a, b, results, range(90), "gpt", np.random.default_rng(0))
    with pytest.raises(ValueError, match="models_a 1, models_b 1, results 2"):
        bradley_terry(["x"], ["y"], [1, 1], [0, 1], "x", np.random.default_rng(0))


@given(
    st.lists(
        st.tuples(st.sampled_from(["ab", "ba", "bc", "ca", "cd"]), st.sampled_from([1, 0, -1])), min_size=1, max_size=60
    )
)
@settings(max_examples=100, deadline=None)
def test_strengths_or_a_reason_and_expected_wins_are_the_observed(rows: list[tuple[str, int]]) -> None:
    a, b = ([pair[side] for pair, _ in rows] for side in (0, 1))
    results = [result for _, result in rows]
    found = bradley_terry(a, b, results, range(len(rows)), a[0], np.random.default_rng(0), resamples=50)
    theta = {s.model: s.log_strength.estimate for s in found}
    if any(value is None for value in theta.values()):
        assert all(s.log_strength.reason for s in found)
        return
    # The likelihood equations: every model wins as often as its strength says.
    for model in theta:
        won = sum(
            (1 + r) / 2 if y == model else (1 - r) / 2 for x, y, r in zip(a, b, results, strict=True) if model in (x, y)
        )
        expected = sum(
            special.expit(theta[model] - theta[y if x == model else x])
            for x, y in zip(a, b, strict=True)
            if model in (x, y)
        )
        assert won == pytest.approx(expected, abs=1e-5)


def test_intervals_cover() -> None:
    truth, hits = {"base": 0.0, "dpo": 0.8, "sft": 0.4}, 0
    for seed in range(200):
        a, b, results = played(300, 1_000 + seed, truth)
        found = bradley_terry(a, b, results, np.arange(300) // 3, "base", np.random.default_rng(seed), resamples=400)
        hits += sum(s.log_strength.low <= truth[s.model] <= s.log_strength.high for s in found[1:])
    assert 0.92 <= hits / 400 <= 0.985, hits / 400
