"""Where curves can go beside the folder of a training: trackers that accelerate knows, each a package of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from alignprism.errors import InputError
from alignprism.training.config import TrainConfig
from alignprism.training.curve import CurveRow

if TYPE_CHECKING:  # the command line reads the names below, and need not wait for accelerate
    from accelerate import Accelerator

TRACKERS = ("tensorboard", "trackio", "mlflow", "wandb")


def refuse_missing(names: Iterable[str], asked_by: str) -> tuple[str, ...]:
    """The names, each once; refuses what accelerate would leave out without a word. `asked_by` is the option or the key.

    Raises
    ------
    InputError
        a name is not known, or its package is not installed.
    """
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        return ()
    unknown = [name for name in wanted if name not in TRACKERS]
    if unknown:
        raise InputError(f"{asked_by} {unknown[0]}: accepted: {', '.join(TRACKERS)}")
    from accelerate.tracking import get_available_trackers

    available = {str(tracker) for tracker in get_available_trackers()}
    missing = [name for name in wanted if name not in available]
    if missing:
        raise InputError(
            f"{asked_by} {missing[0]}: the package {missing[0]} is not installed; pip install {missing[0]}"
        )
    return wanted


def start_trackers(accelerator: Accelerator, config: TrainConfig, name: str) -> None:
    """A run of the project ``alignprism``; tensorboard's has no name but lies in the run's folder."""
    if config.trackers:
        plain = {k: v for k, v in asdict(config).items() if isinstance(v, int | float | str | bool)}
        named = {"wandb": {"name": name}, "trackio": {"name": name}, "mlflow": {"run_name": name}}
        accelerator.init_trackers("alignprism", config=plain, init_kwargs=named)


def track(accelerator: Accelerator, config: TrainConfig, row: CurveRow) -> None:
    """Send a curve row to the trackers: overall figures by name, each language's as ``NAME/LANGUAGE``."""
    if not config.trackers:
        return
    values = {k: v for k, v in asdict(row).items() if isinstance(v, int | float) and k != "step"}
    values["tokens_per_second"] = row.tokens / max(row.seconds, 1e-9)
    for language, figures in row.languages.items():
        values |= {f"{name}/{language}": float(str(value)) for name, value in figures.items()}
    accelerator.log(values, step=row.step)
