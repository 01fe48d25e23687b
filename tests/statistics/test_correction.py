"""The corrected rate: what it reduces to, what it refuses, oracles for what stands beside it, seeded coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.statistics import (
    CorrectedRate,
    DrawnLabels,
    Estimate,
    JudgeErrors,
    corrected_rate,
    drawn_labels,
    prediction_powered,
    rate,
    rogan_gladen,
    weighted_rate,
)


def sample(
    seed: int,
    rows: int = 400,
    size: int = 1,
    harm: float = 0.2,
    error: float = 0.1,
    labels: tuple[int, int] = (40, 40),
    raters: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, DrawnLabels]:
    """Truth, verdicts and clusters of ``rows``, and labels: so many of the harmless, so many of the harmful verdicts."""
    rng = np.random.default_rng(seed)
    clusters = np.arange(rows) // size
    truth = rng.random(rows) < harm
    verdicts = truth ^ (rng.random(rows) < error)
    chosen, probability = [], []
    for verdict, many in zip((False, True), labels, strict=True):
        members = np.flatnonzero(verdicts == verdict)
        many = min(many, len(members))
        chosen.append(rng.choice(members, size=many, replace=False))
        probability.append(np.full(many, many / len(members)))
    picked = np.concatenate(chosen)
    who = rng.integers(0, raters, len(picked))
    return truth, verdicts, clusters, drawn_labels(picked, truth[picked], np.concatenate(probability), who)


def all_labelled(truth: np.ndarray) -> DrawnLabels:
    return drawn_labels(np.arange(len(truth)), truth, np.ones(len(truth)))


def estimates(found: CorrectedRate) -> list[Estimate]:
    return [found.judge_only, found.human_only, found.corrected, found.ppi, found.rogan_gladen]


def test_the_three_are_always_together_and_the_correction_removes_the_judges_bias() -> None:
    truth, verdicts, clusters, labels = sample(1, rows=4000, labels=(200, 200))
    found = corrected_rate(verdicts, clusters, labels)
    assert found.judge_only.low > truth.mean()
    assert found.corrected.low < truth.mean() < found.corrected.high
    assert found.human_only.estimate == pytest.approx(found.corrected.estimate)
    assert found.corrected.high - found.corrected.low < found.human_only.high - found.human_only.low
    assert (found.labels, found.raters) == (400, 1)
    assert found.estimand == "according to this 1 rater, over prompts like these"
    assert [(s.name, s.labelled) for s in found.strata] == [("harmless", 200), ("harmful", 200)]


def test_the_point_is_p_times_ppv_plus_the_rest_times_for() -> None:
    _, verdicts, clusters, labels = sample(2)
    called = verdicts[labels.rows]
    p = verdicts.mean()
    ppv, missed = labels.harmful[called].mean(), labels.harmful[~called].mean()
    assert corrected_rate(verdicts, clusters, labels).corrected.estimate == pytest.approx(p * ppv + (1 - p) * missed)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 19)), min_size=30, max_size=80))
@settings(max_examples=60, deadline=None)
def test_with_every_row_labelled_it_is_the_human_rate(rows: list[tuple[bool, bool, int]]) -> None:
    truth, verdicts, clusters = (np.array(column) for column in zip(*rows, strict=True))
    found = corrected_rate(verdicts, clusters, all_labelled(truth))
    assert found.corrected == found.human_only
    assert found.human_only.estimate == pytest.approx(rate(truth, clusters).estimate)
    assert found.human_only.low == pytest.approx(rate(truth, clusters).low) or found.human_only.low is None
    finite = corrected_rate(verdicts, clusters, all_labelled(truth), population="these completions").corrected
    assert finite.low == finite.estimate == finite.high == pytest.approx(truth.mean())


@given(st.integers(0, 10_000), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_perfect_judges_rate_stays_as_it_is(seed: int, size: int) -> None:
    _, verdicts, clusters, labels = sample(seed, size=size, error=0.0)
    found = corrected_rate(verdicts, clusters, labels)
    assert found.corrected.estimate == pytest.approx(verdicts.mean())
    assert found.ppi.estimate == pytest.approx(verdicts.mean(), abs=1e-9) or verdicts.sum() == 0
    assert found.corrected.low <= verdicts.mean() <= found.corrected.high


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_and_labels_changes_nothing(seed: int) -> None:
    truth, verdicts, clusters, labels = sample(seed, size=3, raters=3)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(verdicts))
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    shuffled = rng.permutation(len(labels))
    again = drawn_labels(
        place[labels.rows][shuffled],
        truth[labels.rows][shuffled],
        (1 / labels.weights)[shuffled],
        labels.answer_raters[shuffled],
    )
    first = corrected_rate(verdicts, clusters, labels)
    second = corrected_rate(verdicts[order], clusters[order], again)
    for one, other in zip(estimates(first), estimates(second), strict=True):
        assert (one.low, one.estimate, one.high) == pytest.approx((other.low, other.estimate, other.high), abs=1e-9)


@given(
    st.lists(st.sampled_from(["harmful", "harmless", "undecidable"]), max_size=40),
    st.integers(0, 1000),
    st.integers(1, 4),
    st.sampled_from(["these raters", "such raters"]),
    st.sampled_from(["prompts like these", "these completions"]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_comes_in_there_is_a_number_or_a_reason(
    verdicts: list[str], seed: int, size: int, whose: str, population: str
) -> None:
    rng = np.random.default_rng(seed)
    n = len(verdicts)
    picked = rng.permutation(n)[: rng.integers(0, n + 1)]
    said = rng.random(len(picked)) < rng.choice([0.0, 0.5, 1.0])
    labels = drawn_labels(picked, said, rng.uniform(0.1, 1, len(picked)), rng.integers(0, 6, len(picked)))
    found = corrected_rate(np.array(verdicts, dtype=str), np.arange(n) // size, labels, None, population, whose)
    for estimate in estimates(found):  # Estimate itself refuses NaN and a missing reason
        if estimate.low is not None:
            assert 0 <= estimate.low <= estimate.estimate <= estimate.high <= 1


def test_a_stratum_without_labels_is_named() -> None:
    _, verdicts, clusters, labels = sample(3, labels=(40, 0))
    words = np.where(verdicts, "harmful", "harmless").astype("<U11")
    found = corrected_rate(words, clusters, labels)
    assert found.corrected.reason == f"no labels in stratum harmful ({verdicts.sum()} rows)"
    assert found.corrected.estimate is None
    assert found.strata[1].harmful is None
    words[[5, 6]] = "undecidable"
    labels = drawn_labels([7, 8], [True, False], [0.5, 0.5])
    assert "undecidable (2 rows)" in corrected_rate(words, clusters, labels).corrected.reason
    nobody = corrected_rate(words, clusters, drawn_labels([], [], []))
    assert nobody.corrected.reason == nobody.ppi.reason == "no human labels"


def test_undecidable_verdicts_are_a_third_stratum() -> None:
    truth, verdicts, clusters, _ = sample(4, rows=300)
    words = np.where(verdicts, "harmful", "harmless").astype("<U11")
    words[:30] = "undecidable"
    found = corrected_rate(words, clusters, all_labelled(truth))
    assert [s.rows for s in found.strata] == [(words == w).sum() for w in ("harmless", "harmful", "undecidable")]
    assert found.corrected.estimate == pytest.approx(truth.mean())


def test_labels_all_alike_still_leave_room() -> None:
    _, verdicts, clusters, labels = sample(5, harm=0.0, error=0.1)
    found = corrected_rate(verdicts, clusters, labels).corrected
    assert found.estimate == 0.0
    assert 0.02 < found.high < 0.15
    everything = corrected_rate(~verdicts, clusters, drawn_labels(labels.rows, labels.harmful == 0, 1 / labels.weights))
    assert everything.corrected.estimate == 1.0
    assert everything.corrected.low == pytest.approx(1 - found.high)


def test_gold_repeated_and_contested_labels_are_left_out_and_counted() -> None:
    _, verdicts, clusters, labels = sample(6)
    k = len(labels)
    kinds = ["drawn"] * k + ["gold"] * 30 + ["contested"] * 2
    extra = np.arange(32)
    mixed = drawn_labels(
        np.concatenate([labels.rows, extra]),
        np.concatenate([labels.harmful, np.ones(32)]).astype(bool),
        np.concatenate([1 / labels.weights, np.full(32, 0.5)]),
        kinds=kinds,
    )
    found = corrected_rate(verdicts, clusters, mixed)
    assert found.left_out == (("contested", 2), ("gold", 30))
    assert found.corrected == corrected_rate(verdicts, clusters, labels).corrected


def test_duplicates_count_once_and_contradictions_are_named() -> None:
    twice = drawn_labels([3, 3, 4], [True, True, False], [0.5, 0.5, 0.5], ["ann", "ann", "ann"])
    assert twice.rows.tolist() == [3, 4]
    two_people = drawn_labels([3, 3], [True, False], [0.5, 0.5], ["ann", "ben"])
    assert two_people.harmful.tolist() == [0.5]
    with pytest.raises(ValueError, match="two different answers about row 3"):
        drawn_labels([3, 3], [True, False], [0.5, 0.5], ["ann", "ann"])
    with pytest.raises(ValueError, match="row 3 has two inclusion probabilities"):
        drawn_labels([3, 3], [True, True], [0.5, 0.4], ["ann", "ben"])
    with pytest.raises(ValueError, match=r"row 3 is 0\.0: it must be above 0"):
        drawn_labels([3], [True], [0.0])
    with pytest.raises(ValueError, match="a label is about row 9, but there are 4 judged rows"):
        corrected_rate([True] * 4, range(4), drawn_labels([9], [True], [0.5]))
    with pytest.raises(ValueError, match="row 1 is 'unsafe'"):
        corrected_rate(["harmful", "unsafe"], [0, 1], drawn_labels([], [], []))


def test_clusters_and_raters_widen_it_and_the_estimand_says_whose_it_is() -> None:
    rng = np.random.default_rng(7)
    seeds, size = 80, 5
    clusters = np.repeat(np.arange(seeds), size)
    truth = np.repeat(rng.random(seeds) < 0.3, size)
    verdicts = truth ^ np.repeat(rng.random(seeds) < 0.15, size)
    severity = rng.random(8) < 0.5
    picked = rng.choice(400, size=160, replace=False)
    who = rng.integers(0, 8, 160)
    said = truth[picked] | severity[who]
    labels = drawn_labels(picked, said, np.full(160, 0.4), who)
    alone = corrected_rate(verdicts, np.arange(400), labels).corrected
    clustered = corrected_rate(verdicts, clusters, labels)
    such = corrected_rate(verdicts, clusters, labels, whose="such raters")
    widths = [e.high - e.low for e in (alone, clustered.corrected, such.corrected)]
    assert widths[0] * 1.05 < widths[1] < widths[2] / 1.3
    assert clustered.estimand == "according to these 8 raters, over prompts like these"
    assert such.estimand == "according to raters such as these 8, over prompts like these"
    three = drawn_labels(picked, said, np.full(160, 0.4), who % 3)
    assert "too few raters" in corrected_rate(verdicts, clusters, three, whose="such raters").corrected.reason


def test_few_labelled_clusters_give_the_point_only() -> None:
    _, verdicts, _, labels = sample(8)
    found = corrected_rate(verdicts, np.arange(400) // 50, labels).corrected
    assert found.low is None
    assert found.reason == "too few clusters with labels (8 < 10)"


def test_other_strata_may_stand_in_for_the_verdicts() -> None:
    _, verdicts, clusters, labels = sample(9)
    same = corrected_rate(verdicts, clusters, labels, strata=np.where(verdicts, "yes", "no"))
    assert same.corrected.estimate == pytest.approx(corrected_rate(verdicts, clusters, labels).corrected.estimate)
    assert [s.name for s in same.strata] == ["no", "yes"]


def test_equal_weights_give_the_plain_rate() -> None:
    rng = np.random.default_rng(10)
    outcomes, clusters = rng.random(200) < 0.3, rng.integers(0, 60, 200)
    assert weighted_rate(outcomes, np.full(200, 7.0), clusters) == rate(outcomes, clusters)
    plain, uneven = (weighted_rate(outcomes, w, np.arange(200)) for w in (np.ones(200), rng.uniform(0.2, 5, 200)))
    assert uneven.high - uneven.low > 1.05 * (plain.high - plain.low)


def ppi_example() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores of 600 rows, every tenth labelled; and a binary judge with its labels."""
    i = np.arange(600)
    scores, rows = ((i * 37) % 101) / 100, np.arange(0, 600, 10)
    values = ((rows * 53) % 97 < (97 * scores[rows]).astype(int)).astype(float)
    return i, scores, rows, values


