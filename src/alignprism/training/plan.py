"""What a run will do, fixed before it starts: its rows, their batches in order, the learning rate of every step.

All of it is a function of the configuration and the rows, so that a resumed run finds the same plan.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from alignprism.training.batches import HeadCost, epoch_batches, micro_batches, spread
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.examples import Example, sequences
from alignprism.training.layout import Batch, collate, collate_shared
from alignprism.training.reference import Reference

_FREE = frozenset(
    {
        "checkpoint_every",
        "trackers",
        "displacement_alarm",
        # How much is computed at once: sums in another order, so other rounding, and nothing else.
        "micro_batch_tokens",
        "gradient_checkpointing",
        "head_bytes",
        "head_keep_bytes",
        "forward_cost",
    }
)
"""Settings that change nothing in the weights beyond rounding."""
_OF_PAIRS = frozenset({"beta", "loss", "nll_weight", "prefix_sharing", "step0_tolerance"})
"""Settings that SFT does not use."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``examples`` are trained on, ``held_out`` only scored; ``positions`` is what each trained row takes in a forward.

    ``batches`` hold row numbers, one entry per optimiser step; ``languages`` are those of the trained rows, sorted.
    ``unshared`` says why the two sides of a pair do not share
    a row; None means that they do. ``head`` is what a trainable head costs; None where it is frozen.
    """

    config: TrainConfig
    examples: Sequence[Example]
    held_out: Sequence[Example]
    positions: Sequence[int]
    batches: Sequence[tuple[int, ...]]
    languages: Sequence[str]
    pad_id: int
    reference: Reference | None
    unshared: str | None
    head: HeadCost | None = None

    @property
    def steps(self) -> int:
        """The number of optimiser steps."""
        return len(self.batches)

    def forwards(self, rows: Sequence[int], at_least: int = 1) -> list[tuple[int, ...]]:
        """The forwards that a batch is cut into: `at_least` so many, one for each process, while there are rows."""
        config = self.config
        parts = micro_batches(rows, self.positions, config.micro_batch_tokens, config.forward_cost, self.head)
        return spread(parts, self.positions, at_least)

    def layout(self, examples: Sequence[Example]) -> Batch:
        """Rows as tensors; for pairs all chosen sides come first, then all rejected ones."""
        if self.config.preference and self.unshared is None:
            return collate_shared([(e.prompt_ids, e.chosen_ids, e.side("rejected")) for e in examples], self.pad_id)
        return separate(self.config, examples, self.pad_id)


def separate(config: TrainConfig, examples: Sequence[Example], pad_id: int) -> Batch:
    """The sequences of some rows, each in a row of its own, in the order of `Plan.layout`."""
    pairs = [sequences(config, example) for example in examples]
    return collate([pair[side] for side in range(len(pairs[0])) for pair in pairs], pad_id)


def training_steps(config: TrainConfig, rows: int) -> int:
    """The number of optimiser steps that `train` will take over `rows` trained rows."""
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
    config: TrainConfig,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    reference: Reference | None,
    unshared: str | None = None,
    head: HeadCost | None = None,
) -> Plan:
    """Check that the rows can be trained on and lay out every step. `head` needs no tokens: those of the rows are put in.

    Raises
    ------
    TrainingError
        no rows, repeated ids, nothing left beside the held-out rows, or DPO without a reference that covers every row.
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
    if not config.preference:
        unshared = "one side of a pair is trained on"
    elif not config.prefix_sharing:
        unshared = "switched off"
    trained, held_out = split_held_out(config, examples)
    positions = [_positions(config, example, shared=unshared is None) for example in trained]
    ids = [example.pair_id for example in trained]
    batches = [
        batch
        for epoch in range(config.epochs)
        for batch in epoch_batches(ids, positions, config.batch_size, config.seed, epoch, config.bucket_pool)
    ]
    pad_id = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)
    kept_reference = reference if config.preference else None
    languages = sorted({example.language for example in trained})
    if head is not None:
        head = replace(head, tokens=[sum(len(c) for _, c in sequences(config, example)) for example in trained])
    return Plan(config, trained, held_out, positions, batches, languages, pad_id, kept_reference, unshared, head)


def split_held_out(config: TrainConfig, examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The rows that are trained on and those that are only scored.

    Raises
    ------
    TrainingError
        the held-out share leaves none on one side.
    """
    # Sorted, so that neither ties of length nor the order of sums depend on the place in the file.
    ordered = sorted(examples, key=lambda example: example.pair_id)
    held_out = [example for example in ordered if _is_held_out(config, example)]
    trained = [example for example in ordered if not _is_held_out(config, example)]
    if not trained or (config.held_out_share and not held_out):
        raise TrainingError(
            f"held_out_share {config.held_out_share} leaves {len(trained)} rows to train on and {len(held_out)} to score; "
            "rows of one prompt or seed stay together: give more rows, or another share"
        )
    return trained, held_out


def _positions(config: TrainConfig, example: Example, *, shared: bool) -> int:
    """Positions of a forward that one row takes: one shared row, or every side as long as the longest."""
    sides = sequences(config, example)
    if shared:
        return len(example.prompt_ids) + sum(len(completion) for _, completion in sides)
    return len(sides) * max(len(prompt) + len(completion) for prompt, completion in sides)


def _is_held_out(config: TrainConfig, example: Example) -> bool:
    """By the cluster (else the prompt), so that none is on both sides, and by nothing else, so that new rows move no old one."""
    if not config.held_out_share:
        return False
    together = [example.cluster] if example.cluster else example.prompt_ids
    digest = hashlib.sha256(json.dumps([config.seed, *together]).encode()).digest()
    return int.from_bytes(digest[:8], "big") < config.held_out_share * 2**64


def binding_settings(settings: Mapping[str, Any], *, preference: bool) -> dict[str, Any]:
    """Of a configuration's fields those that must be equal for a stopped training to go on: they change its weights.

    `preference` says whether the method learns from both sides of a pair (`TrainConfig.preference`).
    """
    unused = _FREE if preference else _FREE | _OF_PAIRS
    return {name: value for name, value in settings.items() if name not in unused}


def run_identity(plan: Plan, start_digest: str, precision: str) -> dict[str, str]:
    """What must be equal for two runs to be the same run. `precision` is the one in force, whoever asked for it."""
    settings = binding_settings(asdict(plan.config), preference=plan.config.preference)
    del settings["precision"]  # auto says nothing, and a name says what is in force
    rows = [asdict(example) for example in sorted([*plan.examples, *plan.held_out], key=lambda e: e.pair_id)]
    for row in rows:
        cluster = row.pop("cluster")  # it decides what is held out, and nothing else
        if plan.held_out:
            row["cluster"] = cluster
    return {
        "settings": json.dumps(settings, sort_keys=True),
        "rows": hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16],
        "start": start_digest,
        "precision": precision,
        "reference": plan.reference.digest if plan.reference else "",
    }
