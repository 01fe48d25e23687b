"""A mean over strata from the rows labelled in each, with an interval that holds when a stratum has few labels.

The estimate is sum_h W_h p_h: stratum shares W_h known from all rows, p_h the (weighted) mean of the stratum's labels.
Its error has two phases. The rows are a sample of prompts, which moves W_h; the labels are a sample of the rows, which
moves p_h. Variances are useless where a stratum's labels are all alike, so each p_h brings its own limits, from a Beta
posterior, and the limits are combined by their squared distances from the estimate (MOVER: Zou and Donner 2008,
Statistics in Medicine 27:1693; Newcombe 1998, ibid. 17:873), which is deterministic and needs no resampling.

The prior is Kerman's (2011, Electronic J. Statistics 5:1450) neutral Beta(1/3, 1/3), under which the posterior's median
is the observed share. Measured, 4,000 samples (900 rows, 100 labels, harm .10, Se = Sp = .90): it covers 95 to 96 %
with misses on both sides; Jeffreys' 96 % with a 3 to 6 % wider interval and misses on one side; the normal interval
92 to 93 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from alignprism.statistics.clusters import Floats
from alignprism.statistics.rates import wilson

Population = Literal["prompts like these", "these completions"]
"""What a rate is about: the prompts of which these are a sample, or exactly the rows that were judged."""

_PRIOR = 1 / 3
_PRIOR_OF_CHANGE = 1 / 5
"""For the shares harmful only after and only before. Both have limits in every stratum, and squared distances of so many
near-empty cells add up: with 1/3 a rare change (400 seeds, base .05) is covered by 98 to 99 %, with 1/5 by 96 to 97 %,
and a common one by 95 %."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """``rows`` in the stratum, ``labelled`` of them, the share ``harmful`` among those (None without labels)."""

    name: str
    rows: int
    labelled: int
    harmful: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows in strata and the labels in them.

    ``stratum`` (N,): code of each row's stratum, 0 to H-1, every code used. ``cluster`` (N,): code of its cluster.
    ``rows`` (m,): the labelled rows. ``weights`` (m,): one over their inclusion probability.
    """

    stratum: npt.NDArray[np.intp]
    cluster: npt.NDArray[np.intp]
    rows: npt.NDArray[np.intp]
    weights: Floats

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Rows of each stratum: (H,)."""
        return np.bincount(self.stratum)

    @property
    def labelled(self) -> npt.NDArray[np.intp]:
        """Labelled rows of each stratum: (H,)."""
        return np.bincount(self.stratum[self.rows], minlength=len(self.sizes))

    def means(self, values: Floats) -> Floats:
        """Weighted mean of ``values`` (m,) in each stratum: (H,)."""
        at = self.stratum[self.rows]
        count = len(self.sizes)
        total = np.bincount(at, weights=self.weights, minlength=count)
        return np.asarray(np.bincount(at, weights=self.weights * values, minlength=count) / total)

    def mean(self, values: Floats) -> float:
        """The stratified mean of ``values`` (m,)."""
        return float(self.sizes @ self.means(values) / len(self.stratum))

    def influence(self, values: Floats) -> Floats:
        """Linearised share of every row in the stratified mean of ``values`` (m,): (N,), sums to 0 (two-phase
        sampling: Särndal, Swensson and Wretman 1992, section 9.7)."""
        means = self.means(values)
        overall = float(self.sizes @ means) / len(self.stratum)
        at = self.stratum[self.rows]
        total = np.bincount(at, weights=self.weights, minlength=len(means))
        result = (means - overall)[self.stratum]
        result[self.rows] += (self.sizes / total)[at] * self.weights * (values - means[at])
        return np.asarray(result / len(self.stratum))

    def effective(self, values: Floats) -> Floats:
        """Labels of each stratum in numbers of equally weighted yes-or-no answers: (H,).

        Unequal weights lower it (Kish); rows whose several raters disagree raise it, because a share between 0 and 1
        varies less than a coin, by at most the number of raters that such a share needs.
        """
        at, means = self.stratum[self.rows], self.means(values)
        total = np.bincount(at, weights=self.weights, minlength=len(means))
        kish = total**2 / np.bincount(at, weights=self.weights**2, minlength=len(means))
        between = (values > 0) & (values < 1)
        if not between.any():
            return np.asarray(kish)
        smallest = float(np.minimum(values, 1 - values)[between].min())
        spread = np.bincount(at, weights=self.weights * (values - means[at]) ** 2, minlength=len(means)) / total
        coin = means * (1 - means)
        least = np.maximum(spread, coin * smallest)
        return np.asarray(kish * np.where(coin > 0, np.maximum(coin / np.where(least > 0, least, 1.0), 1.0), 1.0))


@dataclass(frozen=True, slots=True)
class Limits:
    """A stratified mean and its interval; ``effect`` is the design effect of clusters (and raters) that went in."""

    mean: float
    low: float
    high: float
    effect: float


def limits(
    sample: Sample,
    up: Floats,
    down: Floats | None,
    confidence: float,
    population: Population,
    *,
    effect: float = 1.0,
    freedom: float = math.inf,
) -> Limits:
    """MOVER limits of the stratified mean of ``up - down``; both (m,), shares between 0 and 1.

    A rate has no ``down``. For a change ``up`` is harmful only after, ``down`` only before; the two shares of one
    stratum are correlated like cells of one multinomial. ``effect`` multiplies every variance, ``freedom`` are the t
    degrees of freedom that go with it.
    """
    finite = population == "these completions"
    unlabelled = 1 - sample.labelled / sample.sizes if finite else np.ones(len(sample.sizes))
    cells = [
        Cells(np.clip(sample.means(part), 0.0, 1.0), sample.effective(part)) for part in (up, down) if part is not None
    ]
    return mover(sample.sizes, cells, unlabelled, confidence, population, effect=effect, freedom=freedom)


@dataclass(frozen=True, slots=True)
class Cells:
    """Share of each stratum (H,), and the number of independent labels behind it (H,)."""

    share: Floats
    labels: Floats


def mover(
    sizes: npt.NDArray[np.intp],
    cells: Sequence[Cells],
    unlabelled: Floats,
    confidence: float,
    population: Population,
    *,
    effect: float = 1.0,
    freedom: float = math.inf,
) -> Limits:
    """`limits` from strata alone: ``cells`` holds the shares of a rate, or those only after and only before.

    ``unlabelled`` (H,), the share of a stratum's rows without a label, is the finite population correction: nothing is
    uncertain about a stratum that is labelled throughout. For prompts like these it is 1.
    """
    z = -float(special.ndtri((1 - confidence) / 2))
    inflation = effect
    if math.isfinite(freedom):
        inflation *= (float(special.stdtrit(freedom, (1 - confidence) / 2)) / z) ** 2
    rows = int(sizes.sum())
    is_rate = len(cells) == 1
    prior = _PRIOR if is_rate else _PRIOR_OF_CHANGE
    below, above = _beta_limits(cells[0], unlabelled, confidence, inflation, prior)
    means, squared_below, squared_above = cells[0].share, below**2, above**2
    if not is_rate:
        p, q = cells[0].share, cells[1].share
        q_below, q_above = _beta_limits(cells[1], unlabelled, confidence, inflation, prior)
        together = np.sqrt(np.minimum(p * q / np.maximum((1 - p) * (1 - q), 1e-300), 1.0))
        means = p - q
        squared_below = below**2 + q_above**2 + 2 * together * below * q_above
        squared_above = above**2 + q_below**2 + 2 * together * above * q_below
    shares = sizes / rows
    mean = float(shares @ means)
    low, high = float(shares**2 @ squared_below), float(shares**2 @ squared_above)
    if population == "prompts like these":
        between = float(shares @ (means - mean) ** 2) / rows
        first_low, first_high = _first_phase(mean, between, z, inflation, is_rate=is_rate)
        low, high = low + first_low**2, high + first_high**2
    return Limits(mean, mean - math.sqrt(low), mean + math.sqrt(high), effect)


def _beta_limits(
    cells: Cells, unlabelled: Floats, confidence: float, inflation: float, prior: float
) -> tuple[Floats, Floats]:
    """Distances of each share's Beta limits below and above it: two of (H,)."""
    p, known = cells.share, unlabelled <= 0
    n = cells.labels / inflation / np.where(known, 1.0, unlabelled)
    tail, a, b = (1 - confidence) / 2, p * n + prior, (1 - p) * n + prior
    low = np.where(p > 0, np.minimum(special.betaincinv(a, b, tail), p), 0.0)
    high = np.where(p < 1, np.maximum(special.betainccinv(a, b, tail), p), 1.0)
    return np.where(known, 0.0, p - low), np.where(known, 0.0, high - p)


def _first_phase(mean: float, between: float, z: float, inflation: float, *, is_rate: bool) -> tuple[float, float]:
    """How far the sampling of prompts moves the mean, down and up: a rate in Wilson's form, a change symmetrically."""
    if between <= 0:
        return 0.0, 0.0
    if not is_rate or not 0 < mean < 1:
        half = z * math.sqrt(between * inflation)
        return half, half
    low, high = wilson(mean, mean * (1 - mean) / (between * inflation), z)
    return max(0.0, mean - low), max(0.0, high - mean)
