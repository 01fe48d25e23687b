"""What every function of this package returns: a figure with its interval, or a reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

MIN_CLUSTERS = 10
"""Below this number of clusters no interval is given: 8 clusters cover 88 % where 95 % is promised."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure.

    ``estimate`` is ``None`` when it cannot be given, ``low`` and ``high`` are ``None`` when there is no interval;
    ``reason`` then says why. ``interval`` names the method. ``n`` counts rows, ``clusters`` seed prompts. ``p_value``
    is two-sided and belongs to "no change"; only changes have one.

    Raises:
        ValueError: a number is NaN or infinite, one end of the interval is missing, the ends do not enclose the
            estimate, or something is missing without a reason.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    interval: str = ""
    reason: str = ""
    p_value: float | None = None

    def __post_init__(self) -> None:
        for name in ("estimate", "low", "high", "p_value"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} is {value}: a figure that cannot be given is None with a reason")
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends or none")
        if (self.estimate is None or self.low is None) and not self.reason:
            raise ValueError("a figure without estimate or interval needs a reason")
        if self.low is None or self.high is None:
            return
        if self.estimate is None or not self.low <= self.estimate <= self.high:
            raise ValueError(f"interval [{self.low}, {self.high}] does not enclose {self.estimate}")


def nothing(n: int, clusters: int, reason: str) -> Estimate:
    """No figure at all, and why."""
    return Estimate(None, None, None, n, clusters, reason=reason)


def point_only(estimate: float, n: int, clusters: int, reason: str) -> Estimate:
    """A figure without an interval, and why."""
    return Estimate(float(estimate), None, None, n, clusters, reason=reason)


def too_few_clusters(estimate: float, n: int, clusters: int) -> Estimate:
    """The figure alone: fewer than `MIN_CLUSTERS` clusters carry no interval that holds."""
    return point_only(estimate, n, clusters, f"too few clusters ({clusters} < {MIN_CLUSTERS})")


def enclosing(
    estimate: float,
    low: float,
    high: float,
    n: int,
    clusters: int,
    interval: str,
    *,
    within: tuple[float, float] = (-math.inf, math.inf),
    p_value: float | None = None,
) -> Estimate:
    """An estimate and its interval, cut to the possible values ``within`` and stretched to hold the estimate."""
    low, high = max(within[0], min(low, estimate)), min(within[1], max(high, estimate))
    return Estimate(
        float(estimate),
        float(low),
        float(high),
        n,
        clusters,
        interval,
        p_value=None if p_value is None else float(p_value),
    )
