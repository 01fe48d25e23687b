"""Two models on the same prompts: the change of a rate, the relative change, the change of a mean, and exact McNemar.

Which interval, and why (2,000 simulated samples a setting, nominal 95 %; benchmarks/intervals.py measures the chosen
ones, the comparison with percentile and BCa was made once with a simulation that is not kept):
from 30 clusters the studentised cluster bootstrap (94 to 96 %; the percentile bootstrap 93 to 96 %, BCa no better and
worse with few changed rows); below, t on the cluster-robust (CR1) variance with G-1 degrees of freedom (94 to 96 %,
where the percentile bootstrap falls to 91 %); and where next to nothing changed (fewer than five clusters, or fewer
than a tenth of the rows in fewer than 40 clusters) an adjusted interval, because variances of next to nothing promise
too much (both fall to 89 %; with 20 in place of 40 to 92 %). Bounds for undecidable answers are the same functions on
other arrays: count them as harmful, then as harmless.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from alignprism.statistics.clusters import (
    Floats,
    as_bools,
    as_floats,
    bootstrap_totals,
    cluster_index,
    linearised_variance,
    same_length,
    totals,
)
from alignprism.statistics.estimate import (
    CONFIDENCE,
    MIN_CLUSTERS,
    Estimate,
    enclosing,
    nothing,
    point_only,
    too_few_clusters,
)
from alignprism.statistics.rates import RARE, bounded_effective_size

MIN_BOOTSTRAP_CLUSTERS = 30
RESAMPLES = 10_000
_MIN_CHANGED_FOR_T = 5
_MIN_CHANGED_WHEN_RARE = 40
_MIN_CHANGED_FOR_BOOTSTRAP = 10


@dataclass(frozen=True, slots=True)
class McNemar:
    """Rows true only before (``only_a``), true only after (``only_b``), and the exact two-sided p-value."""

    only_a: int
    only_b: int
    n: int
    p_value: float | None
    reason: str = ""


def paired_change(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    clusters: npt.ArrayLike,
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Share of true in ``b`` less share of true in ``a``; row i of both is the same prompt, ``clusters`` its seed;
    all (n,).

    The interval's method is named in the result; see the module for the choice. The p-value is the one that belongs
    to the interval: below 1 - confidence exactly when the interval leaves out 0 (adjusted interval: up to its shift
    of the centre).
    """
    before, after = as_bools(a, "a"), as_bools(b, "b")
    same_length(a=before, b=after)
    n = len(before)
    index, groups = cluster_index(clusters, n)
    if n == 0:
        return nothing(0, 0, "no rows")
    difference = after.astype(np.float64) - before
    sums = totals(index, groups, difference, np.ones(n), difference != 0)
    change = float(difference.mean())
    if groups < MIN_CLUSTERS:
        return too_few_clusters(change, n, groups)
    changed_clusters = int((sums[:, 2] > 0).sum())
    rare = sums[:, 2].sum() < RARE * n and changed_clusters < _MIN_CHANGED_WHEN_RARE
    alike = float(np.abs(sums[:, 0] - change * sums[:, 1]).max()) < 1e-9
    if alike or rare or changed_clusters < _MIN_CHANGED_FOR_T:
        return _adjusted_t(before, after, sums, confidence)
    if groups < MIN_BOOTSTRAP_CLUSTERS or changed_clusters < _MIN_CHANGED_FOR_BOOTSTRAP:
        return _robust_t(sums, n, confidence, within=(-1, 1))
    return _studentised_bootstrap(sums, n, confidence, rng, resamples)


