"""Many cells, one family: adjusted p-values. A cell without one (too few to say) stays without and is not counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from alignprism.statistics.clusters import Floats


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm (1979) step-down p-values, in the given order: the chance of any false finding in the family is controlled.

    Raises:
        ValueError: a p-value outside 0 to 1.
    """
    return _adjusted(p_values, lambda p: np.maximum.accumulate(p * np.arange(len(p), 0, -1)))


def benjamini_hochberg(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Benjamini and Hochberg (1995) step-up p-values, in the given order: the share of false findings is controlled.

    Raises:
        ValueError: a p-value outside 0 to 1.
    """
    return _adjusted(p_values, lambda p: np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1])


def _adjusted(p_values: Sequence[float | None], ascending: Callable[[Floats], Floats]) -> tuple[float | None, ...]:
    given = [(place, p) for place, p in enumerate(p_values) if p is not None]
    for place, p in given:
        if not 0 <= p <= 1:
            raise ValueError(f"p-value number {place} is {p}: it must lie between 0 and 1")
    given.sort(key=lambda pair: pair[1])
    adjusted = np.minimum(ascending(np.array([p for _, p in given], dtype=np.float64)), 1.0) if given else np.zeros(0)
    result: list[float | None] = [None] * len(p_values)
    for (place, _), value in zip(given, adjusted, strict=True):
        result[place] = float(value)
    return tuple(result)
