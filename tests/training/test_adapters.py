"""Stacking adapters is exact, and a DPO run on a stacked start has the right reference."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny_models import random_examples, tiny_model, tiny_tokenizer
from transformers import PreTrainedModel

from alignprism.models.loading import with_adapter
from alignprism.training.adapters import save_adapter, stack_adapters, whole_folder
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.loop import train
from alignprism.training.losses import LN2
from alignprism.training.reference import compute_reference

IDS = torch.tensor([[1, 7, 9, 11, 40, 3]])


def _adapter(folder: Path, seed: int, architecture: str = "gemma3", **settings: Any) -> Path:
    torch.manual_seed(seed)
    options = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings}
    model = get_peft_model(tiny_model(architecture), LoraConfig(**options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(str(folder))
    return folder


def _merged(model: PreTrainedModel, *folders: Path) -> PreTrainedModel:
    for folder in folders:
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    return model.eval()


def _logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


@pytest.mark.parametrize(
    "second",
    [
        {},
        {"r": 2, "lora_alpha": 8},
        {"use_rslora": True},
        {"target_modules": ["q_proj", "v_proj"]},
        {"alpha_pattern": {"q_proj": 1}, "rank_pattern": {"k_proj": 2}},
        {"alpha_pattern": {r"layers\.0\..*_proj": 40, "proj": 1, "q_proj": 30}},
        {"init_lora_weights": "orthogonal"},
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    ],
    ids=["same", "other rank", "rslora", "fewer layers", "patterns", "regular expressions", "start", "one layer"],
)
def test_a_stacked_adapter_is_the_chain(tmp_path: Path, second: dict[str, Any]) -> None:
    chain = [_adapter(tmp_path / "a", 1), _adapter(tmp_path / "b", 2, **second), _adapter(tmp_path / "c", 3)]
    expected = _logits(_merged(tiny_model("gemma3"), *chain))
    stacked = stack_adapters(chain, tmp_path / "stacked")
    assert not torch.allclose(expected, _logits(tiny_model("gemma3")), atol=0.1)
    unmerged = PeftModel.from_pretrained(tiny_model("gemma3"), str(stacked)).eval()
    assert torch.allclose(_logits(unmerged), expected, atol=2e-4)
    assert torch.allclose(_logits(_merged(tiny_model("gemma3"), stacked)), expected, atol=2e-4)


def test_stacked_weights_equal_the_sum_of_products_exactly(tmp_path: Path) -> None:
    chain = [_adapter(tmp_path / "a", 1), _adapter(tmp_path / "b", 2, r=2, lora_alpha=8)]
    base = tiny_model("gemma3").double().state_dict()
    merged = _merged(tiny_model("gemma3").double(), *chain).state_dict()
    stacked = _merged(tiny_model("gemma3").double(), stack_adapters(chain, tmp_path / "s")).state_dict()
    for name, tensor in merged.items():
        change = float((tensor - base[name]).abs().max())
        assert float((stacked[name] - tensor).abs().max()) <= 1e-6 * max(change, 1e-9), name


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good = _adapter(tmp_path / "good", 1)
    with pytest.raises(TrainingError, match="use_dora"):
        stack_adapters([good, _adapter(tmp_path / "dora", 2, use_dora=True)], tmp_path / "out")
    with pytest.raises(TrainingError, match="no adapter here"):
        stack_adapters([good, tmp_path / "missing"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
def test_adapters_of_different_layers_stay_on_them(order: tuple[str, str], tmp_path: Path) -> None:
    """Same ranks, and names that are in every layer: of a stack by these names peft would want tensors it does not have."""
    _adapter(tmp_path / "first", 1, target_modules=["q_proj"], layers_to_transform=[0])
    _adapter(tmp_path / "second", 2, target_modules=["model.layers.1.self_attn.v_proj"])
    stacked = stack_adapters([tmp_path / name for name in order], tmp_path / "stacked")
    expected = _logits(_merged(tiny_model("gemma3"), tmp_path / "first", tmp_path / "second"))
    assert torch.allclose(_logits(with_adapter(tiny_model("gemma3"), stacked).eval()), expected, atol=2e-4)


@pytest.mark.parametrize(
    ("settings", "architecture", "why"),
    [
        ({"target_modules": ["q_proj", "embed_tokens"]}, "gemma3", "embed_tokens.base_layer.weight is no A or B"),
        ({"trainable_token_indices": [3, 7]}, "gemma3", "trainable_token_indices"),
        ({"init_lora_weights": "pissa"}, "gemma3", r"init_lora_weights \(pissa\)"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "qwen3_moe", "target_parameters"),
    ],
    ids=["embedding", "tokens", "another base", "experts"],
)
def test_what_is_no_sum_of_products_is_refused(
    settings: dict[str, Any], architecture: str, why: str, tmp_path: Path
) -> None:
    odd = _adapter(tmp_path / "odd", 2, architecture, **{"target_modules": ["q_proj"], **settings})
    with pytest.raises(TrainingError, match=rf"odd.adapter_.*only plain LoRA adapters can be stacked.*{why}"):
        stack_adapters([odd], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda tensors: tensors | {"base_model.model.lm_head.weight": torch.ones(3, 3)}, r"lm_head\.weight is no A or B"),
        (lambda tensors: {f"x.{name}": value for name, value in tensors.items()}, "x.base_model.* is no A or B"),
        (lambda tensors: {name: value for name, value in tensors.items() if "0.self_attn.q_proj.lora_B" not in name},
         r"layers\.0\.self_attn\.q_proj\.lora_B\.weight is missing"),
        (lambda tensors: {}, "every tensor is missing"),
        (lambda tensors: {name.replace("lora_", "lora_embedding_"): value for name, value in tensors.items()},
         "lora_embedding_A.weight is no A or B"),
    ],
    ids=["saved head", "prefix", "no B", "empty", "embedding"],
)  # fmt: skip
def test_every_tensor_of_a_stacked_file_is_accounted_for(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], why: str, tmp_path: Path
) -> None:
    one = _adapter(tmp_path / "one", 1)
    save_file(change(load_file(one / "adapter_model.safetensors")), one / "adapter_model.safetensors")
    with pytest.raises(TrainingError, match=rf"one.adapter_model.safetensors: only plain LoRA .*{why}"):
        stack_adapters([one], tmp_path / "out")


def test_half_precision_on_request(tmp_path: Path) -> None:
    one = _adapter(tmp_path / "one", 1)
    stack_adapters([one], tmp_path / "half", dtype=torch.float16)
    size = {name: (tmp_path / name / "adapter_model.safetensors").stat().st_size for name in ("one", "half")}
    assert size["half"] < 0.6 * size["one"]
    halved = _logits(_merged(tiny_model("gemma3"), tmp_path / "half"))
    assert torch.allclose(halved, _logits(_merged(tiny_model("gemma3"), one)), atol=0.05)


def test_dpo_after_sft_starts_from_the_stacked_checkpoint_and_saves_a_portable_adapter(tmp_path: Path) -> None:
    examples = random_examples(6)
    ift = _adapter(tmp_path / "ift", 1)
    sft = TrainConfig("sft-preferred", learning_rate=1e-2, epochs=3, batch_size=3, lora_rank=2)
    train(sft, examples, _merged(tiny_model("gemma3"), ift), tiny_tokenizer(), tmp_path / "sft")
    start = stack_adapters([ift, tmp_path / "sft" / "adapter"], tmp_path / "start")

    model = _merged(tiny_model("gemma3"), start)
    reference = compute_reference("sft-preferred", "start", model, examples, tmp_path / "ref.jsonl")
    dpo = TrainConfig("dpo-sft", learning_rate=1e-2, epochs=3, batch_size=3, lora_rank=2)
    result = train(dpo, examples, model, tiny_tokenizer(), tmp_path / "dpo", reference)
    assert result.first_loss == pytest.approx(LN2, abs=1e-5)

    cell = stack_adapters([start, tmp_path / "dpo" / "adapter"], tmp_path / "cell")
    trained = _logits(model.eval())
    assert torch.allclose(_logits(_merged(tiny_model("gemma3"), cell)), trained, atol=2e-4)
    assert json.loads((cell / "adapter_config.json").read_text())["base_model_name_or_path"] == ""

    wrong = compute_reference("ift", "ift", _merged(tiny_model("gemma3"), ift), examples, tmp_path / "ref.jsonl")
    with pytest.raises(TrainingError, match="wrong reference"):
        train(dpo, examples, _merged(tiny_model("gemma3"), start), tiny_tokenizer(), tmp_path / "bad", wrong)


@contextmanager
def _full_disk() -> Iterator[None]:
    """No file of this process can grow beyond some bytes: what a full disk does to a save."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _left_by_a_kill(out: Path) -> Path:
    """What a process that was killed while it saved `out` leaves beside it."""
    left = out.with_name(f".{out.name}.4711.tmp")
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    return left


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out [1]"
    left, again = _left_by_a_kill(out), tmp_path / ".out [1].12.tmp"
    again.mkdir()
    others = [_left_by_a_kill(tmp_path / "out"), tmp_path / ".out [1].mine.tmp", tmp_path / "x.out [1].1.tmp"]
    for other in others[1:]:
        other.mkdir()
    stack_adapters([_adapter(tmp_path / "one", 1)], out)
    assert (out / "adapter_model.safetensors").is_file() and not left.exists() and not again.exists()
    assert all(other.is_dir() for other in others)


@pytest.mark.parametrize("kind", ["trained adapter", "stacked adapter", "full weights"])
def test_a_save_that_fails_leaves_nothing_behind(kind: str, tmp_path: Path) -> None:
    one, model = _adapter(tmp_path / "one", 1), tiny_model("gemma3")
    out = tmp_path / "work" / "model"
    left = _left_by_a_kill(out)
    policy = PeftModel.from_pretrained(tiny_model("gemma3"), str(one))

    def save() -> None:
        if kind == "trained adapter":
            save_adapter(policy, out)
        elif kind == "stacked adapter":
            stack_adapters([one], out)
        else:
            with whole_folder(out) as temporary:
                model.save_pretrained(str(temporary))

    with _full_disk(), pytest.raises((OSError, SafetensorError), match="File too large"):
        save()
    assert not left.exists() and not list(out.parent.iterdir())
    save()
    assert [path.name for path in out.parent.iterdir()] == ["model"]
