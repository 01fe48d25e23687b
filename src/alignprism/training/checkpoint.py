"""Everything that a killed run needs to go on bit for bit: trained weights, optimiser, step, random state.

Parameters that are sharded over processes (FSDP2) are gathered whole on the first process, so that a checkpoint does not
depend on how many there were.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from alignprism.training.config import TrainingError

CHECKPOINT_FILE = "checkpoint.pt"
BEST_FILE = "best.pt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after `step` optimiser steps. ``identity`` says which run it belongs to.

    Of a sharded run the weights and the optimiser's state are empty on every process but the first.
    """

    step: int
    identity: dict[str, str]
    weights: dict[str, Tensor]
    optimiser: dict[str, Any]
    random: Tensor

    @classmethod
    def of(cls, step: int, identity: dict[str, str], scorer: nn.Module, optimiser: torch.optim.Optimizer) -> Checkpoint:
        """The present state. Every process of a sharded run must call this."""
        _reshard(scorer)
        weights = {name: _whole(parameter.detach()) for name, parameter in trained(_unwrapped(scorer)).items()}
        state: dict[str, Any] = _mapped(optimiser.state_dict(), _whole)
        if is_sharded(scorer) and torch.distributed.get_rank() != 0:
            weights, state = {}, {}
        return cls(step, identity, weights, state, torch.get_rng_state())


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def is_sharded(model: nn.Module) -> bool:
    """Whether the parameters are spread over processes."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole_weights(scorer: nn.Module) -> dict[str, Tensor] | None:
    """The inner model's whole weights by its own names, on the first process, where they are sharded; None where not.

    Every process must call this.
    """
    _reshard(scorer)
    if not is_sharded(scorer):
        return None
    inner = _unwrapped(scorer).get_submodule("model")
    parameters = dict(inner.named_parameters(remove_duplicate=False))
    gathered: dict[int, Tensor] = {}  # a tied weight stays one tensor under its names, or it would be saved twice
    weights = {}
    for name, tensor in inner.state_dict().items():
        key = id(parameters.get(name, tensor))
        if key not in gathered:
            gathered[key] = _whole(tensor)
        weights[name] = gathered[key]
    return weights


def save_checkpoint(accelerator: Accelerator, path: Path, checkpoint: Checkpoint) -> None:
    """Replace a checkpoint file, whole or not at all; only the first process writes."""
    if not accelerator.is_main_process:
        return
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            torch.save(content, handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        # On a full disk half a checkpoint would take the room that is asked for.
        temporary.unlink(missing_ok=True)


def copy_checkpoint(accelerator: Accelerator, source: Path, target: Path) -> None:
    """Give a checkpoint a second name that stays when the first is replaced, at no cost where the disk has hard links."""
    if not accelerator.is_main_process:
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            temporary.hardlink_to(source)
        except OSError:  # some network file systems have none
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, identity: dict[str, str]) -> Checkpoint | None:
    """The checkpoint of a file, None without one.

    Raises
    ------
    TrainingError
        the checkpoint belongs to another run; the message names what differs.
    """
    if not path.exists():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    check_identity(path, content["identity"], identity)
    return Checkpoint(**content)


def restore(checkpoint: Checkpoint, scorer: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put a checkpoint's state into a freshly made scorer and optimiser; every process must call this."""
    _reshard(scorer)
    parameters = trained(_unwrapped(scorer))
    if parameters.keys() != checkpoint.weights.keys():
        raise TrainingError("the checkpoint holds other trained weights than this model; delete it to start again")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_spread(checkpoint.weights[name], parameter))
    of_optimiser = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state = {
        number: {key: _spread(value, of_optimiser[number]) for key, value in values.items()}
        for number, values in checkpoint.optimiser["state"].items()
    }
    optimiser.load_state_dict(checkpoint.optimiser | {"state": state})
    torch.set_rng_state(checkpoint.random)


def check_identity(path: Path, found: dict[str, str], expected: dict[str, str]) -> None:
    """Raise a TrainingError naming the differences when a file belongs to another run."""
    different = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
    if different:
        what = "; ".join(f"{k}: {found.get(k)} there, {expected.get(k)} here" for k in different)
        again = (
            "start it under the same precision as before (accelerate's mixed_precision, --precision, training.precision), "
            if "precision" in found and "precision" in different
            else ""
        )
        raise TrainingError(
            f"{path} belongs to another training run ({what}); {again}use another folder or delete this one"
        )


def _reshard(scorer: nn.Module) -> None:
    """Give every parameter back to its processes: a forward without backward leaves the outermost ones gathered, and what
    is written into a gathered copy is lost."""
    for module in scorer.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _whole(value: Any) -> Any:
    """A tensor on the CPU, gathered from all processes where it is spread; anything else as it is."""
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.cpu() if isinstance(value, Tensor) else value


def _spread(value: Any, parameter: Tensor) -> Any:
    """The reverse of `_whole` for a tensor that belongs to `parameter`: spread over the processes as that one is."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def _mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _mapped(value, function) for key, value in tree.items()}
    return [_mapped(value, function) for value in tree] if isinstance(tree, list) else function(tree)


def _unwrapped(scorer: nn.Module) -> nn.Module:
    """The scorer inside DistributedDataParallel, so that names do not depend on the number of processes."""
    inner = getattr(scorer, "module", scorer)
    assert isinstance(inner, nn.Module)
    return inner
