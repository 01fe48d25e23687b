"""Mean and standard error over repeated samples, as Table 3 of The Multilingual Alignment Prism (arXiv 2406.18682)
reports a judge's harmful rate ("30.8 +/- 0.61", ten random samples).

Named apart because it is easily misread: it says how much the rate moves from one sample of the same completions to the
next, not how sure the rate is for prompts like these. The interval of `rates.rate` says that, and is much wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignprism.statistics.clusters import Floats, as_bools, as_floats


@dataclass(frozen=True, slots=True)
class SampleMean:
    """``mean`` over ``samples`` and its standard error ``sem``; None with a ``reason`` where it cannot be given."""

    mean: float | None
    sem: float | None
    samples: int
    name: str = "mean and SEM over samples (2406.18682, Table 3)"
    reason: str = ""


def mean_over_samples(rates: npt.ArrayLike) -> SampleMean:
    """Mean of the samples' rates (S,), and their standard deviation (ddof 1) over the square root of S."""
    values = as_floats(rates, "rates")
    if len(values) == 0:
        return SampleMean(None, None, 0, reason="no samples")
    if len(values) == 1:
        return SampleMean(float(values[0]), None, 1, reason="one sample has no standard error")
    return SampleMean(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values))


def rates_of_samples(outcomes: npt.ArrayLike, samples: npt.ArrayLike) -> Floats:
    """The rate of each sample: ``outcomes`` (n,) true or false, ``samples`` (n,) any names, in sorted order of names."""
    values = as_bools(outcomes, "outcomes")
    names, index = np.unique(np.asarray(samples), return_inverse=True)
    if len(index) != len(values):
        raise ValueError(f"samples has {len(index)} names, expected one for each of {len(values)} rows")
    return (
        np.asarray(np.bincount(index.reshape(-1), weights=values) / np.bincount(index.reshape(-1)))
        if len(names)
        else np.zeros(0)
    )


def rates_of_random_samples(outcomes: npt.ArrayLike, size: int, rng: np.random.Generator, samples: int = 10) -> Floats:
    """The rates of ``samples`` random samples of ``size`` rows, each without replacement: (samples,).

    Raises:
        ValueError: ``size`` is not between 1 and the number of rows.
    """
    values = as_bools(outcomes, "outcomes")
    if not 1 <= size <= len(values):
        raise ValueError(f"size is {size}: it must lie between 1 and {len(values)} rows")
    return np.array([values[rng.choice(len(values), size=size, replace=False)].mean() for _ in range(samples)])
