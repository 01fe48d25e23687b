"""Where curves can go beside the folder of a training: trackers that accelerate knows, each a package of its own."""

from __future__ import annotations

from collections.abc import Iterable

from alignprism.errors import InputError

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
