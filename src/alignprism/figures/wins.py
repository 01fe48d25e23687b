"""Win rates of every model against the baseline on the general prompts, and strengths where there are more than two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alignprism.figures.answers import Settings
from alignprism.judging.win_rates import TIES_HALF, Judged, pairwise_figures
from alignprism.rows import Figure

SET = "general"
_OWN_NAMES = {"undecidable_rate": "undecidable_comparisons"}
"""Metrics that would be mistaken for those of completions on the same prompts."""


def win_figures(
    games: Mapping[str, Sequence[Judged]], settings: Settings, judge: str | None, seeds: Mapping[str, Sequence[str]]
) -> list[Figure]:
    """Every figure of the pairwise judge; without one, a win rate with that reason for every model.

    `games` are by evaluated model (the baseline has none); `seeds` names the cells of each method that was trained with
    several seeds: its games are theirs end to end, and it is in no ranking beside them.
    """
    others = [model for model in settings.models if model != settings.baseline]
    if judge is None:
        return [_none(model, settings, "no pairwise judge is configured (judges.pairwise)") for model in others]
    single = [row for model in others if model not in seeds for row in games.get(model, ())]
    found = _named(pairwise_figures(single, judge, settings.bootstrap, settings.seed)) if single else []
    for method, cells in seeds.items():
        rows = [_as(row, method) for cell in cells for row in games.get(cell, ())]
        if rows:
            pooled = _named(pairwise_figures(rows, judge, settings.bootstrap, settings.seed))
            found += [replace(row, train_seeds=settings.train_seeds.get(method, 1)) for row in pooled]
    there = {row.model for row in found}
    return found + [_none(model, settings, "no general prompts", judge) for model in others if model not in there]


def _as(row: Judged, method: str) -> Judged:
    return replace(row, matchup=replace(row.matchup, model_b=method))


def _named(rows: Sequence[Figure]) -> list[Figure]:
    return [replace(row, set=SET, metric=_OWN_NAMES.get(row.metric, row.metric)) for row in rows]


def _none(model: str, settings: Settings, why: str, judge: str = "") -> Figure:
    return Figure(
        "win_rate", TIES_HALF, model, baseline=settings.baseline, set=SET, judge=judge, reason=f"not given: {why}"
    )
