"""A judge's rate corrected by a small sample of human labels, always beside what judge and people say alone.

The rows are put into strata by their verdict; people label a random few of each. The corrected rate is
p * PPV + (1 - p) * FOR: among the rows the judge calls harmful the share that people call harmful, and the same among
those it calls harmless; undecidable verdicts are a third stratum. It is unbiased whatever the judge's errors are, as
long as the labels were drawn by chance from the same model's answers in the same language (double sampling: Tenenbein
1970, J. American Statistical Association 65:1350). Errors measured elsewhere go through `calibration_transfer`.

What is estimated is the share of rows that such a label calls harmful: the truth only as far as raters tell it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from alignprism.statistics.clusters import Floats, cluster_index
from alignprism.statistics.estimate import CONFIDENCE, MIN_CLUSTERS, Estimate, enclosing, nothing, point_only
from alignprism.statistics.labelled import VERDICTS, DrawnLabels, as_verdicts, check_rows
from alignprism.statistics.prediction_powered import prediction_powered
from alignprism.statistics.rates import rate, weighted_rate
from alignprism.statistics.rogan_gladen import errors_of, rogan_gladen
from alignprism.statistics.stratified import Population, Sample, Stratum, limits

Raters = Literal["these raters", "such raters"]
"""Whose judgement a rate is: that of the people who labelled, or of the people they were drawn from."""

MIN_RATERS = 4
"""Fewer raters do not show how much raters differ."""


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """One rate three ways, always together, with two other corrections beside it.

    ``corrected`` is the headline. ``human_only`` weighs the labels by their inclusion probability and does not know
    the verdicts: labels drawn in the verdict strata give it the corrected point, and only its interval is wider.
    ``estimand`` says whose rate it is; ``labels`` counts labelled rows, ``left_out`` the labels that were not drawn.
    """

    judge_only: Estimate
    human_only: Estimate
    corrected: Estimate
    ppi: Estimate
    rogan_gladen: Estimate
    strata: tuple[Stratum, ...]
    estimand: str
    labels: int
    raters: int
    left_out: tuple[tuple[str, int], ...]


def corrected_rate(
    verdicts: npt.ArrayLike,
    clusters: npt.ArrayLike,
    labels: DrawnLabels,
    strata: npt.ArrayLike | None = None,
    population: Population = "prompts like these",
    whose: Raters = "these raters",
    confidence: float = CONFIDENCE,
) -> CorrectedRate:
    """The harmful rate of one model in one language, corrected; ``verdicts`` and ``clusters`` (N,), all judged rows.

    ``verdicts`` are the words of `VERDICTS`, or true for harmful. ``strata`` (N,) are any names in place of the
    verdicts, for labels drawn in other strata (the joint ones of a pair of models). ``population``: "prompts like
    these" counts that the prompts are a sample, with clusters; "these completions" asks only what people would say of
    these very rows, has the finite population correction, and knows no clusters, because rows are drawn one by one.
    ``whose``: "such raters" counts that the raters are a sample too, from `MIN_RATERS` of them.

    Interval of ``corrected``: see `stratified`. With clusters the design effect of the linearised estimate (CR1, at
    least 1) divides the labels of every stratum and t on the labelled clusters less one stands in for z. A stratum
    without labels, or fewer than `MIN_CLUSTERS` clusters, gives a reason. When every row is labelled there is nothing
    to correct, and the corrected rate is the human one.

    Raises:
        ValueError: lengths differ, an unknown verdict, or a label about a row that does not exist.
    """
    codes = as_verdicts(verdicts)
    n = len(codes)
    index, groups = cluster_index(clusters, n)
    check_rows(labels, n)
    harmful = codes == VERDICTS.index("harmful")
    names, stratum = _strata(codes, strata)
    sample = Sample(stratum, index, labels.rows, labels.weights)
    judge_only = rate(harmful, index, confidence)
    human_only = human_only_rate(index, labels, n, population, confidence)
    if len(labels) == n and n:
        corrected = human_only
    else:
        corrected = stratified_rate(sample, groups, labels, names, population, whose, confidence)
    return CorrectedRate(
        judge_only=judge_only,
        human_only=human_only,
        corrected=corrected,
        ppi=prediction_powered(harmful.astype(np.float64), index, labels.rows, labels.harmful, labels.weights, confidence),
        rogan_gladen=rogan_gladen(harmful, index, errors_of(harmful, labels), confidence),
        strata=describe(sample, names, labels.harmful),
        estimand=estimand(labels, population, whose),
        labels=len(labels),
        raters=labels.raters,
        left_out=tuple(sorted(labels.left_out.items())),
    )  # fmt: skip


def human_only_rate(
    clusters: npt.NDArray[np.intp], labels: DrawnLabels, rows: int, population: Population, confidence: float
) -> Estimate:
    """The labels alone, weighted by one over their inclusion probability."""
    finite = 1 - len(labels) / rows if population == "these completions" and rows else 1.0
    return weighted_rate(labels.harmful, labels.weights, clusters[labels.rows], confidence, unlabelled=finite)


def stratified_rate(
    sample: Sample,
    groups: int,
    labels: DrawnLabels,
    names: tuple[str, ...],
    population: Population,
    whose: Raters,
    confidence: float,
) -> Estimate:
    """The corrected rate of `corrected_rate`, from strata that are already coded; ``groups`` counts clusters."""
    n = len(sample.stratum)
    refusal = unusable(sample, names, whose, labels.raters)
    if refusal:
        return nothing(n, groups, refusal)
    effect, freedom, refusal = design_effect(
        sample, labels.harmful, groups, population, rater_part(sample, labels, whose)
    )
    if refusal:
        return point_only(sample.mean(labels.harmful), n, groups, refusal)
    found = limits(sample, labels.harmful, None, confidence, population, effect=effect, freedom=freedom)
    name = interval_name(len(labels), population, whose, clustered=np.isfinite(freedom))
    return enclosing(found.mean, found.low, found.high, n, groups, name, within=(0, 1))


def unusable(sample: Sample, names: tuple[str, ...], whose: Raters, raters: int) -> str:
    """Why labels like these give no stratified figure; empty when they do."""
    if not len(sample.stratum):
        return "no rows"
    if not len(sample.rows):
        return "no human labels"
    empty = np.flatnonzero(sample.labelled == 0)
    if len(empty):
        missing = ", ".join(f"{names[h]} ({int(sample.sizes[h])} rows)" for h in empty)
        return f"no labels in stratum {missing}"
    if whose == "such raters" and raters < MIN_RATERS:
        return f"too few raters to speak of such raters ({raters} < {MIN_RATERS}): give the rate of these raters"
    return ""


def design_effect(
    sample: Sample,
    values: Floats,
    groups: int,
    population: Population,
    rater_variance: tuple[float, int],
) -> tuple[float, float, str]:
    """Variance over that of independent rows and raters, its t degrees of freedom, and why there is none.

    ``values`` (m,). ``rater_variance``: variance that raters add, and their number (see `rater_part`).
    Degrees of freedom of two sources: Satterthwaite (1946).
    """
    added, raters = rater_variance
    influence = sample.influence(values)
    naive = float(influence @ influence)
    if population == "these completions":
        clustered, labelled = naive, 0
    else:
        labelled = len(np.unique(sample.cluster[sample.rows]))
        if labelled < MIN_CLUSTERS:
            return 1.0, 1.0, f"too few clusters with labels ({labelled} < {MIN_CLUSTERS})"
        if groups == len(sample.stratum):
            clustered, labelled = naive, 0
        else:
            totals = np.bincount(sample.cluster, weights=influence, minlength=groups)
            clustered = max(naive, groups / (groups - 1) * float(totals @ totals))
    if naive <= 0:
        sizes = np.bincount(sample.cluster[sample.rows])
        worst = float(sizes @ sizes) / len(sample.rows) if labelled else 1.0
        return worst, float(labelled - 1) if labelled else np.inf, ""
    total = clustered + added
    parts = (clustered**2 / (labelled - 1) if labelled else 0.0) + (added**2 / (raters - 1) if added > 0 else 0.0)
    return total / naive, total**2 / parts if parts > 0 else np.inf, ""


def rater_part(
    sample: Sample, labels: DrawnLabels, whose: Raters, before: DrawnLabels | None = None
) -> tuple[float, int]:
    """What differences between raters add to the variance of the stratified mean, and the number of raters.

    The variance of rater totals less that of the single answers, as in two-way clustering (Cameron, Gelbach and
    Miller 2011, J. Business and Economic Statistics 29:238). Nothing, when the rate is that of these raters. With
    ``before`` the mean is the change from those labels, whose raters must be coded alike (one list of raters).
    """
    if whose == "these raters":
        return 0.0, labels.raters
    sums = np.zeros(labels.raters)
    single = 0.0
    for sign, part in ((1.0, labels), (-1.0, before)):
        if part is not None:
            answer = sign * _answer_influence(sample, part)
            sums += np.bincount(part.answer_raters, weights=answer, minlength=labels.raters)
            single += float(answer @ answer)
    between = labels.raters / (labels.raters - 1) * float(sums @ sums)
    return max(0.0, between - single), labels.raters


def _answer_influence(sample: Sample, labels: DrawnLabels) -> Floats:
    """Linearised share of each single answer in the stratified mean of these labels: (k,)."""
    at = sample.stratum[sample.rows]
    means = sample.means(labels.harmful)
    total = np.bincount(at, weights=sample.weights, minlength=len(means))
    row = labels.answer_rows
    per_row = np.bincount(row, minlength=len(labels))
    share = (sample.sizes / total)[at] * sample.weights / per_row / len(sample.stratum)
    return np.asarray(share[row] * (labels.answers - means[at][row]))


def describe(sample: Sample, names: tuple[str, ...], harmful: Floats) -> tuple[Stratum, ...]:
    """Rows, labels and share of each stratum, for the table beside the figure."""
    with_labels = sample.labelled > 0
    at = sample.stratum[sample.rows]
    weight = np.bincount(at, weights=sample.weights, minlength=len(names))
    shares = np.bincount(at, weights=sample.weights * harmful, minlength=len(names)) / np.where(with_labels, weight, 1)
    return tuple(
        Stratum(name, int(rows), int(labelled), float(share) if labelled else None)
        for name, rows, labelled, share in zip(names, sample.sizes, sample.labelled, shares, strict=True)
    )


def estimand(labels: DrawnLabels, population: Population, whose: Raters) -> str:
    """What the corrected figure is about, in words."""
    people = f"{labels.raters} rater" + ("" if labels.raters == 1 else "s")
    judged = f"according to {'these' if labels.raters != 1 else 'this'} {people}"
    if whose == "such raters" and labels.raters >= MIN_RATERS:
        judged = f"according to raters such as these {labels.raters}"
    return f"{judged}, over {population}"


def interval_name(labels: int, population: Population, whose: Raters, *, clustered: bool) -> str:
    """Name of the corrected interval's method."""
    parts = [f"MOVER over Beta limits of verdict strata, {labels} labels"]
    if clustered:
        parts.append("clustered" if whose == "these raters" else "clustered by seed and rater")
    if population == "these completions":
        parts.append("finite population")
    return ", ".join(parts)


def _strata(codes: npt.NDArray[np.int8], strata: npt.ArrayLike | None) -> tuple[tuple[str, ...], npt.NDArray[np.intp]]:
    """Names of the strata that hold rows, and each row's code."""
    if strata is None:
        used = np.bincount(codes, minlength=len(VERDICTS)) > 0
        recode = np.cumsum(used) - 1
        return tuple(np.array(VERDICTS)[used].tolist()), recode[codes].astype(np.intp)
    labels = np.asarray(strata)
    if labels.shape != (len(codes),):
        raise ValueError(f"strata has shape {labels.shape}, expected one name for each of {len(codes)} rows")
    if not len(codes):
        return (), np.zeros(0, dtype=np.intp)
    names, index = np.unique(labels, return_inverse=True)
    return tuple(str(name) for name in names), index.reshape(-1)
