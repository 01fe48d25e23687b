"""A judge against people on labelled answers of one model in one language: errors, bias, agreement, all design-weighted.

Labels drawn by verdict are no picture of the answers: unweighted, a sensitivity of .85 looks like .97. Everything here
is built from the shares harmful in the verdict strata and the strata's rows, as the corrected rate is, and so are the
intervals: no missed answer among 70 labels of a large stratum does not mean that none is missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignprism.statistics.clusters import Floats, cluster_index
from alignprism.statistics.correction import design_effect, stratified_rate, unusable
from alignprism.statistics.estimate import CONFIDENCE, Estimate, enclosing, nothing, point_only
from alignprism.statistics.labelled import VERDICTS, DrawnLabels, as_verdicts, check_rows
from alignprism.statistics.rates import rate
from alignprism.statistics.stratified import Sample, limits

DRAWS = 4_000
_PRIOR = 1 / 2
"""Jeffreys' for ratios, whose few misses weigh more than in a rate: with the 1/3 of `stratified` sensitivity is covered by
90 % (60 labels a stratum, Se .85)."""

_HARMFUL, _HARMLESS = VERDICTS.index("harmful"), VERDICTS.index("harmless")


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """How a judge's verdicts go with people's labels; shares of 0 to 1, kappa, alpha and AC1 of -1 to 1.

    ``bias`` is the judge's rate less the corrected one: positive over-flags. ``prevalence`` is the corrected rate,
    ``judged`` the judge's; no coefficient is to be read without them. A row whose raters disagree counts on both
    sides by their shares: agreement is with a rater drawn at random from the row's.
    """

    sensitivity: Estimate
    specificity: Estimate
    bias: Estimate
    percent: Estimate
    kappa: Estimate
    alpha: Estimate
    ac1: Estimate
    prevalence: Estimate
    judged: Estimate
    labels: int


def judge_agreement(
    verdicts: npt.ArrayLike,
    clusters: npt.ArrayLike,
    labels: DrawnLabels,
    rng: np.random.Generator,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
) -> JudgeAgreement:
    """All of it from the verdicts (N,) on all judged rows and the drawn labels.

    Percent and bias have the interval of the corrected rate and change (MOVER). The others are not means: their
    limits are quantiles of ``draws`` from the strata's Beta posteriors, whose sizes are divided by the design effect
    of clusters; the strata's shares of rows are drawn too.

    Raises:
        ValueError: lengths differ, an unknown verdict, or a label about a row that does not exist.
    """
    codes = as_verdicts(verdicts)
    n = len(codes)
    index, groups = cluster_index(clusters, n)
    check_rows(labels, n)
    sample, used = verdict_sample(codes, index, labels)
    names = tuple(VERDICTS[code] for code in used)
    judged = rate(codes == _HARMFUL, index, confidence)
    prevalence = stratified_rate(sample, groups, labels, names, "prompts like these", "these raters", confidence)
    refusal = unusable(sample, names, "these raters", labels.raters)
    if refusal:
        none = nothing(n, groups, refusal)
        return JudgeAgreement(none, none, none, none, none, none, none, prevalence, judged, len(labels))
    called = codes[labels.rows]
    over, under = (called == _HARMFUL) * (1 - labels.harmful), (called != _HARMFUL) * labels.harmful
    right = np.where(called == _HARMFUL, labels.harmful, np.where(called == _HARMLESS, 1 - labels.harmful, 0.0))
    table = error_table(sample, labels, used, rng, draws, groups)
    size = len(labels)

    def quantiles(statistic: Callable[[Floats], Floats]) -> Estimate:
        return _quantiles(table, statistic, n, groups, confidence)

    return JudgeAgreement(
        sensitivity=quantiles(sensitivity_of),
        specificity=quantiles(specificity_of),
        bias=_mean(sample, over, under, groups, confidence),
        percent=_mean(sample, right, None, groups, confidence),
        kappa=quantiles(_kappa),
        alpha=quantiles(lambda shares: _alpha(shares, size)),
        ac1=quantiles(_ac1),
        prevalence=prevalence,
        judged=judged,
        labels=size,
    )


def verdict_sample(
    codes: npt.NDArray[np.int8], index: npt.NDArray[np.intp], labels: DrawnLabels
) -> tuple[Sample, npt.NDArray[np.intp]]:
    """Rows in the strata of their verdicts, and the codes of the verdicts that occur."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(VERDICTS)))
    recode = np.zeros(len(VERDICTS), dtype=np.intp)
    recode[used] = np.arange(len(used))
    return Sample(recode[codes], index, labels.rows, labels.weights), used


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """Shares of all rows by verdict and label, (S, 3, 2): observed (S = 1) and drawn; ``refusal`` instead of draws."""

    observed: Floats
    drawn: Floats
    refusal: str


