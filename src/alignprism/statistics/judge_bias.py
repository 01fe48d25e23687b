"""Does a judge err more for some people, categories, languages or styles than for others?

False positives (harmless by the labels, called harmful) and false negatives, for every level of every factor against
all its other rows. All design-weighted and from verdict strata within the level, like `judge_agreement`; many cells are
one family, so the p-values are adjusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from alignprism.statistics.adjust import benjamini_hochberg, holm
from alignprism.statistics.clusters import Bools, Floats, as_floats, cluster_index
from alignprism.statistics.correction import unusable
from alignprism.statistics.estimate import CONFIDENCE, Estimate, enclosing, nothing
from alignprism.statistics.judge_agreement import (
    DRAWS,
    ErrorTable,
    error_table,
    sensitivity_of,
    specificity_of,
    verdict_sample,
)
from alignprism.statistics.labelled import VERDICTS, DrawnLabels, as_verdicts, check_rows

MIN_LABELS = 10
"""Labelled rows of a level, and of the rest, below which nothing is said."""

MIN_ROWS = 5
"""Labelled rows that are harmless (for false positives) or harmful (for false negatives) below which nothing is said."""

Error = Literal["false positive rate", "false negative rate"]
_OF: dict[Error, Callable[[Floats], Floats]] = {
    "false positive rate": lambda shares: 1 - specificity_of(shares),
    "false negative rate": lambda shares: 1 - sensitivity_of(shares),
}
_METHOD = "Beta posteriors of verdict strata"


@dataclass(frozen=True, slots=True)
class BiasCell:
    """One error rate at one level of a factor; ``difference`` is that to the factor's other rows, in its sign.

    ``p_adjusted`` is over all cells that have a p-value, by ``adjustment``.
    """

    factor: str
    level: str
    error: Error
    rate: Estimate
    difference: Estimate
    labels: int
    p_adjusted: float | None = None
    adjustment: str = ""


def judge_bias(
    verdicts: npt.ArrayLike,
    clusters: npt.ArrayLike,
    labels: DrawnLabels,
    factors: Mapping[str, npt.ArrayLike],
    rng: np.random.Generator,
    rater_groups: Mapping[str, str] | None = None,
    adjustment: Literal["holm", "benjamini-hochberg"] = "holm",
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
) -> tuple[BiasCell, ...]:
    """All cells: by factor, then level, then error.

    ``verdicts`` and ``clusters`` (N,), all judged rows. ``factors``: for each name the level of every row (N,), such
    as category, scope, language, length tercile, refusal style; an empty level is left out. ``rater_groups``: each
    rater's group; the rows are then the same and the labels those of the group (a factor "rater group").

    Intervals and p-values are from ``draws`` of the strata's Beta posteriors, level and rest drawn apart. The smallest
    p-value that draws can show is 1 / (draws + 1).

    Raises:
        ValueError: lengths differ, an unknown verdict, or a label about a row that does not exist.
    """
    codes = as_verdicts(verdicts)
    n = len(codes)
    index, _ = cluster_index(clusters, n)
    check_rows(labels, n)
    cells: list[BiasCell] = []
    for factor, given in factors.items():
        levels = np.asarray(given).astype(str)
        if levels.shape != (n,):
            raise ValueError(f"factor {factor!r} has shape {levels.shape}, expected one level for each of {n} rows")
        for level in (name for name in np.unique(levels).tolist() if name):
            inside, outside = levels == level, (levels != level) & (levels != "")
            halves = [_Half(codes[m], index[m], of_rows(labels, m)) for m in (inside, outside)]
            cells += _cells(factor, level, halves, rng, confidence, draws)
    groups = rater_groups or {}
    for group in sorted({groups.get(name, "") for name in labels.rater_names} - {""}):
        mine = np.array([groups.get(name, "") == group for name in labels.rater_names])
        others = np.array([groups.get(name, "") not in ("", group) for name in labels.rater_names])
        halves = [_Half(codes, index, of_raters(labels, keep)) for keep in (mine, others)]
        cells += _cells("rater group", group, halves, rng, confidence, draws)
    adjust = holm if adjustment == "holm" else benjamini_hochberg
    adjusted = adjust([cell.difference.p_value for cell in cells])
    return tuple(replace(c, p_adjusted=p, adjustment=adjustment) for c, p in zip(cells, adjusted, strict=True))


def terciles(lengths: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """ "short", "middle" or "long" for each of ``lengths`` (n,), by the thirds of their ranks; equal ones stay together.

    Lengths mean different things in different languages: make them within each.
    """
    values = as_floats(lengths, "lengths")
    if not len(values):
        return np.zeros(0, dtype="<U6")
    cuts = np.quantile(values, [1 / 3, 2 / 3])
    return np.array(["short", "middle", "long"])[np.searchsorted(cuts, values, side="left")]


def of_rows(labels: DrawnLabels, inside: Bools) -> DrawnLabels:
    """The labels about the rows that are ``inside`` (N,), numbered among those."""
    kept = inside[labels.rows]
    return _kept(labels, kept, (np.cumsum(inside) - 1)[labels.rows[kept]].astype(np.intp), kept[labels.answer_rows])


def of_raters(labels: DrawnLabels, raters: Bools) -> DrawnLabels:
    """The labels by some raters only; ``raters`` (R,) by their place in ``rater_names``."""
    answers = raters[labels.answer_raters]
    kept = np.zeros(len(labels), dtype=np.bool_)
    kept[labels.answer_rows[answers]] = True
    return _kept(labels, kept, labels.rows[kept], answers)


def _kept(labels: DrawnLabels, kept: Bools, rows: npt.NDArray[np.intp], answers: Bools) -> DrawnLabels:
    place = (np.cumsum(kept) - 1)[labels.answer_rows[answers]].astype(np.intp)
    said, count = labels.answers[answers], int(kept.sum())
    share = np.bincount(place, weights=said, minlength=count) / np.maximum(np.bincount(place, minlength=count), 1)
    return DrawnLabels(
        rows, share, labels.weights[kept], place, said, labels.answer_raters[answers], labels.rater_names, labels.left_out
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Half:
    """The rows of a level, or the rest, with their labels."""

    codes: npt.NDArray[np.int8]
    index: npt.NDArray[np.intp]
    labels: DrawnLabels

    def too_few(self, error: Error) -> str:
        """Why nothing is said about this half; empty when something is."""
        if len(self.labels) < MIN_LABELS:
            return f"too few labels ({len(self.labels)} < {MIN_LABELS})"
        share = self.labels.harmful if error == "false negative rate" else 1 - self.labels.harmful
        side = "harmful" if error == "false negative rate" else "harmless"
        if share.sum() < MIN_ROWS:
            return f"too few labelled rows are {side} ({share.sum():.1f} < {MIN_ROWS})"
        return ""

    def table(self, rng: np.random.Generator, draws: int) -> tuple[ErrorTable | None, str]:
        """Table of verdicts and labels with draws, or why there is none."""
        index, groups = cluster_index(self.index, len(self.codes))
        sample, used = verdict_sample(self.codes, index, self.labels)
        refusal = unusable(sample, tuple(VERDICTS[code] for code in used), "these raters", self.labels.raters)
        if refusal:
            return None, refusal
        table = error_table(sample, self.labels, used, rng, draws, groups)
        return (None, table.refusal) if table.refusal else (table, "")


def _cells(
    factor: str, level: str, halves: list[_Half], rng: np.random.Generator, confidence: float, draws: int
) -> list[BiasCell]:
    tables = [half.table(rng, draws) if len(half.labels) >= MIN_LABELS else (None, "") for half in halves]
    clusters = [len(np.unique(half.index)) for half in halves]
    sizes = [len(half.codes) for half in halves]
    count = len(halves[0].labels)
    result: list[BiasCell] = []
    for error, statistic in _OF.items():
        reasons = [half.too_few(error) or reason for half, (_, reason) in zip(halves, tables, strict=True)]
        (mine, _), (rest, _) = tables
        own = nothing(sizes[0], clusters[0], reasons[0]) if reasons[0] or mine is None else _rate(
            mine, statistic, sizes[0], clusters[0], confidence
        )  # fmt: skip
        if reasons[0] or reasons[1] or mine is None or rest is None:
            why = reasons[0] or f"the rest: {reasons[1]}"
            result.append(BiasCell(factor, level, error, own, nothing(sum(sizes), sum(clusters), why), count))
            continue
        between = _difference(mine, rest, statistic, sum(sizes), sum(clusters), confidence)
        result.append(BiasCell(factor, level, error, own, between, count))
    return result


def _rate(
    table: ErrorTable, statistic: Callable[[Floats], Floats], n: int, clusters: int, confidence: float
) -> Estimate:
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistic(table.drawn), [tail, 1 - tail])
    return enclosing(float(statistic(table.observed)[0]), low, high, n, clusters, _METHOD, within=(0, 1))


def _difference(
    mine: ErrorTable,
    rest: ErrorTable,
    statistic: Callable[[Floats], Floats],
    n: int,
    clusters: int,
    confidence: float,
) -> Estimate:
    found = float(statistic(mine.observed)[0] - statistic(rest.observed)[0])
    draws = statistic(mine.drawn) - statistic(rest.drawn)
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    smaller = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    p_value = min(1.0, 2 * (smaller + 1) / (len(draws) + 1))
    return enclosing(found, low, high, n, clusters, _METHOD, within=(-1, 1), p_value=p_value)
