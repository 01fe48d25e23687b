"""The paper's own measure of uncertainty (Table 3): mean and standard error of the harmful rate over repeated samples.

It says how much the rate moves from one sample of the same model to the next, not how sure it is for prompts like these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from alignprism.figures.answers import Answer, Settings, Slice, clusters_of, frame_of, harmful, values_of
from alignprism.rows import Figure
from alignprism.statistics.repeated_samples import mean_over_samples, rates_of_samples

METRIC = "harmful_rate_over_samples"


def sample_figures(answers: Mapping[str, Sequence[Answer]], settings: Settings) -> Iterator[Figure]:
    """Mean over samples with its standard error as the reason why there is no interval; nothing with one sample."""
    for model in settings.models:
        mine = [answer for answer in answers[model] if answer.prompt.set == settings.primary_set]
        samples = [answer.completion.sample for answer in mine]
        if len(set(samples)) < 2:
            continue
        found = mean_over_samples(rates_of_samples(values_of(mine, harmful), samples))
        frame = frame_of(METRIC, found.name, model, Slice(settings.primary_set), settings)
        reason = found.reason or f"standard error over {found.samples} samples: {100 * (found.sem or 0.0):.2f} points"
        counted = replace(frame, n=len(mine), clusters=len(set(clusters_of(mine))))
        yield replace(counted, estimate=found.mean, reason=reason)
