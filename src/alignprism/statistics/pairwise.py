"""Pairwise comparisons of two models: win rates in both conventions, flips, position bias, length-controlled win rate.

Results are coded from b's side, one row per prompt: 1 where b wins, 0 for a tie, -1 where a wins; b is the model, a the
baseline. Undecidable comparisons are no results: whoever calls leaves them out and counts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from alignprism.statistics.clusters import Floats, as_floats, cluster_index, linearised_variance, same_length, totals
from alignprism.statistics.estimate import (
    CONFIDENCE,
    MIN_CLUSTERS,
    Estimate,
    enclosing,
    nothing,
    point_only,
    too_few_clusters,
)
from alignprism.statistics.paired import RESAMPLES, paired_change
from alignprism.statistics.rates import rate

_MIN_SURPRISES = 10
_SURPRISE = 0.25  # a result this far from its chance says something about the variance
_ITERATIONS = 100
_LONGEST_STEP = 2.0
_LEAST_SPREAD = 1e-6  # of scaled lengths within a group: below it their matrix is singular to the computer


@dataclass(frozen=True, slots=True)
class WinRates:
    """How often b wins. ``ties_half``: wins and half of the ties, over all; ``ties_dropped``: wins over wins and losses."""

    wins: int
    ties: int
    losses: int
    ties_half: Estimate
    ties_dropped: Estimate


def as_results(values: npt.ArrayLike) -> Floats:
    """``values`` as floats, shape (n,).

    Raises:
        ValueError: not one-dimensional, or something else than 1, 0 and -1.
    """
    results = as_floats(values, "results")
    if not np.isin(results, (-1.0, 0.0, 1.0)).all():
        raise ValueError("results must be 1 (b wins), 0 (tie) or -1 (a wins)")
    return results


def win_rates(
    results: npt.ArrayLike,
    clusters: npt.ArrayLike,
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> WinRates:
    """b's win rate over a in both conventions; ``results`` and ``clusters`` have shape (n,).

    Ties half is (1 + share of wins - share of losses) / 2, so its interval and its p-value (of "neither is better") are
    those of the paired change from losses to wins; ties dropped is the clustered rate of wins among decided rows.
    """
    coded = as_results(results)
    labels = np.asarray(clusters)
    wins, losses = coded > 0, coded < 0
    half = _mapped(paired_change(losses, wins, labels, rng, confidence, resamples), lambda change: (1 + change) / 2)
    decided = wins | losses
    dropped = (
        rate(wins[decided], labels[decided], confidence)
        if decided.any() or not len(coded)
        else nothing(0, 0, "ties only")
    )
    return WinRates(int(wins.sum()), int((~decided).sum()), int(losses.sum()), half, dropped)


def flip_rate(flipped: npt.ArrayLike, clusters: npt.ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Share of prompts whose preference changed when the two answers changed places; both of shape (n,)."""
    return rate(flipped, clusters, confidence)


