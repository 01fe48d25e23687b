"""PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453), the mean: shown beside the corrected rate.

Its interval is the published normal one. It under-covers with few labels or rare harm, which is why it is not the
headline; it also takes graded scores, which strata do not.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from alignprism.statistics.clusters import Floats, linearised_variance, totals
from alignprism.statistics.estimate import CONFIDENCE, MIN_CLUSTERS, Estimate, enclosing, nothing, point_only


def prediction_powered(
    scores: Floats,
    clusters: npt.NDArray[np.intp],
    rows: npt.NDArray[np.intp],
    values: Floats,
    weights: Floats,
    confidence: float = CONFIDENCE,
    power: float | None = None,
    within: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Mean of ``values`` from scores of all rows (N,) and the values (m,) of the labelled ``rows`` (m,).

    lambda * mean(scores) + weighted mean of (values - lambda * scores) over the labels, ``weights`` (m,) one over the
    inclusion probabilities. ``power`` is lambda; without it the one that makes the variance least (section 6 there,
    cut to 0 to 1). All N rows stand in for the N - m without label: with equal weights the two forms are one, our lambda
    being the published one times N / (N - m). ``clusters`` (N,) are codes; the variance is CR1.
    """
    n, m = len(scores), len(rows)
    groups = int(clusters.max()) + 1 if n else 0
    if not m:
        return nothing(n, groups, "no human labels" if n else "no rows")
    share = weights / weights.sum()
    predicted = scores[rows]
    if power is None:
        power = _least_variance(scores, predicted, values, share)
    error = values - power * predicted
    corrected = float(share @ error)
    estimate = power * float(scores.mean()) + corrected
    influence = power * (scores - scores.mean()) / n
    influence[rows] += share * (error - corrected)
    by_cluster = totals(clusters, groups, influence)[:, 0]
    if len(np.unique(clusters[rows])) < MIN_CLUSTERS:
        return point_only(estimate, n, groups, f"too few clusters with labels (less than {MIN_CLUSTERS})")
    half = -float(special.ndtri((1 - confidence) / 2)) * math.sqrt(linearised_variance(by_cluster))
    if half <= 1e-12:
        return point_only(estimate, n, groups, "no variation between clusters")
    estimate = min(max(estimate, within[0]), within[1])
    name = f"PPI++, lambda {power:.2f}, {m} labels"
    return enclosing(estimate, estimate - half, estimate + half, n, groups, name, within=within)


def _least_variance(scores: Floats, predicted: Floats, values: Floats, share: Floats) -> float:
    spread = float(scores.var())
    if spread <= 0:
        return 0.0
    together = float(share @ ((predicted - share @ predicted) * (values - share @ values)))
    return min(max(together / spread, 0.0), 1.0)
