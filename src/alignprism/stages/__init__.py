"""The bodies of the pipeline's stages: each reads earlier outputs and writes its own, whole or not at all."""

from alignprism.stages.compare import compare
from alignprism.stages.context import (
    Cell,
    Context,
    arm_stage,
    arm_study,
    arms_of,
    cells_of,
    dev_prompts,
    evaluated_models,
    evaluated_prompts,
    training_prompts,
    training_settings,
    tried,
)
from alignprism.stages.data import make_pairs, sample_candidates
from alignprism.stages.engines import taught_name
from alignprism.stages.estimate import (
    DECODE_TOKENS_PER_SECOND,
    JUDGE_ROWS_PER_SECOND,
    LIKELIHOODS_PER_SECOND,
    TRAIN_TOKENS_PER_SECOND,
    Counts,
    Sent,
    sent_pairs,
    sent_prompts,
    sent_texts,
    sent_to_judge,
    sent_to_pairwise,
)
from alignprism.stages.evaluate import complete, judge_as_preferred, judge_completions, test_decoding
from alignprism.stages.judges import JudgeEntry, heads_of, judge_entry, pairwise_entry
from alignprism.stages.prompts import study_prompts, write_prompts
from alignprism.stages.ready import apart_from, brought, check_ready, ready_kinds
from alignprism.stages.rephrase import grow_seeds, seeds_of, sent_to_writer
from alignprism.stages.results import write_report, write_results
from alignprism.stages.train import check_starts, merge_cell, teach, train_cell
from alignprism.stages.translate import sentences_of, translate, translation_decoding

__all__ = [
    "DECODE_TOKENS_PER_SECOND",
    "JUDGE_ROWS_PER_SECOND",
    "LIKELIHOODS_PER_SECOND",
    "TRAIN_TOKENS_PER_SECOND",
    "Cell",
    "Context",
    "Counts",
    "JudgeEntry",
    "Sent",
    "apart_from",
    "arm_stage",
    "arm_study",
    "arms_of",
    "brought",
    "cells_of",
    "check_ready",
    "check_starts",
    "compare",
    "complete",
    "dev_prompts",
    "evaluated_models",
    "evaluated_prompts",
    "grow_seeds",
    "heads_of",
    "judge_as_preferred",
    "judge_completions",
    "judge_entry",
    "make_pairs",
    "merge_cell",
    "pairwise_entry",
    "ready_kinds",
    "sample_candidates",
    "seeds_of",
    "sent_pairs",
    "sent_prompts",
    "sent_texts",
    "sent_to_judge",
    "sent_to_pairwise",
    "sent_to_writer",
    "sentences_of",
    "study_prompts",
    "taught_name",
    "teach",
    "test_decoding",
    "train_cell",
    "training_prompts",
    "training_settings",
    "translate",
    "translation_decoding",
    "tried",
    "write_prompts",
    "write_report",
    "write_results",
]
