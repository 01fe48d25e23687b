"""Over-optimisation: whether the judge that chose the training pairs sees more improvement than the one that did not.

The preference judge scores the test completions too. Training that pleases it more than it helps shows as a gap between
the two judges' changes on the same prompts (Goodhart; Gao et al. 2022, arXiv 2210.10760, for reward models).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from alignprism.figures.answers import (
    PAIRED,
    Answer,
    Settings,
    Slice,
    clusters_of,
    filled,
    frame_of,
    generator_of,
    harmful,
    repeated,
    values_of,
)
from alignprism.rows import Figure
from alignprism.statistics import paired_change, paired_mean_change, rate

RATE = "preference_judge_harmful_rate"
CHANGE = "preference_judge_harmful_change"
GAP = "over_optimisation_gap"
_GAP_ESTIMAND = "change by the evaluation judge less change by the preference judge"


def gap_figures(
    evaluated: Mapping[str, Sequence[Answer]],
    preferred: Mapping[str, Sequence[Answer]],
    settings: Settings,
    judge: str,
) -> Iterator[Figure]:
    """The preference judge's rates and changes on the primary set, and how they differ from the evaluation judge's.

    Both mappings hold the same answers in the same order; in `preferred` the verdicts are the preference judge's.
    """
    whole = Slice(settings.primary_set)
    for model in settings.models:
        if model not in preferred:
            continue
        theirs, ours = (_of_set(rows[model], settings) for rows in (preferred, evaluated))
        frame = replace(frame_of(RATE, "share of all prompts", model, whole, settings), judge=judge)
        yield filled(frame, rate(values_of(theirs, harmful), clusters_of(theirs)))
        if model == settings.baseline:
            continue
        times = settings.train_seeds.get(model, 1)
        base_theirs, base_ours = (
            repeated(_of_set(rows[settings.baseline], settings), times) for rows in (preferred, evaluated)
        )
        before, after = values_of(base_theirs, harmful), values_of(theirs, harmful)
        clusters = clusters_of(theirs)
        frame = replace(frame, metric=CHANGE, estimand=PAIRED, baseline=settings.baseline)
        rng = generator_of(settings, CHANGE, model)
        yield filled(frame, paired_change(before, after, clusters, rng, resamples=settings.bootstrap))
        by_preference = after.astype(np.float64) - before
        by_evaluation = values_of(ours, harmful).astype(np.float64) - values_of(base_ours, harmful)
        frame = replace(frame, metric=GAP, estimand=_GAP_ESTIMAND, judge=f"{settings.judge} less {judge}")
        yield filled(frame, paired_mean_change(by_preference, by_evaluation, clusters))


def _of_set(answers: Sequence[Answer], settings: Settings) -> list[Answer]:
    return [answer for answer in answers if answer.prompt.set == settings.primary_set]