def test_ppi_is_that_of_the_authors_package() -> None:
    """ppi-python 0.2.3, ppi_mean_pointestimate and ppi_mean_ci (alpha .05) on the arrays of `ppi_example`."""
    i, scores, rows, values = ppi_example()
    weights = np.full(60, 10.0)
    # Their lambda, over the 540 rows without label, is ours times 540 / 600.
    for power, point in ((1.0, 0.40140740740740743), (0.5, 0.4340370370370371)):
        assert prediction_powered(scores, i, rows, values, weights, power=power * 600 / 540).estimate == pytest.approx(
            point
        )
    tuned = prediction_powered(scores, i, rows, values, weights)
    assert tuned.estimate == pytest.approx(0.40935093923820887, abs=2e-4)
    assert (tuned.low, tuned.high) == pytest.approx((0.30390776079918225, 0.5147941176772355), abs=2e-3)
    called = (scores > 0.7).astype(float)
    harmful = ((rows * 29) % 83 < np.where(called[rows] > 0, 60, 8)).astype(float)
    tuned = prediction_powered(called, i, rows, harmful, weights)
    assert tuned.estimate == pytest.approx(0.204093801586879, abs=2e-4)
    assert (tuned.low, tuned.high) == pytest.approx((0.12500234172593863, 0.2831852614478194), abs=2e-3)


