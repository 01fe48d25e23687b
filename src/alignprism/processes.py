"""The processes of this command and the device of each, as whoever launched them told accelerate."""

from __future__ import annotations

import os

from accelerate import PartialState
from accelerate.utils import get_int_from_env, parse_flag_from_env

from alignprism.errors import InputError

_WORLD_SIZES = ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"]
"""Where accelerate reads how many processes there are: of torchrun and of MPI's launchers."""


def processes() -> PartialState:
    """Their state, the same object everywhere.

    ``ACCELERATE_USE_CPU`` (``accelerate launch --cpu``) keeps to the CPU, also where there is a GPU; with ``torchrun`` the
    processes then speak by gloo. accelerate reads that variable itself only when an ``Accelerator`` comes first.
    """
    return PartialState(cpu=bool(parse_flag_from_env("ACCELERATE_USE_CPU")))


def launched() -> bool:
    """Whether ``accelerate launch`` or ``torchrun`` started this process."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ


def refuse_several(what: str) -> None:
    """Stop where several processes were launched for `what`, which runs in one; every process finds the same by itself.

    Raises
    ------
    InputError
        there are several; the message says how to train in several.
    """
    count = get_int_from_env(_WORLD_SIZES, 1)
    if count > 1:
        raise InputError(
            f"{count} processes were launched (accelerate launch, torchrun or MPI), but {what} runs in one process: start it "
            "without a launcher. To train in several use `alignprism train` under accelerate launch (docs/training.md)"
        )


def in_force(state: PartialState) -> str:
    """How the processes will share the work, in words; `alignprism.training.checks.check_strategy` holds training to it."""
    if state.num_processes == 1:
        return "one process alone"
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return "FSDP2"
    return f"data parallel ({state.backend})"
