"""What a training run promises beyond its mathematics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import random_examples, tiny_model, tiny_tokenizer

from alignprism.training.config import METHODS, TrainConfig, TrainingError
from alignprism.training.curve import CurveRow, read_curve
from alignprism.training.examples import Example
from alignprism.training.loop import Progress, TrainResult, train
from alignprism.training.losses import LN2
from alignprism.training.plan import learning_rate, training_steps
from alignprism.training.reference import Reference, compute_reference

EXAMPLES = random_examples(8)
DPO = TrainConfig("dpo-ift", learning_rate=5e-3, epochs=2, batch_size=4, lora_rank=4)


def _reference(folder: Path, examples: list[Example] = EXAMPLES, seed: int = 0) -> Reference:
    return compute_reference("base", f"seed-{seed}", tiny_model("llama", seed), examples, folder / "ref.jsonl")


def _train(config: TrainConfig, out: Path, reference: Reference | None = None, seed: int = 0) -> TrainResult:
    return train(config, EXAMPLES, tiny_model("llama", seed), tiny_tokenizer(), out, reference)


def _weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [0, 4])
def test_every_method_lowers_its_loss(tmp_path: Path, method: str, rank: int) -> None:
    config = dataclasses.replace(DPO, method=method, epochs=5, lora_rank=rank, learning_rate=5e-3 if rank else 1e-3)
    result = _train(config, tmp_path / "run", _reference(tmp_path))
    rows = read_curve(tmp_path / "run")
    assert len(rows) == result.steps == training_steps(config, len(EXAMPLES)) == 10
    assert rows[-1].loss < rows[0].loss
    assert (tmp_path / "run" / (result.adapter or result.model or "")).is_dir()
    assert (rows[0].margin is None) == method.startswith("sft")


def test_sft_random_learns_the_drawn_side(tmp_path: Path) -> None:
    sides = {"sft-preferred": "chosen", "sft-random": None}
    for method, fixed in sides.items():
        _train(dataclasses.replace(DPO, method=method, epochs=1, batch_size=8), tmp_path / method)
        expected = sum(len(e.side(fixed or e.random_side)) for e in EXAMPLES)  # type: ignore[arg-type]
        assert read_curve(tmp_path / method)[0].tokens == expected


def test_the_first_dpo_loss_is_ln_2_and_the_reference_does_not_move(tmp_path: Path) -> None:
    result = _train(DPO, tmp_path / "run", _reference(tmp_path))
    assert result.first_loss == pytest.approx(LN2, abs=1e-5)
    assert result.reference_digest == "seed-0"
    assert result.last_loss < LN2


def test_a_model_with_dropout_equals_its_reference_too(tmp_path: Path) -> None:
    model = tiny_model("llama")
    for layer in model.base_model.layers:
        layer.self_attn.attention_dropout = 0.5
    result = train(DPO, EXAMPLES, model, tiny_tokenizer(), tmp_path / "run", _reference(tmp_path))
    assert result.first_loss == pytest.approx(LN2, abs=1e-5)


def test_a_wrong_reference_stops_before_anything_is_learned(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"wrong reference.*not ln 2") as caught:
        _train(DPO, tmp_path / "run", _reference(tmp_path, seed=1))
    assert "seed-1" in str(caught.value)
    assert not (tmp_path / "run" / "curve.jsonl").exists()


def test_a_wrong_reference_is_found_although_the_mean_loss_is_ln_2(tmp_path: Path) -> None:
    right = _reference(tmp_path)
    shifts = iter([0.5, -0.5] * len(right.log_probs))
    wrong = dataclasses.replace(right, log_probs={key: value + next(shifts) for key, value in right.log_probs.items()})
    with pytest.raises(TrainingError, match="wrong reference"):
        _train(DPO, tmp_path / "run", wrong)


def test_dpo_needs_a_complete_reference(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="needs a reference"):
        _train(DPO, tmp_path / "run")
    with pytest.raises(TrainingError, match="no log-probabilities of row 'pair-7'"):
        _train(DPO, tmp_path / "run", _reference(tmp_path, EXAMPLES[:7]))


@pytest.mark.parametrize(
    "change",
    [{"method": "sft-preferred"}, {}, {"loss": "length-normalised"}, {"nll_weight": 0.5}],
    ids=["sft", "dpo", "length-normalised", "nll"],
)
def test_eight_forwards_of_one_row_equal_one_forward_of_eight(tmp_path: Path, change: dict[str, Any]) -> None:
    config = dataclasses.replace(DPO, batch_size=8, epochs=3, **change)
    reference = _reference(tmp_path)
    _train(dataclasses.replace(config, micro_batch_tokens=1), tmp_path / "one", reference)
    _train(dataclasses.replace(config, micro_batch_tokens=10**6), tmp_path / "eight", reference)
    one, eight = read_curve(tmp_path / "one"), read_curve(tmp_path / "eight")
    assert one[0].positions < eight[0].positions
    for a, b in zip(one, eight, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=2e-6)
        assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-4)


def test_the_same_run_again_is_returned_without_training(tmp_path: Path) -> None:
    config = dataclasses.replace(DPO, method="sft-preferred")
    first = _train(config, tmp_path / "run")
    before = (tmp_path / "run" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    reports: list[object] = []
    again = train(config, EXAMPLES, tiny_model("llama"), tiny_tokenizer(), tmp_path / "run", report=reports.append)
    assert again == first and not reports
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_ctrl_c_before_the_first_checkpoint_loses_nothing_that_matters(tmp_path: Path) -> None:
    config = dataclasses.replace(DPO, method="sft-preferred", epochs=3, checkpoint_every=2)
    _train(config, tmp_path / "whole")

    def interrupt(at: int) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            if progress.done == at:
                raise KeyboardInterrupt

        return report

    for at in (1, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            train(config, EXAMPLES, tiny_model("llama"), tiny_tokenizer(), tmp_path / "run", report=interrupt(at))
    _train(config, tmp_path / "run")
    found, expected = _weights(tmp_path / "run"), _weights(tmp_path / "whole")
    assert all(found[key].equal(expected[key]) for key in expected)
    assert [r.loss for r in read_curve(tmp_path / "run")] == [r.loss for r in read_curve(tmp_path / "whole")]


def test_a_stopped_training_goes_on_with_other_memory_settings(tmp_path: Path) -> None:
    """What one does after an out-of-memory error; only the rounding of sums changes."""
    config = dataclasses.replace(DPO, method="sft-preferred", epochs=3, checkpoint_every=2)
    _train(config, tmp_path / "whole")

    def interrupt(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, EXAMPLES, tiny_model("llama"), tiny_tokenizer(), tmp_path / "run", report=interrupt)
    less = dataclasses.replace(
        config, micro_batch_tokens=40, gradient_checkpointing=True, head_bytes=2**14, head_keep_bytes=0, forward_cost=0
    )
    _train(less, tmp_path / "run")
    losses = [[row.loss for row in read_curve(tmp_path / name)] for name in ("run", "whole")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_sft_does_not_depend_on_what_only_dpo_uses(tmp_path: Path) -> None:
    config = dataclasses.replace(DPO, method="sft-preferred")
    first = _train(config, tmp_path / "run")
    other = dataclasses.replace(config, beta=0.5, loss="length-normalised", nll_weight=1.0, prefix_sharing=False)
    assert _train(other, tmp_path / "run") == first
    with pytest.raises(TrainingError, match=r'"beta": 0\.1.* there'):
        dpo = _reference(tmp_path)
        _train(DPO, tmp_path / "dpo", dpo)
        _train(dataclasses.replace(DPO, beta=0.5), tmp_path / "dpo", dpo)


def test_row_order_changes_nothing(tmp_path: Path) -> None:
    config = dataclasses.replace(DPO, method="sft-preferred")
    _train(config, tmp_path / "a")
    train(config, EXAMPLES[::-1], tiny_model("llama"), tiny_tokenizer(), tmp_path / "b")
    assert [row.loss for row in read_curve(tmp_path / "a")] == [row.loss for row in read_curve(tmp_path / "b")]


def test_a_folder_of_another_run_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    _train(dataclasses.replace(DPO, method="sft-preferred"), tmp_path / "run")
    with pytest.raises(TrainingError, match="another training run"):
        _train(dataclasses.replace(DPO, method="sft-preferred", learning_rate=1.0), tmp_path / "run")


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight[EXAMPLES[3].chosen_ids[0]] = math.nan
    with pytest.raises(TrainingError, match=r"loss is nan|weights hold NaN"):
        train(dataclasses.replace(DPO, method="sft-preferred"), EXAMPLES, model, tiny_tokenizer(), tmp_path / "run")


@pytest.mark.parametrize("rank", [0, 4])
def test_gradient_checkpointing_changes_nothing(tmp_path: Path, rank: int) -> None:
    config = dataclasses.replace(DPO, method="sft-preferred", lora_rank=rank)
    forwards = {}
    for name, on in (("plain", False), ("checkpointed", True)):
        model = tiny_model("llama")
        calls = forwards[name] = list[int]()
        model.model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        train(
            dataclasses.replace(config, gradient_checkpointing=on), EXAMPLES, model, tiny_tokenizer(), tmp_path / name
        )
    assert len(forwards["checkpointed"]) > len(forwards["plain"]), "activations were not computed a second time"
    plain, checkpointed = read_curve(tmp_path / "plain"), read_curve(tmp_path / "checkpointed")
    assert [r.loss for r in checkpointed] == pytest.approx([r.loss for r in plain], abs=1e-5)
    assert plain[0].gradient_norm > 0


def test_weights_that_the_caller_froze_are_not_trained(tmp_path: Path) -> None:
    config, model = dataclasses.replace(DPO, method="sft-preferred", lora_rank=0), tiny_model("llama")
    for part in (model.get_input_embeddings(), model.get_output_embeddings()):
        part.requires_grad_(False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train(config, EXAMPLES, model, tiny_tokenizer(), tmp_path / "run")
    moved = {name for name, parameter in model.named_parameters() if not parameter.equal(before[name])}
    assert moved and not any("embed_tokens" in name or "lm_head" in name for name in moved)
    model.requires_grad_(False)
    with pytest.raises(TrainingError, match="every weight of the model is frozen"):
        train(config, EXAMPLES, model, tiny_tokenizer(), tmp_path / "none")


def test_the_schedule_warms_up_and_ends_near_zero() -> None:
    config = TrainConfig("dpo-ift", learning_rate=1.0, warmup_share=0.2)
    rates = [learning_rate(config, step, 20) for step in range(20)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.02
    linear = dataclasses.replace(config, schedule="linear")
    assert learning_rate(linear, 12, 20) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "ppo"}, "use one of"),
        ({"beta": 0.0}, "beta"),
        ({"warmup_share": 2.0}, "share"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        dataclasses.replace(DPO, **change)  # type: ignore[arg-type]


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no row is left"):
        train(DPO, [], tiny_model("llama"), tiny_tokenizer(), tmp_path / "run")


def test_progress_is_reported_once_per_step(tmp_path: Path) -> None:
    seen: list[tuple[int, int, CurveRow]] = []
    config = dataclasses.replace(DPO, method="sft-preferred")
    train(
        config,
        EXAMPLES,
        tiny_model("llama"),
        tiny_tokenizer(),
        tmp_path / "run",
        report=lambda p: seen.append((p.done, p.total, p.row)),
    )
    assert [(done, total) for done, total, _ in seen] == [(n, 4) for n in range(1, 5)]
    assert [row for *_, row in seen] == read_curve(tmp_path / "run")
