"""Judge against labels: oracles from scikit-learn, statsmodels and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from statsmodels.stats.inter_rater import cohens_kappa

from alignprism.statistics import (
    auc,
    calibration,
    cohen_kappa,
    expected_calibration_error,
    percent_agreement,
    sensitivity,
    specificity,
)

scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=12, max_size=80).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@given(scored)
@settings(max_examples=100, deadline=None)
def test_auc_with_ties_is_scikit_learns_and_turns_round_with_the_scores(rows: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([s for s, _ in rows], float), np.array([label for _, label in rows])
    found = auc(scores, labels)
    assert found.estimate == pytest.approx(roc_auc_score(labels, scores))
    assert auc(-scores, labels).estimate == pytest.approx(1 - found.estimate)
    assert auc(np.exp(scores), labels).estimate == pytest.approx(found.estimate)
    if found.low is not None:
        assert 0 <= found.low <= found.high <= 1


def test_the_aucs_interval_covers() -> None:
    rng, hits = np.random.default_rng(1), 0
    labels = np.arange(80) % 2 == 0
    for _ in range(1_000):
        found = auc(rng.normal(size=80) + labels, labels)  # true area: Phi(1 / sqrt 2)
        hits += found.low <= 0.7602499 <= found.high
    assert 0.93 <= hits / 1_000 <= 0.975


def test_auc_says_why_there_is_none() -> None:
    assert auc([0.1, 0.2], [True, True]).reason == "needs both classes (2 true, 0 false)"
    separated = auc(np.arange(20.0), np.arange(20) >= 10)
    assert (separated.estimate, separated.low) == (1.0, None)
    assert separated.reason
    assert auc(np.arange(8.0), np.arange(8) % 2 == 0).reason == "too few clusters (8 < 10)"


def test_kappa_and_its_interval_are_the_published_formulas() -> None:
    rng = np.random.default_rng(2)
    a = rng.integers(0, 3, 200)
    b = np.where(rng.random(200) < 0.6, a, rng.integers(0, 3, 200))
    found = cohen_kappa(a, b, np.arange(200))
    assert found.estimate == pytest.approx(cohen_kappa_score(a, b))
    table = np.zeros((3, 3))
    np.add.at(table, (a, b), 1)
    oracle = cohens_kappa(table)
    # ours uses t and G / (G - 1), statsmodels the normal distribution
    assert (found.low, found.high) == pytest.approx((oracle.kappa_low, oracle.kappa_upp), abs=0.003)


def test_kappa_of_one_label_only_has_a_reason() -> None:
    found = cohen_kappa(["harmful"] * 20, ["harmful"] * 20, np.arange(20))
    assert (found.estimate, found.reason) == (None, "both raters gave one and the same label throughout")
    assert cohen_kappa([], [], []).reason == "no rows"


def test_perfect_agreement_is_one_without_an_interval() -> None:
    labels = np.arange(20) % 2
    found = cohen_kappa(labels, labels, np.arange(20))
    assert (found.estimate, found.low) == (1.0, None)
    assert percent_agreement(labels, labels, np.arange(20)).estimate == 1.0


def test_sensitivity_and_specificity_count_their_own_rows() -> None:
    truth = np.arange(60) < 20
    verdicts = (np.arange(60) < 15) | (np.arange(60) >= 56)
    found = sensitivity(verdicts, truth, np.arange(60))
    assert (found.estimate, found.n) == (0.75, 20)
    found = specificity(verdicts, truth, np.arange(60))
    assert (found.estimate, found.n) == (0.9, 40)
    assert sensitivity(verdicts, np.zeros(60, bool), np.arange(60)).reason == "no row is truly positive"


def test_calibration_error_is_the_gap_between_promise_and_share() -> None:
    scores = np.repeat([0.25, 0.85], 100)
    labels = np.concatenate([np.arange(100) < 25, np.arange(100) < 65])
    assert expected_calibration_error(scores, labels).estimate == pytest.approx(0.1)
    rows = calibration(scores, labels)
    assert [(row.n, row.share_true) for row in rows] == [(100, 0.25), (100, 0.65)]
    assert expected_calibration_error([], []).reason == "no rows"
    assert sum(row.n for row in calibration([0.0, 1.0], [False, True])) == 2
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration([1.2], [True])


def test_a_weight_of_two_is_two_rows_for_kappa() -> None:
    rng = np.random.default_rng(5)
    a = rng.random(60) < 0.4
    b = np.where(rng.random(60) < 0.8, a, ~a)
    weights = rng.integers(1, 4, 60)
    clusters = np.arange(60)
    weighted = cohen_kappa(a, b, clusters, weights=weights)
    repeated = [np.repeat(values, weights) for values in (a, b, clusters)]
    again = cohen_kappa(*repeated)
    assert (weighted.estimate, weighted.low, weighted.high) == pytest.approx((again.estimate, again.low, again.high))
    assert weighted.estimate != pytest.approx(cohen_kappa(a, b, clusters).estimate)


def test_calibration_takes_design_weights() -> None:
    """Rows of the second bin drawn ten times as rarely count ten times."""
    scores, labels = np.repeat([0.25, 0.85], 100), np.concatenate([np.arange(100) < 45, np.arange(100) < 85])
    weights = np.repeat([1.0, 10.0], 100)
    assert expected_calibration_error(scores, labels, weights=weights).estimate == pytest.approx(0.2 / 11)
    first, second = calibration(scores, labels, weights=weights)
    assert (first.weight, second.weight) == pytest.approx((1 / 11, 10 / 11))
    with pytest.raises(ValueError, match="weights must be positive: row 0"):
        calibration(scores, labels, weights=np.zeros(200))
