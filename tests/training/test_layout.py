"""Shared rows: every token keeps the context and the position it has alone, in every architecture that is let in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CONFIGURATIONS, OLDER, random_examples, tiny_model, tiny_tokenizer

from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.curve import read_curve
from alignprism.training.layout import PADDING, allowed, collate, collate_shared
from alignprism.training.loop import train
from alignprism.training.losses import LN2
from alignprism.training.plan import make_plan
from alignprism.training.reference import compute_reference
from alignprism.training.scorer import Scorer, why_not_shared

IDS = st.lists(st.integers(3, 90), min_size=1, max_size=12).map(tuple)
PAIRS = st.lists(st.tuples(IDS, IDS, IDS), min_size=1, max_size=5)


def test_a_batch_is_padded_on_the_right_and_knows_what_predicts_what() -> None:
    batch = collate([((5, 6), (7, 8, 9)), ((5,), (7,))], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9], [5, 7, 0, 0, 0]]
    assert batch.segments.tolist() == [[0, 0, 1, 1, 1], [0, 1, PADDING, PADDING, PADDING]]
    assert batch.rows.tolist() == [0, 0, 0, 1] and batch.sources.tolist() == [1, 2, 3, 0]
    assert batch.targets.tolist() == [7, 8, 9, 7] and batch.sequence.tolist() == [0, 0, 0, 1]


def test_a_shared_row_restarts_the_rejected_side_at_the_prompt() -> None:
    batch = collate_shared([((5, 6), (7, 8), (9, 10, 11))], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 10, 11]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 2, 3, 4]]
    assert batch.sources.tolist() == [1, 2, 1, 4, 5] and batch.sequence.tolist() == [0, 0, 1, 1, 1]
    sees = allowed(batch.segments, batch.positions, None)[0]
    assert sees[4].tolist() == [True, True, False, False, True, False, False]
    windowed = allowed(batch.segments, batch.positions, 2)[0]
    assert windowed[4].tolist() == [False, True, False, False, True, False, False]


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.one_of(st.none(), st.integers(1, 6)))
def test_every_token_sees_what_it_sees_alone(pairs: list[tuple[tuple[int, ...], ...]], window: int | None) -> None:
    shared = collate_shared(pairs, 0)  # type: ignore[arg-type]
    sides = [(p, c) for p, c, _ in pairs] + [(p, r) for p, _, r in pairs]
    apart = collate(sides, 0)
    assert shared.targets.equal(apart.targets) and shared.sequence.equal(apart.sequence)
    both = [allowed(batch.segments, batch.positions, window) for batch in (shared, apart)]
    for token in range(len(shared.targets)):
        contexts = [
            batch.input_ids[batch.rows[token]][sees[batch.rows[token], batch.sources[token]]].tolist()
            for batch, sees in zip((shared, apart), both, strict=True)
        ]
        assert contexts[0] == contexts[1]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_shared_rows_give_the_separate_rows_log_probabilities_and_gradients(architecture: str, attention: str) -> None:
    if (architecture, attention) == ("gemma2", "sdpa"):
        pytest.skip("transformers has no sdpa for Gemma 2, whose attention is soft-capped")
    model = tiny_model(architecture).double().requires_grad_(True)
    model.set_attn_implementation(attention)
    assert why_not_shared(model) is None
    examples = random_examples(6)  # sequences of up to 25 tokens, windows of 4
    scorer = Scorer(model)
    shared = collate_shared([(e.prompt_ids, e.chosen_ids, e.side("rejected")) for e in examples], 0)
    apart = collate([(e.prompt_ids, e.side(side)) for side in ("chosen", "rejected") for e in examples], 0)  # type: ignore[arg-type]
    weights, gradients, values = torch.linspace(-1, 2, 12), [], []
    for batch in (shared, apart):
        model.zero_grad()
        sums = scorer(batch).sums
        (sums * weights).sum().backward()
        values.append(sums.detach())
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert torch.allclose(values[0], values[1], atol=1e-5)
    for name, expected in gradients[1].items():
        assert torch.allclose(gradients[0][name], expected, atol=1e-6 * max(1.0, float(expected.abs().max()))), name


@pytest.mark.parametrize("architecture", ["cohere", "gemma3"])
def test_training_on_shared_rows_is_training_on_separate_ones(tmp_path: Path, architecture: str) -> None:
    examples = random_examples(8)
    curves = []
    for sharing in (True, False):
        config = TrainConfig(
            "dpo-ift", learning_rate=5e-3, epochs=2, batch_size=8, lora_rank=4, prefix_sharing=sharing, warmup_share=0.0
        )
        model = tiny_model(architecture)
        reference = compute_reference("base", "d", model, examples, tmp_path / "ref.jsonl")
        out = tmp_path / f"run-{sharing}"
        result = train(config, examples, model, tiny_tokenizer(), out, reference)
        assert (result.unshared is None) == sharing
        curves.append(read_curve(out))
    for shared, apart in zip(*curves, strict=True):
        assert shared.loss == pytest.approx(apart.loss, abs=1e-5)
        assert shared.gradient_norm == pytest.approx(apart.gradient_norm, rel=1e-4)
        assert shared.positions < 0.8 * apart.positions


def test_models_that_take_no_such_mask_run_separate_rows_and_say_why(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in str(why_not_shared(model))
    model = tiny_model("llama")
    model.config.layer_types = ["linear_attention", "full_attention"]
    reason = why_not_shared(model)
    assert "linear_attention" in str(reason)
    config = TrainConfig("dpo-ift")
    examples = random_examples(4)
    reference = compute_reference("base", "d", tiny_model("llama"), examples, tmp_path / "ref.jsonl")
    plan = make_plan(config, examples, tiny_tokenizer(), reference, reason)
    assert plan.unshared == reason
    assert not plan.layout(examples).shared


@pytest.mark.parametrize("architecture", OLDER)
def test_older_architectures_train_and_those_without_position_ids_say_so(tmp_path: Path, architecture: str) -> None:
    """Their dropout is switched off (else the first loss is not ln 2), and ALiBi has no place for a shared row."""
    examples = random_examples(6)
    reference = compute_reference("base", "d", tiny_model(architecture), examples, tmp_path / "ref.jsonl")
    config = TrainConfig("dpo-ift", learning_rate=1e-2, epochs=3, batch_size=3, lora_rank=4)
    result = train(config, examples, tiny_model(architecture), tiny_tokenizer(), tmp_path / "run", reference)
    shares = architecture in ("opt", "xglm")
    assert (result.unshared is None) == shares, result.unshared
    assert result.first_loss == pytest.approx(LN2, abs=1e-5) and result.last_loss < LN2


def test_a_model_in_which_sharing_goes_wrong_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alignprism.training import scorer as module

    def one_mask_for_all(model: object, batch: object) -> dict[str, object]:
        masks = real(model, batch)  # type: ignore[arg-type]
        return masks | {"attention_mask": masks["attention_mask"]["full_attention"]}

    real = module.attention_masks
    monkeypatch.setattr(module, "attention_masks", one_mask_for_all)
    examples, model = random_examples(6), tiny_model("gemma3")
    reference = compute_reference("base", "d", model, examples, tmp_path / "ref.jsonl")
    config = dataclasses.replace(TrainConfig("dpo-ift"), batch_size=4)
    with pytest.raises(TrainingError, match=r"row 'pair-\d': .* share differ by .* nats"):
        train(config, examples, model, tiny_tokenizer(), tmp_path / "run", reference)
