"""Rates and changes as people see them: from labels drawn by a plan, alone and as a correction of the judge.

What the judge says alone stands in the figures without a correction; here are, for the same slices, ``human only``,
``corrected`` (verdict-stratified, the headline), ``PPI++`` and ``Rogan-Gladen``. A figure uses the labels of one plan,
because labels of two plans were drawn with different probabilities: of the newest that can give the slice (`plan_for`).
Labels come back one language, or half a sheet, at a time. A figure is given once every stratum of every language in its
slice has a label; until then it is refused with the reason, because what is there speaks for its own strata alone.
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
from alignprism.statistics.estimate import nothing
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
        for part in parts_of(plans):
            if (of_model := plan_for(plans, (model,), part, settings)) is not None:
                rows += _rate(of_model, model, part, settings)
        for part in parts_of(plans) if model != settings.baseline else ():
            if (of_change := plan_for(plans, (settings.baseline, model), part, settings)) is not None:
                rows += _change(of_change, model, part, settings)
    return [replace(row, family=FAMILY) for row in rows]


def parts_of(plans: Sequence[Labelled]) -> Iterator[Slice]:
    """The whole, and each language that something was drawn from, of each set that something was drawn from."""
    for name in dict.fromkeys(found.plan.set for found in plans):
        yield Slice(name)
        for code in dict.fromkeys(code for found in plans if found.plan.set == name for code in found.plan.languages):
            yield Slice(name, language=code, belongs=lambda prompt, code=code: prompt.language == code)  # type: ignore[misc]


def plan_for(plans: Sequence[Labelled], models: tuple[str, ...], part: Slice, settings: Settings) -> Labelled | None:
    """The plan whose labels give a slice: one model's rate, or the change from the first to the second.

    The newest that can give it; where none can, the newest that drew from all of its languages, or else from some of them,
    so that there is a figure that says what is missing. Topping up one language leaves the others with the plan they had.
    """
    fitting = [
        found
        for found in plans
        if found.labels
        and found.plan.set == part.set
        and (found.plan.models == models if len(models) > 1 else models[0] in found.plan.models)
        and part.language in (None, *found.plan.languages)
    ]
    able = [found for found in fitting if not refusal(found, models, part, settings)]
    covering = [found for found in fitting if set(_languages(part, settings)) <= set(found.plan.languages)]
    return next(reversed(able or covering or fitting), None)


def widest(plans: Sequence[Labelled], model: str, settings: Settings) -> Labelled | None:
    """The plan for figures over all labelled languages of a model: on the primary set, where people labelled that."""
    sets = sorted({found.plan.set for found in plans}, key=lambda name: name != settings.primary_set)
    chosen = (plan_for(plans, (model,), Slice(name), settings) for name in sets)
    return next((found for found in chosen if found is not None), None)


def refusal(found: Labelled, models: tuple[str, ...], part: Slice, settings: Settings) -> str:
    """Why a plan's labels do not give a slice yet; empty where they do.

    What has no label has no part in what people say: the labels of English alone would be given as those of all languages.
    """
    for model in models:
        if reason := stale(found, model):
            return reason
    outside = [code for code in _languages(part, settings) if code not in found.plan.languages]
    if outside:
        return f"label plan {found.plan.id} drew nothing in {', '.join(outside)}: plan all tested languages together"
    cells = _cells(found, models, part)
    have = {language for (language, _), cell in cells.items() if cell.labelled}
    if not have:
        return "no human labels"
    without = [code for code in dict.fromkeys(language for language, _ in cells) if code not in have]
    if without:
        return f"no labels yet in {', '.join(without)}"
    empty = [f"{code}: {name} ({cell.rows} rows)" for (code, name), cell in cells.items() if not cell.labelled]
    return f"no labels in stratum {', '.join(empty)}" if empty else ""


def _languages(part: Slice, settings: Settings) -> tuple[str, ...]:
    return settings.languages if part.language is None else (part.language,)


@dataclass(slots=True)
class _Cell:
    """One stratum in one language: its rows, those that a plan drew, and those with a label on every model's answer."""

    rows: int = 0
    drawn: int = 0
    labelled: int = 0


