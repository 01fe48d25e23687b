"""The change between two models on the same prompts, corrected by people who labelled both completions of some.

Labels are drawn in the joint strata (verdict on A, verdict on B): a judge's errors on the two models are not alike
(training changes style, and style moves the judge), and they do not cancel. Within a stratum the mean of label B less
label A is unbiased for its change; the strata's rows weigh it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from alignprism.statistics.clusters import Floats, cluster_index, linearised_variance, same_length, totals
from alignprism.statistics.correction import (
    Raters,
    design_effect,
    estimand,
    interval_name,
    rater_part,
    unusable,
)
from alignprism.statistics.estimate import CONFIDENCE, MIN_CLUSTERS, Estimate, enclosing, nothing, point_only
from alignprism.statistics.labelled import VERDICTS, DrawnLabels, Indices, as_verdicts, check_rows
from alignprism.statistics.paired import RESAMPLES, adjusted_change, paired_change
from alignprism.statistics.prediction_powered import prediction_powered
from alignprism.statistics.relative import MIN_BASE, relative_change
from alignprism.statistics.stratified import Limits, Population, Sample, limits

_MIN_TRUE_CLUSTERS = 5


@dataclass(frozen=True, slots=True)
class PairStratum:
    """Rows with these two verdicts, the labelled of them, and the labelled rows' mean change (None without labels)."""

    verdict_a: str
    verdict_b: str
    rows: int
    labelled: int
    change: float | None


@dataclass(frozen=True, slots=True)
class CorrectedChange:
    """One change (B less A) three ways, always together, PPI++ beside it, and the relative change three ways.

    ``labels`` counts rows on which both completions are labelled, ``unpaired`` those with one label only, which are
    left out.
    """

    judge_only: Estimate
    human_only: Estimate
    corrected: Estimate
    ppi: Estimate
    relative_judge_only: Estimate
    relative_human_only: Estimate
    relative_corrected: Estimate
    strata: tuple[PairStratum, ...]
    estimand: str
    labels: int
    raters: int
    unpaired: int
    left_out: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Both:
    """Labels of A and of B on the same rows."""

    a: DrawnLabels
    b: DrawnLabels

    @property
    def change(self) -> Floats:
        return self.b.harmful - self.a.harmful


