"""Mixture-of-experts models: the router's balancing loss is the model's own, and shared rows are right there too."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_models import EXPERTS, random_examples, tiny_model, tiny_tokenizer

from alignprism.training.config import TrainConfig
from alignprism.training.curve import read_curve
from alignprism.training.layout import collate, collate_shared
from alignprism.training.loop import train
from alignprism.training.reference import compute_reference
from alignprism.training.scorer import Scorer

EXAMPLES = random_examples(6)
SFT = TrainConfig("sft-preferred", learning_rate=1e-3, batch_size=6, lora_rank=0, warmup_share=0.0, schedule="constant")


@pytest.mark.parametrize("architecture", EXPERTS)
def test_the_router_loss_and_its_gradient_are_the_models_own(architecture: str) -> None:
    model = tiny_model(architecture).requires_grad_(True)
    batch = collate([(e.prompt_ids, e.chosen_ids) for e in EXAMPLES], 0)
    scores = Scorer(model)(batch)
    scores.router.backward()
    ours = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    model.zero_grad(set_to_none=True)
    own = model(input_ids=batch.input_ids, attention_mask=(batch.segments >= 0).long(), output_router_logits=True)
    own.aux_loss.backward()
    assert float(scores.router) == pytest.approx(float(own.aux_loss), rel=1e-5)
    for name, gradient in ours.items():
        expected = dict(model.named_parameters())[name].grad
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max())), name


@pytest.mark.parametrize("architecture", EXPERTS)
def test_shared_rows_are_right_with_experts(architecture: str) -> None:
    scorer = Scorer(tiny_model(architecture))
    shared = collate_shared([(e.prompt_ids, e.chosen_ids, e.side("rejected")) for e in EXAMPLES], 0)
    apart = collate([(e.prompt_ids, e.side(s)) for s in ("chosen", "rejected") for e in EXAMPLES], 0)  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.allclose(scorer(shared).sums, scorer(apart).sums, atol=1e-3)


def test_the_router_weight_changes_the_training_and_zero_switches_it_off(tmp_path: Path) -> None:
    norms = {}
    for weight in (0.0, None, 2.0):
        out = tmp_path / str(weight)
        config = dataclasses.replace(SFT, router_weight=weight)
        train(config, EXAMPLES, tiny_model("qwen3_moe"), tiny_tokenizer(), out)
        norms[weight] = read_curve(out)[0].gradient_norm
    assert norms[0.0] != pytest.approx(norms[None], rel=1e-4)
    assert norms[2.0] != pytest.approx(norms[None], rel=1e-4)


def test_dpo_with_experts_starts_at_ln_2(tmp_path: Path) -> None:
    model = tiny_model("qwen3_moe")
    reference = compute_reference("base", "d", model, EXAMPLES, tmp_path / "ref.jsonl")
    config = dataclasses.replace(SFT, method="dpo-ift", lora_rank=4, epochs=2)
    result = train(config, EXAMPLES, model, tiny_tokenizer(), tmp_path / "run", reference)
    assert result.first_loss == pytest.approx(0.693147, abs=1e-4)
