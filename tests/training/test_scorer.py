"""The scorer against the models' own full logits: values and gradients, for every form of head."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from peft import LoraConfig, get_peft_model
from tiny_models import CONFIGURATIONS, random_examples, tiny_model
from torch import Tensor
from transformers import PreTrainedModel

from alignprism.training.adapters import attach_lora
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.head import HeadForm, completion_log_probs
from alignprism.training.layout import collate
from alignprism.training.scorer import Scorer, check_against_logits

SEQUENCES = [(e.prompt_ids, ids) for e in random_examples(4) for ids in (e.chosen_ids, e.side("rejected"))]
BATCH = collate(SEQUENCES, 0)
SMALL_CHUNKS = {"head_bytes": 4 * 97 * 3}  # three tokens at a time
FULL = TrainConfig("sft-preferred", lora_rank=0, **SMALL_CHUNKS)
RECOMPUTE = TrainConfig("sft-preferred", lora_rank=0, head_keep_bytes=0, **SMALL_CHUNKS)


def _full_logits(model: PreTrainedModel) -> Tensor:
    """Every sequence alone, unpadded, through the model's own head."""
    sums = []
    for prompt, completion in SEQUENCES:
        ids = torch.tensor([prompt + completion])
        log_probs = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        sums.append(log_probs.gather(-1, ids[0, len(prompt) :, None]).sum())
    return torch.stack(sums)


def _gradients(model: torch.nn.Module, sums: Tensor) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 2, len(sums))  # sequences with different outer gradients, as DPO has
    model.zero_grad()
    (sums * weights).sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys() and expected
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), 1.0)
        assert float((found[name] - gradient).abs().max()) <= 1e-6 * scale, name


@pytest.mark.parametrize("config", [FULL, RECOMPUTE], ids=["kept", "recomputed"])
@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_log_probabilities_and_all_gradients_equal_full_logits(architecture: str, config: TrainConfig) -> None:
    model = tiny_model(architecture).double().requires_grad_(True)
    scorer = Scorer(model, config)
    sums, tokens, _ = scorer(BATCH)
    expected = _full_logits(model)
    assert torch.allclose(sums, expected.to(sums), rtol=1e-6, atol=1e-6)
    assert len(tokens) == sum(len(completion) for _, completion in SEQUENCES)
    _assert_close(_gradients(model, sums), _gradients(model, _full_logits(model)))


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_lora_gradients_with_a_frozen_head_equal_full_logits(architecture: str) -> None:
    policy = attach_lora(tiny_model(architecture), TrainConfig("dpo-ift", lora_rank=4))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(1))
    scorer = Scorer(policy, TrainConfig("dpo-ift", **SMALL_CHUNKS))
    assert not any(p.requires_grad for p in scorer.causal.get_output_embeddings().parameters())
    found = _gradients(policy, scorer(BATCH).sums)
    expected = _gradients(policy, _full_logits(scorer.causal))
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=2e-5 * float(gradient.abs().max())), name


@pytest.mark.parametrize("keep", [0, 512 * 2**20], ids=["recomputed", "kept"])
@pytest.mark.parametrize("architecture", ["llama", "cohere", "gemma2"])
def test_lora_on_the_head_equals_full_logits(architecture: str, keep: int) -> None:
    config = TrainConfig("dpo-ift", lora_rank=4, lora_head=True, head_keep_bytes=keep, **SMALL_CHUNKS)
    model = tiny_model(architecture)
    if model.config.tie_word_embeddings:
        with pytest.raises(TrainingError, match="its embedding too"):
            attach_lora(model, config)
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    policy = attach_lora(model, config)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(1))
    scorer = Scorer(policy, config)
    found = _gradients(policy, scorer(BATCH).sums)
    assert any("lm_head" in name for name in found)
    expected = _gradients(policy, _full_logits(scorer.causal))
    assert torch.allclose(scorer(BATCH).sums, _full_logits(scorer.causal), atol=1e-3)
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=2e-5 * float(gradient.abs().max())), name


def test_bfloat16_is_near_float32() -> None:
    exact, rounded = (Scorer(tiny_model("gemma3").to(dtype))(BATCH).sums for dtype in (torch.float32, torch.bfloat16))
    assert rounded.dtype == torch.float32
    assert torch.allclose(rounded, exact, rtol=0.05, atol=1.0)


@pytest.mark.parametrize("trainable", ["hidden", "head"])
def test_a_head_with_bias_scale_and_cap(trainable: str) -> None:
    torch.manual_seed(0)
    weight, bias, hidden = torch.randn(50, 8), torch.randn(50), torch.randn(11, 8)
    for tensor in (hidden,) if trainable == "hidden" else (hidden, weight, bias):
        tensor.requires_grad_()
    targets, outer = torch.randint(50, (11,)), torch.randn(11)
    form = HeadForm(scale=0.5, cap=2.0, chunk_bytes=4 * 50 * 4)
    inputs = [t for t in (hidden, weight, bias) if t.requires_grad]
    ours = completion_log_probs(hidden, weight, bias, targets, form)
    logits = torch.tanh((hidden @ weight.T + bias) * 0.5 / 2.0) * 2.0
    full = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    assert torch.allclose(ours, full, atol=1e-6)
    for a, b in zip(torch.autograd.grad(ours, inputs, outer), torch.autograd.grad(full, inputs, outer), strict=True):
        assert torch.allclose(a, b, atol=2e-6)


def test_padding_changes_nothing() -> None:
    scorer = Scorer(tiny_model("gemma3"))
    example = random_examples(4)[1]
    alone = collate([(example.prompt_ids, example.chosen_ids)], 0)
    together, single = scorer(BATCH).sums, scorer(alone).sums
    assert float(single[0]) == pytest.approx(float(together[2]), abs=1e-4)


def test_an_unknown_head_form_is_refused() -> None:
    scorer = Scorer(tiny_model("cohere"))
    check_against_logits(scorer, BATCH)
    scorer.form = HeadForm(scale=1.0)
    with pytest.raises(TrainingError, match="differ from the model's own logits"):
        check_against_logits(scorer, BATCH)


def test_a_head_that_is_no_linear_layer_is_refused() -> None:
    model = copy.deepcopy(tiny_model("llama"))
    model.set_output_embeddings(torch.nn.Sequential(model.get_output_embeddings()))
    with pytest.raises(TrainingError, match="neither a plain linear"):
        Scorer(model)


def test_accelerate_finds_the_layers_that_it_shards_one_by_one() -> None:
    """Without names only the whole scorer would be sharded, and every process would gather all of it for a step."""
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    scorer = Scorer(get_peft_model(tiny_model("llama"), LoraConfig(r=2, target_modules="all-linear")))
    wraps = fsdp2_prepare_auto_wrap_policy(plugin, scorer)
    assert [type(m).__name__ for m in scorer.modules() if wraps(m)] == ["LlamaDecoderLayer"] * 2


def test_accelerate_can_tie_head_and_embedding_again() -> None:
    scorer = Scorer(tiny_model("qwen2"))
    head, embedding = scorer.causal.get_output_embeddings(), scorer.causal.get_input_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    scorer.tie_weights()
    assert head.weight is embedding.weight
