"""Model folders in transformers' format, read and written tensor by tensor: a whole model is never in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from alignprism.errors import InputError
from alignprism.training.adapters import whole_folder

DESCRIPTION: tuple[str, ...] = (
    "config.json",
    "generation_config.json",
    "chat_template.*",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
)
"""Patterns of the files beside the weights that a model needs: configuration, tokenizer and chat template."""

TERMS = ("LICEN[CS]E*", "NOTICE*", "*TERMS*", "USE_POLICY*")
"""Patterns of the files that say what may be done with a model, and bind those made from it."""

_WHOLE, _INDEX, _HEAD = "model.safetensors", "model.safetensors.index.json", "lm_head.weight"


class ModelFolder:
    """A folder's tensors: ``entries`` says of each its file, name, dtype, shape and the first byte's place (``at``).

    Raises
    ------
    InputError
        the folder has no safetensors weights of a whole model, or they are damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        files = [_WHOLE]
        if (path / _INDEX).is_file():
            content = json.loads((path / _INDEX).read_text(encoding="utf-8"))
            files = sorted({Path(name).name for name in content["weight_map"].values()})
        elif not (path / _WHOLE).is_file():
            raise InputError(
                f"{path}: no full weights here ({_WHOLE} or {_INDEX} expected); for an adapter use apply_adapter or "
                "merge_adapters, and convert *.bin files with transformers' save_pretrained"
            )
        for file in files:
            try:
                with safe_open(path / file, "pt"), (path / file).open("rb") as handle:
                    header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
                    data = handle.tell()
            except (OSError, SafetensorError) as error:
                raise InputError(f"{path / file}: not a whole safetensors file ({error}); copy it again") from error
            header.pop("__metadata__", None)
            for name, entry in header.items():
                self.entries[name] = {**entry, "file": file, "name": name, "at": data + entry["data_offsets"][0]}

    def read(self, name: str) -> Tensor:
        """One tensor."""
        entry = self.entries[name]
        with safe_open(self.path / entry["file"], "pt") as handle:
            tensor: Tensor = handle.get_tensor(entry["name"])
        return tensor

    def copy_weights(self, out: Path) -> None:
        """Copy the weight files, whose tensors `overwrite` then replaces."""
        copy_files(self.path, out, (_INDEX, *{entry["file"] for entry in self.entries.values()}))

    def overwrite(self, out: Path, name: str, tensor: Tensor) -> None:
        """Put a tensor of the same dtype and shape into the place that ``name`` has, in the files that were copied to `out`."""
        entry = self.entries[name]
        with (out / entry["file"]).open("r+b") as handle:
            handle.seek(entry["at"])
            handle.write(_bytes(tensor).numpy().data)

    def twin_of_head(self) -> str | None:
        """The name of the tensor that the output head is a copy of."""
        shape = self.entries[_HEAD]["shape"]
        alike = [name for name, entry in self.entries.items() if name != _HEAD and entry["shape"] == shape]
        return next((name for name in alike if same_bits(self.read(_HEAD), self.read(name))), None)


def check_fit(models: Sequence[ModelFolder]) -> None:
    """Require the same names and shapes in all folders; a tied head that only some of them write counts as there.

    Raises
    ------
    InputError
        naming the first tensor that is missing or of another shape.
    """
    # Some programs write tied weights twice. A folder without a head shows that here they are tied.
    for model in [model for model in models if _HEAD not in model.entries]:
        twins = {other.twin_of_head() for other in models if _HEAD in other.entries}
        if len(twins) == 1 and (twin := twins.pop()) in model.entries:
            model.entries[_HEAD] = model.entries[twin]
    names = dict.fromkeys(name for model in models for name in model.entries)
    for name, model in ((name, model) for name in names for model in models[1:]):
        here, there = (m.entries.get(name, {}).get("shape", "missing") for m in (model, models[0]))
        if here != there:
            raise InputError(
                f"{name} is {here} in {model.path} and {there} in {models[0].path}; only models that were "
                "fine-tuned from one base can be merged"
            )


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to the bit, NaN included."""
    return a.dtype == b.dtype and torch.equal(_bytes(a), _bytes(b))


def copy_files(folder: Path, out: Path, patterns: Sequence[str]) -> None:
    """Copy the files of a folder that fit a pattern; those that are not there are left out."""
    for path in {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}:
        shutil.copyfile(path, out / path.name)  # not its mode: a cache's files are read-only


@contextmanager
def new_folder(out: Path, *inputs: Path) -> Iterator[Path]:
    """A temporary folder that gets the name ``out`` if all goes well, and goes away if not.

    Raises
    ------
    InputError
        ``out`` is one of the inputs or holds it, and would replace it.
    """
    keep_inputs(out, *inputs)
    with whole_folder(out) as temporary:
        yield temporary


def keep_inputs(out: Path, *inputs: Path) -> None:
    """Refuse an ``out`` that is one of the inputs or holds it (InputError)."""
    for folder in inputs:
        if folder.resolve().is_relative_to(out.resolve()):
            raise InputError(f"{out}: writing there would replace the input {folder}; name another folder")


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)
