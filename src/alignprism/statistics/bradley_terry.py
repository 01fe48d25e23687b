"""Strengths of more than two models from pairwise results (Bradley and Terry 1952, Biometrika 39:324).

``P(i beats j) = expit(theta_i - theta_j)``, a tie counts as half a win for each. The baseline's theta is 0. No
penalty: where results do not bound a strength (Ford 1957, American Mathematical Monthly 64:28), the answer is a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from scipy.sparse import csgraph

from alignprism.statistics.clusters import Floats, bootstrap_totals, cluster_index, linearised_variance
from alignprism.statistics.estimate import (
    CONFIDENCE,
    MIN_CLUSTERS,
    Estimate,
    enclosing,
    nothing,
    point_only,
    too_few_clusters,
)
from alignprism.statistics.paired import MIN_BOOTSTRAP_CLUSTERS
from alignprism.statistics.pairwise import as_results

_RESAMPLES = 2_000
_ITERATIONS = 100
_LONGEST_STEP = 2.0


@dataclass(frozen=True, slots=True)
class Strength:
    """One model: theta less that of the baseline (log odds), and the chance that it beats the baseline."""

    model: str
    log_strength: Estimate
    win_probability: Estimate


def bradley_terry(
    models_a: Sequence[str],
    models_b: Sequence[str],
    results: npt.ArrayLike,
    clusters: npt.ArrayLike,
    baseline: str,
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
    resamples: int = _RESAMPLES,
) -> tuple[Strength, ...]:
    """Strength of every model, the baseline first, the others by name; a row is one comparison, all of shape (n,).

    ``results``: 1 where the model of ``models_b`` won, 0 for a tie, -1 where that of ``models_a`` won. Interval:
    percentile cluster bootstrap from 30 clusters; below, or if results of a resample do not bound the strengths, t with
    G-1 degrees of freedom on the cluster-robust (CR1) variance.

    Raises:
        ValueError: the arrays' lengths differ, a model is compared with itself, or the baseline was never compared.
    """
    coded = as_results(results)
    if not len(models_a) == len(models_b) == len(coded):
        raise ValueError(f"lengths differ: models_a {len(models_a)}, models_b {len(models_b)}, results {len(coded)}")
    if any(a == b for a, b in zip(models_a, models_b, strict=True)):
        raise ValueError("a model is compared with itself")
    index, groups = cluster_index(clusters, len(coded))
    found = {*models_a, *models_b}
    if baseline not in found:
        raise ValueError(f"the baseline {baseline!r} was never compared")
    names = [baseline, *sorted(found - {baseline})]
    place = {name: number for number, name in enumerate(names)}
    a, b = (np.array([place[name] for name in side]) for side in (models_a, models_b))
    by_cluster, compared = _win_totals(a, b, coded, index, groups, len(names))
    wins = _matrices(by_cluster.sum(axis=0)[None, :], compared, len(names))
    reason = _unbounded(wins[0], names)
    if reason:
        return tuple(Strength(name, *(nothing(len(coded), groups, reason),) * 2) for name in names)
    theta = _fit(wins)[0]
    ends = _ends(by_cluster, compared, theta, wins[0], confidence, rng, resamples)
    return tuple(_strength(name, theta[number], ends, number, len(coded), groups) for number, name in enumerate(names))


@dataclass(frozen=True, slots=True)
class _Ends:
    low: Floats
    high: Floats
    name: str


def _win_totals(
    a: npt.NDArray[np.intp],
    b: npt.NDArray[np.intp],
    results: Floats,
    index: npt.NDArray[np.intp],
    groups: int,
    models: int,
) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Wins per cluster (G, columns), ties half, and which cell of the (models x models) matrix each column is."""
    cells = np.concatenate([b * models + a, a * models + b])
    won = np.concatenate([(1 + results) / 2, (1 - results) / 2])
    compared, column = np.unique(cells, return_inverse=True)
    flat = np.concatenate([index, index]) * len(compared) + column
    sums = np.asarray(np.bincount(flat, weights=won, minlength=groups * len(compared)), dtype=np.float64)
    return sums.reshape(groups, -1), compared.astype(np.intp)


def _matrices(drawn: Floats, compared: npt.NDArray[np.intp], models: int) -> Floats:
    """Rows of win totals to matrices (R, K, K): entry [i, j] is how often i beat j."""
    result = np.zeros((len(drawn), models * models))
    result[:, compared] = drawn
    return result.reshape(-1, models, models)


