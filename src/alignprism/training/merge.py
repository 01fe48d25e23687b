"""Merging two models fine-tuned from one base: SLERP and TIES, as in the paper's sequel (arXiv 2410.10801).

There the models trained on 0 % and on 100 % safety pairs are merged, instead of training one model on mixed data. For
full models SLERP acts on the weights, whose angle is so small that it is mostly linear interpolation; TIES acts on the
deltas, model minus base. For adapters SLERP acts on the deltas, whose angle is large: another method under the same
name, and the record says which (``acts_on``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from alignprism.errors import InputError
from alignprism.models.identity import weights_digest
from alignprism.models.local import with_adapter
from alignprism.training.adapters import read_config, read_factors, stacked_config, tensor_shapes, write_adapter
from alignprism.training.model_folder import DESCRIPTION, ModelFolder, check_fit, copy_files, new_folder, same_bits

# TIES: its paper's recipe for where no validation set is at hand, the top 20 % and lambda 1.
DEFAULTS: dict[str, dict[str, Any]] = {
    "slerp": {"t": 0.5},
    "ties": {"density": 0.2, "weights": (1.0, 1.0), "scale": 1.0},
}
_PLAIN = {"F16", "BF16", "F32", "F64"}
_COLINEAR = 0.9995  # |cosine| beyond which the sines lose digits and the arc is a straight line (as mergekit)
_ROUNDING = 1e-12  # of squared lengths, computed in float64
_BLOCK = 2**22  # numbers widened at a time, so that a large embedding is never copied whole in float64


_Factors = tuple[Tensor, Tensor]
"""A module's delta B A as A [rank, in] and B [out, rank]."""


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


