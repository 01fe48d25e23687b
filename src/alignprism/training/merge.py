"""Merging two models fine-tuned from one base: SLERP and TIES, as in the paper's sequel (arXiv 2410.10801).

There the models trained on 0 % and on 100 % safety pairs are merged, instead of training one model on mixed data. For
full models SLERP acts on the weights, whose angle is so small that it is mostly linear interpolation; TIES acts on the
deltas, model minus base. For adapters SLERP acts on the deltas, whose angle is large: another method under the same
name, and the record says which (``acts_on``).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM

from alignprism.errors import InputError
from alignprism.models.identity import weights_digest
from alignprism.training.adapters import _config, _factors, _fresh_sibling, _stacked_config, _write, publish

# TIES: its paper's recipe for where no validation set is at hand, the top 20 % and lambda 1.
DEFAULTS: dict[str, dict[str, Any]] = {
    "slerp": {"t": 0.5},
    "ties": {"density": 0.2, "weights": (1.0, 1.0), "scale": 1.0},
}
_WHOLE, _INDEX, _HEAD = "model.safetensors", "model.safetensors.index.json", "lm_head.weight"
_DESCRIPTION: tuple[str, ...] = ("config.json", "generation_config.json", "chat_template.*", "tokenizer*")
_DESCRIPTION += ("special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt")
_PLAIN = {"F16", "BF16", "F32", "F64"}
_COLINEAR = 0.9995  # |cosine| beyond which the sines lose digits and the arc is a straight line (as mergekit)
_BLOCK = 2**22  # numbers widened at a time, so that a large embedding is never copied whole in float64


@dataclass(frozen=True, slots=True)
class Merge:
    """What was merged, for a manifest or card (`dataclasses.asdict`).

    ``base``, ``first`` and ``second`` are `weights_digest`s (an adapter's is that of base and adapter). ``tensors``
    counts what was merged (modules, for adapters), ``linear_tensors`` where SLERP fell back to linear interpolation.
    """

    method: str
    settings: dict[str, Any]
    acts_on: Literal["weights", "deltas"]
    base: str
    first: str
    second: str
    tensors: int
    linear_tensors: int


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical linear interpolation from a (t = 0) to b (t = 1), of one shape, as if both were flattened.

    Shoemake 1985: sin((1-t) w) / sin(w) a + sin(t w) / sin(w) b, where w is the angle between a and b. As usual for
    weights, they are not normalised. Where they are nearly colinear, or one is zero and has no angle: (1-t) a + t b.
    Computed in float32 or wider; the result has the type of a. Raises InputError for t outside [0, 1] or other shapes.
    """
    return _slerp(a, b, t)[0]


def ties(
    deltas: Sequence[Tensor], density: float, weights: Sequence[float] | None = None, scale: float = 1.0
) -> Tensor:
    """TIES of several models' deltas (model minus base) of one tensor, all of one shape: the delta to add to the base.

    Yadav et al. 2023, arXiv 2306.01708, algorithm 1. Trim: the ``density`` largest magnitudes of each delta stay (per
    tensor, as mergekit; the paper ranks a whole model's), with all that equal the smallest of them. Elect: the sign of
    the sum weighted by ``weights`` (None: equal), none where the masses are equal. Disjoint merge: the weighted mean
    of what has that sign, times ``scale`` (lambda). The result is float32, or float64 for float64.

    Raises InputError for a density outside [0, 1], unusable weights or scale, different shapes or no deltas.
    """
    shares = (1.0,) * len(deltas) if weights is None else tuple(weights)
    if not 0 <= density <= 1:
        raise InputError(f"density is the share of each delta that stays, in [0, 1], not {density}")
    if len(shares) != len(deltas) or not min(shares, default=-1) >= 0 or not 0 < sum(shares) < math.inf:
        raise InputError(f"TIES takes a weight per delta ({len(deltas)}), 0 or more and not all 0, not {shares}")
    if not math.isfinite(scale):
        raise InputError(f"scale must be a finite number, not {scale}")
    _check_shapes(*deltas)
    merged = torch.empty(deltas[0].shape, dtype=_wide(*deltas))
    smallest, share = (
        torch.tensor(column, dtype=merged.dtype)[:, None]
        for column in ([_smallest_kept(delta, density) for delta in deltas], shares)
    )
    for block, *parts in zip(_blocks(merged), *map(_blocks, deltas), strict=True):
        trimmed = torch.stack([part.to(merged.dtype) for part in parts])
        trimmed *= trimmed.abs() >= smallest
        elected = (share * trimmed).sum(0).sign()
        agreeing = share * ((trimmed.sign() == elected) & (elected != 0))
        total = agreeing.sum(0)
        block.copy_(scale * (agreeing * trimmed).sum(0) / torch.where(total > 0, total, 1))
    return merged


def merge_models(
    method: str, base: Path, first: Path, second: Path, out: Path, *, index: Path | None = None, **settings: Any
) -> Merge:
    """Merge two full-weight folders (transformers format, safetensors) into ``out``, one tensor at a time.

    ``method`` is a key of `DEFAULTS`, ``settings`` change its values. ``out`` has the files, types, configuration,
    tokenizer and chat template of ``first``, and appears whole or not at all. ``index`` remembers digests. bfloat16
    has rounded away most of a small delta before TIES sees it: give it float32 folders.

    Raises
    ------
    InputError
        unknown method or setting; a folder without whole safetensors weights; tensors that differ in name or shape,
        are quantised or not finite; or an ``out`` that would replace an input.
    """
    chosen = _settings(method, settings)
    origin, one, two = models = [_Weights(folder) for folder in (base, first, second)]
    _check_fit(models)
    linear = 0

    def merged(name: str) -> Tensor:
        nonlocal linear
        a, b, kinds = one.read(name), two.read(name), {model.entries[name]["dtype"] for model in models}
        if not kinds <= _PLAIN:
            if _same_bits(a, b):
                return a
            raise InputError(f"{name} differs and is {', '.join(sorted(kinds))}: quantised weights cannot be merged")
        if method == "slerp":
            result, straight = _slerp(a, b, **chosen)
            linear += straight
        else:
            start, wide, kind = origin.read(name), _wide(a, b), a.dtype
            a, b = (x.to(wide).sub_(start) for x in (a, b))  # in place: three copies of a large embedding matter
            result = ties([a, b], **chosen).add_(start).to(kind)
        if not all(block.isfinite().all() for block in _blocks(result)):
            raise InputError(f"{name}: merging {first} and {second} gives values that are not finite; look there")
        return result

    with _new_folder(out, base, first, second) as temporary:
        _copy(first, temporary, _DESCRIPTION)
        _copy(first, temporary, (_INDEX, *{entry["file"] for entry in one.entries.values()}))
        for name, entry in one.entries.items():
            with (temporary / entry["file"]).open("r+b") as handle:
                handle.seek(entry["at"])
                handle.write(_bytes(merged(name)).numpy().data)
        of_base, of_first, of_second = (weights_digest(folder, index=index) for folder in (base, first, second))
    acts_on: Literal["weights", "deltas"] = "weights" if method == "slerp" else "deltas"
    return Merge(method, chosen, acts_on, of_base, of_first, of_second, len(one.entries), linear)


def merge_adapters(
    method: str, base: Path, first: Path, second: Path, out: Path, *, index: Path | None = None, **settings: Any
) -> Merge:
    """SLERP of each module's delta, scale B A, of two LoRA adapters of ``base``, written as one adapter in ``out``.

    SLERP is a linear combination: the factors are concatenated, ranks add up, and nothing is approximated. A module
    that one adapter lacks has a zero delta there. Where ``first`` has a tokenizer or chat template, it is copied.

    Raises
    ------
    InputError
        "ties", which has full rank; an unknown method or setting; adapters that record different bases or disagree on
        a module's size; values that are not finite; or an ``out`` that would replace an input.
    TrainingError
        an adapter is missing or not plain LoRA.
    """
    chosen = _settings(method, settings)
    if method == "ties":
        raise InputError(
            "TIES of two adapters has full rank and is no adapter: write full models with apply_adapter(base, adapter, "
            "out, dtype=torch.float32) and merge those with merge_models('ties', ...)"
        )
    configs = [_config(folder) for folder in (first, second)]
    bases = sorted({config["base_model_name_or_path"] for config in configs if config.get("base_model_name_or_path")})
    if len(bases) > 1:
        raise InputError(f"{first} and {second} are adapters of different bases, {' and '.join(bases)}")
    ones, twos = _factors(first), _factors(second)
    weights: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    linear = 0
    for module in sorted(ones.keys() | twos.keys()):
        (a1, b1), (a2, b2) = (own.get(module) or _rank_0(other[module]) for own, other in ((ones, twos), (twos, ones)))
        if (a1.shape[1], b1.shape[0]) != (a2.shape[1], b2.shape[0]):
            raise InputError(f"{first} and {second} disagree on the size of {module}: they are of different bases")
        of_1, of_2, straight = _arc(_inner(a1, b1, a1, b1), _inner(a2, b2, a2, b2), _inner(a1, b1, a2, b2), chosen["t"])
        linear += straight
        a, b = torch.cat([a1, a2], 0), torch.cat([of_1 * b1, of_2 * b2], 1)
        if not (a.isfinite().all() and b.isfinite().all()):
            raise InputError(f"{module}: {first} or {second} holds values that are not finite")
        weights |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        ranks[module] = a.shape[0]
    with _new_folder(out, base, first, second) as temporary:
        of_base, of_first, of_second = (weights_digest(base, adapter, index) for adapter in (None, first, second))
        _write(temporary, weights, _stacked_config(configs[0], ranks))
        _copy(first, temporary, _DESCRIPTION)
    return Merge(method, chosen, "deltas", of_base, of_first, of_second, len(ranks), linear)


def apply_adapter(base: Path, adapter: Path, out: Path, dtype: torch.dtype | None = None) -> Path:
    """Write the full model that ``base`` with a LoRA adapter is; the whole model is in memory meanwhile.

    ``dtype`` None keeps the base's type; float32 keeps what a bfloat16 base would round away of a small adapter.
    Raises InputError if ``out`` would replace an input, TrainingError if the adapter is missing or not plain LoRA.
    """
    _config(adapter)
    with _new_folder(out, base, adapter) as temporary:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype or "auto", local_files_only=True)
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
        _copy(base, temporary, _DESCRIPTION)
        _copy(adapter, temporary, _DESCRIPTION)  # training may have given the adapter a tokenizer of its own
        merged.save_pretrained(str(temporary))
    return out


