"""What a run will do, fixed before it starts: its rows, their batches in order, the learning rate of every step.

All of it is a function of the configuration and the rows, so that a resumed run finds the same plan.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from transformers import PreTrainedTokenizerBase

from alignprism.training.batches import epoch_batches
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.examples import Example, sequences
from alignprism.training.reference import Reference


@dataclass(frozen=True, slots=True)
class Plan:
    """``lengths`` are each row's longest sequence; ``batches`` hold row numbers, one entry per optimiser step."""

    config: TrainConfig
    examples: Sequence[Example]
    lengths: Sequence[int]
    batches: Sequence[tuple[int, ...]]
    pad_id: int
    reference: Reference | None

    @property
    def steps(self) -> int:
        """The number of optimiser steps."""
        return len(self.batches)


def training_steps(config: TrainConfig, rows: int) -> int:
    """The number of optimiser steps that `train` will take."""
    return config.epochs * math.ceil(rows / config.batch_size)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of step `step` (0-based) of `steps`: linear warm-up, then the schedule down to 0."""
    warmup = math.ceil(config.warmup_share * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (1 - done if config.schedule == "linear" else 1.0)


def make_plan(
    config: TrainConfig, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, reference: Reference | None
) -> Plan:
    """Check that the rows can be trained on and lay out every step.

    Raises
    ------
    TrainingError
        no rows, repeated ids, or DPO without a reference that covers every row.
    """
    if not examples:
        raise TrainingError("nothing to train on: no row is left (see the truncation report for what was dropped)")
    ids = [example.pair_id for example in examples]
    if len(set(ids)) != len(ids):
        raise TrainingError("row ids must be unique: the order of training depends on them")
    if config.preference and reference is None:
        raise TrainingError(f"{config.method} needs a reference: compute it with compute_reference first")
    if reference is not None and config.preference:
        for example in examples:
            reference.pair(example)
    lengths = [max(len(p) + len(c) for p, c in sequences(config, example)) for example in examples]
    batches = [
        batch
        for epoch in range(config.epochs)
        for batch in epoch_batches(ids, lengths, config.batch_size, config.seed, epoch, config.bucket_pool)
    ]
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    return Plan(config, examples, lengths, batches, int(pad_id), reference if config.preference else None)


def run_identity(plan: Plan, start_digest: str) -> dict[str, str]:
    """What must be equal for two runs to be the same run."""
    settings = {k: v for k, v in asdict(plan.config).items() if k != "checkpoint_every"}
    rows = [asdict(example) for example in sorted(plan.examples, key=lambda e: e.pair_id)]
    return {
        "settings": json.dumps(settings, sort_keys=True),
        "rows": hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16],
        "start": start_digest,
        "reference": plan.reference.digest if plan.reference else "",
    }
