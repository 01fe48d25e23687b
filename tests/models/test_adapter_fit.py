"""An adapter is applied whole or not at all: peft itself leaves out, without a word, what fits nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen3MoeConfig

from alignprism.errors import InputError
from alignprism.models.loading import with_adapter

IDS = torch.tensor([[1, 7, 9, 11, 40, 3]])
SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def _model(layers: int = 2, *, tied: bool = False) -> PreTrainedModel:
    torch.manual_seed(0)
    return _built(LlamaConfig(**SIZES, num_hidden_layers=layers, tie_word_embeddings=tied))


def _experts() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
    return _built(Qwen3MoeConfig(**SIZES, **sizes, num_hidden_layers=2))


def _built(config: Any) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def _adapter(folder: Path, model: PreTrainedModel, save: dict[str, Any] | None = None, **settings: Any) -> Path:
    torch.manual_seed(1)
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **settings}
    wrapped = get_peft_model(model, LoraConfig(**options))
    with torch.no_grad():
        for _, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    wrapped.save_pretrained(str(folder), **(save or {}))
    return folder


def _logits(model: Any) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=IDS).logits
    return logits


def _rewrite(folder: Path, change: Any) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({new: value for name, value in load_file(file).items() if (new := change(name))}, file)


def test_an_adapter_of_a_deeper_model_loses_no_layers_silently(tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "deep", _model(4))
    with pytest.raises(
        InputError, match=r"deep: this adapter does not fit .* \(8 tensors have no place in it: .*layers\.2"
    ):
        with_adapter(_model(2), adapter)


def test_an_adapter_of_a_shallower_model_leaves_no_layer_bare(tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "shallow", _model(2))
    with pytest.raises(InputError, match=r"\(4 tensors that it needs are missing: .*layers\.2.*lora_A\.weight"):
        with_adapter(_model(3), adapter)


def test_an_adapter_whose_tensors_have_another_prefix_is_not_the_bare_base(tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "prefix", _model())
    _rewrite(adapter, lambda name: name.replace("base_model.model.model.", "base_model.model.language_model."))
    with pytest.raises(
        InputError, match=r"8 tensors have no place in it: .*language_model.*; 8 tensors .* are missing"
    ):
        with_adapter(_model(), adapter)


@pytest.mark.parametrize("settings", [{"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [3, 7]}], ids=str)
def test_a_missing_whole_module_or_token_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a", _model(), **settings)
    _rewrite(adapter, lambda name: name if "lora_" in name else "")
    with pytest.raises(InputError, match=r"does not fit .* is missing"):
        with_adapter(_model(), adapter)


def test_a_file_that_lacks_a_magnitude_is_refused(tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "dora", _model(), use_dora=True)
    _rewrite(adapter, lambda name: "" if "layers.1.self_attn.q_proj.lora_magnitude" in name else name)
    with pytest.raises(InputError, match=r"1 tensors that it needs are missing: .*lora_magnitude_vector"):
        with_adapter(_model(), adapter)


@pytest.mark.parametrize(
    ("settings", "save"),
    [
        ({}, {}),
        ({}, {"save_embedding_layers": True}),
        ({"use_dora": True}, {}),
        ({"use_rslora": True, "rank_pattern": {"v_proj": 2}}, {}),
        ({"modules_to_save": ["lm_head", "embed_tokens"]}, {}),
        ({"trainable_token_indices": [3, 7]}, {}),
        ({"target_modules": ["q_proj", "embed_tokens"]}, {}),
        ({"target_modules": "all-linear", "bias": "none"}, {}),
        ({"layers_to_transform": [1]}, {}),
    ],
    ids=str,
)
def test_what_peft_saves_is_loaded_whole(settings: dict[str, Any], save: dict[str, Any], tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a", _model(), save, **settings)
    expected = _logits(PeftModel.from_pretrained(_model(), str(adapter)).eval())
    assert not torch.allclose(expected, _logits(_model()), atol=1e-2)
    torch.testing.assert_close(_logits(with_adapter(_model(), adapter)), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("tied", [{"trainable_token_indices": [3, 7]}, {"use_dora": True}], ids=str)
def test_a_tied_model_loads_what_leaves_its_embedding_tied(tied: dict[str, Any], tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a", _model(tied=True), **tied)
    expected = _logits(PeftModel.from_pretrained(_model(tied=True), str(adapter)).eval())
    torch.testing.assert_close(_logits(with_adapter(_model(tied=True), adapter)), expected, atol=1e-3, rtol=1e-3)


def test_an_adapter_on_experts_is_loaded_whole(tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a", _experts(), target_parameters=["mlp.experts.gate_up_proj"])
    expected = _logits(PeftModel.from_pretrained(_experts(), str(adapter)).eval())
    torch.testing.assert_close(_logits(with_adapter(_experts(), adapter)), expected, atol=1e-3, rtol=1e-3)


def test_an_adapter_on_an_embedding_that_is_the_head_too_is_not_applied(tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a", _model(tied=True), target_modules=["q_proj", "embed_tokens"])
    with pytest.raises(InputError, match="changes the embedding, whose weights are the output head's as well"):
        with_adapter(_model(tied=True), adapter)
