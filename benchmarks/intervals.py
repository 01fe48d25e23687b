"""Do nominal 95 % intervals hold? Seeded simulation of rates, changes, and both corrected by human labels.

Run: ``python benchmarks/intervals.py [--repetitions 2000] [--only NAME] [--oracle-python PATH]``; one thread, about 20
minutes. A line per setting; the last line is one JSON object: ``coverage`` by name (where 93 to 97.5 % is promised: at
least ten expected true clusters), ``coverage_small`` (elsewhere: at least 93 % or too few; settings where most samples
give no interval are left out), ``worst``, ``width_ratio`` with ``widths`` and ``peers`` (`correction_widths`), and
``bootstrap_seconds`` (1,000,000 verdicts in 100,000 clusters, 10,000 resamples) with its ``bootstrap_peak_mb``.

Corrected figures: a judge with sensitivity and specificity .90 that errs by seed, 100 labels (half of the rows where
there are fewer than 200) placed by the planner's allocation under its default assumption (.85 and .85). With label
errors the estimand is the rate, or change, according to such raters.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

# One thread: it runs beside others, and these arrays are small.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from correction_widths import width_table
from simulated_labels import (
    according_to_raters,
    beta_binomial,
    drawn,
    judged,
    labelled,
    paired_probit,
)

from alignprism.statistics import Estimate, corrected_change, corrected_rate, paired_change, rate, relative_change
from alignprism.statistics.label_plan import expected_changes_from_errors, expected_from_errors

SEED = 20260
LABELS = 100
JUDGE_ERROR = 0.10
BASES = (0.05, 0.2, 0.5)
SHAPES = ((1, 0.0), (5, 0.0), (5, 0.3), (5, 0.5))
"""Rows per cluster and intra-cluster correlation; with one row there is none."""

Draw = Callable[[np.random.Generator], Estimate]
Setting = tuple[str, Draw, float, bool]
"""Name, one sample's estimate, the truth, and whether 93 to 97.5 % is promised."""


def coverage(draw: Draw, truth: float, repetitions: int) -> dict[str, float]:
    """Share of given intervals that hold ``truth``, their mean width, and the share of samples that gave none."""
    rng = np.random.default_rng(SEED)
    found = [draw(rng) for _ in range(repetitions)]
    given = [(e.low, e.high) for e in found if e.low is not None and e.high is not None]
    return {
        "coverage": round(float(np.mean([low <= truth <= high for low, high in given])), 4) if given else 1.0,
        "width": round(float(np.mean([high - low for low, high in given])), 4) if given else 0.0,
        "none": round(1 - len(given) / repetitions, 4),
    }


def rate_draw(index: np.ndarray, share: float, icc: float) -> Draw:
    return lambda rng: rate(beta_binomial(rng, index, share, icc), index)


def change_draw(index: np.ndarray, before: float, after: float, icc: float, resamples: int = 1_000) -> Draw:
    return lambda rng: paired_change(*paired_probit(rng, index, before, after, icc), index, rng, resamples=resamples)


def relative_draw(index: np.ndarray, before: float, after: float, icc: float, resamples: int = 1_000) -> Draw:
    return lambda rng: relative_change(*paired_probit(rng, index, before, after, icc), index, rng, resamples=resamples)


