"""Do the intervals of pairwise figures hold, and is Bradley-Terry the oracle's? Seeded simulation.

Run: ``python benchmarks/pairwise.py [--repetitions 1000] [--groups 24 48 96 200]``. A line per setting; the last line is one JSON object:
``coverage`` (nominal 95 %, by figure and setting), ``none`` (share of samples without an interval), ``worst``, ``best`` and ``mean`` of each figure,
``bradley_terry_difference`` (largest difference from statsmodels' logistic regression), ``length_bias`` (how far the raw and
the length-controlled win rate are from the truth when the judge favours length), ``seconds``.

A prompt's win probability is a logistic of ``quality + seed effect + length * tanh(length difference)``; a share of
comparisons is a tie. Truths are those of the same model with a million prompts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

from alignprism.statistics import Estimate, bradley_terry, length_controlled_win_rate, win_rates
from alignprism.statistics.bradley_terry import Strength

SEED = 20261
Floats = npt.NDArray[np.float64]
LONGER = 0.5  # b's answers are longer by this many standard deviations of the difference, on average
TIES = 0.2


def drawn(
    rng: np.random.Generator, groups: int, size: int, quality: float, spread: float, length: float
) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Results, length differences and clusters of one sample."""
    index = np.repeat(np.arange(groups), size)
    difference = rng.normal(LONGER, 1, len(index))
    effect = quality + spread * rng.normal(size=groups)[index] + length * np.tanh(difference)
    won = np.where(rng.random(len(index)) < special.expit(effect), 1.0, -1.0)
    return np.where(rng.random(len(index)) < TIES, 0.0, won), difference, index


def truths(quality: float, spread: float, length: float) -> tuple[float, float, float]:
    """Win rate with ties half, with ties dropped, and at equal length."""
    rng = np.random.default_rng(SEED)
    seeds, difference = quality + spread * rng.normal(size=1_000_000), rng.normal(LONGER, 1, 1_000_000)
    decided = float(special.expit(seeds + length * np.tanh(difference)).mean())
    equal = float(special.expit(seeds).mean())
    return TIES / 2 + (1 - TIES) * decided, decided, TIES / 2 + (1 - TIES) * equal


