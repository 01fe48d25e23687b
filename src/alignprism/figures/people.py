"""Rates and changes as people see them: from labels drawn by a plan, alone and as a correction of the judge.

What the judge says alone stands in the figures without a correction; here are, for the same slices, ``human only``,
``corrected`` (verdict-stratified, the headline), ``PPI++`` and ``Rogan-Gladen``. A figure uses the labels of the newest
plan that covers its models: labels of two plans were drawn with different probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from alignprism.figures.answers import PAIRED, Answer, Settings, Slice, clusters_of, filled, frame_of, generator_of
from alignprism.labels.plan import LabelPlan
from alignprism.rows import Figure, Label
from alignprism.statistics import MIN_RATERS, Estimate
from alignprism.statistics.correction import corrected_rate
from alignprism.statistics.correction_change import corrected_change
from alignprism.statistics.labelled import DrawnLabels, drawn_labels

HUMAN_ONLY = "human only"
CORRECTED = "corrected"
PPI = "PPI++"
ROGAN_GLADEN = "Rogan-Gladen"
SUCH_RATERS = "such raters: corrected"
"""The same rate as others like the plan's raters would see it: raters are a sample too. Given from four raters on."""
JUDGE_ONLY = "none: judge only"
FAMILY = "human labels"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A plan with the labels that came back, and the answers of its models that they are about."""

    plan: LabelPlan
    labels: tuple[Label, ...]
    answers: Mapping[str, Sequence[Answer]]


def newest(plans: Sequence[Labelled], model: str, baseline: str | None = None) -> Labelled | None:
    """The newest plan with labels that covers a model, or a change from the baseline to it."""
    wanted = (model,) if baseline is None else (baseline, model)
    fitting = [
        found
        for found in plans
        if found.labels and (model in found.plan.models if baseline is None else found.plan.models == wanted)
    ]
    return fitting[-1] if fitting else None


def labelled(
    plans: Sequence[LabelPlan], labels: Sequence[Label], answers: Mapping[str, Sequence[Answer]]
) -> list[Labelled]:
    """Each plan with its labels. A label counts for every plan that drew its completion, whichever sheet it came on."""
    found = []
    for plan in plans:
        drawn = {item.completion_id: item for item in plan.items}
        own = tuple(
            replace(label, inclusion_probability=drawn[label.completion_id].probability)
            for label in labels
            if label.completion_id in drawn
        )
        # Where one of the plan's models gave no answer there is nothing to label: the prompt is in no plan, and in no figure
        # of people, for none of them.
        unanswered = {
            (answer.prompt.id, answer.completion.sample)
            for model in plan.models
            for answer in answers.get(model, ())
            if answer.completion.failure
        }
        rows = {
            model: [
                answer
                for answer in answers.get(model, ())
                if answer.prompt.set == plan.set
                and answer.prompt.language in plan.languages
                and (answer.prompt.id, answer.completion.sample) not in unanswered
            ]
            for model in plan.models
        }
        found.append(Labelled(plan, own, rows))
    return found


def stale(found: Labelled, model: str) -> str:
    """Why the labels of a plan say nothing about a model's present answers; empty where they do."""
    changed = sum(answer.completion.id not in found.plan.population for answer in found.answers[model])
    if changed:
        return f"{changed} completions of {model} were made after label plan {found.plan.id}: draw and label again"
    return ""


def people_figures(plans: Sequence[Labelled], settings: Settings) -> list[Figure]:
    """Corrected rates of every model and corrected changes against the baseline, overall and in each labelled language."""
    rows: list[Figure] = []
    for model in settings.models:
        if (of_model := newest(plans, model)) is not None:
            for part in parts_of(of_model, settings):
                rows += _rate(of_model, model, part, settings)
        of_change = newest(plans, model, settings.baseline) if model != settings.baseline else None
        if of_change is not None:
            for part in parts_of(of_change, settings):
                rows += _change(of_change, model, part, settings)
    return [replace(row, family=FAMILY) for row in rows]


def parts_of(found: Labelled, settings: Settings) -> Iterator[Slice]:
    """The whole set (only where every tested language is labelled) and each labelled language."""
    if set(found.plan.languages) >= set(settings.languages):
        yield Slice(found.plan.set)
    for code in found.plan.languages:
        yield Slice(found.plan.set, language=code, belongs=lambda prompt, code=code: prompt.language == code)  # type: ignore[misc]


def drawn_about(found: Labelled, answers: Sequence[Answer]) -> DrawnLabels:
    """The labels about some answers. A person who could not tell did not call the answer harmful."""
    place = {answer.completion.id: number for number, answer in enumerate(answers)}
    own = [label for label in found.labels if label.completion_id in place]
    return drawn_labels(
        [place[label.completion_id] for label in own],
        [label.harm == "harmful" for label in own],
        [label.inclusion_probability for label in own],
        [label.annotator for label in own],
        [label.kind for label in own],
    )


def _rate(found: Labelled, model: str, part: Slice, settings: Settings) -> Iterator[Figure]:
    mine = [answer for answer in found.answers[model] if part.belongs(answer.prompt)]
    frame = frame_of("harmful_rate", "share of all prompts", model, part, settings)
    if reason := stale(found, model):
        yield replace(frame, correction=CORRECTED, reason=reason)
        return
    strata = [f"{a.prompt.language}: {found.plan.population[a.completion.id]}" for a in mine]
    result = corrected_rate([a.verdict.harm for a in mine], clusters_of(mine), drawn_about(found, mine), strata)
    ways = {HUMAN_ONLY: result.human_only, CORRECTED: result.corrected, PPI: result.ppi}
    ways[ROGAN_GLADEN] = result.rogan_gladen
    yield from _each_way(frame, ways, result.estimand, result.labels)
    if result.raters >= MIN_RATERS:
        such = corrected_rate(
            [a.verdict.harm for a in mine], clusters_of(mine), drawn_about(found, mine), strata, whose="such raters"
        )
        yield from _each_way(frame, {SUCH_RATERS: such.corrected}, such.estimand, such.labels)


def _change(found: Labelled, model: str, part: Slice, settings: Settings) -> Iterator[Figure]:
    base, mine = (
        [answer for answer in found.answers[name] if part.belongs(answer.prompt)] for name in found.plan.models
    )
    frame = replace(frame_of("harmful_change", PAIRED, model, part, settings), baseline=settings.baseline)
    if reason := stale(found, settings.baseline) or stale(found, model):
        yield replace(frame, correction=CORRECTED, reason=reason)
        return
    result = corrected_change(
        [a.verdict.harm for a in base],
        [a.verdict.harm for a in mine],
        clusters_of(mine),
        drawn_about(found, base),
        drawn_about(found, mine),
        generator_of(settings, "corrected", model, part.set, part.language),
    )
    ways = {HUMAN_ONLY: result.human_only, CORRECTED: result.corrected, PPI: result.ppi}
    yield from _each_way(frame, ways, result.estimand, result.labels)
    relative = replace(frame, metric="harmful_relative_change", estimand="pooled")
    ways = {HUMAN_ONLY: result.relative_human_only, CORRECTED: result.relative_corrected}
    yield from _each_way(relative, ways, result.estimand, result.labels)


def _each_way(frame: Figure, ways: Mapping[str, Estimate], whose: str, labels: int) -> Iterator[Figure]:
    for correction, estimate in ways.items():
        row = replace(filled(frame, estimate), correction=correction, n_labels=labels)
        yield replace(row, estimand=f"{frame.estimand}, {whose}")
