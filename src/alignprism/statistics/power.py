"""How small a change a study can see: power of exact McNemar for paired proportions, smallest detectable change."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

_EXACT_UP_TO = 4_000
_NEW_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class DetectableChange:
    """The smallest fall (``change``, in absolute points of the rate, positive) found with the asked power, and the
    assumptions.

    ``change`` is None with a ``reason`` when not even a fall of the base rate to nothing would be found.
    """

    change: float | None
    power: float
    n_effective: float
    base_rate: float
    new_share: float
    significance: float
    reason: str = ""


def effective_pairs(clusters: int, rows_per_cluster: float = 1.0, icc: float = 0.0) -> float:
    """Independent pairs that ``clusters`` of ``rows_per_cluster`` pairs are worth: Kish's n / (1 + (m - 1) * icc)."""
    if clusters < 0 or rows_per_cluster < 1 or not 0 <= icc <= 1:
        raise ValueError("clusters must be at least 0, rows_per_cluster at least 1, icc between 0 and 1")
    return clusters * rows_per_cluster / (1 + (rows_per_cluster - 1) * icc)


def paired_power(n: float, only_a: float, only_b: float, significance: float = 0.05) -> float:
    """Power of the two-sided exact McNemar test with ``n`` independent pairs.

    ``only_a`` and ``only_b`` are the probabilities of a pair true only before and only after. The exact test's power
    is the sum over the number of discordant pairs (Duffy 1984, Biometrics 40:1007); above 4,000 pairs Connor's (1987,
    Biometrics 43:207) normal form. A broken ``n`` (an effective size) is rounded down.
    """
    if min(only_a, only_b) < 0 or only_a + only_b > 1 or n < 0:
        raise ValueError(f"no such pairs: n {n}, only_a {only_a}, only_b {only_b}")
    pairs, discordant = math.floor(n), only_a + only_b
    if pairs == 0 or discordant == 0:
        return 0.0
    if pairs > _EXACT_UP_TO:
        return _connor_power(pairs, only_a, only_b, significance)
    m = np.arange(1, pairs + 1)
    # The largest count k with P(X <= k) <= significance / 2 under a fair coin; ppf is at most one too large.
    k = stats.binom.ppf(significance / 2, m, 0.5)
    k = np.where(stats.binom.cdf(k, m, 0.5) <= significance / 2, k, k - 1)
    share = only_a / discordant
    rejects = stats.binom.cdf(k, m, share) + stats.binom.cdf(k, m, 1 - share)
    return float(min(1.0, stats.binom.pmf(m, pairs, discordant) @ rejects))


def _connor_power(pairs: int, only_a: float, only_b: float, significance: float) -> float:
    discordant, change = only_a + only_b, abs(only_a - only_b)
    spread = math.sqrt(max(discordant - change**2, 1e-12))
    z = float(stats.norm.isf(significance / 2))
    return float(stats.norm.cdf((change * math.sqrt(pairs) - z * math.sqrt(discordant)) / spread))


def detectable_change(
    clusters: int,
    base_rate: float,
    rows_per_cluster: float = 1.0,
    icc: float = 0.0,
    new_share: float = _NEW_SHARE,
    power: float = 0.80,
    significance: float = 0.05,
) -> DetectableChange:
    """The smallest fall from ``base_rate`` that exact McNemar finds with ``power``.

    ``new_share`` is the assumed discordance: the share of the answers harmful afterwards that were harmless before (0
    is the rosiest case, independence would be 1 - base_rate). A fall of c then makes
    ``only_b = new_share * (base_rate - c)`` and ``only_a = c + only_b``.

    Raises:
        ValueError: a share outside its range.
    """
    if not (0 <= base_rate <= 1 and 0 <= new_share <= 1 and 0 < power < 1 and 0 < significance < 1):
        raise ValueError("base_rate, new_share, power and significance are shares between 0 and 1")
    n = effective_pairs(clusters, rows_per_cluster, icc)

    def short_of(change: float) -> float:
        only_b = new_share * (base_rate - change)
        return paired_power(n, min(1 - only_b, change + only_b), only_b, significance) - power

    if short_of(base_rate) < 0:
        pairs = f"with {math.floor(n)} independent pairs"
        reason = f"too few to say: {pairs} no fall from {base_rate:.0%} is found at {power:.0%} power"
        return DetectableChange(None, power, n, base_rate, new_share, significance, reason)
    change = float(optimize.brentq(short_of, 0.0, base_rate, xtol=1e-6))
    return DetectableChange(change, power, n, base_rate, new_share, significance)


def smallest_detectable_change(
    n: int, base_rate: float, rows_per_cluster: float = 1.0, icc: float = 0.0, new_share: float = _NEW_SHARE
) -> float | None:
    """`detectable_change` at 80 % power for ``n`` clusters: the number alone, None where nothing is detectable."""
    return detectable_change(n, base_rate, rows_per_cluster, icc, new_share).change
