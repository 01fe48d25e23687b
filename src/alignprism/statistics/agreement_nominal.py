"""Agreement of several raters over nominal labels: percent, Krippendorff's alpha, Gwet's AC1, each with prevalence.

Ratings are a matrix (units, raters) in which some are missing. Each unit may carry a design weight (one over the
probability that it was drawn). Intervals: delete-one-cluster jackknife of the coefficient, t with G-1 degrees of
freedom; the coefficients are smooth functions of cluster totals, so that it is a linearised interval without formulas.
Alpha and kappa fall with prevalence at equal agreement, AC1 hardly: read them beside `Agreement.prevalence`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from alignprism.statistics.clusters import Floats, as_floats, cluster_index, same_length, totals
from alignprism.statistics.estimate import (
    CONFIDENCE,
    MIN_CLUSTERS,
    Estimate,
    enclosing,
    nothing,
    point_only,
    too_few_clusters,
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement between raters; ``prevalence`` is the weighted share of each category among all ratings."""

    percent: Estimate
    alpha: Estimate
    ac1: Estimate
    prevalence: tuple[tuple[str, float], ...]
    raters: int


@dataclass(frozen=True, slots=True)
class _Counts:
    """``counts`` (n, K): how many raters put a unit into each category; units without a rating are gone."""

    names: tuple[str, ...]
    counts: Floats
    weights: Floats
    cluster: npt.NDArray[np.intp]
    groups: int


def rater_agreement(
    ratings: npt.ArrayLike,
    clusters: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    categories: int | None = None,
    confidence: float = CONFIDENCE,
) -> Agreement:
    """Agreement of the raters of ``ratings`` (n, R): words with "" or None where missing, or whole numbers from 0
    with a negative where missing; ``clusters`` and ``weights`` (n,).

    ``categories`` is how many there are to choose from, for AC1, when not all were used.

    Raises:
        ValueError: not a matrix, lengths differ, a weight that is not positive, or fewer ``categories`` than were used.
    """
    found = _count(ratings, clusters, weights, categories)
    raters = np.asarray(ratings, dtype=object).shape[1]
    total = found.weights @ found.counts
    shares = total / total.sum() if total.sum() > 0 else total
    return Agreement(
        percent=_coefficient(found, _percent_totals(found), _percent, confidence, (0, 1)),
        alpha=_coefficient(found, _alpha_totals(found), _alpha, confidence, (-1, 1)),
        ac1=_coefficient(found, _ac1_totals(found), lambda t: _ac1(t, categories or len(found.names)), confidence, (-1, 1)),
        prevalence=tuple(zip(found.names, shares.tolist(), strict=True)),
        raters=raters,
    )  # fmt: skip


def krippendorff_alpha(
    ratings: npt.ArrayLike,
    clusters: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Krippendorff's (2011, Computing Krippendorff's Alpha-Reliability) nominal alpha; arguments of `rater_agreement`."""
    return rater_agreement(ratings, clusters, weights, None, confidence).alpha


def gwet_ac1(
    ratings: npt.ArrayLike,
    clusters: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    categories: int | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Gwet's (2008, British J. Mathematical and Statistical Psychology 61:29) AC1; arguments of `rater_agreement`."""
    return rater_agreement(ratings, clusters, weights, categories, confidence).ac1


def jackknife(
    cluster_totals: Floats,
    statistic: Callable[[Floats], Floats],
    n: int,
    confidence: float,
    within: tuple[float, float],
) -> Estimate:
    """Delete-one-cluster jackknife of a smooth ``statistic`` of totals: (S, columns) to (S,); ``cluster_totals`` (G,
    columns)."""
    groups = len(cluster_totals)
    everything = cluster_totals.sum(axis=0)
    estimate = float(statistic(everything[None, :])[0])
    if not math.isfinite(estimate):
        return nothing(n, groups, "all ratings are alike: nothing to agree about by chance")
    if groups < MIN_CLUSTERS:
        return too_few_clusters(estimate, n, groups)
    without = statistic(everything - cluster_totals)
    if not np.isfinite(without).all():
        return point_only(estimate, n, groups, "it rests on one cluster")
    error = math.sqrt((groups - 1) / groups * float(np.square(without - without.mean()).sum()))
    if error < 1e-12:
        return point_only(estimate, n, groups, "no variation between clusters")
    half = -float(special.stdtrit(groups - 1, (1 - confidence) / 2)) * error
    return enclosing(
        estimate, estimate - half, estimate + half, n, groups, f"jackknife t on {groups - 1} df, clustered", within=within
    )  # fmt: skip


