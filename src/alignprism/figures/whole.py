"""All figures of a run in one list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from alignprism.figures.answers import Answer, Settings, repeated
from alignprism.figures.families import adjusted, with_family
from alignprism.figures.rates import detectable, likelihood_figures, model_figures
from alignprism.rows import Figure, Prompt, ReferenceLikelihood


def figures(
    answers: Mapping[str, Sequence[Answer]],
    likelihoods: Mapping[str, Sequence[ReferenceLikelihood]],
    prompts: Mapping[str, Prompt],
    settings: Settings,
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
    rows: list[Figure] = []
    for model in settings.models:
        own, base = answers[model], repeated(answers[settings.baseline], settings.train_seeds.get(model, 1))
        rows += model_figures(model, own, base, settings)
        rows += likelihood_figures(model, likelihoods, prompts, settings)
    rows += _win_rates(settings)
    rows.append(detectable(answers[settings.baseline], settings))
    return adjusted([with_family(row, settings) for row in rows])


def _win_rates(settings: Settings) -> Iterator[Figure]:
    for model in settings.models:
        if model != settings.baseline:
            yield Figure(
                "win_rate",
                "ties half",
                model,
                baseline=settings.baseline,
                set="general",
                reason="not given: no pairwise judge is configured (judges.pairwise)",
            )
