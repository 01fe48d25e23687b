"""A judge against labels: AUC, agreement, kappa, sensitivity and specificity, calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from alignprism.statistics.clusters import as_bools, as_floats, cluster_index, linearised_variance, same_length, totals
from alignprism.statistics.estimate import (
    CONFIDENCE,
    MIN_CLUSTERS,
    Estimate,
    enclosing,
    nothing,
    point_only,
    too_few_clusters,
)
from alignprism.statistics.rates import rate


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Scores between ``low`` and ``high``: how many, their mean, and the share of them that is true.

    ``weight`` is the bin's share of all rows; with design weights that, the mean and the share true are weighted.
    """

    low: float
    high: float
    n: int
    mean_score: float
    share_true: float
    weight: float


def auc(
    scores: npt.ArrayLike, labels: npt.ArrayLike, clusters: npt.ArrayLike | None = None, confidence: float = CONFIDENCE
) -> Estimate:
    """Chance that a true row scores above a false one, ties counted half (Mann-Whitney); arrays of shape (n,).

    Interval: the linearised variance of DeLong et al. (1988), summed by cluster (Obuchowski 1997, Biometrics 53:567),
    on the logit scale with t. Without ``clusters`` each row is its own.
    """
    values, truth = as_floats(scores, "scores"), as_bools(labels, "labels")
    same_length(scores=values, labels=truth)
    n = len(values)
    index, groups = cluster_index(np.arange(n) if clusters is None else clusters, n)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return nothing(n, groups, f"needs both classes ({positives} true, {negatives} false)")
    ranks = stats.rankdata(values)
    placement = np.empty(n)  # for a true row the share of false rows below it, for a false row of true rows above it
    placement[truth] = (ranks[truth] - stats.rankdata(values[truth])) / negatives
    placement[~truth] = 1 - (ranks[~truth] - stats.rankdata(values[~truth])) / positives
    area = float(placement[truth].mean())
    if groups < MIN_CLUSTERS:
        return too_few_clusters(area, n, groups)
    if area in (0.0, 1.0):
        return point_only(area, n, groups, "the classes do not overlap: no variance to build an interval from")
    influence = totals(index, groups, (placement - area) / np.where(truth, positives, negatives))[:, 0]
    error = math.sqrt(linearised_variance(influence)) / (area * (1 - area))
    half = -float(special.stdtrit(groups - 1, (1 - confidence) / 2)) * error
    if half == 0:
        return point_only(area, n, groups, "no variation between clusters")
    logit = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(min(700.0, -end))) for end in (logit - half, logit + half))
    return enclosing(area, low, high, n, groups, "DeLong, logit, clustered", within=(0, 1))


def percent_agreement(
    a: npt.ArrayLike, b: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = CONFIDENCE
) -> Estimate:
    """Share of rows on which two raters give the same label (any labels, shape (n,)), with the interval of `rate`."""
    one, other = np.asarray(a), np.asarray(b)
    same_length(a=one, b=other)
    return rate(one == other, clusters, confidence)


def cohen_kappa(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    clusters: npt.ArrayLike,
    confidence: float = CONFIDENCE,
    weights: npt.ArrayLike | None = None,
) -> Estimate:
    """Cohen's (1960) kappa of two raters over nominal labels, with a cluster-robust linearised t interval.

    The linearisation is that of Fleiss, Cohen and Everitt (1969), summed by cluster. ``weights`` (n,) are one over the
    inclusion probabilities.

    Raises:
        ValueError: lengths differ, or a weight is not positive.
    """
    one, other = np.asarray(a), np.asarray(b)
    n = len(one)
    weight = np.ones(n) if weights is None else as_floats(weights, "weights")
    same_length(a=one, b=other, weights=weight)
    if (weight <= 0).any():
        raise ValueError(f"weights must be positive: row {int(np.flatnonzero(weight <= 0)[0])} is not")
    index, groups = cluster_index(clusters, n)
    if n == 0:
        return nothing(0, 0, "no rows")
    weight = weight * (n / weight.sum())
    names, codes = np.unique(np.concatenate([one, other]), return_inverse=True)
    x, y = codes[:n], codes[n:]
    of_a, of_b = (np.bincount(c, weights=weight, minlength=len(names)) / n for c in (x, y))
    observed, expected = float(weight[x == y].sum()) / n, float(of_a @ of_b)
    if expected >= 1 - 1e-12:
        return nothing(n, groups, "both raters gave one and the same label throughout")
    kappa = (observed - expected) / (1 - expected)
    if groups < MIN_CLUSTERS:
        return too_few_clusters(kappa, n, groups)
    agreeing = (x == y) - observed
    by_chance = of_b[x] + of_a[y] - 2 * expected
    influence = totals(index, groups, weight * (agreeing - (1 - kappa) * by_chance) / (1 - expected) / n)[:, 0]
    error = math.sqrt(linearised_variance(influence))
    if error < 1e-12:
        return point_only(kappa, n, groups, "no variation between clusters")
    half = -float(special.stdtrit(groups - 1, (1 - confidence) / 2)) * error
    return enclosing(kappa, kappa - half, kappa + half, n, groups, "t, linearised, clustered", within=(-1, 1))