def corrected_change(
    verdicts_a: npt.ArrayLike,
    verdicts_b: npt.ArrayLike,
    clusters: npt.ArrayLike,
    labels_a: DrawnLabels,
    labels_b: DrawnLabels,
    rng: np.random.Generator,
    population: Population = "prompts like these",
    whose: Raters = "these raters",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> CorrectedChange:
    """Harmful rate of B less that of A in one language, corrected; row i of all (N,) arrays is the same prompt.

    ``labels_a`` and ``labels_b`` are about the same rows, drawn together; rows with one of the two are left out and
    counted. ``rng`` and ``resamples`` serve the judge's own bootstrap. Interval of ``corrected``: that of `corrected_rate`, with the
    shares harmful only after and only before in place of the share harmful (their Beta limits, MOVER), so that a
    stratum in which no label changed still has a width.

    The relative change divides the corrected rates (MOVER-R: Donner and Zou 2012, Statistical Methods in Medical
    Research 21:347) and is not given when the base has fewer than `MIN_BASE` harmful answers, counted by weight.

    Raises:
        ValueError: lengths differ, an unknown verdict, a label about a row that does not exist, or one row drawn with
            different probabilities for A and for B.
    """
    a, b = as_verdicts(verdicts_a, "verdicts_a"), as_verdicts(verdicts_b, "verdicts_b")
    same_length(verdicts_a=a, verdicts_b=b)
    n = len(a)
    index, groups = cluster_index(clusters, n)
    check_rows(labels_a, n)
    check_rows(labels_b, n)
    both, unpaired = _paired(labels_a, labels_b)
    joint = a.astype(np.intp) * len(VERDICTS) + b
    used = np.bincount(joint, minlength=len(VERDICTS) ** 2) > 0
    stratum = (np.cumsum(used) - 1)[joint]
    pairs = [(VERDICTS[k // len(VERDICTS)], VERDICTS[k % len(VERDICTS)]) for k in np.flatnonzero(used)]
    sample = Sample(stratum, index, both.a.rows, both.a.weights)
    harmful = VERDICTS.index("harmful")
    judged_a, judged_b = a == harmful, b == harmful
    relative_judge = relative_change(judged_a, judged_b, index, rng, confidence=confidence, resamples=resamples)
    human = _human_only(both, index, n, population, confidence)
    corrected, relative = _stratified(sample, groups, both, pairs, population, whose, confidence)
    relative_human = _relative_human_only(both, index, confidence)
    if len(both.a) == n and n:
        corrected, relative = human, relative_human
    return CorrectedChange(
        judge_only=paired_change(judged_a, judged_b, index, rng, confidence, resamples),
        human_only=human,
        corrected=corrected,
        ppi=prediction_powered(
            judged_b.astype(np.float64) - judged_a, index, both.a.rows, both.change, both.a.weights, confidence,
            within=(-1.0, 1.0),
        ),
        relative_judge_only=relative_judge,
        relative_human_only=relative_human,
        relative_corrected=relative,
        strata=_describe(sample, pairs, both.change),
        estimand=estimand(both.a, population, whose),
        labels=len(both.a),
        raters=both.a.raters,
        unpaired=unpaired,
        left_out=tuple(sorted(labels_a.left_out.items())),
    )  # fmt: skip


def _paired(a: DrawnLabels, b: DrawnLabels) -> tuple[_Both, int]:
    """The rows that both have, and how many rows only one has."""
    common, in_a, in_b = np.intersect1d(a.rows, b.rows, assume_unique=True, return_indices=True)
    differs = np.abs(1 / a.weights[in_a] - 1 / b.weights[in_b]) > 1e-9
    if differs.any():
        row = int(common[int(np.flatnonzero(differs)[0])])
        raise ValueError(f"row {row} has different inclusion probabilities for the two models: they are drawn together")
    unpaired = len(a) + len(b) - 2 * len(common)
    names = tuple(sorted({*a.rater_names, *b.rater_names}))
    return _Both(_only(a, in_a, names), _only(b, in_b, names)), unpaired


def _only(labels: DrawnLabels, keep: Indices, names: tuple[str, ...]) -> DrawnLabels:
    """The labels of some rows, their raters coded by ``names``."""
    place = np.full(len(labels), -1, dtype=np.intp)
    place[keep] = np.arange(len(keep))
    kept = place[labels.answer_rows] >= 0
    code = np.array([names.index(name) for name in labels.rater_names], dtype=np.intp)
    return DrawnLabels(
        labels.rows[keep], labels.harmful[keep], labels.weights[keep],
        place[labels.answer_rows][kept], labels.answers[kept], code[labels.answer_raters[kept]],
        names, labels.left_out,
    )  # fmt: skip


def _human_only(both: _Both, index: Indices, rows: int, population: Population, confidence: float) -> Estimate:
    """The labels alone, weighted by one over their inclusion probability."""
    unlabelled = 1 - len(both.a) / rows if population == "these completions" and rows else 1.0
    up, down = both.b.harmful * (1 - both.a.harmful), both.a.harmful * (1 - both.b.harmful)
    return adjusted_change(up, down, both.a.weights, index[both.a.rows], confidence, unlabelled)


def _stratified(
    sample: Sample,
    groups: int,
    both: _Both,
    pairs: list[tuple[str, str]],
    population: Population,
    whose: Raters,
    confidence: float,
) -> tuple[Estimate, Estimate]:
    """The corrected change and the corrected relative change."""
    n = len(sample.stratum)
    names = tuple(f"{a} / {b}" for a, b in pairs)
    refusal = unusable(sample, names, whose, both.a.raters)
    if refusal:
        return nothing(n, groups, refusal), nothing(n, groups, refusal)
    raters = rater_part(sample, both.b, whose, both.a)
    effect, freedom, refusal = design_effect(sample, both.change, groups, population, raters)
    if refusal:
        relative = _ratio_without_interval(sample, both, groups, refusal)
        return point_only(sample.mean(both.change), n, groups, refusal), relative
    if population == "prompts like these":
        # Also without clusters: with 24 labels the limits alone cover 92 to 93 %.
        freedom = min(freedom, float(len(np.unique(sample.cluster[sample.rows])) - 1))
    up, down = both.b.harmful * (1 - both.a.harmful), both.a.harmful * (1 - both.b.harmful)
    found = limits(sample, up, down, confidence, population, effect=effect, freedom=freedom)
    clustered = groups < n and population == "prompts like these"
    name = interval_name(len(both.a), population, whose, clustered=clustered)
    change = enclosing(found.mean, found.low, found.high, n, groups, name, within=(-1, 1))
    return change, _ratio(sample, groups, both, population, whose, confidence, name)


def _ratio_without_interval(sample: Sample, both: _Both, groups: int, reason: str) -> Estimate:
    refusal = _base_too_small(sample, both)
    n = len(sample.stratum)
    if refusal:
        return nothing(n, groups, refusal)
    return point_only(sample.mean(both.b.harmful) / sample.mean(both.a.harmful) - 1, n, groups, reason)


def _ratio(
    sample: Sample,
    groups: int,
    both: _Both,
    population: Population,
    whose: Raters,
    confidence: float,
    name: str,
) -> Estimate:
    refusal = _base_too_small(sample, both)
    n = len(sample.stratum)
    if refusal:
        return nothing(n, groups, refusal)
    rates: list[Limits] = []
    for labels in (both.a, both.b):
        effect, freedom, _ = design_effect(
            sample, labels.harmful, groups, population, rater_part(sample, labels, whose)
        )
        rates.append(limits(sample, labels.harmful, None, confidence, population, effect=effect, freedom=freedom))
    base, after = rates
    ratio = after.mean / base.mean
    in_base = len(np.unique(sample.cluster[sample.rows[both.a.harmful > 0]]))
    if in_base < _MIN_TRUE_CLUSTERS:
        reason = f"the base is harmful in too few labelled clusters ({in_base} < {_MIN_TRUE_CLUSTERS})"
        return point_only(ratio - 1, n, groups, reason)
    ends = ratio_limits(base, after, _correlation(sample, both, groups))
    if ends is None:
        return point_only(ratio - 1, n, groups, "the base's own rate may be 0")
    return enclosing(ratio - 1, ends[0] - 1, ends[1] - 1, n, groups, f"ratio of rates, {name}", within=(-1, math.inf))


def ratio_limits(base: Limits, after: Limits, correlation: float) -> tuple[float, float] | None:
    """Limits of after / base from both rates' limits (MOVER-R); None when the base's lower limit is 0.

    They are the ratios R at which after - R * base stops being told from 0.
    """
    ratio = after.mean / base.mean

    def beyond(value: float, mine: float, others: float) -> float:
        """Squared distance from 0 less the squared half width on that side."""
        theirs = value * others
        return (after.mean - value * base.mean) ** 2 - (mine**2 + theirs**2 - 2 * correlation * mine * theirs)

    below, above = after.mean - after.low, after.high - after.mean
    base_below, base_above = base.mean - max(base.low, 0.0), base.high - base.mean
    if base.low <= 0:
        return None
    low = 0.0
    if ratio > 0 and beyond(0.0, below, base_above) > 0:
        low = float(optimize.brentq(beyond, 0.0, ratio, args=(below, base_above)))
    high = max(ratio, 1e-6)
    while beyond(high, above, base_below) <= 0:
        high *= 2
        if high > 1e9:
            return None
    if high > ratio:
        high = float(optimize.brentq(beyond, ratio, high, args=(above, base_below)))
    return low, high


def _correlation(sample: Sample, both: _Both, groups: int) -> float:
    """Correlation of the two corrected rates over clusters, from their linearised shares."""
    a, b = (
        np.bincount(sample.cluster, weights=sample.influence(labels.harmful), minlength=groups)
        for labels in (both.a, both.b)
    )
    size = math.sqrt(float(a @ a) * float(b @ b))
    return min(max(float(a @ b) / size, -1.0), 1.0) if size > 0 else 0.0


def _base_too_small(sample: Sample, both: _Both) -> str:
    harmful = sample.mean(both.a.harmful) * len(sample.stratum)
    if harmful < MIN_BASE:
        return f"too few in the base to divide by ({harmful:.1f} harmful by weight; needs {MIN_BASE})"
    return ""


def _relative_human_only(both: _Both, index: Indices, confidence: float) -> Estimate:
    """The labelled rows alone; a t interval on the log of the weighted ratio."""
    n, weights = len(both.a), both.a.weights
    clusters, groups = cluster_index(index[both.a.rows], n)
    if n == 0:
        return nothing(0, 0, "no human labels")
    harmful = float(both.a.harmful.sum())
    if harmful < MIN_BASE:
        return nothing(n, groups, f"too few labels harmful in the base to divide by ({harmful:.1f}; needs {MIN_BASE})")
    base, after = float(weights @ both.a.harmful), float(weights @ both.b.harmful)
    ratio = after / base
    if groups < MIN_CLUSTERS:
        return point_only(ratio - 1, n, groups, f"too few clusters ({groups} < {MIN_CLUSTERS})")
    if after <= 0:
        return point_only(-1.0, n, groups, "no label is harmful after: no variance to build an interval from")
    influence = totals(clusters, groups, weights * (both.b.harmful / after - both.a.harmful / base))[:, 0]
    error = math.sqrt(linearised_variance(influence))
    if error <= 1e-12:
        return point_only(ratio - 1, n, groups, "no variation between clusters")
    factor = math.exp(-float(special.stdtrit(groups - 1, (1 - confidence) / 2)) * error)
    name = f"t on {groups - 1} df, log ratio, cluster-robust"
    return enclosing(ratio - 1, ratio / factor - 1, ratio * factor - 1, n, groups, name)


def _describe(sample: Sample, pairs: list[tuple[str, str]], change: Floats) -> tuple[PairStratum, ...]:
    at, labelled = sample.stratum[sample.rows], sample.labelled
    weight = np.bincount(at, weights=sample.weights, minlength=len(pairs))
    mean = np.bincount(at, weights=sample.weights * change, minlength=len(pairs)) / np.where(labelled > 0, weight, 1)
    return tuple(
        PairStratum(a, b, int(rows), int(count), float(share) if count else None)
        for (a, b), rows, count, share in zip(pairs, sample.sizes, labelled, mean, strict=True)
    )
