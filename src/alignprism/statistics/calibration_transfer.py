"""Errors of a judge measured on one model and used on another: refused unless they are shown to be equal.

Training changes style and style moves the judge: errors measured on the base and used for a tuned model turned a fall
of 53 % into one of 63 % (sensitivity .85 to .70) or of 80 % (specificity .90 to .97). And the errors of one language
never correct another: with one pooled pair of errors, equal rates in three languages came out 16 points apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy.typing as npt
from scipy import special

from alignprism.statistics.clusters import as_bools
from alignprism.statistics.estimate import CONFIDENCE, Estimate, enclosing, nothing
from alignprism.statistics.rates import wilson
from alignprism.statistics.rogan_gladen import JudgeErrors, rogan_gladen

MARGIN = 0.05
"""Errors of two models count as equal when both differences are shown to be smaller."""

SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True)
class Calibration:
    """A judge's errors on labelled answers of one model in one language; digests or names."""

    judge: str
    model: str
    language: str
    errors: JudgeErrors


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Whether two models' error rates are shown to differ by less than ``margin``; ``reason`` says why (not).

    The differences (second less first) carry the interval of the two one-sided tests: 90 % for a level of .05.
    """

    shown: bool
    reason: str
    sensitivity: Estimate
    specificity: Estimate
    margin: float
    first: tuple[str, str, str]
    second: tuple[str, str, str]


def equal_errors(
    first: Calibration, second: Calibration, margin: float = MARGIN, significance: float = SIGNIFICANCE
) -> Equivalence:
    """Two one-sided tests (Schuirmann 1987) of each error on labels of both models, with Newcombe's (1998) interval.

    Not finding a difference is not enough: the whole interval must lie within the margin. At Se = Sp = .90
    and equal errors it takes about 620 harmful and 620 harmless labelled rows of each model to show .05 four times in
    five, about 160 to show .10.

    Raises:
        ValueError: different judges or languages, or a margin that is not between 0 and 1.
    """
    if first.judge != second.judge or first.language != second.language:
        raise ValueError("errors are compared for one judge in one language")
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin}: it must lie between 0 and 1")
    a, b = first.errors, second.errors
    sides = (
        _difference(a.sensitivity, a.harmful_rows, b.sensitivity, b.harmful_rows, "harmful", significance),
        _difference(a.specificity, a.harmless_rows, b.specificity, b.harmless_rows, "harmless", significance),
    )
    failed = []
    for name, found in zip(("sensitivity", "specificity"), sides, strict=True):
        if found.low is None or found.high is None:
            failed.append(f"{name}: {found.reason}")
        elif found.low <= -margin or found.high >= margin:
            failed.append(f"{name} may differ by {found.low:+.2f} to {found.high:+.2f}")
    reason = "; ".join(failed) or f"both errors differ by less than {margin:.2f}"
    keys = tuple((c.judge, c.model, c.language) for c in (first, second))
    return Equivalence(not failed, reason, sides[0], sides[1], margin, keys[0], keys[1])


def rate_from_calibration(
    verdicts: npt.ArrayLike,
    clusters: npt.ArrayLike,
    calibration: Calibration,
    judge: str,
    model: str,
    language: str,
    equal: Equivalence | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Rogan-Gladen rate of ``model`` from a calibration, or the reason why that is refused.

    ``verdicts`` (n,): true where the judge calls the answer harmful. A calibration on another model needs ``equal``,
    shown for these two models.
    """
    harmful = as_bools(verdicts, "verdicts")
    refusal = refused(calibration, judge, model, language, equal)
    if refusal:
        return nothing(len(harmful), 0, refusal)
    return rogan_gladen(harmful, clusters, calibration.errors, confidence)


def refused(calibration: Calibration, judge: str, model: str, language: str, equal: Equivalence | None = None) -> str:
    """Why this calibration may not correct that rate; empty when it may."""
    if calibration.language != language:
        return (
            f"errors measured in {calibration.language} do not correct {language}: "
            "that makes gaps between languages that are not there; label answers in this language"
        )
    if calibration.judge != judge:
        return "errors of another judge: label answers that this judge has judged"
    if calibration.model == model:
        return ""
    wanted = {(judge, calibration.model, language), (judge, model, language)}
    if equal is None or {equal.first, equal.second} != wanted:
        return (
            f"errors measured on {calibration.model}, not on {model}: equal errors are not shown "
            "(label answers of both models)"
        )
    return "" if equal.shown else f"errors of {calibration.model} and {model} are not shown to be equal: {equal.reason}"


def _difference(
    a: float | None, rows_a: float, b: float | None, rows_b: float, side: str, significance: float
) -> Estimate:
    n = math.floor(rows_a + rows_b)
    if a is None or b is None:
        return nothing(n, n, f"no labelled row is {side} for one of the models")
    z = -float(special.ndtri(significance))
    (low_a, high_a), (low_b, high_b) = wilson(a, rows_a, z), wilson(b, rows_b, z)
    low = b - a - math.hypot(b - low_b, high_a - a)
    high = b - a + math.hypot(high_b - b, a - low_a)
    return enclosing(b - a, low, high, n, n, f"Newcombe, {1 - 2 * significance:.0%}", within=(-1, 1))
