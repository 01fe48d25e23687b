"""LoRA adapters: attaching one, saving it in peft's format, and stacking several into one that is exactly their sum."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from alignprism.rows import write_atomic
from alignprism.training.config import TrainConfig, TrainingError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PLAIN = {
    "use_dora": False,
    "bias": "none",
    "modules_to_save": None,
    "fan_in_fan_out": False,
    "lora_bias": False,
    "trainable_token_indices": None,
    "target_parameters": None,
    "layer_replication": None,
    "alora_invocation_tokens": None,
    "use_qalora": False,
    "use_bdlora": None,
    "arrow_config": None,
    "kasa_config": None,
    "monteclora_config": None,
}
# Others (pissa, olora, corda, loftq, ...) change the base's weights, in training and whenever peft loads the adapter.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
_ONLY_SOME_LAYERS = ("layers_to_transform", "layers_pattern", "exclude_modules")


def attach_lora(model: PreTrainedModel, config: TrainConfig) -> PeftModel:
    """Put new adapters (B = 0, so the model is unchanged) on every linear layer, in place; on the head where asked for.

    The same seed gives the same initial A whatever ran before; the global random state is left as it was.

    Raises
    ------
    TrainingError
        the model carries adapters already, or its head is to get one and is the embedding too.
    """
    if config.lora_head and model.config.get_text_config().tie_word_embeddings:
        raise TrainingError(
            "lora_head: the output head of this model is its embedding too (tied), and an adapter on it cannot be merged "
            "without changing the embedding; leave lora_head off, or train full weights"
        )
    if getattr(model, "peft_config", None) or isinstance(model, PeftModel):
        raise TrainingError("the model already carries adapters; merge them first, so that the start is one model")
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        target_modules=_linear_layers(model) if config.lora_head else "all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy = get_peft_model(model, lora)
    assert isinstance(policy, PeftModel)
    return policy


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """Names of all linear layers, the output head included (peft's ``all-linear`` leaves it out)."""
    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


def save_adapter(policy: PeftModel, out: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write the adapter to a folder, whole or not at all. The base model's local path is not recorded.

    `weights` are the policy's whole weights where its parameters are sharded over processes.
    """
    gathered = {} if weights is None else {"state_dict": weights}
    with whole_folder(out) as temporary:
        policy.save_pretrained(str(temporary), save_embedding_layers=False, **gathered)
        settings = json.loads((temporary / CONFIG_FILE).read_text(encoding="utf-8"))
        settings["base_model_name_or_path"] = ""
        (temporary / CONFIG_FILE).write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
        (temporary / "README.md").unlink(missing_ok=True)


def stack_adapters(adapters: Sequence[Path], out: Path, dtype: torch.dtype | None = None) -> Path:
    """One adapter that is exactly the sum of several on the same base: factors concatenated, scales folded into B.

    sum_i s_i B_i A_i  =  [s_1 B_1, s_2 B_2, ...] [A_1; A_2; ...], so ranks add up and nothing is approximated. A chain
    "base, then A merged, then B trained on top" is therefore one folder and one adapter. ``dtype`` casts the result.

    Raises
    ------
    TrainingError
        an adapter is not plain LoRA, or two do not fit the same base.
    """
    if not adapters:
        raise TrainingError("no adapters to stack")
    factors = [read_factors(folder) for folder in adapters]
    stacked: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for module in sorted(set().union(*factors)):
        parts = [f[module] for f in factors if module in f]
        if len({(a.shape[1], b.shape[0]) for a, b in parts}) > 1:
            raise TrainingError(f"the adapters {', '.join(p.name for p in adapters)} disagree on the size of {module}")
        a, b = torch.cat([a for a, _ in parts], 0), torch.cat([b for _, b in parts], 1)
        ranks[module] = a.shape[0]
        stacked[f"{module}.lora_A.weight"] = a.to(dtype or a.dtype).contiguous()
        stacked[f"{module}.lora_B.weight"] = b.to(dtype or b.dtype).contiguous()
    write_adapter(out, stacked, stacked_config([read_config(folder) for folder in adapters], ranks))
    return out


def name_base(folder: Path, source: str) -> None:
    """Write the base into an adapter, so that the folder alone says what it belongs to."""
    file = folder / CONFIG_FILE
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = source
    write_atomic(file, json.dumps(settings, indent=2, sort_keys=True).encode())


def publish(temporary: Path, out: Path) -> None:
    """Sync a finished folder to disk and give it its name, replacing what stood there."""
    for path in [*sorted(temporary.rglob("*")), temporary]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if out.exists():
        shutil.rmtree(out)
    temporary.replace(out)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that gets the name ``out`` if all goes well, and goes away if not (a full disk)."""
    with temporary_beside(out) as temporary:
        yield temporary
        publish(temporary, out)


@contextmanager
def temporary_beside(out: Path) -> Iterator[Path]:
    """An empty folder beside ``out``, on its disk, that goes away; what killed processes left of such folders does so too.

    One process makes ``out`` at a time: commands lock the folder that they work in.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    left = re.compile(rf"\.{re.escape(out.name)}\.\d+\.tmp")
    for path in out.parent.iterdir():
        if left.fullmatch(path.name) and path.is_dir():
            shutil.rmtree(path)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_adapter(out: Path, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write an adapter folder in peft's format, whole or not at all; it replaces what stood there."""
    with whole_folder(out) as temporary:
        save_file(weights, str(temporary / WEIGHTS_FILE), metadata={"format": "pt"})
        (temporary / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """An adapter's settings.

    Raises
    ------
    TrainingError
        there is no adapter, or it is more than plain LoRA.
    """
    path = folder / CONFIG_FILE
    if not path.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise TrainingError(f"{folder}: no adapter here ({CONFIG_FILE} and {WEIGHTS_FILE} expected)")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    unusual = [key for key, plain in _PLAIN.items() if config.get(key, plain) not in (plain, [], {})]
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        unusual.append(f"init_lora_weights ({config['init_lora_weights']})")
    if config.get("peft_type") != "LORA" or unusual:
        what = ", ".join(unusual) or f"peft_type {config.get('peft_type')}"
        raise TrainingError(f"{path}: only plain LoRA adapters can be stacked, this one sets {what}")
    return config


def check_plain(folder: Path) -> list[str]:
    """The modules that an adapter changes, from its settings and its file's header alone.

    Raises
    ------
    TrainingError
        as `tensor_shapes`; or the tensors are not just a matrix A and a matrix B for every module.
    """
    shapes, file = tensor_shapes(folder), folder / WEIGHTS_FILE
    modules = {name.rpartition(".lora_")[0] for name in shapes if name.startswith(_PREFIX)} - {""}
    expected = {f"{module}.lora_{side}.weight" for module in modules for side in "AB"}
    # A tensor that is passed over would be missing from the sum: of an embedding, of a bias, of another model.
    strange = sorted(name for name in shapes if name not in expected or len(shapes[name]) != 2)
    missing = sorted(expected - shapes.keys())
    if strange or missing or not shapes:
        what = (
            f"{strange[0]} is no A or B of a linear layer"
            if strange
            else f"{(missing or ['every tensor'])[0]} is missing"
        )
        if strange and strange[0].endswith(".base_layer.weight"):
            what += ", but the layer itself (save_pretrained(..., save_embedding_layers=False) leaves it out)"
        raise TrainingError(f"{file}: only plain LoRA adapters can be stacked; {what}")
    return sorted(modules)


def tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Names and shapes of an adapter's tensors, from its file's header.

    Raises
    ------
    TrainingError
        as `read_config`; or the weights are damaged.
    """
    read_config(folder)
    file = folder / WEIGHTS_FILE
    try:
        with safe_open(file, "pt") as handle:
            return {name: handle.get_slice(name).get_shape() for name in handle.keys()}  # noqa: SIM118  # no dict
    except SafetensorError as error:
        raise TrainingError(f"{file}: not a whole safetensors file ({error}); copy it again") from error


def read_factors(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Module name -> (A [rank, in], scale * B [out, rank]), in float32.

    Raises
    ------
    TrainingError
        as `check_plain`.
    """
    modules, config = check_plain(folder), read_config(folder)
    weights = load_file(str(folder / WEIGHTS_FILE))
    result: dict[str, tuple[Tensor, Tensor]] = {}
    for module in modules:
        a, b = (weights[f"{module}.lora_{side}.weight"].float() for side in "AB")
        result[module] = (a, b * _scaling(config, module, a.shape[0]))
    return result


def stacked_config(stacked: Sequence[Mapping[str, Any]], ranks: Mapping[str, int]) -> dict[str, Any]:
    """The settings of an adapter whose modules have these ranks and scale 1; the rest as in the first of those stacked."""
    names = {module.removeprefix(_PREFIX): rank for module, rank in ranks.items()}
    common = max(set(names.values()), key=lambda rank: (sum(r == rank for r in names.values()), rank))
    others = {name: rank for name, rank in names.items() if rank != common}
    config = {
        key: value for key, value in stacked[0].items() if not key.startswith(("lora_", "init_", *_ONLY_SOME_LAYERS))
    }
    config |= {
        "base_model_name_or_path": "",
        "inference_mode": True,
        "r": common,
        "lora_alpha": common,
        "lora_dropout": 0.0,
        "rank_pattern": others,
        "alpha_pattern": others,
        "use_rslora": False,
        # Whole module names, because adapters on different layers must not spread over each other's.
        "target_modules": sorted(names)
        if others or any(map(_on_some_layers, stacked))
        else sorted({name.rsplit(".", 1)[-1] for name in names}),
    }
    return config


def _on_some_layers(config: Mapping[str, Any]) -> bool:
    """Whether an adapter's modules are not all those of a name, as far as its settings say."""
    targets = config.get("target_modules") or []
    by_place = targets != "all-linear" if isinstance(targets, str) else any("." in name for name in targets)
    return by_place or any(config.get(key) for key in _ONLY_SOME_LAYERS) or config.get("layers_to_transform") == 0


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    # peft's own rule: the first pattern that, as a regular expression, is the end of the module's name.
    alpha = patterns.get(get_pattern_key(list(patterns), module.removeprefix(_PREFIX)), config["lora_alpha"])
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)