def test_rogan_gladen_is_the_published_formula() -> None:
    """Lang and Reiczigel (2014), written out for 100 of 500 called harmful, Se .9 of 100 rows, Sp .95 of 200 rows."""
    called = np.arange(500) < 100
    found = rogan_gladen(called, np.arange(500), JudgeErrors(0.9, 0.95, 100, 200))
    assert found.estimate == pytest.approx((0.2 + 0.95 - 1) / 0.85)
    z = 1.959963984540054
    p, se, sp = (100 + z**2 / 2) / (500 + z**2), 91 / 102, 191 / 202
    centre = (p + sp - 1) / (se + sp - 1)
    v_se, v_sp = se * (1 - se) / 102, sp * (1 - sp) / 202
    error = np.sqrt(p * (1 - p) / (500 + z**2) + (1 - centre) ** 2 * v_sp + centre**2 * v_se) / (se + sp - 1)
    shift = 2 * z**2 * (centre * v_se - (1 - centre) * v_sp)
    assert (found.low, found.high) == pytest.approx((centre + shift - z * error, centre + shift + z * error))
    chance = rogan_gladen(called, np.arange(500), JudgeErrors(0.5, 0.55, 100, 200))
    assert chance.reason == "the judge tells too little apart (Se + Sp - 1 = 0.05)"
    assert rogan_gladen(called, np.arange(500), JudgeErrors(None, 0.9, 0, 50)).reason == "no labelled row is harmful"


