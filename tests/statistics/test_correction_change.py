"""The corrected change of two models: what it reduces to, what it refuses, seeded coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.statistics import (
    DrawnLabels,
    corrected_change,
    draw_labels,
    drawn_labels,
    expected_changes_from_errors,
    paired_change,
)
from alignprism.statistics.correction_change import ratio_limits
from alignprism.statistics.label_plan import allocate
from alignprism.statistics.stratified import Limits

WORDS = ("harmless", "harmful")


def models(seed: int, rows: int = 600, before: float = 0.4, after: float = 0.2) -> tuple[np.ndarray, ...]:
    """Truth and verdicts of two models; the judge misses more of the second's harm."""
    rng = np.random.default_rng(seed)
    shared = rng.random(rows)
    a, b = shared < before, np.where(rng.random(rows) < 0.7, shared, rng.random(rows)) < after
    judged_a = a ^ (rng.random(rows) < 0.1)
    judged_b = b ^ (rng.random(rows) < np.where(b, 0.35, 0.05))
    return a, b, judged_a, judged_b


def joint_labels(
    a: np.ndarray, b: np.ndarray, judged_a: np.ndarray, judged_b: np.ndarray, each: int, seed: int
) -> tuple[DrawnLabels, DrawnLabels]:
    """``each`` rows of every joint stratum, both completions labelled."""
    rng = np.random.default_rng(seed)
    rows, probability = [], []
    joint = judged_a * 2 + judged_b
    for code in np.unique(joint):
        members = np.flatnonzero(joint == code)
        many = min(each, len(members))
        rows.append(rng.choice(members, size=many, replace=False))
        probability.append(np.full(many, many / len(members)))
    picked, chance = np.concatenate(rows), np.concatenate(probability)
    return drawn_labels(picked, a[picked], chance), drawn_labels(picked, b[picked], chance)


def test_it_removes_the_bias_of_a_judge_that_errs_differently_on_the_two() -> None:
    a, b, judged_a, judged_b = models(1, rows=6000)
    labels = joint_labels(a, b, judged_a, judged_b, 150, 1)
    found = corrected_change(judged_a, judged_b, np.arange(6000), *labels, np.random.default_rng(0))
    truth = b.mean() - a.mean()
    assert found.judge_only.high < truth
    assert found.corrected.low < truth < found.corrected.high
    assert found.corrected.high - found.corrected.low < found.human_only.high - found.human_only.low
    assert found.relative_judge_only.high < b.mean() / a.mean() - 1
    assert found.relative_corrected.low < b.mean() / a.mean() - 1 < found.relative_corrected.high
    assert found.labels == 600
    assert {(s.verdict_a, s.verdict_b) for s in found.strata} == {
        (x, y) for x in ("harmful", "harmless") for y in ("harmful", "harmless")
    }


