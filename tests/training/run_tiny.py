"""A training run as its own process, which kills itself at a step: `run_tiny.py OUT METHOD LORA_RANK [KILL_AT]`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from tiny_models import random_examples, tiny_model, tiny_tokenizer
from transformers import PreTrainedModel

from alignprism.training.config import TrainConfig
from alignprism.training.loop import Progress, train
from alignprism.training.precision import compute_dtype
from alignprism.training.reference import compute_reference


def main(out: Path, method: str, lora_rank: int, kill_at: int) -> None:
    examples = random_examples(10)
    config = TrainConfig(
        method,  # type: ignore[arg-type]
        learning_rate=1e-2,
        epochs=3,
        batch_size=4,
        lora_rank=lora_rank,
        checkpoint_every=2,
        evaluate_steps=(0, 4, 6, -1),
        micro_batch_tokens=80,
    )
    model = tiny_model("gemma3")
    reference, compute = None, compute_dtype(config)
    if config.preference:
        reference = compute_reference("base", "digest", model, examples, out / "ref.jsonl", compute=compute)

    def evaluate(step: int, policy: PreTrainedModel) -> Mapping[str, float]:
        with (out / "asked.txt").open("a") as handle:
            handle.write(f"{step}\n")
        torch.rand(3)  # an evaluation that samples must not move the training
        return {"mean": float(policy(input_ids=torch.tensor([[1, 7, 9]])).logits.mean())}

    def report(progress: Progress) -> None:
        if progress.done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    train(config, examples, model, tiny_tokenizer(), out / "run", reference, evaluate, report, start_digest="digest")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else -1)
