"""Data sets of the Hugging Face hub, row by row, through ``datasets``."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from alignprism.errors import Failure, InputError
from alignprism.prompts.sources import SourceFile

_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_id(source: str) -> bool:
    """Does this look like ``owner/name`` (or ``hf:owner/name``) and not like a path?"""
    return source.startswith("hf:") or bool(_ID.fullmatch(source) and not source.startswith("."))


def hub_files(source: str, configuration: str | None = None, known: Sequence[str] = ()) -> list[SourceFile]:
    """One file for each configuration and split of a hub data set, named ``CONFIGURATION/SPLIT``.

    `known` are names under which the same set was published: when the hub does not give one, the next is tried.

    Raises
    ------
    Failure
        the hub cannot be reached, or does not give the data set.
    InputError
        it has no such configuration.
    """
    name = source.removeprefix("hf:")
    names = [name, *(other for other in known if other != name and other.split("/")[-1] == name.split("/")[-1])]
    for number, tried in enumerate(names, 1):
        try:
            return _listed(tried, configuration)
        except Failure:
            if number == len(names):
                raise
    raise AssertionError("unreachable: the last name returns or raises")


def _listed(name: str, configuration: str | None) -> list[SourceFile]:
    import datasets

    try:
        known = datasets.get_dataset_config_names(name)
        if configuration is not None and configuration not in known:
            raise InputError(f"{name}: no configuration {configuration!r}; there is: {', '.join(known)}")
        chosen = [configuration] if configuration is not None else known
        splits = {part: datasets.get_dataset_split_names(name, part) for part in chosen}
    except InputError:
        raise
    except Exception as error:  # datasets raises errors of many libraries for one cause
        raise _unreachable(name, error) from error
    return [_file(name, part, split) for part, found in splits.items() for split in found]


def _file(name: str, part: str, split: str) -> SourceFile:
    def rows() -> Iterator[dict[str, Any]]:
        import datasets

        try:
            yield from datasets.load_dataset(name, part, split=split, streaming=True)
        except Exception as error:  # see above
            raise _unreachable(f"{name} ({part}/{split})", error) from error

    return SourceFile(f"{part}/{split}", f"hf:{name}/{part}/{split}", ".hub", io.BytesIO, rows)


def _unreachable(name: str, error: Exception) -> Failure:
    return Failure(
        f"{name}: the hub did not give this data set ({type(error).__name__}). Check the name, the network, "
        "HF_HUB_OFFLINE and, for a gated set, your login; or download the files and name their folder instead"
    )