def _coefficient(
    found: _Counts,
    columns: Floats,
    statistic: Callable[[Floats], Floats],
    confidence: float,
    within: tuple[float, float],
) -> Estimate:
    pairable = found.counts.sum(axis=1) >= 2
    n = int(pairable.sum())
    if n == 0:
        return nothing(0, 0, "no unit has two ratings" if len(found.counts) else "no ratings")
    by_cluster = totals(found.cluster, found.groups, *columns.T)
    # Clusters without a usable unit say nothing and are not counted.
    return jackknife(by_cluster[np.any(by_cluster != 0, axis=1)], statistic, n, confidence, within)


def _percent_totals(found: _Counts) -> Floats:
    each = found.counts.sum(axis=1)
    pairable = each >= 2
    same = (found.counts * (found.counts - 1)).sum(axis=1) / np.where(pairable, each * (each - 1), 1)
    return np.column_stack([found.weights * same * pairable, found.weights * pairable])


def _percent(drawn: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(drawn[:, 0] / drawn[:, 1])


def _alpha_totals(found: _Counts) -> Floats:
    """Agreeing pairs of values, then values of each category, over the units with two ratings or more."""
    each = found.counts.sum(axis=1)
    weight = found.weights * (each >= 2)
    pairs = (found.counts * (found.counts - 1)).sum(axis=1) / np.maximum(each - 1, 1)
    return np.column_stack([weight * pairs, weight[:, None] * found.counts])


def _alpha(drawn: Floats) -> Floats:
    values = drawn[:, 1:]
    n = values.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = 1 - drawn[:, 0] / n
        expected = 1 - (values * (values - 1)).sum(axis=1) / (n * (n - 1))
        return np.where(expected > 1e-12, 1 - observed / expected, np.nan)


def _ac1_totals(found: _Counts) -> Floats:
    """The columns of percent agreement, the weight of rated units, and each unit's shares of categories."""
    each = found.counts.sum(axis=1, keepdims=True)
    shares = found.counts / each
    return np.column_stack([_percent_totals(found), found.weights, found.weights[:, None] * shares])


def _ac1(drawn: Floats, categories: int) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        agreed, shares = drawn[:, 0] / drawn[:, 1], drawn[:, 3:] / drawn[:, 2:3]
        chance = (shares * (1 - shares)).sum(axis=1) / max(categories - 1, 1)
        return np.asarray((agreed - chance) / (1 - chance))


def _count(
    ratings: npt.ArrayLike, clusters: npt.ArrayLike, weights: npt.ArrayLike | None, categories: int | None
) -> _Counts:
    table = np.asarray(ratings, dtype=object)
    if table.ndim != 2:
        raise ValueError(f"ratings must be a matrix of units and raters, not of {table.ndim} dimensions")
    n = len(table)
    weight = np.ones(n) if weights is None else as_floats(weights, "weights")
    same_length(ratings=table, weights=weight)
    if (weight <= 0).any():
        raise ValueError(f"weights must be positive: row {int(np.flatnonzero(weight <= 0)[0])} is not")
    index, _ = cluster_index(clusters, n)
    names = tuple(sorted({str(value) for value in table.ravel() if not _missing(value)}))
    if categories is not None and categories < len(names):
        raise ValueError(f"{len(names)} categories were used, more than {categories}")
    counts = np.zeros((n, len(names)))
    for code, name in enumerate(names):
        counts[:, code] = [sum(not _missing(v) and str(v) == name for v in row) for row in table]
    rated = counts.sum(axis=1) > 0 if names else np.zeros(n, dtype=np.bool_)
    weight = weight[rated]
    if len(weight):
        weight = weight * (len(weight) / weight.sum())
    kept, groups = cluster_index(index[rated], int(rated.sum()))
    return _Counts(names, counts[rated], weight, kept, groups)


def _missing(value: object) -> bool:
    if value is None or value == "":
        return True
    return isinstance(value, (int, float, np.integer, np.floating)) and not value >= 0
