"""Error rates of one judge in several languages, drawn towards each other: secondary, and named so.

Few labels make a language's own sensitivity noisy. Empirical Bayes lets languages borrow from each other as much as
their differences allow: on logits y_l of the shares (half a row added to each side), y_l ~ N(theta_l, v_l) with
v_l = 1/(hits + 1/2) + 1/(misses + 1/2), and theta_l ~ N(mu, tau^2); tau^2 by Paule and Mandel (1982, J. Research of the
National Bureau of Standards 87:377). Each estimate is (v mu + tau^2 y) / (v + tau^2), with variance v tau^2 / (v + tau^2)
plus what mu and tau^2 add (Morris 1983, J. American Statistical Association 78:47). The raw estimate stays beside it
and is what corrects a rate: a pooled correction can make gaps between languages that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from alignprism.statistics.clusters import Floats
from alignprism.statistics.estimate import CONFIDENCE, Estimate, enclosing, nothing
from alignprism.statistics.rates import wilson

MIN_LANGUAGES = 3
"""Fewer languages do not show how much languages differ."""

NAME = "partially pooled over languages (empirical Bayes on logits), secondary"


@dataclass(frozen=True, slots=True)
class PooledShare:
    """One language's share: ``raw`` from its own labels, ``pooled`` drawn towards the mean of languages.

    ``own_weight``: how much of the pooled logit is the language's own (1: nothing is borrowed).
    """

    language: str
    raw: Estimate
    pooled: Estimate
    own_weight: float | None


def partially_pooled(
    counts: Mapping[str, tuple[float, float]], confidence: float = CONFIDENCE
) -> tuple[PooledShare, ...]:
    """For each language (hits, rows): sensitivity when rows are harmful labelled ones, specificity when harmless.

    Effective numbers (design-weighted) are taken as they are. A language without rows has no figure of its own, and
    none is made up for it from the others.

    Raises:
        ValueError: hits below 0 or above rows.
    """
    for language, (hits, rows) in counts.items():
        if not 0 <= hits <= rows:
            raise ValueError(f"{language}: {hits} hits of {rows} rows")
    z = -float(special.ndtri((1 - confidence) / 2))
    names = [language for language, (_, rows) in counts.items() if rows > 0]
    raw = {language: _raw(counts[language], z) for language in counts}
    if len(names) < MIN_LANGUAGES:
        reason = f"too few languages to pool ({len(names)} < {MIN_LANGUAGES})"
        return tuple(PooledShare(name, raw[name], nothing(raw[name].n, raw[name].n, reason), None) for name in counts)
    hit, size = (np.array([counts[name][k] for name in names]) for k in (0, 1))
    y = np.log((hit + 0.5) / (size - hit + 0.5))
    v = 1 / (hit + 0.5) + 1 / (size - hit + 0.5)
    spread = between_variance(y, v)
    weights = 1 / (v + spread)
    mu = float(weights @ y / weights.sum())
    own = spread / (v + spread)
    centre = own * y + (1 - own) * mu
    # Morris: mu is estimated, and so is the shrinkage 1 - own, which matters where a language is far from mu.
    k = len(names)
    variance = v * own + (1 - own) ** 2 / weights.sum() + 2 / max(k - 3, 1) * (1 - own) ** 2 * (y - mu) ** 2
    half = z * np.sqrt(variance)
    result = []
    for language in counts:
        if language not in names:
            result.append(PooledShare(language, raw[language], nothing(0, 0, "no labelled rows"), None))
            continue
        at = names.index(language)
        n = raw[language].n
        ends = special.expit([centre[at], centre[at] - half[at], centre[at] + half[at]])
        pooled = enclosing(float(ends[0]), float(ends[1]), float(ends[2]), n, n, NAME, within=(0, 1))
        result.append(PooledShare(language, raw[language], pooled, float(own[at])))
    return tuple(result)


def between_variance(y: Floats, v: Floats) -> float:
    """tau^2 of Paule and Mandel: the value at which the weighted squares around the mean equal K - 1; at least 0."""

    def excess(spread: float) -> float:
        weights = 1 / (v + spread)
        mu = float(weights @ y / weights.sum())
        return float(weights @ (y - mu) ** 2) - (len(y) - 1)

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high))


def _raw(count: tuple[float, float], z: float) -> Estimate:
    hits, rows = count
    n = math.floor(rows)
    if rows <= 0:
        return nothing(0, 0, "no labelled rows")
    low, high = wilson(hits / rows, rows, z)
    return enclosing(hits / rows, low, high, n, n, "Wilson", within=(0, 1))