def paired_mean_change(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    clusters: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Mean of ``b - a`` (continuous, shape (n,)) with a cluster-robust (CR1) t interval on G-1 degrees of freedom.

    With ``weights`` (positive, shape (n,)) the weighted mean: per-character values weighted by characters give the
    change of all nats over all characters.

    Raises:
        ValueError: NaN, infinity, or a weight that is not positive.
    """
    before, after = as_floats(a, "a"), as_floats(b, "b")
    weight = np.ones(len(before)) if weights is None else as_floats(weights, "weights")
    same_length(a=before, b=after, weights=weight)
    if (weight <= 0).any():
        raise ValueError(f"weights must be positive: row {int(np.flatnonzero(weight <= 0)[0])} is not")
    n = len(before)
    index, groups = cluster_index(clusters, n)
    if n == 0:
        return nothing(0, 0, "no rows")
    sums = totals(index, groups, weight * (after - before), weight)
    if groups < MIN_CLUSTERS:
        return too_few_clusters(float(sums[:, 0].sum() / sums[:, 1].sum()), n, groups)
    return _robust_t(sums, n, confidence)


def mcnemar_exact(a: npt.ArrayLike, b: npt.ArrayLike) -> McNemar:
    """McNemar's exact conditional test on the discordant rows. It knows no clusters: one row per cluster only."""
    before, after = as_bools(a, "a"), as_bools(b, "b")
    same_length(a=before, b=after)
    only_a, only_b = int((before & ~after).sum()), int((after & ~before).sum())
    if len(before) == 0:
        return McNemar(0, 0, 0, None, "no rows")
    if only_a + only_b == 0:
        return McNemar(0, 0, len(before), 1.0)
    return McNemar(only_a, only_b, len(before), float(stats.binomtest(only_a, only_a + only_b).pvalue))


def _robust_t(sums: Floats, n: int, confidence: float, within: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """t interval of a ratio of totals; columns of ``sums``: numerator, denominator."""
    groups, size = len(sums), float(sums[:, 1].sum())
    mean = float(sums[:, 0].sum() / size)
    error = math.sqrt(linearised_variance((sums[:, 0] - mean * sums[:, 1]) / size))
    if error <= abs(mean) * 1e-12:
        # Nothing varies between clusters: a width of zero would be a promise that the sample cannot make.
        return point_only(mean, n, groups, "no variation between clusters")
    half = -float(special.stdtrit(groups - 1, (1 - confidence) / 2)) * error
    p_value = 2 * float(special.stdtr(groups - 1, -abs(mean) / error))
    return enclosing(
        mean,
        mean - half,
        mean + half,
        n,
        groups,
        f"t on {groups - 1} df, cluster-robust",
        within=within,
        p_value=p_value,
    )


def _adjusted_t(
    before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], sums: Floats, confidence: float
) -> Estimate:
    return _bonett_price(
        float((after & ~before).mean()), float((before & ~after).mean()), sums, len(before), confidence
    )


def _bonett_price(
    up: float, down: float, sums: Floats, n: int, confidence: float, design: str = "clustered", unlabelled: float = 1.0
) -> Estimate:
    """Bonett and Price (2012, J. Educational and Behavioral Statistics 37:479), on the effective size, with t.

    One row is added to each discordant cell, so that the interval has a width when nothing, or next to nothing,
    changed. Columns of ``sums``: change and size of each cluster, sizes adding up to ``n``.
    """
    groups = len(sums)
    change = up - down
    robust = linearised_variance((sums[:, 0] - change * sums[:, 1]) / n)
    effective = bounded_effective_size(n, robust, (up + down - change**2) / n, sums[:, 1]) / unlabelled
    up, down = (up * effective + 1) / (effective + 2), (down * effective + 1) / (effective + 2)
    error = math.sqrt((up + down - (up - down) ** 2) / (effective + 2))
    half = -float(special.stdtrit(groups - 1, (1 - confidence) / 2)) * error
    p_value = 2 * float(special.stdtr(groups - 1, -abs(up - down) / error))
    return enclosing(
        change, up - down - half, up - down + half, n, groups, f"Bonett-Price t on {groups - 1} df, {design}",
        within=(-1, 1), p_value=p_value,
    )  # fmt: skip


def adjusted_change(
    up: npt.ArrayLike,
    down: npt.ArrayLike,
    weights: npt.ArrayLike,
    clusters: npt.ArrayLike,
    confidence: float = CONFIDENCE,
    unlabelled: float = 1.0,
) -> Estimate:
    """Weighted mean of ``up - down``, the shares of each row true only after and only before; all (n,), 0 to 1.

    The adjusted interval of `paired_change`, for few labels. ``weights`` are one over the inclusion probabilities;
    ``unlabelled``, the share of the population that was not drawn, is the finite population correction.
    """
    rise, fall = as_floats(up, "up"), as_floats(down, "down")
    weight = as_floats(weights, "weights")
    same_length(up=rise, down=fall, weights=weight)
    n = len(rise)
    index, groups = cluster_index(clusters, n)
    if n == 0:
        return nothing(0, 0, "no rows")
    weight = weight * (n / weight.sum())
    more, less = float(weight @ rise) / n, float(weight @ fall) / n
    if unlabelled <= 0:
        return enclosing(more - less, more - less, more - less, n, groups, "every row is labelled", within=(-1, 1))
    if groups < MIN_CLUSTERS:
        return too_few_clusters(more - less, n, groups)
    sums = totals(index, groups, weight * (rise - fall), weight)
    return _bonett_price(more, less, sums, n, confidence, "weighted, clustered", unlabelled)


def _studentised_bootstrap(
    sums: Floats, n: int, confidence: float, rng: np.random.Generator, resamples: int
) -> Estimate:
    """Bootstrap-t over clusters (Efron and Tibshirani 1993, section 12.5; Cameron, Gelbach and Miller 2008)."""
    groups = len(sums)
    d, m = sums[:, 0], sums[:, 1]
    change, error = _ratio_and_error(np.array([[d.sum(), m.sum(), d @ d, d @ m, m @ m]]), groups)
    drawn = np.concatenate(list(bootstrap_totals(np.column_stack([d, m, d * d, d * m, m * m]), resamples, rng)))
    changes, errors = _ratio_and_error(drawn, groups)
    usable = errors > 0
    t = (changes[usable] - change[0]) / errors[usable]
    tail = (1 - confidence) / 2
    lowest, highest = np.quantile(t, [tail, 1 - tail])
    observed = change[0] / error[0]
    p_value = min(1.0, 2 * (1 + min(int((t >= observed).sum()), int((t <= observed).sum()))) / (len(t) + 1))
    return enclosing(
        change[0], change[0] - highest * error[0], change[0] - lowest * error[0], n, groups,
        f"studentised cluster bootstrap, {resamples} resamples", within=(-1, 1), p_value=p_value,
    )  # fmt: skip


def _ratio_and_error(drawn: Floats, groups: int) -> tuple[Floats, Floats]:
    """Ratio d/m and its CR1 error from totals of d, m, d*d, d*m, m*m: shape (resamples, 5) to two of (resamples,)."""
    d, m, dd, dm, mm = drawn.T
    ratio = d / m
    squares = np.maximum(dd - 2 * ratio * dm + ratio**2 * mm, 0.0)
    return ratio, np.sqrt(groups / (groups - 1) * squares) / m
