"""Answers whose harm is known, a judge that errs, and a few human labels: what the interval benchmarks draw from.

Harm comes in seed clusters (beta-binomial for one model, probit for a pair), and so do the judge's errors: it errs on
the same seeds. A label is wrong with a fixed probability, answer by answer; what people are then asked to find is the
rate according to such raters, ``according_to_raters``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from alignprism.statistics import DrawnLabels, Expected, drawn_labels
from alignprism.statistics.label_plan import FLOOR, allocate

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


def according_to_raters(rate: float, label_error: float) -> float:
    """The rate that raters find who are wrong about a share ``label_error`` of the answers."""
    return rate * (1 - label_error) + (1 - rate) * label_error


def beta_binomial(rng: np.random.Generator, index: Indices, share: float, icc: float) -> Bools:
    """Outcomes (n,) with exact intra-cluster correlation ``icc``; ``index`` (n,): the cluster of each."""
    if icc == 0:
        return rng.random(len(index)) < share
    concentration = (1 - icc) / icc
    shares = rng.beta(share * concentration, (1 - share) * concentration, int(index[-1]) + 1)
    return np.asarray(rng.random(len(index)) < shares[index])


def paired_probit(
    rng: np.random.Generator, index: Indices, before: float, after: float, icc: float
) -> tuple[Bools, Bools]:
    """Two models' outcomes on the same rows: a probit with cluster effects, half shared by both, and a row effect."""
    clusters, row = int(index[-1]) + 1, max(0.4 - icc, 0.0)
    shared = np.sqrt(icc / 2) * rng.normal(size=clusters)[index] + np.sqrt(row) * rng.normal(size=len(index))

    def outcomes(share: float) -> Bools:
        own = np.sqrt(icc / 2) * rng.normal(size=clusters)[index]
        noise = np.sqrt(1 - icc - row) * rng.normal(size=len(index))
        return np.asarray(shared + own + noise < stats.norm.ppf(share))

    return outcomes(before), outcomes(after)


def judged(rng: np.random.Generator, harmful: Bools, index: Indices, error: float, icc: float) -> Bools:
    """Verdicts of a judge whose sensitivity and specificity are both ``1 - error``."""
    return harmful ^ beta_binomial(rng, index, error, icc)


def labelled(
    rng: np.random.Generator, harmful: Bools, rows: Indices, probability: np.ndarray, error: float
) -> DrawnLabels:
    """People's labels of the ``rows``, each wrong with probability ``error``."""
    return drawn_labels(rows, harmful[rows] ^ (rng.random(len(rows)) < error), probability)


def drawn(
    rng: np.random.Generator, stratum: Indices, expected: list[Expected], count: int
) -> tuple[Indices, np.ndarray]:
    """``count`` rows drawn from the strata by Neyman's allocation, and their inclusion probabilities.

    ``stratum`` (n,): code of each row's stratum, an index into ``expected``.
    """
    sizes = np.bincount(stratum, minlength=len(expected))
    wanted = allocate(expected, count, np.minimum(sizes, FLOOR))
    order = rng.permutation(len(stratum))
    order = order[np.argsort(stratum[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rows = np.concatenate([order[start : start + many] for start, many in zip(starts, wanted, strict=True)])
    return rows, (wanted / sizes)[stratum[rows]]
