"""What a study comes to: its stages in the order in which they run, each with its settings, inputs and size.

Data goes one way: every stage reads the outputs of the stages it names. A stage's key is a hash over its settings and over
the bytes of its inputs (see `alignprism.pipeline.stage_key`).
"""

from __future__ import annotations

from collections.abc import Iterator

from alignprism import stages
from alignprism.layout.data import data_stages
from alignprism.layout.evaluation import evaluation_stages, figure_stages
from alignprism.layout.plan import Plan, Stage
from alignprism.layout.training import training_stages

__all__ = ["Plan", "Stage", "all_stages", "figure_stages"]


def all_stages(layout: Plan) -> Iterator[Stage]:
    """All stages of a study in the order in which they run."""
    count = stages.Counts.of(layout.study, layout.prompts)
    yield from data_stages(layout, count)
    yield from training_stages(layout, count)
    yield from evaluation_stages(layout, count)
    yield from figure_stages(layout.study, layout.run, {role: entry.digest for role, entry in layout.judges.items()})
