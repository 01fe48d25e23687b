"""Alpha, AC1 and percent agreement: oracles, design weights, clusters, reasons."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from alignprism.statistics import gwet_ac1, krippendorff_alpha, rater_agreement

# irrCAC 0.4.4's data sets raw_4raters and raw_5observers (Gwet, Handbook of Inter-Rater Reliability), None: missing.
FOUR_RATERS = [
    [1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1], [None, None, 3, None],
]  # fmt: skip
FIVE_OBSERVERS = [
    [1, 1, 2, None, 2], [1, 1, 0, 1, None], [2, 3, 3, 3, None], [None, 0, 0, None, 0], [0, 0, 0, None, 0],
    [0, 0, 0, None, 0], [1, 0, 2, None, 1], [1, None, 2, 0, None], [2, 2, 2, None, 2], [2, 1, 1, 1, None],
    [None, 1, 0, 0, None], [0, 0, 0, 0, None], [1, 2, 2, 2, None], [3, 3, 2, 2, 3], [1, 1, 1, None, 1],
]  # fmt: skip


def test_the_published_values() -> None:
    """irrCAC 0.4.4: CAC(raw_4raters()).gwet() and .krippendorff(), and the same of raw_5observers()."""
    found = rater_agreement(FOUR_RATERS, np.arange(12))
    assert found.ac1.estimate == pytest.approx(0.77544, abs=5e-6)
    assert found.alpha.estimate == pytest.approx(0.74342, abs=5e-6)
    assert found.percent.estimate == pytest.approx(0.81818, abs=5e-6)
    assert found.raters == 4
    # their linearised intervals; alpha's is on 10 degrees of freedom there too
    assert (found.alpha.low, found.alpha.high) == pytest.approx((0.41906, 1), abs=0.02)
    five = rater_agreement(FIVE_OBSERVERS, np.arange(15))
    assert five.ac1.estimate == pytest.approx(0.49662, abs=5e-6)
    assert (five.ac1.low, five.ac1.high) == pytest.approx((0.23502, 0.75823), abs=0.02)
    assert five.alpha.estimate == pytest.approx(0.48053, abs=5e-6)
    assert (five.alpha.low, five.alpha.high) == pytest.approx((0.23708, 0.72398), abs=0.03)


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_alpha_with_missing_ratings_is_krippendorffs_own(seed: int, raters: int, categories: int) -> None:
    rng = np.random.default_rng(seed)
    ratings = rng.integers(0, categories, (25, 1)) * np.ones((1, raters), dtype=int)
    ratings = np.where(rng.random(ratings.shape) < 0.3, rng.integers(0, categories, ratings.shape), ratings)
    ratings[rng.random(ratings.shape) < 0.2] = -1
    table = np.where(ratings < 0, np.nan, ratings).T.astype(float)
    found = krippendorff_alpha(ratings, np.arange(25))
    if found.estimate is None:
        assert found.reason
        return
    assert found.estimate == pytest.approx(krippendorff.alpha(table, level_of_measurement="nominal"))


def test_three_raters_who_all_rate_everything_agree_as_fleiss_counts() -> None:
    """Fleiss' kappa (statsmodels) is alpha without its correction for few ratings."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 4000)
    ratings = np.where(rng.random((4000, 3)) < 0.7, truth[:, None], rng.integers(0, 3, (4000, 3)))
    oracle = fleiss_kappa(aggregate_raters(ratings)[0])
    assert krippendorff_alpha(ratings, np.arange(4000)).estimate == pytest.approx(oracle, abs=1e-4)


def test_a_weight_of_two_is_the_unit_twice() -> None:
    once = rater_agreement(FIVE_OBSERVERS, np.arange(15), weights=[2.0] + [1.0] * 14)
    twice = rater_agreement([FIVE_OBSERVERS[0], *FIVE_OBSERVERS], np.arange(16))
    assert once.ac1.estimate == pytest.approx(twice.ac1.estimate)
    assert once.percent.estimate == pytest.approx(twice.percent.estimate)
    assert dict(once.prevalence) == pytest.approx(dict(twice.prevalence))
    assert once.alpha.estimate == pytest.approx(twice.alpha.estimate, abs=0.01)  # it counts units, once


def test_prevalence_moves_alpha_and_hardly_ac1() -> None:
    rng = np.random.default_rng(2)
    coefficients = []
    for harm in (0.5, 0.05):
        truth = rng.random(3000) < harm
        ratings = (truth[:, None] ^ (rng.random((3000, 2)) < 0.05)).astype(int)
        found = rater_agreement(ratings, np.arange(3000))
        assert found.percent.estimate == pytest.approx(0.905, abs=0.02)
        coefficients.append((found.alpha.estimate, found.ac1.estimate))
    assert coefficients[1][0] < coefficients[0][0] - 0.25
    assert coefficients[1][1] > coefficients[0][1]


def test_clusters_widen_the_interval_and_few_give_none() -> None:
    rng = np.random.default_rng(3)
    seeds = np.repeat(np.arange(40), 5)
    confusing = np.repeat(rng.random(40) < 0.4, 5)
    first = rng.integers(0, 2, 200)
    second = np.where(confusing & (rng.random(200) < 0.8), 1 - first, first)
    ratings = np.column_stack([first, second])
    loose, tight = krippendorff_alpha(ratings, seeds), krippendorff_alpha(ratings, np.arange(200))
    assert loose.high - loose.low > 1.5 * (tight.high - tight.low)
    assert krippendorff_alpha(ratings, seeds // 5).reason == "too few clusters (8 < 10)"


def test_reasons_instead_of_numbers() -> None:
    alike = rater_agreement([["harmful", "harmful"]] * 20, np.arange(20))
    assert alike.alpha.reason == "all ratings are alike: nothing to agree about by chance"
    assert alike.percent.estimate == 1.0
    one_rater = rater_agreement([["harmful", ""], ["harmless", None]], [0, 1])
    assert one_rater.ac1.reason == "no unit has two ratings"
    assert rater_agreement(np.zeros((0, 2)), []).alpha.reason == "no ratings"
    assert gwet_ac1([["a", "b"]] * 20, np.arange(20), categories=3).estimate < 0
    with pytest.raises(ValueError, match="2 categories were used, more than 1"):
        gwet_ac1([["a", "b"]], [0], categories=1)
    with pytest.raises(ValueError, match="must be a matrix"):
        rater_agreement([1, 2], [0, 1])


def test_alphas_interval_covers() -> None:
    rng, hits, reps = np.random.default_rng(4), 0, 400
    for _ in range(reps):
        truth = rng.random(80) < 0.3
        ratings = (truth[:, None] ^ (rng.random((80, 3)) < 0.1)).astype(int)
        found = krippendorff_alpha(ratings, np.arange(80))
        p = 0.3 * 0.9 + 0.7 * 0.1
        target = 1 - 2 * 0.1 * 0.9 / (2 * p * (1 - p))
        hits += found.low <= target <= found.high
    assert 0.925 <= hits / reps <= 0.98
