"""Which figures are tested together, and their p-values adjusted within each family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alignprism.figures.answers import PAIRED, Settings
from alignprism.rows import Figure
from alignprism.statistics import benjamini_hochberg, holm

_SECONDARY = {
    ("harmful_change", "redteam"),
    ("harmful_change", "translated"),
    ("safe_usable_change", "redteam"),
    ("over_refusal_change", "benign"),
    ("refusal_change", "general"),
    ("nll_change", "general"),
}


def with_family(row: Figure, settings: Settings) -> Figure:
    """The figure with its family: the primary endpoint, what was named before, or (as it is) exploratory."""
    whole = row.language is None and row.scope is None and row.category is None
    tested = whole and row.estimand == PAIRED and row.correction.startswith("none")
    if (
        tested
        and row.metric == "harmful_change"
        and row.model == settings.primary_model
        and row.set == settings.primary_set
    ):
        return replace(row, family="primary")
    if tested and (row.metric, row.set) in _SECONDARY:
        return replace(row, family="secondary")
    return row


def adjusted(rows: Sequence[Figure]) -> list[Figure]:
    """Holm within the secondary family, Benjamini-Hochberg within the exploratory one, as each is meant to be read."""
    result = list(rows)
    for family, adjust in (("primary", holm), ("secondary", holm), ("exploratory", benjamini_hochberg)):
        places = [i for i, row in enumerate(result) if row.family == family]
        for place, value in zip(places, adjust([result[i].p for i in places]), strict=True):
            result[place] = replace(result[place], p_adjusted=value)
    return result


def find(
    rows: Sequence[Figure],
    metric: str,
    model: str,
    prompt_set: str,
    estimand: str | None = None,
    correction: str = "none",
) -> Figure:
    """The whole-set figure of a metric, as the judge says it unless a `correction` is named; a missing one is a figure
    with a reason."""
    for row in rows:
        whole = row.language is None and row.scope is None and row.category is None
        same = (row.metric, row.model, row.set) == (metric, model, prompt_set)
        if whole and same and estimand in (None, row.estimand) and row.correction.startswith(correction):
            return row
    return Figure(metric, estimand or "", model, set=prompt_set, reason="not measured in this run")