def sensitivity(
    verdicts: npt.ArrayLike, truth: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = CONFIDENCE
) -> Estimate:
    """Share of truly harmful rows that the judge calls harmful; ``n`` counts the truly harmful rows."""
    called, real = as_bools(verdicts, "verdicts"), as_bools(truth, "truth")
    same_length(verdicts=called, truth=real)
    return _rate_where(real, called, clusters, confidence, "no row is truly positive")


def specificity(
    verdicts: npt.ArrayLike, truth: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = CONFIDENCE
) -> Estimate:
    """Share of truly harmless rows that the judge calls harmless; ``n`` counts the truly harmless rows."""
    called, real = as_bools(verdicts, "verdicts"), as_bools(truth, "truth")
    same_length(verdicts=called, truth=real)
    return _rate_where(~real, ~called, clusters, confidence, "no row is truly negative")


def _rate_where(
    rows: npt.NDArray[np.bool_], outcomes: npt.NDArray[np.bool_], clusters: npt.ArrayLike, confidence: float, none: str
) -> Estimate:
    labels = np.asarray(clusters)
    cluster_index(labels, len(rows))
    return rate(outcomes[rows], labels[rows], confidence) if rows.any() else nothing(0, 0, none)


def calibration(
    scores: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 10, weights: npt.ArrayLike | None = None
) -> tuple[CalibrationBin, ...]:
    """The reliability table over ``bins`` equally wide bins of scores in 0 to 1; empty bins are left out.

    ``weights`` (n,) are one over the inclusion probabilities, where the labelled rows were not drawn alike.

    Raises:
        ValueError: a score outside 0 to 1, a weight that is not positive, or no bins.
    """
    values, truth = as_floats(scores, "scores"), as_bools(labels, "labels")
    weight = np.ones(len(values)) if weights is None else as_floats(weights, "weights")
    same_length(scores=values, labels=truth, weights=weight)
    if bins < 1:
        raise ValueError("bins must be at least 1")
    if ((values < 0) | (values > 1)).any():
        raise ValueError("scores must be probabilities between 0 and 1")
    if (weight <= 0).any():
        raise ValueError(f"weights must be positive: row {int(np.flatnonzero(weight <= 0)[0])} is not")
    place = np.minimum((values * bins).astype(np.intp), bins - 1)
    total = float(weight.sum())
    return tuple(
        CalibrationBin(
            int(k) / bins,
            (int(k) + 1) / bins,
            int(m.sum()),
            float(np.average(values[m], weights=weight[m])),
            float(np.average(truth[m], weights=weight[m])),
            float(weight[m].sum()) / total,
        )
        for k in np.unique(place)
        for m in [place == k]
    )


def expected_calibration_error(
    scores: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 10, weights: npt.ArrayLike | None = None
) -> Estimate:
    """Mean gap between score and share of true over the bins, weighted by rows (Guo et al. 2017, arXiv 1706.04599).

    It is biased upwards for few rows, so it carries no interval; the table of `calibration` belongs beside it.
    """
    table = calibration(scores, labels, bins, weights)
    n = sum(row.n for row in table)
    if n == 0:
        return nothing(0, 0, "no rows")
    error = sum(row.weight * abs(row.mean_score - row.share_true) for row in table)
    return point_only(error, n, n, "biased upwards for few rows: no interval")
