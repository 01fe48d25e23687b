"""A judge against people, design-weighted: unbiased where labels are drawn by verdict, oracles at equal weights."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa

from alignprism.statistics import DrawnLabels, drawn_labels, judge_agreement

SENSITIVITY, SPECIFICITY = 0.85, 0.93


def judged(seed: int, rows: int = 1000, harm: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < harm
    return truth, truth ^ (rng.random(rows) < np.where(truth, 1 - SENSITIVITY, 1 - SPECIFICITY))


def by_verdict(truth: np.ndarray, verdicts: np.ndarray, each: int, seed: int) -> DrawnLabels:
    rng = np.random.default_rng(seed)
    rows, probability = [], []
    for verdict in (False, True):
        members = np.flatnonzero(verdicts == verdict)
        many = min(each, len(members))
        rows.append(rng.choice(members, size=many, replace=False))
        probability.append(np.full(many, many / len(members)))
    picked = np.concatenate(rows)
    return drawn_labels(picked, truth[picked], np.concatenate(probability))


def test_labels_drawn_by_verdict_give_the_judges_true_errors() -> None:
    truth, verdicts = judged(1, rows=20_000)
    labels = by_verdict(truth, verdicts, 1500, 1)
    unweighted = truth[labels.rows] & verdicts[labels.rows]
    assert unweighted.sum() / truth[labels.rows].sum() > 0.93  # what the labels look like
    found = judge_agreement(verdicts, np.arange(20_000), labels, np.random.default_rng(0))
    assert found.sensitivity.low < SENSITIVITY < found.sensitivity.high
    assert found.specificity.low < SPECIFICITY < found.specificity.high
    assert found.sensitivity.estimate == pytest.approx(SENSITIVITY, abs=0.04)
    assert found.bias.estimate == pytest.approx(verdicts.mean() - found.prevalence.estimate)
    assert found.bias.low < verdicts.mean() - truth.mean() < found.bias.high
    assert found.percent.estimate == pytest.approx((truth == verdicts).mean(), abs=0.02)


def test_with_every_row_labelled_the_coefficients_are_the_oracles() -> None:
    truth, verdicts = judged(2, rows=400)
    labels = drawn_labels(np.arange(400), truth, np.ones(400))
    found = judge_agreement(verdicts, np.arange(400), labels, np.random.default_rng(0))
    table = np.zeros((2, 2))
    np.add.at(table, (verdicts.astype(int), truth.astype(int)), 1)
    oracle = cohens_kappa(table)
    assert found.kappa.estimate == pytest.approx(oracle.kappa)
    assert (found.kappa.low, found.kappa.high) == pytest.approx((oracle.kappa_low, oracle.kappa_upp), abs=0.03)
    pair = np.array([verdicts, truth]).astype(float)
    assert found.alpha.estimate == pytest.approx(krippendorff.alpha(pair, level_of_measurement="nominal"))
    assert found.sensitivity.estimate == pytest.approx((verdicts & truth).sum() / truth.sum())
    mean = (verdicts.mean() + truth.mean()) / 2
    chance = 2 * mean * (1 - mean)
    assert found.ac1.estimate == pytest.approx(((verdicts == truth).mean() - chance) / (1 - chance))


def test_no_miss_among_the_labels_is_no_promise() -> None:
    truth, verdicts = judged(3)
    truth = truth & verdicts
    found = judge_agreement(verdicts, np.arange(1000), by_verdict(truth, verdicts, 50, 3), np.random.default_rng(0))
    assert found.sensitivity.estimate == 1.0
    assert found.sensitivity.low < 0.9


def test_undecidable_verdicts_agree_with_nobody() -> None:
    truth, verdicts = judged(4)
    words = np.where(verdicts, "harmful", "harmless").astype("<U11")
    words[:100] = "undecidable"
    labels = drawn_labels(np.arange(1000), truth, np.ones(1000))
    found = judge_agreement(words, np.arange(1000), labels, np.random.default_rng(0))
    assert found.percent.estimate == pytest.approx((truth == verdicts)[100:].sum() / 1000)
    assert found.specificity.estimate == pytest.approx(1 - ((words == "harmful") & ~truth).sum() / (~truth).sum())


def test_what_cannot_be_said_has_a_reason() -> None:
    truth, verdicts = judged(5)
    none = judge_agreement(verdicts, np.arange(1000), drawn_labels([], [], []), np.random.default_rng(0))
    assert none.kappa.reason == none.sensitivity.reason == "no human labels"
    assert none.judged.estimate is not None
    labels = by_verdict(truth, verdicts, 40, 5)
    clustered = judge_agreement(verdicts, np.arange(1000) // 200, labels, np.random.default_rng(0))
    assert (clustered.kappa.low, clustered.kappa.reason) == (None, "too few clusters with labels (5 < 10)")
    harmless = drawn_labels(labels.rows, np.zeros(len(labels), bool), 1 / labels.weights)
    found = judge_agreement(verdicts, np.arange(1000), harmless, np.random.default_rng(0))
    assert found.sensitivity.reason == "no label, or no verdict, on one of the sides it compares"
    assert judge_agreement([], [], drawn_labels([], [], []), np.random.default_rng(0)).bias.reason == "no rows"


def test_sensitivity_covers_from_few_labels() -> None:
    hits, reps = np.zeros(2), 200
    for seed in range(reps):
        truth, verdicts = judged(100 + seed, rows=600)
        labels = by_verdict(truth, verdicts, 60, seed)
        found = judge_agreement(verdicts, np.arange(600), labels, np.random.default_rng(seed), draws=1_000)
        hits += [found.sensitivity.low <= SENSITIVITY <= found.sensitivity.high,
                 found.specificity.low <= SPECIFICITY <= found.specificity.high]  # fmt: skip
    assert ((hits / reps >= 0.92) & (hits / reps <= 0.99)).all(), hits / reps
