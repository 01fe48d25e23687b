"""Nominal 95 % intervals hold the truth 93 to 97.5 % of the time; below ten expected true clusters at least 93 %.

2,000 seeded samples for each setting; a wider grid is benchmarks/intervals.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alignprism.statistics import paired_change, rate

REPETITIONS = 2_000
SIZE = 5


def holds(share: float, groups: int, base: float) -> bool:
    return 0.93 <= share <= (0.975 if groups * base >= 10 else 0.99)


@pytest.mark.parametrize("icc", [0.0, 0.3])
@pytest.mark.parametrize("base", [0.2, 0.5])
@pytest.mark.parametrize("groups", [12, 24, 48, 96])
def test_a_clustered_rate_covers(groups: int, base: float, icc: float) -> None:
    rng = np.random.default_rng([groups, int(base * 10), int(icc * 10)])
    index, hits = np.repeat(np.arange(groups), SIZE), 0
    for _ in range(REPETITIONS):
        spread = (1 - icc) / icc if icc else None
        shares = rng.beta(base * spread, (1 - base) * spread, groups) if spread else np.full(groups, base)
        found = rate(rng.random(len(index)) < shares[index], index)
        hits += found.low <= base <= found.high
    assert holds(hits / REPETITIONS, groups, base), hits / REPETITIONS


@pytest.mark.parametrize("icc", [0.0, 0.3])
@pytest.mark.parametrize("base", [0.2, 0.5])
@pytest.mark.parametrize("groups", [12, 24, 48, 96])
def test_a_paired_change_covers(groups: int, base: float, icc: float) -> None:
    rng = np.random.default_rng([groups, int(base * 10), int(icc * 10)])
    index, hits, after = np.repeat(np.arange(groups), SIZE), 0, base / 2
    cuts = stats.norm.ppf([base, after])
    for _ in range(REPETITIONS):
        shared, *own = rng.normal(size=(3, groups)) * np.sqrt(icc / 2)
        noise = rng.normal(size=(2, len(index))) * np.sqrt(1 - icc)
        a, b = (shared[index] + own[k][index] + noise[k] < cuts[k] for k in (0, 1))
        found = paired_change(a, b, index, rng, resamples=500)
        hits += found.low <= after - base <= found.high
    assert holds(hits / REPETITIONS, groups, base), hits / REPETITIONS
