"""The Rogan-Gladen correction with the uncertainty of its calibration (Lee et al. 2025, arXiv 2511.21140).

The rate that a judge of known sensitivity and specificity must have seen. From labels of the same answers it is wider
than people alone; its use is a calibration measured on other answers (`calibration_transfer` says when that is allowed).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from alignprism.statistics.estimate import CONFIDENCE, Estimate, enclosing, nothing
from alignprism.statistics.labelled import DrawnLabels
from alignprism.statistics.rates import effective_rows

MIN_DISCRIMINATION = 0.1
"""Below this Se + Sp - 1 the correction divides by next to nothing."""


@dataclass(frozen=True, slots=True)
class JudgeErrors:
    """Sensitivity and specificity (None where no row could show them), and the effective number of rows behind each."""

    sensitivity: float | None
    specificity: float | None
    harmful_rows: float
    harmless_rows: float


def errors_of(harmful: npt.NDArray[np.bool_], labels: DrawnLabels) -> JudgeErrors:
    """Design-weighted sensitivity and specificity on the labelled rows; ``harmful`` (N,): the judge's verdicts.

    A row on which raters disagree counts on both sides, by their shares. Effective rows are Kish's.
    """
    called = harmful[labels.rows].astype(np.float64)
    positive, negative = labels.weights * labels.harmful, labels.weights * (1 - labels.harmful)
    return JudgeErrors(
        _mean(called, positive), _mean(1 - called, negative), _kish(positive), _kish(negative)
    )  # fmt: skip


def rogan_gladen(
    harmful: npt.NDArray[np.bool_],
    clusters: npt.ArrayLike,
    errors: JudgeErrors,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """(p + Sp - 1) / (Se + Sp - 1) with the adjusted interval of Lang and Reiczigel (2014, Preventive Veterinary
    Medicine 113:13), which is that of 2511.21140; ``harmful`` and ``clusters`` (N,): the judged rows.

    p, Se and Sp are each moved towards one half before the variance is taken; the rows behind p count by their
    cluster-robust effective number.
    """
    n = len(harmful)
    groups = len(np.unique(np.asarray(clusters)))
    if n == 0:
        return nothing(0, 0, "no rows")
    if errors.sensitivity is None or errors.specificity is None:
        side = "harmful" if errors.sensitivity is None else "harmless"
        return nothing(n, groups, f"no labelled row is {side}")
    apparent = float(harmful.mean())
    discrimination = errors.sensitivity + errors.specificity - 1
    if discrimination < MIN_DISCRIMINATION:
        return nothing(n, groups, f"the judge tells too little apart (Se + Sp - 1 = {discrimination:.2f})")
    estimate = min(max((apparent + errors.specificity - 1) / discrimination, 0.0), 1.0)
    z = -float(special.ndtri((1 - confidence) / 2))
    rows = effective_rows(harmful, clusters)
    p = (rows * apparent + z**2 / 2) / (rows + z**2)
    se = (errors.harmful_rows * errors.sensitivity + 1) / (errors.harmful_rows + 2)
    sp = (errors.harmless_rows * errors.specificity + 1) / (errors.harmless_rows + 2)
    gap = se + sp - 1
    centre = (p + sp - 1) / gap
    of_se, of_sp = se * (1 - se) / (errors.harmful_rows + 2), sp * (1 - sp) / (errors.harmless_rows + 2)
    shift = 2 * z**2 * (centre * of_se - (1 - centre) * of_sp)
    error = math.sqrt(p * (1 - p) / (rows + z**2) + (1 - centre) ** 2 * of_sp + centre**2 * of_se) / gap
    low, high = centre + shift - z * error, centre + shift + z * error
    low, high = min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)
    return enclosing(estimate, low, high, n, groups, "Rogan-Gladen, Lang-Reiczigel", within=(0, 1))


def _mean(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float | None:
    total = float(weights.sum())
    return float(weights @ values) / total if total > 0 else None


def _kish(weights: npt.NDArray[np.float64]) -> float:
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0
