"""The processes of this command and the device of each, as whoever launched them told accelerate."""

from __future__ import annotations

import os

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def processes() -> PartialState:
    """Their state, the same object everywhere.

    ``ACCELERATE_USE_CPU`` (``accelerate launch --cpu``) keeps to the CPU, also where there is a GPU; with ``torchrun`` the
    processes then speak by gloo. accelerate reads that variable itself only when an ``Accelerator`` comes first.
    """
    return PartialState(cpu=bool(parse_flag_from_env("ACCELERATE_USE_CPU")))


def launched() -> bool:
    """Whether ``accelerate launch`` or ``torchrun`` started this process."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ


def in_force(state: PartialState) -> str:
    """How the processes will share the work, in words; `alignprism.training.checks.check_strategy` holds training to it."""
    if state.num_processes == 1:
        return "one process alone"
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return "FSDP2"
    return f"data parallel ({state.backend})"
