"""Seconds per pair and peak memory of SFT and DPO on embedded Gemma 3 270M, and what 48 pairs would take.

    python benchmarks/training_speed.py [--pairs 24] [--batch-size 8] [--model FOLDER]

Each method runs in its own process, so that its peak memory is its own. Rows are random ids of 32 + 32 tokens a side:
time and memory depend on shapes only. The first step of each method warms up and is not timed. One JSON object comes
last.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignprism.models import embedded
from alignprism.training.config import TrainConfig
from alignprism.training.curve import read_curve
from alignprism.training.examples import Example
from alignprism.training.loop import train
from alignprism.training.reference import compute_reference

PROMPT, COMPLETION = 32, 32
QUICKSTART_PAIRS = 48


def rows(count: int, vocabulary: int) -> list[Example]:
    draw = random.Random(0)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(draw.randrange(100, vocabulary) for _ in range(length))

    return [Example(f"p{n}", ids(PROMPT), ids(COMPLETION), ids(COMPLETION), "en", "safety") for n in range(count)]


def measure(folder: Path, method: str, pairs: int, batch_size: int) -> dict[str, float]:
    """Seconds per pair (median step, without the first) and peak resident memory of one method."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    examples = rows(pairs, model.config.get_text_config().vocab_size)
    result: dict[str, float] = {}
    config = TrainConfig(method, lora_rank=8, batch_size=batch_size, max_tokens=PROMPT + COMPLETION)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as scratch:
        out, reference = Path(scratch), None
        if config.preference:
            started = time.perf_counter()
            reference = compute_reference("base", "base", model, examples, out / "reference.jsonl")
            result["reference_seconds_per_pair"] = (time.perf_counter() - started) / pairs
        train(config, examples, model, tokenizer, out / "run", reference)
        steps = read_curve(out / "run")[1:]
    result["seconds_per_pair"] = statistics.median(row.seconds for row in steps) / batch_size
    result["positions_per_second"] = statistics.median(row.positions / row.seconds for row in steps)
    result["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--model", type=Path, help="a converted model folder (default: embedded Gemma)")
    arguments = parser.parse_args()
    cache = Path(os.environ.get("ALIGNPRISM_CACHE", "~/.cache/alignprism")).expanduser()
    folder = arguments.model or embedded.ensure("gemma-3-270m", cache, print)
    found = {}
    for method in ("sft-preferred", "dpo-ift"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[method] = pool.apply(measure, (folder, method, arguments.pairs, arguments.batch_size))
        print(method, found[method], flush=True)
    sft, dpo = found["sft-preferred"], found["dpo-ift"]
    per_pair = 3 * sft["seconds_per_pair"] + 3 * dpo["seconds_per_pair"] + dpo["reference_seconds_per_pair"]
    summary = {
        "sft": sft,
        "dpo": dpo,
        "quickstart_seconds": QUICKSTART_PAIRS * per_pair,
        "quickstart": f"{QUICKSTART_PAIRS} pairs, SFT and DPO of three epochs each, reference included",
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "processor": platform.processor()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