def test_the_point_is_the_stratified_mean_of_differences() -> None:
    a, b, judged_a, judged_b = models(2)
    labels = joint_labels(a, b, judged_a, judged_b, 20, 2)
    found = corrected_change(judged_a, judged_b, np.arange(600), *labels, np.random.default_rng(0))
    joint, picked = judged_a * 2 + judged_b, labels[0].rows
    by_hand = sum(
        (joint == code).mean() * (b[picked] * 1.0 - a[picked])[joint[picked] == code].mean() for code in range(4)
    )
    assert found.corrected.estimate == pytest.approx(by_hand)
    assert found.human_only.estimate == pytest.approx(by_hand)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_with_every_row_labelled_it_is_the_human_change(seed: int) -> None:
    a, b, judged_a, judged_b = models(seed, rows=120)
    every = np.arange(120)
    labels = [drawn_labels(every, truth, np.ones(120)) for truth in (a, b)]
    found = corrected_change(judged_a, judged_b, every // 2, *labels, np.random.default_rng(0), resamples=20)
    assert found.corrected == found.human_only
    assert found.corrected.estimate == pytest.approx(paired_change(a, b, every, np.random.default_rng(0)).estimate)
    assert found.relative_corrected == found.relative_human_only


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_swapping_the_models_turns_it_round(seed: int) -> None:
    a, b, judged_a, judged_b = models(seed, rows=200)
    one, other = joint_labels(a, b, judged_a, judged_b, 10, seed)
    rng = np.random.default_rng(0)
    there = corrected_change(judged_a, judged_b, np.arange(200) // 2, one, other, rng, resamples=20).corrected
    back = corrected_change(judged_b, judged_a, np.arange(200) // 2, other, one, rng, resamples=20).corrected
    assert (there.low, there.estimate, there.high) == pytest.approx((-back.high, -back.estimate, -back.low))


def test_nothing_changed_still_has_a_width() -> None:
    rng = np.random.default_rng(3)
    a = rng.random(300) < 0.3
    labels = joint_labels(a, a, a, a, 30, 3)
    found = corrected_change(a, a, np.arange(300), *labels, rng).corrected
    assert found.estimate == 0
    assert -0.1 < found.low < -0.01 < 0.01 < found.high < 0.1


def test_labels_of_one_model_only_are_left_out_and_counted() -> None:
    a, b, judged_a, judged_b = models(4)
    one, other = joint_labels(a, b, judged_a, judged_b, 20, 4)
    missing = np.delete(np.arange(len(other)), [0, 5])
    fewer = drawn_labels(other.rows[missing], b[other.rows[missing]], 1 / other.weights[missing])
    found = corrected_change(judged_a, judged_b, np.arange(600), one, fewer, np.random.default_rng(0))
    assert (found.labels, found.unpaired) == (len(one) - 2, 2)
    doubled = drawn_labels(other.rows, b[other.rows], 0.5 / other.weights)
    with pytest.raises(ValueError, match="different inclusion probabilities for the two models"):
        corrected_change(judged_a, judged_b, np.arange(600), one, doubled, np.random.default_rng(0))
    with pytest.raises(ValueError, match="lengths differ"):
        corrected_change(judged_a, judged_b[:5], np.arange(600), one, other, np.random.default_rng(0))


def test_a_small_base_gives_no_relative_change_and_says_why() -> None:
    rng = np.random.default_rng(5)
    a, b = np.arange(200) < 6, np.zeros(200, dtype=bool)
    labels = joint_labels(a, b, a, b, 40, 5)
    found = corrected_change(a, b, np.arange(200), *labels, rng)
    assert found.relative_corrected.reason == "too few in the base to divide by (6.0 harmful by weight; needs 10)"
    assert found.relative_judge_only.estimate is None
    assert found.corrected.estimate == pytest.approx(-0.03)


def test_a_joint_stratum_without_labels_is_named() -> None:
    a, b, judged_a, judged_b = models(6)
    one, other = joint_labels(a, b, judged_a, judged_b, 20, 6)
    kept = np.flatnonzero(~(judged_a & ~judged_b)[one.rows])
    labels = [drawn_labels(t.rows[kept], t.harmful[kept] > 0, 1 / t.weights[kept]) for t in (one, other)]
    found = corrected_change(judged_a, judged_b, np.arange(600), *labels, np.random.default_rng(0))
    assert "no labels in stratum harmful / harmless" in found.corrected.reason
    assert found.relative_corrected.reason == found.corrected.reason
    assert found.judge_only.estimate is not None


def test_raters_of_both_completions_are_matched_by_name() -> None:
    a, b, judged_a, judged_b = models(7)
    one, other = joint_labels(a, b, judged_a, judged_b, 40, 7)
    names = np.array(["ann", "ben", "cem", "dee", "eve"])
    rng = np.random.default_rng(7)
    who = names[rng.integers(0, 5, len(one))]
    labels = [drawn_labels(t.rows, t.harmful > 0, 1 / t.weights, who) for t in (one, other)]
    found = corrected_change(judged_a, judged_b, np.arange(600), *labels, rng, whose="such raters", resamples=20)
    assert found.raters == 5
    assert found.corrected.low is not None
    assert "raters such as these 5" in found.estimand


def test_ratio_limits_are_fiellers_when_the_limits_are_symmetric() -> None:
    """Fieller (1954): roots of (after - R base)**2 = z**2 (Var after + R**2 Var base)."""
    base, after = Limits(0.4, 0.3, 0.5, 1.0), Limits(0.2, 0.12, 0.28, 1.0)
    a, b, c = 0.4**2 - 0.1**2, -2 * 0.4 * 0.2, 0.2**2 - 0.08**2
    root = np.sqrt(b * b - 4 * a * c)
    assert ratio_limits(base, after, 0.0) == pytest.approx(((-b - root) / (2 * a), (-b + root) / (2 * a)))
    assert ratio_limits(Limits(0.1, 0.0, 0.2, 1.0), after, 0.0) is None
    low, _ = ratio_limits(base, Limits(0.0, 0.0, 0.05, 1.0), 0.0)
    assert low == 0.0


@pytest.mark.parametrize(("before", "after", "size"), [(0.4, 0.2, 1), (0.1, 0.045, 1), (0.4, 0.4, 4)])
def test_it_covers(before: float, after: float, size: int) -> None:
    """300 samples: 400 rows, 100 labels placed by the planner's allocation, harm and change alike within a seed."""
    rng = np.random.default_rng([int(before * 100), int(after * 100), size])
    clusters, hits, reps = np.arange(400) // size, 0, 300
    for _ in range(reps):
        seed_harm = np.repeat(rng.random(400 // size), size)
        own = rng.random(400)
        harm = np.where(rng.random(400) < 0.5, seed_harm, own)
        other = np.where(rng.random(400) < 0.6, harm, rng.random(400))
        a, b = harm < before, other < after
        judged_a, judged_b = a ^ (rng.random(400) < 0.1), b ^ (rng.random(400) < 0.1)
        joint, stratum = np.unique(judged_a * 2 + judged_b, return_inverse=True)
        sizes = np.bincount(stratum)
        pairs = {(WORDS[code // 2], WORDS[code % 2]): int(n) for code, n in zip(joint, sizes, strict=True)}
        wanted = allocate(list(expected_changes_from_errors(pairs).values()), 100, np.minimum(sizes, 5))
        drawn = draw_labels(stratum, {str(code): int(n) for code, n in enumerate(wanted)}, rng)
        labels = [drawn_labels(drawn.rows, truth[drawn.rows], drawn.inclusion_probabilities) for truth in (a, b)]
        found = corrected_change(judged_a, judged_b, clusters, *labels, rng, resamples=5).corrected
        hits += found.low <= after - before <= found.high
    assert 0.925 <= hits / reps <= 0.987, hits / reps
