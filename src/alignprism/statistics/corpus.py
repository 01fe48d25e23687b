"""Corpus scores (chrF, BLEU): figures of summed per-sentence statistics, which are no means of sentence scores.

A resample draws clusters of sentences and sums their statistics; the score is computed from the sums, as on the corpus
itself (Koehn 2004, EMNLP, "Statistical significance tests for machine translation evaluation").
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from alignprism.statistics.clusters import Floats, bootstrap_totals, cluster_index, totals
from alignprism.statistics.estimate import CONFIDENCE, Estimate, enclosing, nothing, point_only
from alignprism.statistics.paired import MIN_BOOTSTRAP_CLUSTERS

Score = Callable[[Floats], float]
"""From statistics summed over sentences, shape (s,), to the corpus score."""

RESAMPLES = 1_000


def corpus_score(
    statistics: npt.ArrayLike,
    clusters: npt.ArrayLike,
    score: Score,
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The corpus score of ``statistics`` (n, s), one row per sentence, with a percentile cluster bootstrap interval."""
    rows = _as_statistics(statistics)
    return _bootstrapped(rows, clusters, score, rng, confidence, resamples, p_of_zero=False)


def corpus_change(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    clusters: npt.ArrayLike,
    score: Score,
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Score of ``b`` less score of ``a`` on the same sentences, both (n, s); every resample draws the same for both.

    The p-value is the share of resamples beyond 0, doubled: it agrees with the interval.

    Raises:
        ValueError: the two do not have the same shape.
    """
    before, after = _as_statistics(a), _as_statistics(b)
    if before.shape != after.shape:
        raise ValueError(f"statistics of a have shape {before.shape}, of b {after.shape}")
    width = before.shape[1]
    both = np.hstack([before, after])
    return _bootstrapped(
        both, clusters, lambda sums: score(sums[width:]) - score(sums[:width]), rng, confidence, resamples, p_of_zero=True
    )  # fmt: skip


def _as_statistics(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"statistics must have two dimensions (sentences, statistics), not {array.ndim}")
    return array


def _bootstrapped(
    rows: Floats,
    clusters: npt.ArrayLike,
    score: Score,
    rng: np.random.Generator,
    confidence: float,
    resamples: int,
    p_of_zero: bool,
) -> Estimate:
    n = len(rows)
    index, groups = cluster_index(clusters, n)
    if n == 0:
        return nothing(0, 0, "no rows")
    value = score(rows.sum(axis=0))
    if groups < MIN_BOOTSTRAP_CLUSTERS:
        return point_only(value, n, groups, f"too few clusters for a bootstrap ({groups} < {MIN_BOOTSTRAP_CLUSTERS})")
    sums = totals(index, groups, *rows.T)
    drawn = np.array([score(one) for block in bootstrap_totals(sums, resamples, rng) for one in block])
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    if low == high:
        return point_only(value, n, groups, "no variation between clusters")
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p_value = min(1.0, 2 * (1 + beyond) / (resamples + 1)) if p_of_zero else None
    name = f"percentile cluster bootstrap, {resamples} resamples"
    return enclosing(value, low, high, n, groups, name, p_value=p_value)
