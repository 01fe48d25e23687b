"""Corpus scores: from sums, paired, clustered by sentence."""

from __future__ import annotations

import numpy as np
import pytest

from alignprism.statistics.corpus import corpus_change, corpus_score


def precision(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1])


def sentences(n: int, seed: int, share: float) -> np.ndarray:
    made = np.random.default_rng(seed)
    words = made.integers(3, 30, n)
    return np.column_stack([made.binomial(words, share), words])


def test_the_score_is_that_of_the_sums_and_not_the_mean_of_sentences() -> None:
    rows = np.array([[1, 1], [0, 9]] * 20)
    found = corpus_score(rows, np.arange(40), precision, np.random.default_rng(0))
    assert found.estimate == pytest.approx(0.1)
    assert found.low < 0.1 < found.high


def test_a_paired_change_of_alike_systems_is_narrower_than_either_score() -> None:
    a = sentences(300, 1, 0.5)
    b = a.copy()
    b[::10, 0] = np.maximum(b[::10, 0] - 1, 0)
    change = corpus_change(a, b, np.arange(300), precision, np.random.default_rng(0))
    level = corpus_score(a, np.arange(300), precision, np.random.default_rng(0))
    assert change.high - change.low < (level.high - level.low) / 3
    assert change.high < 0 and change.p_value < 0.01


def test_repeated_sentences_count_as_one_cluster() -> None:
    rows = sentences(50, 2, 0.5)
    alone = corpus_score(rows, np.arange(50), precision, np.random.default_rng(0))
    repeated = corpus_score(np.tile(rows, (4, 1)), np.tile(np.arange(50), 4), precision, np.random.default_rng(0))
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))


def test_too_few_sentences_none_and_nothing_that_varies() -> None:
    few = corpus_score(sentences(29, 3, 0.5), np.arange(29), precision, np.random.default_rng(0))
    assert few.low is None and few.reason == "too few clusters for a bootstrap (29 < 30)"
    assert corpus_score(np.zeros((0, 2)), [], precision, np.random.default_rng(0)).reason == "no rows"
    same = sentences(40, 4, 0.5)
    assert corpus_change(same, same, np.arange(40), precision, np.random.default_rng(0)).reason == (
        "no variation between clusters"
    )
    with pytest.raises(ValueError, match=r"\(40, 2\), of b \(39, 2\)"):
        corpus_change(same, same[1:], np.arange(40), precision, np.random.default_rng(0))


def test_intervals_cover() -> None:
    hits = 0
    for seed in range(300):
        made = np.random.default_rng(seed)
        words = made.integers(3, 30, 60)
        rows = np.column_stack([made.binomial(words, made.beta(5, 5, 60)), words])
        found = corpus_score(rows, np.arange(60), precision, made, resamples=300)
        hits += found.low <= 0.5 <= found.high
    assert 0.91 <= hits / 300 <= 0.98, hits / 300
