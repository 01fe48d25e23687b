"""Half precision: policy and reference are rounded alike, trained weights are not, and a wrong reference is still found."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny_models import random_examples, tiny_model, tiny_tokenizer
from torch import Tensor

from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.curve import read_curve
from alignprism.training.head import HeadForm, completion_log_probs
from alignprism.training.loop import TrainResult, train
from alignprism.training.losses import LN2
from alignprism.training.precision import compute_dtype, computed_in, pair_rounding, weights_dtype
from alignprism.training.reference import compute_reference, read_store

EXAMPLES = random_examples(12, longest=30)
DPO = TrainConfig("dpo-ift", learning_rate=5e-3, epochs=2, batch_size=4, lora_rank=4)
FULL = dataclasses.replace(DPO, lora_rank=0, learning_rate=1e-3)


def run(
    config: TrainConfig,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    architecture: str = "gemma3",
    reference_seed: int = 0,
) -> TrainResult:
    compute = compute_dtype(config)
    frozen = tiny_model(architecture, reference_seed).to(dtype)
    reference = compute_reference("base", "d", frozen, EXAMPLES, folder / "ref.jsonl", compute=compute)
    policy = tiny_model(architecture).to(dtype)
    return train(config, EXAMPLES, policy, tiny_tokenizer(), folder / "run", reference)


@pytest.mark.parametrize("architecture", ["gemma3", "cohere", "qwen2"])
@pytest.mark.parametrize("loss", ["sigmoid", "length-normalised"])
def test_an_adapter_on_a_bfloat16_model_trains(tmp_path: Path, architecture: str, loss: str) -> None:
    config = dataclasses.replace(DPO, loss=loss, learning_rate=2e-2, epochs=4)
    result = run(config, tmp_path, torch.bfloat16, architecture)
    rows = read_curve(tmp_path / "run")
    assert result.unshared is None and rows[0].loss == pytest.approx(LN2, abs=0.05)
    assert rows[-1].loss < LN2 - (0.1 if loss == "sigmoid" else 0.02)
    weights = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float32}, "trained weights are float32"


@pytest.mark.parametrize("base", [DPO, FULL])
def test_rounded_products_train_float32_weights_along_nearly_the_same_curve(tmp_path: Path, base: TrainConfig) -> None:
    exact = run(base, tmp_path / "exact")
    rounded = run(dataclasses.replace(base, precision="bfloat16"), tmp_path / "rounded")
    curves = [read_curve(tmp_path / name / "run") for name in ("exact", "rounded")]
    assert curves[0] != curves[1], "nothing was rounded"
    for one, other in zip(*curves, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=0.06)
    for result, name in ((exact, "exact"), (rounded, "rounded")):
        folder = tmp_path / name / "run" / (result.adapter or result.model or "")
        weights = load_file(next(folder.glob("*.safetensors")))
        assert {w.dtype for w in weights.values()} == {torch.float32}


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.float32), ("auto", torch.bfloat16)])
def test_a_wrong_reference_is_found_in_half_precision_too(tmp_path: Path, precision: str, dtype: torch.dtype) -> None:
    config = dataclasses.replace(DPO, precision=precision)
    with pytest.raises(TrainingError, match="wrong reference"):
        run(config, tmp_path, dtype, reference_seed=1)


def test_full_weights_of_16_bits_are_refused_and_the_commands_load_float32(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="full weights in bfloat16 lose small updates"):
        run(FULL, tmp_path, torch.bfloat16)
    assert weights_dtype(FULL) is torch.float32 and weights_dtype(DPO) is None


def test_a_store_keeps_precisions_apart(tmp_path: Path) -> None:
    store, model = tmp_path / "ref.jsonl", tiny_model("llama")
    exact = compute_reference("base", "d", model, EXAMPLES, store)
    rounded = compute_reference("base", "d", model, EXAMPLES, store, compute=torch.bfloat16)
    assert len(read_store(store)) == 2 * len(exact.log_probs) and not exact.log_probs.keys() & rounded.log_probs.keys()
    assert exact.pair(EXAMPLES[0]) != rounded.pair(EXAMPLES[0])
    assert exact.pair(EXAMPLES[0]) == pytest.approx(rounded.pair(EXAMPLES[0]), abs=2)


def test_an_adapter_on_the_head_of_a_bfloat16_model_trains(tmp_path: Path) -> None:
    config = TrainConfig("sft-preferred", learning_rate=5e-3, epochs=3, batch_size=4, lora_rank=4, lora_head=True)
    model = tiny_model("llama")
    assert not model.config.tie_word_embeddings
    train(config, random_examples(8), model.to(torch.bfloat16), tiny_tokenizer(), tmp_path / "run")
    curve = read_curve(tmp_path / "run")
    assert curve[-1].loss < curve[0].loss


def test_a_precision_that_needs_loss_scaling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AcceleratorState, "mixed_precision", "fp16")
    with pytest.raises(TrainingError, match="mixed_precision fp16 is not supported"):
        compute_dtype(DPO)


def test_the_rounding_that_is_allowed_grows_with_the_root_of_the_length() -> None:
    assert pair_rounding(400, 100, per_token=False) == pytest.approx(3.0)
    assert pair_rounding(400, 100, per_token=True) == pytest.approx(0.015)


@pytest.mark.parametrize("cap", [None, 3.0])
def test_a_half_precision_head_gives_unrounded_logits(cap: float | None) -> None:
    """A bfloat16 logit near 24 would be off by up to 0.06; only the factors are rounded."""
    torch.manual_seed(0)
    hidden = torch.randn(7, 16).bfloat16()
    weight = (6 * torch.randn(20_000, 16)).bfloat16()  # more rows than are multiplied at once
    targets = torch.randint(0, 20_000, (7,))
    found = completion_log_probs(hidden, weight, None, targets, HeadForm(cap=cap))
    logits = hidden.double() @ weight.double().T
    capped: Tensor = logits if cap is None else cap * torch.tanh(logits / cap)
    expected = capped.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    assert float(logits.abs().max()) > 64
    torch.testing.assert_close(found.double(), expected, atol=2e-4, rtol=1e-5)


def test_what_accelerate_is_told_holds_for_policy_and_reference(tmp_path: Path) -> None:
    """A process of its own, because accelerate reads this once."""
    environment = os.environ | {"ACCELERATE_MIXED_PRECISION": "bf16", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(Path(__file__).with_name("run_tiny.py")), str(tmp_path), "dpo-ift", "4"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "ref.jsonl").read_text(encoding="utf-8").splitlines()
    assert all('"dtype": "float32 in bfloat16"' in line for line in lines) and lines
    assert read_curve(tmp_path / "run")[0].loss == pytest.approx(LN2, abs=0.05)


def test_a_stopped_run_goes_on_in_the_precision_that_it_began_with(tmp_path: Path) -> None:
    """Processes of their own: the first is told bf16 by accelerate and dies, the second is told nothing."""
    script = str(Path(__file__).with_name("run_tiny.py"))

    def ran(*arguments: str, told: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"ACCELERATE_MIXED_PRECISION": told, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, script, str(tmp_path), "sft-preferred", "4", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    assert ran("5", told="bf16").returncode == -signal.SIGKILL
    without = ran(told="no")
    assert without.returncode == 1
    assert "precision: bfloat16 there, float32 here" in without.stderr
    assert "mixed_precision" in without.stderr, "says what to do"
    again = ran(told="bf16")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "run" / "training.json").read_text("utf-8"))["precision"] == "bfloat16"


def test_an_adapter_on_half_precision_weights_computes_in_their_type() -> None:
    assert computed_in(torch.bfloat16, None) == "bfloat16" and computed_in(torch.float32, None) == "float32"
    assert computed_in(torch.float32, torch.bfloat16) == "bfloat16"
