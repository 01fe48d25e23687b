"""All figures of a run in one list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from alignprism.figures.agreement import agreement_figures
from alignprism.figures.answers import Answer, Settings, repeated
from alignprism.figures.families import adjusted, with_family
from alignprism.figures.judge_bias import judge_bias_figures
from alignprism.figures.over_optimisation import gap_figures
from alignprism.figures.people import JUDGE_ONLY, Labelled, people_figures
from alignprism.figures.rates import detectable, likelihood_figures, model_figures
from alignprism.figures.samples import sample_figures
from alignprism.figures.wins import win_figures
from alignprism.judging.win_rates import Judged
from alignprism.rows import Figure, Prompt, ReferenceLikelihood


@dataclass(frozen=True)
class Further:
    """What a run may have beside completions and verdicts of the evaluation judge; each part may be empty.

    ``games``: comparisons with the baseline, by model. ``preferred``: the same answers with the preference judge's
    verdicts. ``people``: label plans with their labels. ``translations``: figures of that task. ``seeds``: the cells of each method with several training seeds.
    """

    pairwise_judge: str | None = None
    games: Mapping[str, Sequence[Judged]] = field(default_factory=dict)
    preference_judge: str = ""
    preferred: Mapping[str, Sequence[Answer]] = field(default_factory=dict)
    people: Sequence[Labelled] = ()
    translations: Sequence[Figure] = ()
    seeds: Mapping[str, Sequence[str]] = field(default_factory=dict)


def figures(
    answers: Mapping[str, Sequence[Answer]],
    likelihoods: Mapping[str, Sequence[ReferenceLikelihood]],
    prompts: Mapping[str, Prompt],
    settings: Settings,
    further: Further | None = None,
) -> list[Figure]:
    """All figures of a run, families marked and p-values adjusted within them.

    Parameters
    ----------
    answers
        per model, in the same prompt order for every model of one training seed count.
    likelihoods
        per model, of the general references.
    prompts
        every prompt by id.
    """
    more = further or Further()
    rows: list[Figure] = []
    for model in settings.models:
        own, base = answers[model], repeated(answers[settings.baseline], settings.train_seeds.get(model, 1))
        rows += model_figures(model, own, base, settings)
        rows += likelihood_figures(model, likelihoods, prompts, settings)
    rows += win_figures(more.games, settings, more.pairwise_judge, more.seeds)
    rows += gap_figures(answers, more.preferred, settings, more.preference_judge)
    rows += more.translations
    rows += sample_figures(answers, settings)
    rows.append(detectable(answers[settings.baseline], settings))
    people = people_figures(more.people, settings)
    beside = {_place(row) for row in people}
    rows = [replace(row, correction=JUDGE_ONLY) if _place(row) in beside else row for row in rows]
    agreement = [*agreement_figures(more.people, settings), *judge_bias_figures(more.people, settings)]
    return [*adjusted([with_family(row, settings) for row in rows]), *people, *agreement]


def _place(row: Figure) -> tuple[object, ...]:
    """What a figure is about, however it was corrected."""
    return row.metric, row.model, row.set, row.language, row.scope, row.category