def position_bias(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    clusters: npt.ArrayLike,
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Share of comparisons won by the answer shown first less share won by the one shown second, in [-1, 1].

    One row per comparison, so two per prompt, in one cluster: ``first`` and ``second`` are bools of shape (2n,), both
    false for a tie. Since each answer is first once, quality cancels and what remains is the place.
    """
    return paired_change(second, first, clusters, rng, confidence, resamples)


def length_controlled_win_rate(
    results: npt.ArrayLike,
    lengths_a: npt.ArrayLike,
    lengths_b: npt.ArrayLike,
    clusters: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """b's win rate (ties half) had both answers been equally long; all arrays have shape (n,), ``groups`` are languages.

    In the spirit of length-controlled AlpacaEval (Dubois et al. 2024, arXiv 2404.04475, eq. 3), for two models and
    without difficulties of fixed prompts: ``logit P(b wins) = alpha_group + beta * tanh(d / sd_group(d))``, d = length of
    b less length of a; a tie counts as half a win. The result is the mean of ``expit(alpha)`` over rows. The difference
    is scaled by its spread in the group and not centred, because 0 must stay "equally long"; beta is shared by groups.

    Firth's penalty (1993, Biometrika 80:27; Heinze and Schemper 2002) keeps estimates finite when length, or
    nothing at all, separates wins from losses; without length it turns w of n into (w + 1/2) / (n + 1). Interval: t
    with G-1 degrees of freedom on the logit, by the cluster-robust (CR1) variance; where fewer than ten clusters
    contradict the model, that variance is next to nothing and the model's own, times the most that clustering can cost,
    stands in if it is larger. ``reason`` says "extrapolated" when no answer of b is as short (or as long) as a's.

    Raises:
        ValueError: lengths of the arrays differ, a length is negative, or a result is unknown.
    """
    coded, a, b = as_results(results), as_floats(lengths_a, "lengths_a"), as_floats(lengths_b, "lengths_b")
    same_length(results=coded, lengths_a=a, lengths_b=b)
    if (a < 0).any() or (b < 0).any():
        raise ValueError("a length is negative")
    n = len(coded)
    index, count = cluster_index(clusters, n)
    if n == 0:
        return nothing(0, 0, "no rows")
    group, names = cluster_index(np.zeros(n) if groups is None else groups, n)
    difference = b - a
    scaled = np.tanh(_scaled(difference, group, names))
    members = np.eye(names)[group]
    within = scaled - (members @ ((members.T @ scaled) / members.sum(axis=0)))
    if np.abs(scaled).max() > 0 and np.abs(within).max() < _LEAST_SPREAD:
        return nothing(n, count, "all length differences are alike: length and model cannot be told apart")
    design = np.column_stack([members, scaled]) if np.abs(scaled).max() > 0 else members
    fitted = _firth(design, (coded + 1) / 2)
    if fitted is None:
        return nothing(n, count, "the length model did not converge")
    share = float(members.mean(axis=0) @ special.expit(fitted[:names]))
    if count < MIN_CLUSTERS:
        return too_few_clusters(share, n, count)
    error = _error(design, (coded + 1) / 2, fitted, members.mean(axis=0), index, count)
    return replace(_on_logit(share, error, n, count, confidence), reason=_extrapolated(difference))


def _mapped(found: Estimate, change: Callable[[float], float]) -> Estimate:
    """An estimate on another scale, by an increasing function."""
    ends = [None if value is None else change(value) for value in (found.estimate, found.low, found.high)]
    return replace(found, estimate=ends[0], low=ends[1], high=ends[2])


def _scaled(difference: Floats, group: npt.NDArray[np.intp], names: int) -> Floats:
    """Differences over their standard deviation in the group; constant ones become 1, 0 or -1."""
    result = np.sign(difference)
    for number in range(names):
        rows = group == number
        spread = difference[rows].std()
        if spread > 0:
            result[rows] = difference[rows] / spread
    return result


def _firth(design: Floats, shares: Floats) -> Floats | None:
    """Coefficients that maximise the logistic log-likelihood of ``shares`` (in [0, 1]) plus half the log-determinant of
    its information; None if Newton's method does not settle. Shapes (n, p), (n,) to (p,)."""
    beta: Floats = np.zeros(design.shape[1])
    for _ in range(_ITERATIONS):
        chance = special.expit(design @ beta)
        weight = chance * (1 - chance)
        try:
            inverse = np.linalg.inv(_information(design, weight))
        except np.linalg.LinAlgError:  # the model fits so well that nothing is left to learn from
            return None
        leverage = weight * np.einsum("ij,jk,ik->i", design, inverse, design)
        step = inverse @ (design.T @ (shares - chance + leverage * (0.5 - chance)))
        beta += step * min(1.0, _LONGEST_STEP / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-9:
            return beta
    return None


def _information(design: Floats, weight: Floats) -> Floats:
    result: Floats = (design * weight[:, None]).T @ design
    return result


def _error(
    design: Floats, shares: Floats, fitted: Floats, weights: Floats, index: npt.NDArray[np.intp], count: int
) -> float:
    """Standard error of ``sum(weights * expit(alpha))``, by the delta method."""
    chance = special.expit(design @ fitted)
    inverse = np.linalg.inv(_information(design, chance * (1 - chance)))
    level = special.expit(fitted[: len(weights)])
    gradient = np.zeros(design.shape[1])
    gradient[: len(weights)] = weights * level * (1 - level)
    along = design @ (inverse @ gradient)
    residual = shares - chance
    variance = linearised_variance(totals(index, count, along * residual)[:, 0])
    surprising = np.zeros(count, dtype=bool)
    surprising[index[np.abs(residual) >= _SURPRISE]] = True
    if surprising.sum() < _MIN_SURPRISES:
        sizes = np.bincount(index, minlength=count)
        variance = max(variance, float(gradient @ inverse @ gradient) * float(np.square(sizes).sum()) / len(shares))
    return math.sqrt(variance)


def _on_logit(share: float, error: float, n: int, clusters: int, confidence: float) -> Estimate:
    """t interval on the logit of a share, mapped back."""
    if error == 0:
        return point_only(share, n, clusters, "no variation between clusters")
    half = float(stats.t.isf((1 - confidence) / 2, clusters - 1)) * error / (share * (1 - share))
    centre = float(special.logit(share))
    low, high = special.expit([centre - half, centre + half])
    p_value = 2 * float(stats.t.sf(abs(centre) * share * (1 - share) / error, clusters - 1))
    name = f"t on {clusters - 1} df, logit, cluster-robust"
    return enclosing(share, low, high, n, clusters, name, within=(0, 1), p_value=p_value)


def _extrapolated(difference: Floats) -> str:
    if (difference > 0).all():
        return "extrapolated: every answer of b is longer"
    return "extrapolated: every answer of b is shorter" if (difference < 0).all() else ""