def _settings(method: str, given: dict[str, Any]) -> dict[str, Any]:
    known = DEFAULTS.get(method)
    if known is None or not given.keys() <= known.keys():
        accepted = "; ".join(f"{name} with {', '.join(values)}" for name, values in DEFAULTS.items())
        raise InputError(f"no merge {method!r} with settings {sorted(given)}; there is {accepted}")
    chosen, probe = known | given, torch.zeros(1)
    _ = slerp(probe, probe, **chosen) if method == "slerp" else ties([probe, probe], **chosen)  # checks the values
    return chosen


def _slerp(a: Tensor, b: Tensor, t: float) -> tuple[Tensor, bool]:
    """The interpolation, and whether it was linear."""
    if not 0 <= t <= 1:
        raise InputError(f"t is the way from the first model (0) to the second (1), in [0, 1], not {t}")
    _check_shapes(a, b)
    of_a, of_b, straight = _arc(_dot(a, a), _dot(b, b), _dot(a, b), t)
    result, wide = torch.empty(a.shape, dtype=a.dtype), _wide(a, b)
    for block, x, y in zip(_blocks(result), _blocks(a), _blocks(b), strict=True):
        block.copy_(of_a * x.to(wide) + of_b * y.to(wide))
    return result, straight


def _arc(aa: float, bb: float, ab: float, t: float) -> tuple[float, float, bool]:
    """From inner products: the weights of a and b, and whether they are those of linear interpolation."""
    norms = math.sqrt(aa) * math.sqrt(bb)
    if norms == 0 or abs(ab) > _COLINEAR * norms:
        return 1 - t, t, True
    angle = math.acos(ab / norms)
    return math.sin(angle - angle * t) / math.sin(angle), math.sin(angle * t) / math.sin(angle), False


