"""Do nominal 95 % intervals hold? Seeded simulation of the clustered rate, the paired and the relative change.

Run: ``python benchmarks/intervals.py [--repetitions 2000]``. A line per setting; the last line is one JSON object:
``coverage`` by name (where 93 to 97.5 % is promised: at least ten expected true clusters), ``coverage_small``
(elsewhere: at least 93 % or too few; settings where most samples give no interval are left out), ``worst``,
``bootstrap_seconds`` (1,000,000 verdicts in 100,000 clusters, 10,000 resamples) and its ``bootstrap_peak_mb``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import stats

from alignprism.statistics import Estimate, paired_change, rate, relative_change

Bools = npt.NDArray[np.bool_]
SEED = 20260


def beta_binomial(
    rng: np.random.Generator, clusters: int, size: int, share: float, icc: float
) -> tuple[Bools, npt.NDArray[np.intp]]:
    """Outcomes (n,) with exact intra-cluster correlation ``icc``, and their clusters."""
    concentration = (1 - icc) / icc if icc else np.inf
    shares = rng.beta(share * concentration, (1 - share) * concentration, clusters) if icc else np.full(clusters, share)
    index = np.repeat(np.arange(clusters), size)
    return rng.random(clusters * size) < shares[index], index


def paired_probit(
    rng: np.random.Generator, clusters: int, size: int, before: float, after: float, icc: float
) -> tuple[Bools, Bools, npt.NDArray[np.intp]]:
    """Two models' outcomes on the same rows: a probit with cluster effects, half shared by both, and a row effect."""
    index = np.repeat(np.arange(clusters), size)
    row = max(0.4 - icc, 0.0)
    shared = np.sqrt(icc / 2) * rng.normal(size=clusters)[index] + np.sqrt(row) * rng.normal(size=len(index))

    def outcomes(share: float) -> Bools:
        own = np.sqrt(icc / 2) * rng.normal(size=clusters)[index]
        noise = np.sqrt(1 - icc - row) * rng.normal(size=len(index))
        return np.asarray(shared + own + noise < stats.norm.ppf(share))

    return outcomes(before), outcomes(after), index


def coverage(
    draw: Callable[[np.random.Generator], Estimate], truth: float, repetitions: int, seed: int
) -> dict[str, float]:
    """Share of given intervals that hold ``truth``, their mean width, and the share of samples that gave none."""
    rng = np.random.default_rng(seed)
    found = [draw(rng) for _ in range(repetitions)]
    given = [(e.low, e.high) for e in found if e.low is not None and e.high is not None]
    return {
        "coverage": round(float(np.mean([low <= truth <= high for low, high in given])), 4) if given else 1.0,
        "width": round(float(np.mean([high - low for low, high in given])), 4) if given else 0.0,
        "none": round(1 - len(given) / repetitions, 4),
    }


def rate_setting(clusters: int, size: int, share: float, icc: float, repetitions: int) -> dict[str, float]:
    return coverage(lambda rng: rate(*beta_binomial(rng, clusters, size, share, icc)), share, repetitions, SEED)


def change_setting(
    clusters: int, size: int, before: float, after: float, icc: float, repetitions: int, resamples: int = 1_000
) -> dict[str, float]:
    def draw(rng: np.random.Generator) -> Estimate:
        return paired_change(*paired_probit(rng, clusters, size, before, after, icc), rng, resamples=resamples)

    return coverage(draw, after - before, repetitions, SEED)


def relative_setting(
    clusters: int, size: int, before: float, after: float, icc: float, repetitions: int, resamples: int = 1_000
) -> dict[str, float]:
    def draw(rng: np.random.Generator) -> Estimate:
        return relative_change(*paired_probit(rng, clusters, size, before, after, icc), rng, resamples=resamples)

    return coverage(draw, after / before - 1, repetitions, SEED)


def settings() -> list[tuple[str, Callable[[int], dict[str, float]], bool]]:
    """Name, simulation of so many repetitions, and whether 93 to 97.5 % is promised there."""
    result: list[tuple[str, Callable[[int], dict[str, float]], bool]] = []
    grid = itertools.product((12, 24, 48, 96, 120, 400), (1, 5), (0.05, 0.2, 0.5), (0.0, 0.3, 0.5))
    for g, m, p, icc in grid:
        if m == 1 and icc:
            continue
        promised = g * p >= 10
        result.append(
            (
                f"rate g={g} m={m} p={p} icc={icc}",
                lambda r, g=g, m=m, p=p, icc=icc: rate_setting(g, m, p, icc, r),
                promised,
            )
        )
        for cut in (1.0, 0.45):
            after = round(p * cut, 4)
            where = f"g={g} m={m} p={p}->{after} icc={icc}"
            result.append(
                (
                    f"change {where}",
                    lambda r, g=g, m=m, p=p, after=after, icc=icc: change_setting(g, m, p, after, icc, r),
                    promised,
                )
            )
            result.append(
                (
                    f"relative {where}",
                    lambda r, g=g, m=m, p=p, after=after, icc=icc: relative_setting(g, m, p, after, icc, r),
                    promised,
                )
            )
    return result


def large_bootstrap() -> tuple[float, float]:
    """Seconds and peak resident megabytes of one paired change over 1,000,000 verdicts in 100,000 clusters."""
    rng = np.random.default_rng(SEED)
    a, b, index = paired_probit(rng, 100_000, 10, 0.3, 0.2, 0.3)
    start = time.perf_counter()
    paired_change(a, b, index, rng, resamples=10_000)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2_000)
    repetitions = parser.parse_args().repetitions
    seconds, peak = large_bootstrap()
    shares: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for name, simulate, promised in settings():
        found = simulate(repetitions)
        print(f"{name:45} {found} {'' if promised else '(small)'}", flush=True)
        if found["none"] < 0.5:
            shares[promised][name] = found["coverage"]
    worst = {"lowest": min(shares[True].values()), "highest": max(shares[True].values())}
    worst["lowest_small"] = min(shares[False].values())
    summary = {"coverage": shares[True], "coverage_small": shares[False], "worst": worst}
    print(json.dumps(summary | {"bootstrap_seconds": round(seconds, 2), "bootstrap_peak_mb": round(peak)}))


if __name__ == "__main__":
    main()