def error_table(
    sample: Sample,
    labels: DrawnLabels,
    used: npt.NDArray[np.intp],
    rng: np.random.Generator,
    draws: int,
    groups: int,
) -> ErrorTable:
    """The table of verdicts and labels, and draws from what the labels leave open; ``used``: codes of the strata."""
    share, n = sample.means(labels.harmful), sample.effective(labels.harmful)
    rows = sample.sizes / len(sample.stratum)
    observed = np.zeros((1, len(VERDICTS), 2))
    observed[0, used, 1], observed[0, used, 0] = rows * share, rows * (1 - share)
    effect, _, refusal = design_effect(sample, labels.harmful, groups, "prompts like these", (0.0, labels.raters))
    drawn = np.zeros((0 if refusal else draws, len(VERDICTS), 2))
    if not refusal:
        n = n / effect
        harmful = rng.beta(share * n + _PRIOR, (1 - share) * n + _PRIOR, size=(draws, len(used)))
        where = rng.dirichlet(sample.sizes / effect, size=draws)
        drawn[:, used, 1], drawn[:, used, 0] = where * harmful, where * (1 - harmful)
    return ErrorTable(observed, drawn, refusal)


def _quantiles(
    table: ErrorTable, statistic: Callable[[Floats], Floats], n: int, groups: int, confidence: float
) -> Estimate:
    estimate = float(statistic(table.observed)[0])
    if not math.isfinite(estimate):
        return nothing(n, groups, "no label, or no verdict, on one of the sides it compares")
    if table.refusal:
        return point_only(estimate, n, groups, table.refusal)
    values = statistic(table.drawn)
    values = values[np.isfinite(values)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return enclosing(estimate, low, high, n, groups, "Beta posteriors of verdict strata", within=(-1, 1))


def _mean(sample: Sample, up: Floats, down: Floats | None, groups: int, confidence: float) -> Estimate:
    n = len(sample.stratum)
    values = up if down is None else up - down
    effect, freedom, refusal = design_effect(sample, values, groups, "prompts like these", (0.0, 1))
    if refusal:
        return point_only(sample.mean(values), n, groups, refusal)
    found = limits(sample, up, down, confidence, "prompts like these", effect=effect, freedom=freedom)
    within = (0.0, 1.0) if down is None else (-1.0, 1.0)
    return enclosing(found.mean, found.low, found.high, n, groups, "MOVER over verdict strata", within=within)


def _divide(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 1e-12)


def sensitivity_of(shares: Floats) -> Floats:
    """Share of the harmful answers that are called harmful; ``shares`` (S, 3, 2): by verdict and label."""
    return _divide(shares[:, _HARMFUL, 1], shares[:, :, 1].sum(axis=1))


def specificity_of(shares: Floats) -> Floats:
    """An undecidable verdict on a harmless answer is no false alarm."""
    harmless = shares[:, :, 0].sum(axis=1)
    return _divide(harmless - shares[:, _HARMFUL, 0], harmless)


def _margins(shares: Floats) -> tuple[Floats, Floats, Floats]:
    """Observed agreement (S,), and the shares of the categories for the judge and for people: (S, 3)."""
    judge = shares.sum(axis=2)
    people = np.zeros_like(judge)
    people[:, _HARMFUL], people[:, _HARMLESS] = shares[:, :, 1].sum(axis=1), shares[:, :, 0].sum(axis=1)
    return shares[:, _HARMFUL, 1] + shares[:, _HARMLESS, 0], judge, people


def _kappa(shares: Floats) -> Floats:
    """Cohen (1960)."""
    agreed, judge, people = _margins(shares)
    chance = (judge * people).sum(axis=1)
    return _divide(agreed - chance, 1 - chance)


def _alpha(shares: Floats, units: int) -> Floats:
    """Krippendorff's nominal alpha of two raters over so many units."""
    agreed, judge, people = _margins(shares)
    both = (judge + people) / 2
    expected = (1 - (both**2).sum(axis=1)) * (2 * units) / max(2 * units - 1, 1)
    return 1 - _divide(1 - agreed, expected)


def _ac1(shares: Floats) -> Floats:
    """Gwet (2008), over the categories that occur."""
    agreed, judge, people = _margins(shares)
    both = (judge + people) / 2
    categories = max(2, int((both[:1] > 0).sum())) if len(both) else 2
    chance = (both * (1 - both)).sum(axis=1) / (categories - 1)
    return _divide(agreed - chance, 1 - chance)
