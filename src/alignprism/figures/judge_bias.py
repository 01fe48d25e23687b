"""Where the judge errs more: by language, scope, category, length, kind of refusal and group of raters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from alignprism.figures.answers import Answer, Settings, Slice, clusters_of, filled, frame_of, generator_of
from alignprism.figures.people import FAMILY, Labelled, drawn_about, stale, widest
from alignprism.rows import Figure
from alignprism.statistics.judge_bias import BiasCell, judge_bias, terciles

RATE = "judge_error_rate"
DIFFERENCE = "judge_error_difference"


def judge_bias_figures(plans: Sequence[Labelled], settings: Settings) -> list[Figure]:
    """False positives and false negatives at every level of every factor, and how they differ from the other levels.

    ``estimand`` reads ``ERROR; FACTOR: LEVEL``. One family per model: p-values are adjusted over all its cells (Holm).
    """
    rows: list[Figure] = []
    for model in settings.models:
        found = widest(plans, model, settings)
        if found is None or stale(found, model):
            continue
        mine = found.answers[model]
        groups = {label.annotator: label.group for label in found.labels if label.group}
        cells = judge_bias(
            [a.verdict.harm for a in mine],
            clusters_of(mine),
            drawn_about(found, mine, (model,)),
            _factors(mine),
            generator_of(settings, "judge bias", model),
            groups,
        )
        frame = replace(frame_of("", "", model, Slice(found.plan.set), settings), family=FAMILY)
        rows += [row for cell in cells for row in _cell(cell, replace(frame, correction="none: judge against people"))]
    return rows


def _factors(mine: Sequence[Answer]) -> Mapping[str, Sequence[str]]:
    lengths = np.array([len(a.completion.text) for a in mine], dtype=np.float64)
    return {
        "language": [a.prompt.language for a in mine],
        "scope": [a.prompt.scope or "" for a in mine],
        "category": [a.prompt.categories[0] if a.prompt.categories else "" for a in mine],
        "length": terciles(lengths).tolist() if len(mine) else [],
        "refusal": [a.verdict.refusal for a in mine],
    }


def _cell(cell: BiasCell, frame: Figure) -> Iterator[Figure]:
    about = replace(frame, estimand=f"{cell.error}; {cell.factor}: {cell.level}", n_labels=cell.labels)
    yield replace(filled(about, cell.rate), metric=RATE, p=None)
    yield replace(filled(about, cell.difference), metric=DIFFERENCE, p_adjusted=cell.p_adjusted)
