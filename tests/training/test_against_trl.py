"""The trajectory equals TRL's on the same batches, and the final weights too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model, tiny_tokenizer

from alignprism.training.config import TrainConfig
from alignprism.training.curve import read_curve
from alignprism.training.examples import Example
from alignprism.training.loop import train
from alignprism.training.reference import compute_reference

trl = pytest.importorskip("trl", reason="TRL is the oracle of this test (extra: test)")

ROWS = [
    {"prompt": "Why is it blue?", "chosen": " It scatters light.", "rejected": " No idea."},
    {"prompt": "Add two.", "chosen": " Four", "rejected": " Five, or six, or seven"},
    {"prompt": "Name a bird, please.", "chosen": " A heron.", "rejected": " Granite."},
    {"prompt": "Hi", "chosen": " Hello, how can I help?", "rejected": " Go"},
]
RATE, BETA, STEPS = 1e-3, 0.3, 3


@pytest.mark.parametrize(
    ("architecture", "theirs_loss", "ours_loss"),
    [
        ("cohere", {}, {}),
        ("llama", {}, {}),
        ("gemma3", {}, {}),
        ("cohere", {"loss_type": ["sigmoid_norm"]}, {"loss": "length-normalised"}),
        ("llama", {"weight_decay": 0.5, "max_grad_norm": 0.05}, {"weight_decay": 0.5, "max_grad_norm": 0.05}),
        ("llama", {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}, {"nll_weight": 0.5}),
    ],
)
def test_three_dpo_steps_equal_trl(
    tmp_path: Path, architecture: str, theirs_loss: dict[str, Any], ours_loss: dict[str, Any]
) -> None:
    from datasets import Dataset

    tokenizer = tiny_tokenizer()
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"),
        max_steps=STEPS,
        per_device_train_batch_size=len(ROWS),
        learning_rate=RATE,
        lr_scheduler_type="constant",
        beta=BETA,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **theirs_loss,
    )
    trainer = trl.DPOTrainer(
        model=tiny_model(architecture),
        ref_model=tiny_model(architecture),
        args=arguments,
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tokenizer,
    )
    trainer.train()
    theirs = [row for row in trainer.state.log_history if "grad_norm" in row]

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    end = (tokenizer.eos_token_id,)
    examples = [
        Example(str(n), ids(r["prompt"]), ids(r["chosen"]) + end, ids(r["rejected"]) + end, "en", "safety")
        for n, r in enumerate(ROWS)
    ]
    config = TrainConfig(
        "dpo-ift",
        learning_rate=RATE,
        epochs=STEPS,
        batch_size=len(ROWS),
        beta=BETA,
        lora_rank=0,
        schedule="constant",
        warmup_share=0.0,
        **ours_loss,
    )
    model = tiny_model(architecture)
    reference = compute_reference("base", "d", model, examples, tmp_path / "ref.jsonl")
    train(config, examples, model, tokenizer, tmp_path / "ours", reference)
    ours = read_curve(tmp_path / "ours")

    assert len(theirs) == len(ours) == STEPS
    if "nll_weight" not in ours_loss:  # our curve shows the preference loss alone, the gradient below has both
        assert [row.loss for row in ours] == pytest.approx([float(row["loss"]) for row in theirs], abs=1e-5)
    assert [row.gradient_norm for row in ours] == pytest.approx([float(r["grad_norm"]) for r in theirs], rel=1e-4)
    if "loss" not in ours_loss:  # TRL logs rewards of sums for the loss per token, too
        assert [row.margin for row in ours] == pytest.approx([float(r["rewards/margins"]) for r in theirs], abs=1e-4)
    saved = load_file(tmp_path / "ours" / "model" / "model.safetensors")
    for name, parameter in trainer.model.state_dict().items():
        if name in saved:
            # Adam divides by the gradient's size: where that is next to nothing, rounding moves a weight by a share of a step.
            assert torch.allclose(saved[name], parameter, atol=RATE / 20), name
