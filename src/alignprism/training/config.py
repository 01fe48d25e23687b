"""What a training run is: one frozen dataclass, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from alignprism.errors import Failure
from alignprism.training.batches import FORWARD_COST

Method = Literal["sft-random", "sft-preferred", "dpo-ift", "dpo-sft"]
Schedule = Literal["cosine", "linear", "constant"]
Loss = Literal["sigmoid", "length-normalised"]
Precision = Literal["auto", "float32", "bfloat16"]

METHODS: tuple[str, ...] = get_args(Method)


class TrainingError(Failure):
    """Training cannot start or go on. The message says what was wrong, where, and what to do."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run.

    ``batch_size`` counts pairs (or rows, for SFT) in one optimiser step, over all processes; ``micro_batch_tokens``
    bounds the padded positions (rows x longest row) that one forward runs, and changes memory, not the result.
    ``max_tokens`` bounds prompt + completion of one side of a pair. ``lora_rank`` 0 trains the full weights;
    ``lora_head`` puts the adapter on the output head too.
    ``warmup_share`` is the share of all steps in which the learning rate rises linearly from 0.
    ``evaluate_steps`` are numbers of finished optimiser steps; 0 is the untrained policy, -1 the last step,
    and a number beyond the last step means the last one, because dropped rows make a run shorter than planned.
    ``loss`` is DPO's: of summed or of per-token log-probabilities. ``nll_weight`` adds that many times the chosen sides'
    negative log-likelihood (token mean over the batch) to it. ``router_weight`` weighs the balancing loss of a
    mixture-of-experts model; None means the model's own weight.
    ``prefix_sharing`` runs both sides of a pair as one row where the model allows it. ``forward_cost`` is what starting a
    forward costs, in positions: it decides how finely a batch is cut to save padding.
    ``held_out_share`` of the rows is not trained on but scored every ``held_out_every`` steps (0: once an epoch): the
    weights that did best there are the result, and ``patience`` scores without a new best (0: none) end the run.
    ``trackers`` are names that accelerate knows (tensorboard, trackio, mlflow, wandb).
    ``displacement_alarm`` is the fall of the chosen sides' log-probability below the reference's, in nats per token over
    the last quarter of the steps, from which a run warns.
    ``bucket_pool`` is the number of batches whose rows are sorted by length together; 1 leaves batches unsorted.
    ``head_bytes`` bounds the logits of one chunk, ``head_keep_bytes`` what a trainable head may keep for backward.
    ``precision`` is what matrix products are computed in (`alignprism.training.precision.compute_dtype`).
    ``step0_tolerance`` bounds |loss - ln 2| of every pair before the first update of DPO; in half precision rounding is
    allowed for as well.
    """

    method: Method
    learning_rate: float = 2e-4
    epochs: int = 1
    batch_size: int = 8
    beta: float = 0.1
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_head: bool = False
    max_tokens: int = 512
    seed: int = 0
    schedule: Schedule = "cosine"
    warmup_share: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    evaluate_steps: tuple[int, ...] = ()
    checkpoint_every: int = 20
    micro_batch_tokens: int = 2048
    bucket_pool: int = 4
    gradient_checkpointing: bool = False
    head_bytes: int = 128 * 2**20
    head_keep_bytes: int = 512 * 2**20
    step0_tolerance: float = 1e-3
    loss: Loss = "sigmoid"
    nll_weight: float = 0.0
    router_weight: float | None = None
    prefix_sharing: bool = True
    forward_cost: int = FORWARD_COST
    held_out_share: float = 0.0
    held_out_every: int = 0
    patience: int = 0
    trackers: tuple[str, ...] = ()
    displacement_alarm: float = 0.25
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise TrainingError(f"method {self.method!r} is not known; use one of {', '.join(METHODS)}")
        for name in (
            "learning_rate",
            "epochs",
            "batch_size",
            "beta",
            "max_tokens",
            "micro_batch_tokens",
            "checkpoint_every",
            "bucket_pool",
            "head_bytes",
            "max_grad_norm",
            "step0_tolerance",
        ):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("nll_weight", "forward_cost", "held_out_every", "patience"):
            if not getattr(self, name) >= 0:
                raise TrainingError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if self.loss not in get_args(Loss):
            raise TrainingError(f"loss {self.loss!r} is not known; use one of {', '.join(get_args(Loss))}")
        if self.precision not in get_args(Precision):
            raise TrainingError(
                f"precision {self.precision!r} is not known; use one of {', '.join(get_args(Precision))}"
            )
        if not 0 <= self.held_out_share < 1:
            raise TrainingError(f"held_out_share is a share of the rows, in [0, 1), not {self.held_out_share}")
        if self.patience and not self.held_out_share:
            raise TrainingError("patience stops on held-out rows: set held_out_share above 0 as well")
        if not 0 <= self.warmup_share <= 1:
            raise TrainingError(f"warmup_share is a share of all steps, in [0, 1], not {self.warmup_share}")
        if self.lora_rank < 0 or (self.lora_rank and self.lora_alpha <= 0):
            raise TrainingError("lora_rank must be 0 (full weights) or more, and lora_alpha above 0")
        if self.schedule not in get_args(Schedule):
            raise TrainingError(f"schedule {self.schedule!r} is not known; use one of {', '.join(get_args(Schedule))}")

    @property
    def preference(self) -> bool:
        """True for the methods that learn from both sides of a pair against a reference."""
        return self.method.startswith("dpo")
