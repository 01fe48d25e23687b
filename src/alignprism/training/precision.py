"""The precision that a training computes in: one answer for the policy, its reference and the checks.

Weights that are trained stay in float32 (an update of 1e-5 is lost in a bfloat16 weight near 0.02), and only what is
computed with them may be rounded. Policy and reference must be rounded alike, or the first DPO loss is not ln 2.
"""

from __future__ import annotations

import math

import torch
from accelerate import Accelerator

from alignprism.training.config import TrainConfig, TrainingError

_ROUNDING = 0.1
"""How far a token's log-probability may lie from itself in half precision, in nats: other kernels, another padding."""


def compute_dtype(config: TrainConfig) -> torch.dtype | None:
    """What matrix products are rounded to (autocast); None: nothing is, and products have the weights' own type.

    ``auto`` is what accelerate was told (``mixed_precision``), and bfloat16 where full weights are trained on a device
    other than a CPU that has it.

    Raises
    ------
    TrainingError
        accelerate was told fp16 or fp8, which this loop does not do: there is no loss scaling here.
    """
    accelerator = Accelerator()
    told = accelerator.mixed_precision
    if told not in ("no", "bf16"):
        raise TrainingError(f"mixed_precision {told} is not supported: use bf16, or no")
    if config.precision != "auto":
        if told == "bf16" and config.precision == "float32":
            raise TrainingError(
                "precision float32 and accelerate's mixed_precision bf16 contradict each other; drop one"
            )
        return torch.bfloat16 if config.precision == "bfloat16" else None
    if told == "bf16" or (config.lora_rank == 0 and _has_bfloat16(accelerator.device)):
        return torch.bfloat16
    return None


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "xpu"


def weights_dtype(config: TrainConfig) -> torch.dtype | None:
    """What a start model is loaded in: float32 where its weights are trained, else as its files have it (None)."""
    return None if config.lora_rank else torch.float32


def is_half(weights: torch.dtype, compute: torch.dtype | None) -> bool:
    """Whether anything is computed in 16 bits."""
    return compute is not None or weights in (torch.bfloat16, torch.float16)


def precision_name(weights: torch.dtype, compute: torch.dtype | None) -> str:
    """``float32``, or ``float32 in bfloat16`` where products are rounded further than the weights are."""
    stored = str(weights).removeprefix("torch.")
    return stored if compute in (None, weights) else f"{stored} in {str(compute).removeprefix('torch.')}"


def computed_in(weights: torch.dtype, compute: torch.dtype | None) -> str:
    """The type that matrix products have, in words; without autocast it is the weights' own."""
    return str(weights if compute is None else compute).removeprefix("torch.")


def pair_rounding(chosen_tokens: int, rejected_tokens: int, *, per_token: bool) -> float:
    """How far policy and reference of one pair may differ by rounding alone in half precision, in nats (or per token).

    Tokens are rounded independently of each other, so a side's error grows with the root of its length.
    """
    roots = math.sqrt(chosen_tokens), math.sqrt(rejected_tokens)
    return _ROUNDING * (1 / roots[0] + 1 / roots[1] if per_token else sum(roots))
