"""The bodies of the pipeline's stages: each reads earlier outputs and writes its own, whole or not at all."""

from alignprism.stages.context import (
    DECODE_TOKENS_PER_SECOND,
    JUDGE_ROWS_PER_SECOND,
    LIKELIHOODS_PER_SECOND,
    TRAIN_TOKENS_PER_SECOND,
    Cell,
    Context,
    Counts,
    arm_stage,
    arm_study,
    arms_of,
    cells_of,
    training_prompts,
    training_settings,
)
from alignprism.stages.data import make_pairs, sample_candidates, write_prompts
from alignprism.stages.engines import taught_name
from alignprism.stages.evaluate import complete, judge_completions
from alignprism.stages.results import write_report, write_results
from alignprism.stages.train import merge_cell, teach, train_cell

__all__ = [
    "DECODE_TOKENS_PER_SECOND",
    "JUDGE_ROWS_PER_SECOND",
    "LIKELIHOODS_PER_SECOND",
    "TRAIN_TOKENS_PER_SECOND",
    "Cell",
    "Context",
    "Counts",
    "arm_stage",
    "arm_study",
    "arms_of",
    "cells_of",
    "complete",
    "judge_completions",
    "make_pairs",
    "merge_cell",
    "sample_candidates",
    "taught_name",
    "teach",
    "train_cell",
    "training_prompts",
    "training_settings",
    "write_prompts",
    "write_report",
    "write_results",
]
