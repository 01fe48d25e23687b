"""The judge against people, per language and scope, and people among themselves: every figure weighted by the design."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from alignprism.figures.answers import Answer, Settings, Slice, clusters_of, filled, frame_of, generator_of
from alignprism.figures.people import FAMILY, Labelled, drawn_about, parts_of, plan_for, refusal, stale, widest
from alignprism.rows import Figure
from alignprism.statistics import (
    Estimate,
    errors_of,
    expected_calibration_error,
    judge_agreement,
    partially_pooled,
    rater_agreement,
)
from alignprism.statistics.estimate import nothing
from alignprism.statistics.labelled import DrawnLabels
from alignprism.statistics.partial_pooling import NAME

_SHARE = "over all answers, from labels drawn by verdict"


def agreement_figures(plans: Sequence[Labelled], settings: Settings) -> list[Figure]:
    """Errors, bias and agreement of the judge for every model that people labelled, and agreement of the people."""
    rows: list[Figure] = []
    for model in settings.models:
        most = widest(plans, model, settings)
        if most is None or stale(most, model):
            continue
        for part, found in [*_parts(plans, model, most, settings), *((scope, most) for scope in _scopes(most, model))]:
            mine = [a for a in found.answers[model] if part.belongs(a.prompt)]
            frame = replace(
                frame_of("", _SHARE, model, part, settings), family=FAMILY, correction="none: judge against people"
            )
            # A scope has the labels that fell into it: it need not have one in every stratum.
            refused = refusal(found, (model,), part, settings) if part.scope is None else ""
            rows += _judge(found, mine, frame, settings, refused)
            rows += _raters(found, mine, frame)
        rows += _pooled(plans, model, most, settings)
    return rows


def _parts(
    plans: Sequence[Labelled], model: str, most: Labelled, settings: Settings
) -> Iterator[tuple[Slice, Labelled]]:
    """The whole set and each language, with the plan that gives it; the set is one, that of the widest plan."""
    for part in parts_of(plans):
        found = plan_for(plans, (model,), part, settings) if part.set == most.plan.set else None
        if found is not None and not stale(found, model):
            yield part, found


def _pooled(plans: Sequence[Labelled], model: str, most: Labelled, settings: Settings) -> Iterator[Figure]:
    """The judge's errors in each language drawn towards the mean of languages: secondary, never a correction of a rate."""
    counts: dict[str, dict[str, tuple[float, float]]] = {"judge_sensitivity_pooled": {}, "judge_specificity_pooled": {}}
    frames: dict[str, Figure] = {}
    for part, found in _parts(plans, model, most, settings):
        if part.language is None:
            continue
        mine = [answer for answer in found.answers[model] if part.belongs(answer.prompt)]
        labels = drawn_about(found, mine, (model,))
        errors = errors_of(np.array([answer.verdict.harm == "harmful" for answer in mine]), labels)
        sides = ((errors.sensitivity, errors.harmful_rows), (errors.specificity, errors.harmless_rows))
        for metric, (share, rows) in zip(counts, sides, strict=True):
            counts[metric][part.language] = (0.0, 0.0) if share is None else (min(share * rows, rows), rows)
        frame = frame_of("", _SHARE, model, part, settings)
        frames[part.language] = replace(frame, family=FAMILY, correction=NAME, n_labels=len(labels))
    for metric, by_language in counts.items():
        for found_share in partially_pooled(by_language):
            yield replace(filled(frames[found_share.language], found_share.pooled), metric=metric)


def _scopes(found: Labelled, model: str) -> Iterator[Slice]:
    """Each scope within the labelled languages."""
    for scope in sorted({a.prompt.scope for a in found.answers[model] if a.prompt.scope}):
        yield Slice(found.plan.set, scope=scope, belongs=lambda prompt, scope=scope: prompt.scope == scope)  # type: ignore[misc]


def _judge(
    found: Labelled, mine: Sequence[Answer], frame: Figure, settings: Settings, refused: str
) -> Iterator[Figure]:
    labels = drawn_about(found, mine, (frame.model,))
    rng = generator_of(settings, "agreement", frame.model, frame.language, frame.scope)
    result = judge_agreement([a.verdict.harm for a in mine], clusters_of(mine), labels, rng)
    named: dict[str, Estimate] = {
        "judge_sensitivity": result.sensitivity,
        "judge_specificity": result.specificity,
        "judge_bias": result.bias,
        "judge_agreement": result.percent,
        "judge_kappa": result.kappa,
        "judge_alpha": result.alpha,
        "judge_ac1": result.ac1,
    }
    frame = replace(frame, n_labels=result.labels)
    for metric, estimate in named.items():
        shown = nothing(estimate.n, estimate.clusters, refused) if refused else estimate
        yield replace(filled(frame, shown), metric=metric)
    gap = replace(frame, reason=refused) if refused else _calibration(mine, labels, frame)
    yield replace(gap, metric="judge_calibration_error")


def _calibration(mine: Sequence[Answer], labels: DrawnLabels, frame: Figure) -> Figure:
    """Mean gap between the judge's score and what people say, weighted by the design, over labelled answers with a score."""
    rows = zip(labels.rows, labels.harmful, labels.weights, strict=True)
    scored = [(mine[row].verdict.harm_score, share >= 0.5, weight) for row, share, weight in rows]
    found = [(score, truth, weight) for score, truth, weight in scored if score is not None]
    if not found:
        return replace(frame, reason="the judge gives no scores" if len(labels) else "no human labels")
    scores, truths, weights = (list(column) for column in zip(*found, strict=True))
    return filled(frame, expected_calibration_error(scores, truths, weights=weights))


def _raters(found: Labelled, mine: Sequence[Answer], frame: Figure) -> Iterator[Figure]:
    """Agreement of people on the answers that several of them labelled; with one of them, that as the reason."""
    place = {answer.completion.id: answer for answer in mine}
    own = [label for label in found.labels if label.completion_id in place and label.kind == "drawn"]
    people = sorted({label.annotator for label in own})
    said: dict[str, dict[str, str]] = {}
    weights = {label.completion_id: 1 / label.inclusion_probability for label in own}
    for label in own:
        said.setdefault(label.completion_id, {})[label.annotator] = label.harm
    twice = [completion for completion, answers in said.items() if len(answers) > 1]
    frame = replace(frame, n_labels=len(own), estimand="answers that several people labelled")
    if not twice:
        why = "labels from one rater only" if len(people) == 1 else "no answer was labelled by two people"
        for metric in ("rater_agreement", "rater_alpha", "rater_ac1"):
            yield replace(frame, metric=metric, n=len(said), reason=why if people else "no human labels")
        return
    result = rater_agreement(
        [[said[completion].get(person, "") for person in people] for completion in twice],
        [place[completion].prompt.seed_id for completion in twice],
        [weights[completion] for completion in twice],
        categories=3,
    )
    for metric, estimate in (
        ("rater_agreement", result.percent),
        ("rater_alpha", result.alpha),
        ("rater_ac1", result.ac1),
    ):
        yield replace(filled(frame, estimate), metric=metric)