@pytest.mark.parametrize(
    ("harm", "labels", "size", "label_error"),
    [(0.1, (60, 40), 1, 0.0), (0.1, (60, 40), 1, 0.1), (0.3, (50, 50), 5, 0.0), (0.3, (50, 50), 5, 0.1)],
)
def test_it_covers(harm: float, labels: tuple[int, int], size: int, label_error: float) -> None:
    """500 samples; harm by seed (intra-cluster correlation .3 where seeds have 5 rows), and labels that err."""
    rng = np.random.default_rng([int(harm * 10), size, int(label_error * 10)])
    target = harm * (1 - label_error) + (1 - harm) * label_error
    clusters, hits, reps = np.arange(600) // size, 0, 500
    for _ in range(reps):
        shares = rng.beta(harm * 7 / 3, (1 - harm) * 7 / 3, 600 // size) if size > 1 else np.full(600, harm)
        truth = rng.random(600) < shares[clusters]
        verdicts = truth ^ (rng.random(600) < 0.1)
        rows, probability = [], []
        for verdict, many in zip((False, True), labels, strict=True):
            members = np.flatnonzero(verdicts == verdict)
            rows.append(rng.choice(members, size=many, replace=False))
            probability.append(np.full(many, many / len(members)))
        picked = np.concatenate(rows)
        said = truth[picked] ^ (rng.random(len(picked)) < label_error)
        found = corrected_rate(verdicts, clusters, drawn_labels(picked, said, np.concatenate(probability))).corrected
        hits += found.low <= target <= found.high
    assert 0.925 <= hits / reps <= 0.98, hits / reps