def win_rate_settings(repetitions: int, counts: list[int]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    found: dict[str, dict[str, float]] = {"ties half": {}, "ties dropped": {}, "equal length": {}, "none": {}}
    bias = {"raw": 0.0, "length-controlled": 0.0}
    grid = itertools.product(counts, (1, 4), (0.0, 1.2), (0.0, 1.5))
    for groups, size, quality, length in grid:
        spread = 0.8 if size > 1 else 0.0
        truth = truths(quality, spread, length)
        name = f"g={groups} m={size} quality={quality} length={length}"
        rng = np.random.default_rng([SEED, groups, size, int(10 * quality), int(10 * length)])
        hits, given, controlled = np.zeros(3), np.zeros(3), []
        for _ in range(repetitions):
            results, difference, index = drawn(rng, groups, size, quality, spread, length)
            won = win_rates(results, index, rng, resamples=500)
            equal = length_controlled_win_rate(results, 100 + 0 * difference, 100 + 20 * difference, index)
            for k, estimate in enumerate((won.ties_half, won.ties_dropped, equal)):
                hits[k] += covers(estimate, truth[k])
                given[k] += estimate.low is not None
            controlled.append(equal.estimate or 0.0)
        shares = hits / np.maximum(given, 1)
        for key, share in zip(("ties half", "ties dropped", "equal length"), shares, strict=True):
            found[key][name] = round(float(share), 3)
        found["none"][name] = round(float(1 - given.min() / repetitions), 3)
        print(name, {k: found[k][name] for k in found}, flush=True)
        if groups == max(counts) and length:
            bias["raw"] = max(bias["raw"], abs(truth[0] - truth[2]))
            bias["length-controlled"] = max(bias["length-controlled"], abs(float(np.mean(controlled)) - truth[2]))
    return found, {key: round(value, 4) for key, value in bias.items()}


def covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high


def played(
    rng: np.random.Generator, groups: int, strengths: dict[str, float]
) -> tuple[list[str], list[str], Floats, npt.NDArray[np.intp]]:
    """Every pair of models once on each of three prompts of a seed; the models share the seed's difficulty of being told apart."""
    pairs = [*itertools.combinations(sorted(strengths), 2)]
    rows = [(a, b, g) for g in range(groups) for _ in range(3) for a, b in pairs]
    a, b, index = [r[0] for r in rows], [r[1] for r in rows], np.array([r[2] for r in rows])
    gap = np.array([strengths[y] - strengths[x] for x, y in zip(a, b, strict=True)])
    won = np.where(rng.random(len(rows)) < special.expit(gap), 1.0, -1.0)
    return a, b, np.where(rng.random(len(rows)) < TIES, 0.0, won), index


def strength_settings(repetitions: int, counts: list[int]) -> dict[str, float]:
    found = {}
    given = {"base": 0.0, "dpo": 1.1, "merged": 0.9, "sft": 0.4}
    # With ties half, the fitted log odds are those of the expected share.
    for groups in counts:
        rng = np.random.default_rng([SEED, groups])
        truth = _expected(given)
        hits = 0
        for _ in range(repetitions):
            a, b, results, index = played(rng, groups, given)
            strengths = bradley_terry(a, b, results, index, "base", rng, resamples=500)
            hits += sum(covers(s.log_strength, truth[s.model]) for s in strengths[1:])
        found[f"g={groups}"] = round(hits / (3 * repetitions), 3)
        print(f"strength g={groups}: {found[f'g={groups}']}", flush=True)
    return found


def _expected(strengths: dict[str, float]) -> dict[str, float]:
    """Strengths that a million prompts would give: the model with ties is not exactly Bradley-Terry with half ties."""
    rng = np.random.default_rng(SEED)
    fitted = bradley_terry(*played(rng, 60_000, strengths), "base", rng, resamples=2)
    return {s.model: s.log_strength.estimate or 0.0 for s in fitted}


def oracle_difference() -> float:
    import statsmodels.api as sm

    rng = np.random.default_rng(SEED)
    worst = 0.0
    for groups in (20, 60, 200):
        a, b, results, index = played(rng, groups, {"base": 0.0, "dpo": 1.1, "merged": 0.9, "sft": 0.4})
        names = ("dpo", "merged", "sft")
        design = np.column_stack(
            [np.array([(y == m) - (x == m) for x, y in zip(a, b, strict=True)], float) for m in names]
        )
        fitted = sm.GLM((results + 1) / 2, design, family=sm.families.Binomial()).fit(tol=1e-12)
        ours: tuple[Strength, ...] = bradley_terry(a, b, results, index, "base", rng, resamples=100)
        estimates = np.array([s.log_strength.estimate for s in ours[1:]])
        worst = max(worst, float(np.abs(estimates - fitted.params).max()))
    return worst


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return round(time.perf_counter() - start, 2)


def large() -> dict[str, float]:
    """Seconds for 100,000 comparisons in 20,000 clusters."""
    rng = np.random.default_rng(SEED)
    results, difference, index = drawn(rng, 20_000, 5, 0.3, 0.8, 1.0)
    lengths = 100 + 20 * difference.clip(-4, 4)
    return {
        "win_rates": timed(lambda: win_rates(results, index, rng)),
        "equal_length": timed(lambda: length_controlled_win_rate(results, 100 + 0 * lengths, lengths, index)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--groups", type=int, nargs="+", default=[24, 48, 96, 200], help="numbers of clusters")
    options = parser.parse_args()
    repetitions = options.repetitions
    found, bias = win_rate_settings(repetitions, options.groups)
    none = found.pop("none")
    coverage = {**found, "strength": strength_settings(repetitions, options.groups)}
    print(
        json.dumps(
            {
                "coverage": coverage,
                "none": max(none.values()),
                "worst": {name: min(values.values()) for name, values in coverage.items()},
                "best": {name: max(values.values()) for name, values in coverage.items()},
                "mean": {name: round(sum(values.values()) / len(values), 4) for name, values in coverage.items()},
                "bradley_terry_difference": oracle_difference(),
                "length_bias": bias,
                "seconds": large(),
                "repetitions": repetitions,
            }
        )
    )


if __name__ == "__main__":
    main()