def _cells(found: Labelled, models: tuple[str, ...], part: Slice | None = None) -> dict[tuple[str, str], _Cell]:
    """What a plan drew its labels from, by language and stratum, and how much of it came back. Not for stale plans."""
    drawn = {item.completion_id for item in found.plan.items}
    there = _labelled_completions(found)
    cells: dict[tuple[str, str], _Cell] = {}
    for row in zip(*(found.answers[model] for model in models), strict=True):
        if part is None or part.belongs(row[0].prompt):
            cell = cells.setdefault(_cell_of(found, row[0]), _Cell())
            cell.rows += 1
            cell.drawn += row[0].completion.id in drawn
            cell.labelled += all(answer.completion.id in there for answer in row)
    return cells


def _cell_of(found: Labelled, answer: Answer) -> tuple[str, str]:
    return answer.prompt.language, found.plan.population[answer.completion.id]


def _labelled_completions(found: Labelled) -> set[str]:
    return {label.completion_id for label in found.labels if label.kind == "drawn"}


def drawn_about(found: Labelled, answers: Sequence[Answer], models: tuple[str, ...]) -> DrawnLabels:
    """The labels about some answers of one of the models. A person who could not tell did not call the answer harmful.

    Only prompts whose answers of all `models` are labelled. The labels of a stratum that came back are read as a draw by
    chance among those drawn, so that the probability is that of both; a finished sheet leaves it as it was drawn.
    """
    place = {answer.completion.id: number for number, answer in enumerate(answers)}
    there, cells = _labelled_completions(found), _cells(found, models)
    back: dict[str, float] = {}
    for row in zip(*(found.answers[model] for model in models), strict=True):
        if all(answer.completion.id in there for answer in row):
            cell = cells[_cell_of(found, row[0])]
            back |= {answer.completion.id: cell.labelled / cell.drawn for answer in row}
    own = [
        label
        for label in found.labels
        if label.completion_id in place and (label.kind != "drawn" or label.completion_id in back)
    ]
    return drawn_labels(
        [place[label.completion_id] for label in own],
        [label.harm == "harmful" for label in own],
        [label.inclusion_probability * back.get(label.completion_id, 1.0) for label in own],
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
    labels, verdicts, clusters = drawn_about(found, mine, (model,)), [a.verdict.harm for a in mine], clusters_of(mine)
    result = corrected_rate(verdicts, clusters, labels, strata)
    reason = refusal(found, (model,), part, settings)
    ways = {HUMAN_ONLY: result.human_only, CORRECTED: result.corrected, PPI: result.ppi}
    ways[ROGAN_GLADEN] = result.rogan_gladen
    yield from _each_way(frame, ways, result.estimand, result.labels, reason)
    if result.raters >= MIN_RATERS:
        such = corrected_rate(verdicts, clusters, labels, strata, whose="such raters")
        yield from _each_way(frame, {SUCH_RATERS: such.corrected}, such.estimand, such.labels, reason)


def _change(found: Labelled, model: str, part: Slice, settings: Settings) -> Iterator[Figure]:
    models = (settings.baseline, model)
    base, mine = ([answer for answer in found.answers[name] if part.belongs(answer.prompt)] for name in models)
    frame = replace(frame_of("harmful_change", PAIRED, model, part, settings), baseline=settings.baseline)
    if reason := stale(found, settings.baseline) or stale(found, model):
        yield replace(frame, correction=CORRECTED, reason=reason)
        return
    # The strata of a change are the joint verdicts, over all languages: as many again for each language would hold a label
    # or two each. The weights carry the languages, so that the estimate is that of strata by language.
    result = corrected_change(
        [a.verdict.harm for a in base],
        [a.verdict.harm for a in mine],
        clusters_of(mine),
        drawn_about(found, base, models),
        drawn_about(found, mine, models),
        generator_of(settings, "corrected", model, part.set, part.language),
    )
    reason = refusal(found, models, part, settings)
    ways = {HUMAN_ONLY: result.human_only, CORRECTED: result.corrected, PPI: result.ppi}
    yield from _each_way(frame, ways, result.estimand, result.labels, reason)
    relative = replace(frame, metric="harmful_relative_change", estimand="pooled")
    ways = {HUMAN_ONLY: result.relative_human_only, CORRECTED: result.relative_corrected}
    yield from _each_way(relative, ways, result.estimand, result.labels, reason)


def _each_way(
    frame: Figure, ways: Mapping[str, Estimate], whose: str, labels: int, refused: str = ""
) -> Iterator[Figure]:
    """One figure for each way; where the slice is `refused`, none of them has a number."""
    for correction, estimate in ways.items():
        shown = nothing(estimate.n, estimate.clusters, refused) if refused else estimate
        row = replace(filled(frame, shown), correction=correction, n_labels=labels)
        yield replace(row, estimand=f"{frame.estimand}, {whose}")