def merge_settings(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """All settings of a method, those not given by `DEFAULTS`; InputError for an unknown method, setting or value."""
    known = DEFAULTS.get(method)
    if known is None or not given.keys() <= known.keys():
        accepted = "; ".join(f"{name} with {', '.join(values)}" for name, values in DEFAULTS.items())
        raise InputError(f"no merge {method!r} with settings {sorted(given)}; there is {accepted}")
    chosen, probe = known | given, torch.zeros(1)
    _ = slerp(probe, probe, **chosen) if method == "slerp" else ties([probe, probe], **chosen)  # checks the values
    return chosen


def merge_models(
    method: str,
    base: Path,
    first: Path,
    second: Path,
    out: Path,
    *,
    index: Path | None = None,
    digests: tuple[str, str, str] | None = None,
    **settings: Any,
) -> Merge:
    """Merge two full-weight folders (transformers format, safetensors) into ``out``, one tensor at a time.

    ``method`` is a key of `DEFAULTS`, ``settings`` change its values. ``out`` has the files, types, configuration,
    tokenizer and chat template of ``first``, and appears whole or not at all. ``index`` remembers digests; ``digests``
    names base, first and second in the record where their folders do not (an adapter, written as a full model for this).

    TIES is given deltas in float32 (float64 for float64) also where the folders are bfloat16 or float16: the subtraction
    and the sum with the base lose nothing, and the result is rounded once, to the type of ``first``. What fine-tuning in
    bfloat16 has itself rounded away of a small delta is gone; float32 folders have it.

    Raises
    ------
    InputError
        unknown method or setting; a folder without whole safetensors weights; tensors that differ in name or shape,
        are quantised or not finite; or an ``out`` that would replace an input.
    """
    chosen = merge_settings(method, settings)
    origin, one, two = models = [ModelFolder(folder) for folder in (base, first, second)]
    check_fit(models)
    linear = 0

    def merged(name: str) -> Tensor:
        nonlocal linear
        a, b, kinds = one.read(name), two.read(name), {model.entries[name]["dtype"] for model in models}
        if not kinds <= _PLAIN:
            if same_bits(a, b):
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

    with new_folder(out, base, first, second) as temporary:
        copy_files(first, temporary, DESCRIPTION)
        one.copy_weights(temporary)
        for name in one.entries:
            one.overwrite(temporary, name, merged(name))
        of_base, of_first, of_second = digests or (
            weights_digest(folder, index=index) for folder in (base, first, second)
        )
    acts_on: Literal["weights", "deltas"] = "weights" if method == "slerp" else "deltas"
    return Merge(method, chosen, acts_on, of_base, of_first, of_second, len(one.entries), linear)


def merge_adapters(
    method: str,
    base: Path,
    first: Path,
    second: Path,
    out: Path,
    *,
    index: Path | None = None,
    start: Path | None = None,
    check_names: bool = True,
    **settings: Any,
) -> Merge:
    """SLERP of each module's delta, scale B A, of two LoRA adapters of ``base``, written as one adapter in ``out``.

    SLERP is a linear combination: the factors are concatenated, ranks add up, and nothing is approximated. A module
    that one adapter lacks has a zero delta there. Where ``first`` has a tokenizer or chat template, it is copied.
    ``start`` is an adapter of ``base`` that both were fine-tuned from and hold: deltas are then what they add to it.
    ``check_names`` False: the caller knows that both are adapters of ``base``, by whatever name they record it.

    Raises
    ------
    InputError
        "ties", which has full rank; an unknown method or setting; adapters that record different bases or disagree on
        a module's size; values that are not finite; or an ``out`` that would replace an input.
    TrainingError
        an adapter is missing or not plain LoRA.
    """
    chosen = merge_settings(method, settings)
    if method == "ties":
        raise InputError(
            "TIES of two adapters has full rank and is no adapter: write full models with apply_adapter(base, adapter, "
            "out, dtype=torch.float32) and merge those with merge_models('ties', ...)"
        )
    configs = [read_config(folder) for folder in (first, second)]
    bases = sorted({config["base_model_name_or_path"] for config in configs if config.get("base_model_name_or_path")})
    if check_names and len(bases) > 1:
        raise InputError(f"{first} and {second} are adapters of different bases, {' and '.join(bases)}")
    ones, twos, starts = read_factors(first), read_factors(second), read_factors(start) if start else {}
    weights: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    linear = 0
    for module in sorted(ones.keys() | twos.keys() | starts.keys()):
        there = [factors[module] for factors in (ones, twos, starts) if module in factors]
        if len({(a.shape[1], b.shape[0]) for a, b in there}) > 1:
            raise InputError(f"{first} and {second} disagree on the size of {module}: they are of different bases")
        parts = [factors.get(module) or _rank_0(there[0]) for factors in (ones, twos, starts)]
        of_1, of_2, straight = _arc_above(parts[0], parts[1], parts[2], chosen["t"])
        linear += straight
        shares = (of_1, of_2, 1 - of_1 - of_2)
        a, b = torch.cat([a for a, _ in parts]), torch.cat([w * b for w, (_, b) in zip(shares, parts, strict=True)], 1)
        if not (a.isfinite().all() and b.isfinite().all()):
            raise InputError(f"{module}: {first} or {second} holds values that are not finite")
        weights |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        ranks[module] = a.shape[0]
    with new_folder(out, base, first, second) as temporary:
        of_base, of_first, of_second = (weights_digest(base, adapter, index) for adapter in (start, first, second))
        write_adapter(temporary, weights, stacked_config(configs, ranks))
        copy_files(first, temporary, DESCRIPTION)
    return Merge(method, chosen, "deltas", of_base, of_first, of_second, len(ranks), linear)


def apply_adapter(base: Path, adapter: Path, out: Path, dtype: torch.dtype | None = None) -> Path:
    """Write the full model that ``base`` with a LoRA adapter is; the whole model is in memory meanwhile.

    ``dtype`` None keeps the base's type; float32 keeps what a bfloat16 base would round away of a small adapter.
    Raises InputError if ``out`` would replace an input or the adapter changes a head that is the embedding too,
    TrainingError if the adapter is missing or not plain LoRA.
    """
    tensor_shapes(adapter)  # refuses what is no plain LoRA, or damaged
    with new_folder(out, base, adapter) as temporary:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype or "auto", local_files_only=True)
        merged = with_adapter(model, adapter)
        copy_files(base, temporary, DESCRIPTION)
        copy_files(adapter, temporary, DESCRIPTION)  # training may have given the adapter a tokenizer of its own
        merged.save_pretrained(str(temporary))
    return out


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


def _arc_above(first: _Factors, second: _Factors, start: _Factors, t: float) -> tuple[float, float, bool]:
    """`_arc` of what two adapters of one module add to a third."""
    changes = [(torch.cat([a, start[0]]), torch.cat([b, -start[1]], 1)) for a, b in (first, second)]
    # What is left of an adapter that adds nothing is rounding, and has no angle.
    squares = [_inner(*change, *change) for change in changes]
    totals = [_inner(*factors, *factors) + _inner(*start, *start) for factors in (first, second)]
    aa, bb = (square if square > _ROUNDING * total else 0.0 for square, total in zip(squares, totals, strict=True))
    return _arc(aa, bb, _inner(*changes[0], *changes[1]), t)


def _dot(a: Tensor, b: Tensor) -> float:
    return sum(float(x.double() @ y.double()) for x, y in zip(_blocks(a), _blocks(b), strict=True))


def _inner(a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor) -> float:
    """<B1 A1, B2 A2> from factors A [r, in] and B [out, r]: the dense deltas are never made."""
    return float(((b1.double().T @ b2.double()) * (a1.double() @ a2.double().T)).sum())


def _rank_0(factors: _Factors) -> _Factors:
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