def _unbounded(wins: Floats, names: Sequence[str]) -> str:
    """Why strengths cannot be given: groups never compared, or one that never lost to the rest; empty if they can."""
    count, part = csgraph.connected_components((wins + wins.T) > 0, directed=False)
    if count > 1:
        groups = ["{" + ", ".join(n for n, p in zip(names, part, strict=True) if p == k) + "}" for k in range(count)]
        return f"models were never compared with each other: {' | '.join(groups)}"
    count, part = csgraph.connected_components(wins > 0, directed=True, connection="strong")
    if count == 1:
        return ""
    unbeaten = next(k for k in range(count) if not wins[np.ix_(part != k, part == k)].any())
    best = ", ".join(name for name, p in zip(names, part, strict=True) if p == unbeaten)
    return f"{{{best}}} never lost to, nor tied with, any other model: its strength has no bound"


def _bounded(wins: Floats) -> npt.NDArray[np.bool_]:
    """For each matrix of (R, K, K) whether every model reaches every other through wins."""
    models = wins.shape[1]
    reach = (wins > 0) | np.eye(models, dtype=bool)
    for _ in range(max(1, models.bit_length())):
        reach = np.matmul(reach.astype(np.float64), reach.astype(np.float64)) > 0
    return np.asarray(reach.all(axis=(1, 2)), dtype=np.bool_)


def _fit(wins: Floats) -> Floats:
    """Maximum likelihood by Newton's method, many matrices at once: (R, K, K) to (R, K), the first strength 0.

    Raises:
        RuntimeError: no convergence, which bounded strengths do not cause.
    """
    games = wins + wins.transpose(0, 2, 1)
    theta = np.zeros(wins.shape[:2])
    for _ in range(_ITERATIONS):
        score, information = _score_and_information(wins, games, theta)
        step = np.linalg.solve(information, score[:, 1:, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        theta[:, 1:] += step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-300))
        if longest.max() < 1e-9:
            return theta
    raise RuntimeError("Bradley-Terry did not converge")


def _score_and_information(wins: Floats, games: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Score (R, K) and information (R, K-1, K-1) without the baseline."""
    chance = special.expit(theta[:, :, None] - theta[:, None, :])
    score = wins.sum(axis=2) - (games * chance).sum(axis=2)
    spread = games * chance * (1 - chance)
    information = -spread
    diagonal = np.arange(theta.shape[1])
    information[:, diagonal, diagonal] += spread.sum(axis=2)
    return score, information[:, 1:, 1:]


def _ends(
    by_cluster: Floats,
    compared: npt.NDArray[np.intp],
    theta: Floats,
    wins: Floats,
    confidence: float,
    rng: np.random.Generator,
    resamples: int,
) -> _Ends | None:
    groups, models = len(by_cluster), len(theta)
    if groups < MIN_CLUSTERS:
        return None
    tail = (1 - confidence) / 2
    if groups >= MIN_BOOTSTRAP_CLUSTERS:
        drawn = np.concatenate(list(bootstrap_totals(by_cluster, resamples, rng)))
        matrices = _matrices(drawn, compared, models)
        if _bounded(matrices).all():
            low, high = np.quantile(_fit(matrices), [tail, 1 - tail], axis=0)
            return _Ends(low, high, f"percentile cluster bootstrap, {resamples} resamples")
    each = _matrices(by_cluster, compared, models)
    at = np.broadcast_to(theta, (groups, models))
    score, _ = _score_and_information(each, each + each.transpose(0, 2, 1), at)
    _, information = _score_and_information(wins[None], (wins + wins.T)[None], theta[None])
    influence = np.zeros((groups, models))
    influence[:, 1:] = score[:, 1:] @ np.linalg.inv(information[0])
    error = np.sqrt([linearised_variance(influence[:, k]) for k in range(models)])
    half = float(stats.t.isf(tail, groups - 1)) * error
    return _Ends(theta - half, theta + half, f"t on {groups - 1} df, log strength, cluster-robust")


def _strength(name: str, theta: float, ends: _Ends | None, number: int, n: int, groups: int) -> Strength:
    if number == 0:
        own = "the baseline, by definition"
        return Strength(name, point_only(0.0, n, groups, own), point_only(0.5, n, groups, own))
    if ends is None:
        return Strength(
            name, too_few_clusters(theta, n, groups), too_few_clusters(float(special.expit(theta)), n, groups)
        )
    if ends.high[number] - ends.low[number] < 1e-9:
        flat = point_only(theta, n, groups, "no variation between clusters")
        return Strength(name, flat, replace(flat, estimate=float(special.expit(theta))))
    log = enclosing(theta, ends.low[number], ends.high[number], n, groups, ends.name)
    chance = [float(special.expit(value)) for value in (theta, log.low, log.high)]
    return Strength(name, log, enclosing(chance[0], chance[1], chance[2], n, groups, ends.name, within=(0, 1)))