def corrected_rate_draw(index: np.ndarray, share: float, icc: float, label_error: float) -> Draw:
    def draw(rng: np.random.Generator) -> Estimate:
        harmful = beta_binomial(rng, index, share, icc)
        verdicts = judged(rng, harmful, index, JUDGE_ERROR, icc)
        called = int(verdicts.sum())
        planned = expected_from_errors({"harmless": len(index) - called, "harmful": called})
        stratum = verdicts.astype(np.intp) if len(planned) == 2 else np.zeros(len(index), dtype=np.intp)
        rows, probability = drawn(rng, stratum, list(planned.values()), min(LABELS, len(index) // 2))
        return corrected_rate(verdicts, index, labelled(rng, harmful, rows, probability, label_error)).corrected

    return draw


def corrected_change_draw(index: np.ndarray, before: float, after: float, icc: float, label_error: float) -> Draw:
    words = ("harmless", "harmful")

    def draw(rng: np.random.Generator) -> Estimate:
        a, b = paired_probit(rng, index, before, after, icc)
        judged_a, judged_b = (judged(rng, harmful, index, JUDGE_ERROR, icc) for harmful in (a, b))
        joint, stratum = np.unique(judged_a * 2 + judged_b, return_inverse=True)
        sizes = np.bincount(stratum)
        pairs = {(words[k // 2], words[k % 2]): int(n) for k, n in zip(joint, sizes, strict=True)}
        planned = list(expected_changes_from_errors(pairs).values())
        rows, probability = drawn(rng, stratum, planned, min(LABELS, len(index) // 2))
        labels = [labelled(rng, harmful, rows, probability, label_error) for harmful in (a, b)]
        # The judge's own bootstrap is not what is measured here.
        return corrected_change(judged_a, judged_b, index, *labels, rng, resamples=10).corrected

    return draw


def settings() -> list[Setting]:
    return [*corrected_settings(), *plain_settings()]


def plain_settings() -> list[Setting]:
    result: list[Setting] = []
    for g, (m, icc), p in itertools.product((12, 24, 48, 96, 120, 400), SHAPES, BASES):
        index, promised = np.repeat(np.arange(g), m), g * p >= 10
        result.append((f"rate g={g} m={m} p={p} icc={icc}", rate_draw(index, p, icc), p, promised))
        if g == 12 or icc == 0.5 or (m, icc) == (5, 0.0):
            continue
        for cut in (1.0, 0.45):
            after = round(p * cut, 4)
            where = f"g={g} m={m} p={p}->{after} icc={icc}"
            result.append((f"change {where}", change_draw(index, p, after, icc), after - p, promised))
            if cut < 1:
                result.append((f"relative {where}", relative_draw(index, p, after, icc), after / p - 1, promised))
    return result


def corrected_settings() -> list[Setting]:
    """The issue's grid, for the corrected rate and for the corrected change of a model that more than halves harm."""
    result: list[Setting] = []
    for g, (m, icc), p, error in itertools.product((48, 120, 400), SHAPES, BASES, (0.0, 0.1)):
        index, promised = np.repeat(np.arange(g), m), g * p >= 10
        truth = according_to_raters(p, error)
        where = f"g={g} m={m} p={p} icc={icc} label error={error}"
        result.append((f"corrected rate {where}", corrected_rate_draw(index, p, icc, error), truth, promised))
        after = round(p * 0.45, 4)
        where = f"g={g} m={m} p={p}->{after} icc={icc} label error={error}"
        truth = according_to_raters(after, error) - truth
        result.append(
            (f"corrected change {where}", corrected_change_draw(index, p, after, icc, error), truth, promised)
        )
    return result


def large_bootstrap() -> tuple[float, float]:
    """Seconds and peak resident megabytes of one paired change over 1,000,000 verdicts in 100,000 clusters."""
    rng = np.random.default_rng(SEED)
    clusters = np.repeat(np.arange(100_000), 10)
    a, b = paired_probit(rng, clusters, 0.3, 0.2, 0.3)
    start = time.perf_counter()
    paired_change(a, b, clusters, rng, resamples=10_000)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2_000)
    parser.add_argument("--only", default="", help="only settings whose name starts so")
    parser.add_argument("--oracle-python", type=Path, help="Python with truescore, cje-eval and ppi-python")
    arguments = parser.parse_args()
    seconds, peak = large_bootstrap()
    shares: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for name, draw, truth, promised in settings():
        if not name.startswith(arguments.only):
            continue
        found = coverage(draw, truth, arguments.repetitions)
        inside = 0.93 <= found["coverage"] <= (0.975 if promised else 1.0)
        note = "" if inside or found["none"] >= 0.5 else "  OUTSIDE"
        print(f"{name:62} {found} {'' if promised else '(small)'}{note}", flush=True)
        if found["none"] < 0.5:
            shares[promised][name] = found["coverage"]
    summary: dict[str, object] = {"coverage": shares[True], "coverage_small": shares[False]}
    if shares[True] and shares[False]:
        worst = {"lowest": min(shares[True].values()), "highest": max(shares[True].values())}
        summary["worst"] = worst | {"lowest_small": min(shares[False].values())}
        outside = [name for name, share in shares[True].items() if not 0.93 <= share <= 0.975]
        outside += [name for name, share in shares[False].items() if share < 0.93]
        summary["outside"] = outside
    if not arguments.only:
        summary |= width_table(arguments.repetitions, arguments.oracle_python)
    print(json.dumps(summary | {"bootstrap_seconds": round(seconds, 2), "bootstrap_peak_mb": round(peak)}))


if __name__ == "__main__":
    main()
