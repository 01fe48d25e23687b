"""What a run checks on its own rows before the first step: the scorer, shared rows, the strategy that is in force."""

from __future__ import annotations

import os

from accelerate import Accelerator
from accelerate.utils import DistributedType, parse_flag_from_env

from alignprism.training.config import TrainingError
from alignprism.training.examples import Example
from alignprism.training.layout import collate_shared
from alignprism.training.plan import Plan, separate
from alignprism.training.scorer import Scorer, Tolerance, check_against_logits, sharing_differences


def check_scorer(scorer: Scorer, plan: Plan, device: object) -> None:
    """Compare log-probabilities with the model's own logits (shortest row) and shared with separate rows (longest row).

    Raises
    ------
    TrainingError
        they differ; the message names the row and the difference in nats.
    """
    by_length = sorted(range(len(plan.examples)), key=lambda row: (plan.positions[row], plan.examples[row].pair_id))
    shortest, longest = plan.examples[by_length[0]], plan.examples[by_length[-1]]
    batch = separate(plan.config, [shortest], plan.pad_id).to(device)  # type: ignore[arg-type]
    check_against_logits(scorer, batch, [shortest.pair_id] * len(batch.input_ids))
    if plan.config.preference and plan.unshared is None:
        _check_sharing(scorer, plan, longest, device)


def _check_sharing(scorer: Scorer, plan: Plan, row: Example, device: object) -> None:
    shared = collate_shared([(row.prompt_ids, row.chosen_ids, row.side("rejected"))], plan.pad_id)
    apart = separate(plan.config, [row], plan.pad_id)
    differences = sharing_differences(scorer, shared.to(device), apart.to(device))  # type: ignore[arg-type]
    tolerance = Tolerance.of(scorer)
    if tolerance.exceeded(differences):
        raise TrainingError(
            f"row {row.pair_id!r}: log-probabilities in a row that chosen and rejected side share differ by "
            f"{float(differences.max()):.3g} nats from those in separate rows (at most {tolerance.largest:.3g} is accepted, "
            f"{tolerance.mean:.3g} on average); --no-prefix-sharing (in a study training.prefix_sharing: false) gives every side a row of its own"
        )


def check_strategy(accelerator: Accelerator) -> None:
    """Stop when the processes or the sharding that were asked for are not in force.

    accelerate 1.15 turns FSDP2 on a CPU into plain data parallelism or into unrelated processes without a word. DeepSpeed
    is refused: its engine takes an optimiser step at every backward of ours, and its shards are no DTensors.

    Raises
    ------
    TrainingError
        naming what was asked for and what is in force.
    """
    in_force = accelerator.distributed_type
    if in_force == DistributedType.DEEPSPEED or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        raise TrainingError("DeepSpeed is not supported; use DDP or FSDP2 (examples/accelerate/fsdp2.yaml)")
    if parse_flag_from_env("ACCELERATE_USE_FSDP") and in_force != DistributedType.FSDP:
        raise TrainingError(
            f"ACCELERATE_USE_FSDP asks for FSDP, but {in_force.value} is in force (accelerate does this without a message "
            "where a strategy does not fit the device); use a strategy that runs here"
        )
    plugin = accelerator.state.fsdp_plugin if accelerator.distributed_type == DistributedType.FSDP else None
    if plugin is not None and plugin.fsdp_version != 2:
        raise TrainingError(
            f"FSDP version {plugin.fsdp_version} is in force, but checkpoints and weights are gathered as FSDP2 spreads them; "
            "set fsdp_version: 2 (examples/accelerate/fsdp2.yaml)"
        )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != accelerator.num_processes:
        raise TrainingError(
            f"{world} processes were launched, but this one works alone ({accelerator.num_processes} in force): their "
            "results would be unrelated; check the accelerate configuration"
        )
