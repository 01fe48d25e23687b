"""What a run checks on its own rows before the first step: the scorer, shared rows, the strategy that is in force."""

from __future__ import annotations

import os

from accelerate import Accelerator
from accelerate.utils import DistributedType

from alignprism.training.config import TrainingError
from alignprism.training.examples import Example
from alignprism.training.layout import collate_shared
from alignprism.training.plan import Plan, separate
from alignprism.training.scorer import Scorer, check_against_logits, sharing_difference

_ASKED = {
    "ACCELERATE_USE_FSDP": DistributedType.FSDP,
    "ACCELERATE_USE_DEEPSPEED": DistributedType.DEEPSPEED,
}


def check_scorer(scorer: Scorer, plan: Plan, device: object) -> None:
    """Compare log-probabilities with the model's own logits (shortest row) and shared with separate rows (longest row).

    Raises
    ------
    TrainingError
        they differ; the message names the row and the difference in nats.
    """
    tolerance = 1e-3 if str(scorer.causal.dtype) == "torch.float32" else 0.1
    by_length = sorted(range(len(plan.examples)), key=lambda row: (plan.positions[row], plan.examples[row].pair_id))
    shortest, longest = plan.examples[by_length[0]], plan.examples[by_length[-1]]
    batch = separate(plan.config, [shortest], plan.pad_id).to(device)  # type: ignore[arg-type]
    check_against_logits(scorer, batch, tolerance, [shortest.pair_id] * len(batch.input_ids))
    if plan.config.preference and plan.unshared is None:
        _check_sharing(scorer, plan, longest, device, tolerance)


def _check_sharing(scorer: Scorer, plan: Plan, row: Example, device: object, tolerance: float) -> None:
    shared = collate_shared([(row.prompt_ids, row.chosen_ids, row.side("rejected"))], plan.pad_id)
    apart = separate(plan.config, [row], plan.pad_id)
    difference = sharing_difference(scorer, shared.to(device), apart.to(device))  # type: ignore[arg-type]
    if not difference <= tolerance:
        raise TrainingError(
            f"row {row.pair_id!r}: log-probabilities in a row that chosen and rejected side share differ by {difference:.3g} "
            f"nats from those in separate rows (at most {tolerance:.3g} is accepted); set prefix_sharing to false"
        )


def check_strategy(accelerator: Accelerator) -> None:
    """Stop when the processes or the sharding that were asked for are not in force.

    accelerate 1.15 turns FSDP2 on a CPU into plain data parallelism or into unrelated processes without a word.

    Raises
    ------
    TrainingError
        naming what was asked for and what is in force.
    """
    for name, wanted in _ASKED.items():
        if os.environ.get(name, "").lower() in ("true", "1", "yes") and accelerator.distributed_type != wanted:
            raise TrainingError(
                f"{name} asks for {wanted.value}, but {accelerator.distributed_type.value} is in force (accelerate does this "
                "without a message where a strategy does not fit the device); use a strategy that runs here"
            )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != accelerator.num_processes:
        raise TrainingError(
            f"{world} processes were launched, but this one works alone ({accelerator.num_processes} in force): their "
            "results would be unrelated; check the accelerate configuration"
        )
