"""Everything that a killed run needs to go on bit for bit: trained weights, optimiser, step, random state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alignprism.training.config import TrainingError

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after `step` optimiser steps. ``identity`` says which run it belongs to."""

    step: int
    identity: dict[str, str]
    weights: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    random: torch.Tensor


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_checkpoint(
    folder: Path, step: int, identity: dict[str, str], model: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Replace the folder's checkpoint by the present state, whole or not at all."""
    content = {
        "step": step,
        "identity": identity,
        "weights": {name: parameter.detach().cpu() for name, parameter in trained(model).items()},
        "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(),
    }
    temporary = folder / f".{CHECKPOINT_FILE}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as handle:
            torch.save(content, handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(folder / CHECKPOINT_FILE)
    finally:
        # On a full disk half a checkpoint would take the room that is asked for.
        temporary.unlink(missing_ok=True)


def load_checkpoint(folder: Path, identity: dict[str, str]) -> Checkpoint | None:
    """The folder's checkpoint, None without one.

    Raises
    ------
    TrainingError
        the checkpoint belongs to another run; the message names what differs.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    check_identity(path, content["identity"], identity)
    return Checkpoint(**content)


def restore(checkpoint: Checkpoint, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put a checkpoint's state into a freshly made model and optimiser."""
    parameters = trained(model)
    if parameters.keys() != checkpoint.weights.keys():
        raise TrainingError("the checkpoint holds other trained weights than this model; delete it to start again")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(checkpoint.weights[name])
    optimiser.load_state_dict(checkpoint.optimiser)
    torch.set_rng_state(checkpoint.random)


def check_identity(path: Path, found: dict[str, str], expected: dict[str, str]) -> None:
    """Raise a TrainingError naming the differences when a file belongs to another run."""
    different = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
    if different:
        what = "; ".join(f"{k}: {found.get(k)} there, {expected.get(k)} here" for k in different)
        raise TrainingError(f"{path} belongs to another training run ({what}); use another folder or delete this one")
