"""Make the instruction adapter that ships with alignprism (embedded:gemma-3-270m-ift), from the sample's general rows.

    python benchmarks/train_shipped_adapter.py --out FOLDER [--cache CACHE]

Supervised fine-tuning of the pre-trained Gemma-3-270M on the train rows of the sample's general instructions in all
eight languages, and on nothing else: no red-team prompt, no benign twin, no refusal. Rank 8 in fp16, so that the file
stays below 4 MB. Prints one JSON object last.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

from alignprism.models.local import load
from alignprism.models.spec import ModelSpec, resolve
from alignprism.prompts.read import read_sample
from alignprism.training.adapters import stack_adapters
from alignprism.training.config import TrainConfig
from alignprism.training.examples import make_examples, texts_of_prompts
from alignprism.training.loop import train

BASE = "embedded:gemma-3-270m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("ALIGNPRISM_CACHE", "~/.cache/alignprism")))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    started = time.monotonic()
    base = resolve(ModelSpec("base", arguments.base), arguments.cache.expanduser(), print)
    model, tokenizer = load(base)
    rows = [p for p in read_sample("general") if p.split == "train"]
    examples, report = make_examples(texts_of_prompts(rows), tokenizer, max_tokens=128)
    config = TrainConfig(
        method="sft-preferred",
        learning_rate=arguments.learning_rate,
        epochs=arguments.epochs,
        batch_size=8,
        lora_rank=8,
        lora_alpha=16,
        max_tokens=128,
        seed=arguments.seed,
    )
    with tempfile.TemporaryDirectory() as work:
        result = train(config, examples, model, tokenizer, Path(work), start_digest=base.digest, report=_show)
        temporary = arguments.out.with_name(f".{arguments.out.name}.tmp")
        stack_adapters([Path(work) / str(result.adapter)], temporary, dtype=torch.float16)
    settings = json.loads((temporary / "adapter_config.json").read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = arguments.base
    (temporary / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file in temporary.iterdir():
        file.replace(arguments.out / file.name)
    shutil.rmtree(temporary)
    figures = {
        "rows": len(rows),
        "kept": len(examples),
        "steps": result.steps,
        "first_loss": result.first_loss,
        "last_loss": result.last_loss,
        "minutes": (time.monotonic() - started) / 60,
        "bytes": sum(f.stat().st_size for f in arguments.out.iterdir()),
        "truncation": {r.language: r.share_over_limit for r in report},
    }
    print(json.dumps(figures))


def _show(progress: object) -> None:
    print(f"step {progress.done} of {progress.total}: loss {progress.row.loss:.3f}", flush=True)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
