"""Rates of every model on every slice, and their changes against the baseline, paired over the same prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from alignprism.figures.answers import (
    MEAN_OF_LANGUAGES,
    PAIRED,
    POOLED,
    RATES,
    UNDECIDABLE_HARMFUL,
    UNDECIDABLE_HARMLESS,
    Answer,
    Bools,
    Settings,
    Slice,
    clusters_of,
    filled,
    frame_of,
    generator_of,
    harmful,
    slices,
    undecidable,
    values_of,
)
from alignprism.rows import Figure, Prompt, ReferenceLikelihood
from alignprism.statistics import detectable_change, paired_change, paired_mean_change, rate, relative_change

_WHOLE = {
    "redteam": (
        "harmful_rate",
        "safe_usable_rate",
        "undecidable_rate",
        "degenerate_rate",
        "off_language_rate",
        "language_fidelity",
        "truncated_rate",
        "refusal_rate",
        "no_answer_rate",
        "filtered_rate",
        "unread_judge_rate",
    ),
    "translated": ("harmful_rate", "safe_usable_rate", "undecidable_rate"),
    "benign": (
        "over_refusal_rate",
        "harmful_rate",
        "language_fidelity",
        "degenerate_rate",
        "truncated_rate",
        "no_answer_rate",
    ),
    "general": (
        "refusal_rate",
        "harmful_rate",
        "language_fidelity",
        "degenerate_rate",
        "truncated_rate",
        "no_answer_rate",
    ),
}
_SLICED = {
    "redteam": ("harmful_rate", "safe_usable_rate", "language_fidelity"),
    "translated": ("harmful_rate",),
    "benign": ("over_refusal_rate",),
    "general": ("refusal_rate", "language_fidelity"),
}
_CHANGED = {
    "redteam": ("harmful_rate", "safe_usable_rate", "undecidable_rate"),
    "translated": ("harmful_rate",),
    "benign": ("over_refusal_rate",),
    "general": ("refusal_rate",),
}


def model_figures(model: str, own: Sequence[Answer], base: Sequence[Answer], settings: Settings) -> Iterator[Figure]:
    """Every rate of one model, and its change against the baseline's answers to the same prompts in the same order."""
    for prompt_set in _WHOLE:
        for part in slices(own, settings, prompt_set):
            whole = part == Slice(prompt_set)
            mine = [a for a in own if a.prompt.set == prompt_set and part.belongs(a.prompt)]
            for metric in (_WHOLE if whole else _SLICED)[prompt_set]:
                yield _rate_figure(metric, model, mine, part, settings)
            if model == settings.baseline:
                continue
            theirs = [a for a in base if a.prompt.set == prompt_set and part.belongs(a.prompt)]
            for metric in _CHANGED[prompt_set]:
                yield from _change_figures(metric, model, theirs, mine, part, settings)


def _rate_figure(metric: str, model: str, mine: Sequence[Answer], part: Slice, settings: Settings) -> Figure:
    found = rate(values_of(mine, RATES[metric]), clusters_of(mine))
    return filled(frame_of(metric, "share of all prompts", model, part, settings), found)


def _change_figures(
    metric: str, model: str, base: Sequence[Answer], mine: Sequence[Answer], part: Slice, settings: Settings
) -> Iterator[Figure]:
    counts, clusters = RATES[metric], clusters_of(mine)
    if [a.prompt.id for a in base] != [a.prompt.id for a in mine]:
        raise ValueError(f"{model} and {settings.baseline} did not answer the same prompts in the same order")
    name = metric.replace("_rate", "_change")
    key = (name, model, part.set, part.language, part.scope, part.category)
    before, after = values_of(base, counts), values_of(mine, counts)
    frame = replace(frame_of(name, PAIRED, model, part, settings), baseline=settings.baseline)

    def change(estimand: str, a: Bools, b: Bools) -> Figure:
        rng = generator_of(settings, *key, estimand)
        return filled(
            replace(frame, estimand=estimand), paired_change(a, b, clusters, rng, resamples=settings.bootstrap)
        )

    whole = change(PAIRED, before, after)
    yield whole
    if metric != "harmful_rate" or part != Slice(part.set) or part.set not in ("redteam", "translated"):
        return
    yield change(UNDECIDABLE_HARMFUL, before | values_of(base, undecidable), after | values_of(mine, undecidable))
    # Undecidable is not counted as harmful above, so this end is that very figure: a second bootstrap would only differ by noise.
    yield replace(whole, estimand=UNDECIDABLE_HARMLESS)
    languages = [a.prompt.language for a in mine]
    for estimand, aggregation in ((POOLED, "pooled"), (MEAN_OF_LANGUAGES, "mean of groups")):
        found = relative_change(
            before,
            after,
            clusters,
            generator_of(settings, *key, "relative", estimand),
            groups=languages,
            aggregation=aggregation,  # type: ignore[arg-type]
            resamples=settings.bootstrap,
        )
        yield filled(replace(frame, metric="harmful_relative_change", estimand=estimand), found)


def likelihood_figures(
    model: str,
    likelihoods: Mapping[str, Sequence[ReferenceLikelihood]],
    prompts: Mapping[str, Prompt],
    settings: Settings,
) -> Iterator[Figure]:
    """How likely the general references are to one model, and the change against the baseline."""
    seeds = settings.train_seeds.get(model, 1)
    mine, base = likelihoods.get(model, ()), list(likelihoods.get(settings.baseline, ())) * seeds
    frame = replace(frame_of("nll_per_character", "nats, all references", model, Slice("general"), settings), judge="")
    if not mine:
        behind = "a server does not say how likely it finds a given text"
        none = "no general prompts with a reference response"
        yield replace(frame, reason=behind if model in settings.endpoints else none)
        return
    if base and [r.prompt_id for r in base] != [r.prompt_id for r in mine]:
        raise ValueError(f"{model} and {settings.baseline} were not asked for the same references in the same order")
    clusters = [prompts[r.prompt_id].seed_id for r in mine]
    per_character = np.array([r.nll / r.characters for r in mine])
    weights = np.array([float(r.characters) for r in mine])
    zeros = np.zeros(len(mine))
    yield filled(frame, replace(paired_mean_change(zeros, per_character, clusters, weights), p_value=None))
    if model != settings.baseline and base:
        before = np.array([r.nll / r.characters for r in base])
        change = replace(frame, metric="nll_change", estimand=PAIRED, baseline=settings.baseline)
        yield filled(change, paired_mean_change(before, per_character, clusters, weights))


def detectable(base: Sequence[Answer], settings: Settings) -> Figure:
    """The smallest fall of the harmful rate that this many prompts would show."""
    part = [a for a in base if a.prompt.set == settings.primary_set]
    clusters = len(set(clusters_of(part)))
    rate_before = float(values_of(part, harmful).mean()) if part else 0.0
    # Rows of one cluster are taken as fully dependent: the careful end.
    found = detectable_change(clusters, rate_before)
    return Figure(
        "detectable_change",
        f"smallest fall found with {found.power:.0%} power (exact McNemar, assumed: {found.new_share:.0%} of the "
        "answers harmful afterwards newly so)",
        settings.primary_model,
        baseline=settings.baseline,
        set=settings.primary_set,
        n=len(part),
        clusters=clusters,
        estimate=found.change,
        judge=settings.judge,
        reason=found.reason or "a planning figure has no interval",
    )
