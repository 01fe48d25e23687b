"""A rate with its interval: Wilson for independent rows; Wilson or Beta on the effective size for clustered rows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from alignprism.statistics.clusters import (
    Floats,
    as_bools,
    as_floats,
    cluster_index,
    linearised_variance,
    same_length,
    totals,
)
from alignprism.statistics.estimate import CONFIDENCE, MIN_CLUSTERS, Estimate, enclosing, nothing, too_few_clusters

RARE = 0.10
"""Below this share (or above one minus it) clustered rows get the Beta form: there Wilson covers as little as 91 %."""

_MIN_RARE_CLUSTERS = 10
_SMALLEST_DESIGN_EFFECT = 0.5


def rate(outcomes: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Share of true ``outcomes`` (shape (n,)), with an interval that respects ``clusters`` (shape (n,), any labels).

    One row per cluster: Wilson (1927). Otherwise the design effect is the cluster-robust (CR1) variance of the share
    over p(1-p)/n, the effective sample size is n over it, and t with G-1 degrees of freedom stands in for z: in
    Wilson's form (Dean and Pagano 2015, J. Survey Statistics and Methodology 3:484), or for rare outcomes in the Beta
    form of Korn and Graubard (1998, Survey Methodology 24:193). When fewer than ten clusters hold the rare outcome, its
    variance is badly known and the effective size is the geometric mean of that estimate and of the worst case, every
    cluster counting as one row; at 0 % and 100 % it is the worst case.
    """
    values = as_bools(outcomes, "outcomes").astype(np.float64)
    return weighted_rate(values, np.ones(len(values)), clusters, confidence)


def weighted_rate(
    shares: npt.ArrayLike,
    weights: npt.ArrayLike,
    clusters: npt.ArrayLike,
    confidence: float = CONFIDENCE,
    unlabelled: float = 1.0,
) -> Estimate:
    """The interval of `rate` for a weighted mean (Hajek 1971) of ``shares`` between 0 and 1; all (n,).

    ``weights`` are one over the inclusion probabilities; their unevenness counts as a design effect, like clusters.
    ``unlabelled``, the share of the population that was not drawn, is the finite population correction.

    Raises:
        ValueError: a share outside 0 to 1, or a weight that is not positive.
    """
    values, weight = as_floats(shares, "shares"), as_floats(weights, "weights")
    same_length(shares=values, weights=weight)
    if ((values < 0) | (values > 1)).any() or (weight <= 0).any():
        raise ValueError("shares must lie between 0 and 1 and weights above 0")
    n = len(values)
    index, groups = cluster_index(clusters, n)
    if n == 0:
        return nothing(0, 0, "no rows")
    weight = weight * (n / weight.sum())
    share = min(1.0, max(0.0, float(weight @ values) / n))
    if unlabelled <= 0:
        return enclosing(share, share, share, n, groups, "every row is labelled", within=(0, 1))
    if groups < MIN_CLUSTERS:
        return too_few_clusters(share, n, groups)
    alike = bool((values * (1 - values) == 0).all() and np.ptp(weight) <= 1e-9)
    if groups == n and alike:
        low, high = wilson(share, n / unlabelled, -float(special.ndtri((1 - confidence) / 2)))
        return enclosing(share, low, high, n, groups, "Wilson", within=(0, 1))
    sums = totals(index, groups, weight * values, weight)
    effective = effective_size(sums) / unlabelled
    t = -float(special.stdtrit(groups - 1, (1 - confidence) / 2))
    design = "clustered" if np.ptp(weight) <= 1e-9 else "weighted, clustered"
    # Rounded, so that a share and its opposite always get the same form: 1 - 0.9 is a little less than 0.1.
    if round(min(share, 1 - share), 12) >= RARE:
        low, high = wilson(share, effective, t)
        return enclosing(share, low, high, n, groups, f"Wilson, {design}", within=(0, 1))
    rarer = sums[:, 0] if share < 0.5 else sums[:, 1] - sums[:, 0]
    if int((rarer > 1e-12).sum()) < _MIN_RARE_CLUSTERS:
        effective = math.sqrt(effective * bounded_effective_size(n, 0.0, 0.0, sums[:, 1]) / unlabelled)
    z = -float(special.ndtri((1 - confidence) / 2))
    low, high = beta(share, effective * (z / t) ** 2, confidence)
    return enclosing(share, low, high, n, groups, f"Korn-Graubard Beta, {design}", within=(0, 1))


def effective_rows(outcomes: npt.NDArray[np.bool_], clusters: npt.ArrayLike) -> float:
    """Independent rows that would say as much about the share of true ``outcomes`` (n,), n at least 1."""
    index, groups = cluster_index(clusters, len(outcomes))
    if groups == len(outcomes) or groups < 2:
        return float(groups)
    return effective_size(totals(index, groups, outcomes, np.ones(len(outcomes))))


def wilson(share: float, n: float, critical: float) -> tuple[float, float]:
    """Wilson's score interval for a share of ``n`` (which may be an effective size) at a critical value (z or t)."""
    squared = critical**2 / n
    centre = (share + squared / 2) / (1 + squared)
    half = math.sqrt(share * (1 - share) * squared + squared**2 / 4) / (1 + squared)
    return max(0.0, centre - half), min(1.0, centre + half)


def beta(share: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Clopper and Pearson's interval for a share of ``n`` rows, which need not be whole."""
    tail, yes = (1 - confidence) / 2, share * n
    low = float(special.betaincinv(yes, n - yes + 1, tail)) if share > 0 else 0.0
    high = float(special.betainccinv(yes + 1, n - yes, tail)) if share < 1 else 1.0
    return low, high


def effective_size(sums: Floats) -> float:
    """Independent rows that would say as much about a share; ``sums`` (G, 2): true rows and rows of each cluster."""
    n, share = float(sums[:, 1].sum()), float(sums[:, 0].sum() / sums[:, 1].sum())
    robust = linearised_variance((sums[:, 0] - share * sums[:, 1]) / n)
    return bounded_effective_size(n, robust, share * (1 - share) / n, sums[:, 1])


def bounded_effective_size(n: float, robust: float, naive: float, sizes: Floats) -> float:
    """n over the design effect ``robust / naive``, kept within what ``sizes`` of clusters allow.

    The most that clustering can cost is Kish's design effect at an intra-cluster correlation of 1, sum(m**2)/n. That
    is also the answer when there is no variance to learn from. Half is as far as a negative correlation is believed.
    """
    largest = max(1.0, float(np.square(sizes).sum()) / n)
    # A robust variance of exactly 0 is a degenerate sample (rounding leaves about 1e-33), not perfect precision.
    if naive <= 0 or robust <= naive * 1e-9:
        return n / largest
    return n / min(max(robust / naive, _SMALLEST_DESIGN_EFFECT), largest)