def _dot(a: Tensor, b: Tensor) -> float:
    return sum(float(x.double() @ y.double()) for x, y in zip(_blocks(a), _blocks(b), strict=True))


def _inner(a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor) -> float:
    """<B1 A1, B2 A2> from factors A [r, in] and B [out, r]: the dense deltas are never made."""
    return float(((b1.double().T @ b2.double()) * (a1.double() @ a2.double().T)).sum())


def _rank_0(factors: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return factors[0][:0], factors[1][:, :0]


def _smallest_kept(delta: Tensor, density: float) -> float:
    kept = min(delta.numel(), max(1, int(density * delta.numel() + 1e-6)))
    if density == 0 or kept == 0:
        return math.inf
    magnitudes = delta.to(_wide(delta)).abs().flatten().numpy()
    magnitudes.partition(magnitudes.size - kept)  # torch.kthvalue would hold an index per number as well
    return float(magnitudes[magnitudes.size - kept])


def _wide(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def _blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    return torch.split(tensor.reshape(-1), _BLOCK)


def _check_shapes(*tensors: Tensor) -> None:
    if len({tensor.shape for tensor in tensors}) > 1:
        raise InputError(f"tensors of one shape can be merged, not {', '.join(str(list(t.shape)) for t in tensors)}")


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(_bytes(a), _bytes(b))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


class _Weights:
    """A folder's tensors: ``entries`` says of each its file, name, dtype, shape and the first byte's place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, dict[str, Any]] = {}
        files = [_WHOLE]
        if (folder / _INDEX).is_file():
            content = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            files = sorted({Path(name).name for name in content["weight_map"].values()})
        elif not (folder / _WHOLE).is_file():
            raise InputError(
                f"{folder}: no full weights here ({_WHOLE} or {_INDEX} expected); for an adapter use apply_adapter or "
                "merge_adapters, and convert *.bin files with transformers' save_pretrained"
            )
        for file in files:
            try:
                with safe_open(folder / file, "pt"), (folder / file).open("rb") as handle:
                    header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
                    data = handle.tell()
            except (OSError, SafetensorError) as error:
                raise InputError(f"{folder / file}: not a whole safetensors file ({error}); copy it again") from error
            header.pop("__metadata__", None)
            for name, entry in header.items():
                self.entries[name] = {**entry, "file": file, "name": name, "at": data + entry["data_offsets"][0]}

    def read(self, name: str) -> Tensor:
        entry = self.entries[name]
        with safe_open(self.folder / entry["file"], "pt") as handle:
            tensor: Tensor = handle.get_tensor(entry["name"])
        return tensor

    def twin_of_head(self) -> str | None:
        """The name of the tensor that the output head is a copy of."""
        shape = self.entries[_HEAD]["shape"]
        alike = [name for name, entry in self.entries.items() if name != _HEAD and entry["shape"] == shape]
        return next((name for name in alike if _same_bits(self.read(_HEAD), self.read(name))), None)


def _check_fit(models: Sequence[_Weights]) -> None:
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
                f"{name} is {here} in {model.folder} and {there} in {models[0].folder}; only models that were "
                "fine-tuned from one base can be merged"
            )


def _copy(folder: Path, out: Path, patterns: Sequence[str]) -> None:
    for path in {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}:
        shutil.copyfile(path, out / path.name)  # not its mode: a cache's files are read-only


def _keep_inputs(out: Path, *inputs: Path) -> None:
    for folder in inputs:
        if folder.resolve().is_relative_to(out.resolve()):
            raise InputError(f"{out}: writing there would replace the input {folder}; name another folder")


@contextmanager
def _new_folder(out: Path, *inputs: Path) -> Iterator[Path]:
    """A temporary folder that gets the name ``out`` if all goes well, and goes away if not."""
    _keep_inputs(out, *inputs)
    temporary = _fresh_sibling(out)
    try:
        yield temporary
        publish(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
