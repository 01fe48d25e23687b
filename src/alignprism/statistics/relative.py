"""Relative change of a rate against the baseline's, (b - a) / a, with its aggregation over languages named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from alignprism.statistics.clusters import (
    Floats,
    as_bools,
    bootstrap_totals,
    cluster_index,
    linearised_variance,
    same_length,
    totals,
)
from alignprism.statistics.estimate import CONFIDENCE, MIN_CLUSTERS, Estimate, enclosing, nothing, point_only
from alignprism.statistics.estimate import too_few_clusters as no_interval
from alignprism.statistics.paired import MIN_BOOTSTRAP_CLUSTERS, RESAMPLES
from alignprism.statistics.rates import rate

MIN_BASE = 10
"""Fewer true rows in the base carry no relative change (the absolute one is always given)."""

_MIN_TRUE_CLUSTERS = 5

Aggregation = Literal["pooled", "mean of groups"]


@dataclass(frozen=True, slots=True)
class _Ratio:
    """The mean over groups of B_g / A_g, and ``sums`` of shape (G, 2K): a's totals by group, then b's."""

    sums: Floats
    ratio: float
    n: int

    @property
    def clusters(self) -> int:
        return len(self.sums)


def relative_change(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    clusters: npt.ArrayLike,
    rng: np.random.Generator,
    groups: npt.ArrayLike | None = None,
    aggregation: Aggregation = "pooled",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Estimate:
    """(b - a) / a for the shares of true in ``a`` and ``b`` (paired rows, shape (n,)); -0.5 is "halved".

    ``pooled`` divides the totals over all rows; ``mean of groups`` averages each group's own relative change
    (``groups``: one label per row, the languages), as the paper does over its six. Not given when the base, or any
    group's base, has fewer than `MIN_BASE` true rows.

    Interval: percentile cluster bootstrap from 30 clusters; below, or where b is true in fewer than five clusters, t
    on the linearised log ratio; when b is never true, -100 % up to b's upper over a's lower limit (conservative).

    Raises:
        ValueError: "mean of groups" without groups, or lengths that differ.
    """
    before, after = as_bools(a, "a"), as_bools(b, "b")
    same_length(a=before, b=after)
    n = len(before)
    index, count = cluster_index(clusters, n)
    if aggregation == "mean of groups" and groups is None:
        raise ValueError("aggregation 'mean of groups' needs groups: one label per row")
    if n == 0:
        return nothing(0, 0, "no rows")
    names, group = _groups(groups if aggregation == "mean of groups" else None, n)
    refusal = _base_too_small(before, names, group)
    if refusal:
        return nothing(n, count, refusal)
    members = [group == g for g in range(len(names))]
    sums = totals(index, count, *(before & m for m in members), *(after & m for m in members))
    found = _Ratio(sums, float(_mean_ratio(sums.sum(axis=0)[None, :])[0]), n)
    if count < MIN_CLUSTERS:
        return no_interval(found.ratio - 1, n, count)
    true_before = int((sums[:, : len(names)] > 0).sum(axis=0).min())
    if true_before < _MIN_TRUE_CLUSTERS:
        reason = f"the base is true in too few clusters ({true_before} < {_MIN_TRUE_CLUSTERS})"
        return point_only(found.ratio - 1, n, count, reason)
    if found.ratio == 0:
        return _never_true(before, after, clusters, confidence, found)
    true_after = int((sums[:, len(names) :].sum(axis=1) > 0).sum())
    if count < MIN_BOOTSTRAP_CLUSTERS or true_after < _MIN_TRUE_CLUSTERS:
        return _log_ratio_t(found, confidence)
    return _percentile_bootstrap(found, confidence, rng, resamples)


def _groups(groups: npt.ArrayLike | None, n: int) -> tuple[list[str], npt.NDArray[np.intp]]:
    if groups is None:
        return ["base"], np.zeros(n, dtype=np.intp)
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(f"groups has shape {labels.shape}, expected one label for each of {n} rows")
    names, index = np.unique(labels, return_inverse=True)
    return [str(name) for name in names], index.reshape(-1)


def _base_too_small(before: npt.NDArray[np.bool_], names: list[str], group: npt.NDArray[np.intp]) -> str:
    counts = np.bincount(group[before], minlength=len(names))
    small = [f"{name} {int(count)}" for name, count in zip(names, counts, strict=True) if count < MIN_BASE]
    return f"too few in the base to divide by ({', '.join(small)}; needs {MIN_BASE})" if small else ""


def _mean_ratio(drawn: Floats) -> Floats:
    """Mean over groups of b's total over a's, per row of (resamples, 2K); rows in which some a is 0 are left out."""
    half = drawn.shape[1] // 2
    usable = drawn[(drawn[:, :half] > 0).all(axis=1)]
    ratios: Floats = (usable[:, half:] / usable[:, :half]).mean(axis=1)
    return ratios


def _never_true(
    before: npt.NDArray[np.bool_],
    after: npt.NDArray[np.bool_],
    clusters: npt.ArrayLike,
    confidence: float,
    found: _Ratio,
) -> Estimate:
    top, bottom = rate(after, clusters, confidence).high, rate(before, clusters, confidence).low
    if top is None or not bottom:
        return point_only(-1.0, found.n, found.clusters, "never true after, and the base's own rate may be 0")
    return enclosing(
        -1.0, -1.0, top / bottom - 1, found.n, found.clusters, "from the limits of both rates (conservative)"
    )


def _log_ratio_t(found: _Ratio, confidence: float) -> Estimate:
    """Delta method on the log of the mean ratio, CR1, t with G-1 degrees of freedom."""
    half = found.sums.shape[1] // 2
    a, b = found.sums[:, :half], found.sums[:, half:]
    influence = ((b - b.sum(axis=0) / a.sum(axis=0) * a) / a.sum(axis=0)).mean(axis=1)
    error = math.sqrt(linearised_variance(influence)) / found.ratio
    if error <= 1e-12:
        return point_only(found.ratio - 1, found.n, found.clusters, "no variation between clusters")
    factor = math.exp(-float(special.stdtrit(found.clusters - 1, (1 - confidence) / 2)) * error)
    name = f"t on {found.clusters - 1} df, log ratio, cluster-robust"
    return enclosing(found.ratio - 1, found.ratio / factor - 1, found.ratio * factor - 1, found.n, found.clusters, name)


def _percentile_bootstrap(found: _Ratio, confidence: float, rng: np.random.Generator, resamples: int) -> Estimate:
    ratios = np.concatenate([_mean_ratio(block) for block in bootstrap_totals(found.sums, resamples, rng)])
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail]) - 1
    if low == high:
        return point_only(found.ratio - 1, found.n, found.clusters, "no variation between clusters")
    name = f"percentile cluster bootstrap, {resamples} resamples"
    return enclosing(found.ratio - 1, low, high, found.n, found.clusters, name, within=(-1, math.inf))
