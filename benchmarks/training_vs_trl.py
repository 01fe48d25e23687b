"""Our training against TRL 1.16's DPOTrainer and SFTTrainer: speed, memory, and whether the losses are equal.

    python benchmarks/training_vs_trl.py --data ../shared/data [--only CASE ...] [--repeat 3] [--quick]

Both sides train the same weights on the same token ids, with the same pairs per optimiser step, AdamW and float32 (see
trl_side.py for what is timed). TRL runs twice: tuned (reference log-probabilities computed before, no gradient
checkpointing, no bf16) and, for two steps, as it comes. Losses are compared with bucketing off on TRL's batches in
TRL's order; speed and memory with our defaults. Ours and tuned TRL take turns, a few steps each, because the machine's own
speed changes within minutes; where memory is too small for both (21 GB with Gemma) they run one after the other, and
in_turns is false. Repetitions are interleaved and medians reported.

One JSON object comes last. tokens_per_cpu_second counts completion tokens; speed_ratio is ours over tuned TRL's,
memory_ratio our peak over tuned TRL's; max_grad_norm_difference is relative; positions (ours over TRL's) are counted
without running a model. In ablation a lever's share is log(with / without) over the sum of that over all levers. In scaling a spread is
the largest over the smallest figure of one vocabulary, minus 1. The data is harmful and never printed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from pair_rows import GEMMA, cut, natural_lengths, real_pairs, sample, short_rows, with_random_ids
from trl_side import LEVERS, Side, word_tokenizer, write_rows
from turns import Figures, in_turns, interleaved, run

from alignprism.training.config import TrainConfig
from alignprism.training.examples import Example
from alignprism.training.plan import make_plan
from alignprism.training.reference import Reference

CASES = ("large_vocab", "gemma", "sft", "ablation", "positions", "sweep", "scaling")
MORE = ("large_vocab_long", "gemma_full")
"""Cases that run only when they are named."""
STOCK_STEPS = 2
TUNED_STEPS = 4
"""TRL's steps with 256k words: a minute each on two cores. The first is not timed."""
TRL_MAX_LENGTH = 1024
BOTH_IN_MEMORY = {"large_vocab": 11e9, "large_vocab_long": 11e9, "gemma": 22e9, "gemma_full": 28e9, "sft": 15e9}
"""Bytes that ours and tuned TRL take at once; where fewer are free, they run one after the other."""


class AnyReference(Reference):
    """Knows every row, for counting positions without a model."""

    def pair(self, example: Example) -> tuple[float, float]:
        return 0.0, 0.0


# --- ours against TRL --------------------------------------------------------------------------------------------------


def _shown(figures: Figures) -> Figures:
    """Without the long lists."""
    return {key: value for key, value in figures.items() if not isinstance(value, list)}


def rows_in(side: Side) -> int:
    return len(json.loads(Path(side.rows).read_text(encoding="utf-8")))


def versus(
    case: str, side: Side, repeat: int, *, forward_rows: int, stock: bool = True, together: bool = True
) -> Figures:
    """Ours against TRL tuned (`together`: both in memory at once) and, for a few steps, as it comes; then both loss curves
    on the same batches.
    """
    planned = side.planned_steps(rows_in(side))
    steps = min(planned, TUNED_STEPS)
    theirs = replace(side, trainer="trl", forward_rows=forward_rows, steps=steps, turn=int(together))
    ours_and_theirs = {"ours": replace(side, turn=planned // steps if together else 0), "trl_tuned": theirs}
    found = interleaved(case, ours_and_theirs, repeat, together=together)
    if stock:
        found |= interleaved(case, {"trl_default": replace(side, trainer="trl", stock=True, steps=STOCK_STEPS)}, repeat)
    ours, tuned = found["ours"], found["trl_tuned"]
    same = run(f"{case} ours on TRL's batches", replace(side, order=tuned["order"]))
    losses = zip(same["losses"], tuned["losses"], strict=True)
    norms = zip(same["gradient_norms"], tuned["gradient_norms"], strict=True)
    result: Figures = {
        "in_turns": together,
        "speed_ratio": ours["tokens_per_cpu_second"] / tuned["tokens_per_cpu_second"],
        "memory_ratio": ours["peak_mb"] / tuned["peak_mb"],
        "max_loss_difference": max(abs(a - b) for a, b in losses),
        "max_grad_norm_difference": max(abs(a - b) / max(abs(b), 1e-12) for a, b in norms),
        "first_and_last_loss": [tuned["losses"][0], tuned["losses"][-1]],
        **{name: _shown(figures) for name, figures in found.items()},
    }
    if stock:
        default = found["trl_default"]
        result["speed_ratio_default"] = ours["tokens_per_cpu_second"] / default["tokens_per_cpu_second"]
        result["memory_ratio_default"] = ours["peak_mb"] / default["peak_mb"]
    return result


# --- cases -----------------------------------------------------------------------------------------------------------


def ablation(side: Side, repeat: int) -> Figures:
    """One lever switched off at a time, ours only. The second epoch is timed, so that every side times the same pairs."""
    side = replace(side, epochs=2, warm=side.planned_steps(rows_in(side)))
    sides = {"none": side} | {lever: replace(side, off=[lever]) for lever in LEVERS}
    found = interleaved("ablation without", sides, repeat)
    speed, peak = found["none"]["tokens_per_cpu_second"], found["none"]["peak_mb"]
    speeds = {lever: speed / found[lever]["tokens_per_cpu_second"] for lever in LEVERS}
    memories = {lever: found[lever]["peak_mb"] / peak for lever in LEVERS}
    speed_sum, memory_sum = (sum(map(math.log, ratios.values())) for ratios in (speeds, memories))
    return {
        lever: {
            "speed_ratio": speeds[lever],
            "memory_ratio": memories[lever],
            "speed_share": math.log(speeds[lever]) / speed_sum,
            "memory_share": math.log(memories[lever]) / memory_sum,
            "without": _shown(found[lever]),
        }
        for lever in LEVERS
    } | {"all_levers": _shown(found["none"])}


def positions(pairs: Sequence[Example]) -> Figures:
    """Positions of one epoch over the real pairs: our planner's rows against TRL's collator's."""
    trainers: Any = importlib.import_module("trl.trainer.dpo_trainer")
    examples = cut(pairs, TRL_MAX_LENGTH)
    completions = sum(len(e.chosen_ids) + len(e.side("rejected")) for e in examples)
    least = {"transformer": completions + sum(len(e.prompt_ids) for e in examples), "head": completions}
    result: Figures = {"pairs": len(examples), "max_length": TRL_MAX_LENGTH}
    for size in (8, 32):
        plan = make_plan(
            TrainConfig("dpo-ift", batch_size=size), examples, word_tokenizer(), AnyReference("any", "any", {})
        )
        mine = {"transformer": 0, "head": 0}
        for batch in plan.batches:
            for part in plan.forwards(batch):
                layout = plan.layout([plan.examples[row] for row in part])
                mine["transformer"] += layout.input_ids.numel()
                mine["head"] += layout.targets.numel()
        collator = trainers.DataCollatorForPreference(pad_token_id=0, max_length=TRL_MAX_LENGTH)
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).tolist()
        theirs = {"transformer": 0, "head": 0, "head_on_cuda": 0}
        for start in range(0, len(order), size):
            batch = collator([_for_trl(examples[row]) for row in order[start : start + size]])
            theirs["transformer"] += batch["input_ids"].numel()
            theirs["head"] += batch["input_ids"][:, 1:].numel()
            theirs["head_on_cuda"] += int(batch["completion_mask"][:, 1:].sum())
        ratio = mine["transformer"] / theirs["transformer"]
        result[f"batch_{size}"] = {
            "transformer_ratio": ratio,
            "head_ratio": mine["head"] / theirs["head"],
            # No padding at all, every prompt once: what no trainer can go below without skipping tokens of the loss.
            "floor": {part: least[part] / theirs[part] for part in least},
            # On CUDA TRL compacts the head's input only: the transformer runs the same padded rows.
            "transformer_ratio_cuda_count": ratio,
            "head_ratio_cuda_count": mine["head"] / theirs["head_on_cuda"],
            "ours": mine,
            "trl": theirs,
        }
    return result


def _for_trl(example: Example) -> dict[str, list[int]]:
    return {
        "prompt_ids": list(example.prompt_ids),
        "chosen_ids": list(example.chosen_ids),
        "rejected_ids": list(example.side("rejected")),
    }


def sweep(scratch: Path) -> Figures:
    """Reference forwards of two studies on the same data that differ in the learning rate."""
    rows = write_rows(scratch / "sweep.json", short_rows(32, 2_000))
    result: Figures = {}
    for trainer, prefix in (("ours", ""), ("trl", "trl_")):
        shared = scratch / f"sweep-{trainer}"
        shared.mkdir()
        side = Side(trainer, "dpo", rows, vocabulary=2_000, hidden=64, layers=1, shared=str(shared))
        for study, rate in (("first", 1e-4), ("second", 2e-4)):
            found = run(f"sweep {trainer}, {study} study", replace(side, learning_rate=rate))
            result[f"{prefix}reference_forwards_{study}_study"] = found["reference_forwards"]
    return result


def scaling(scratch: Path, *, quick: bool) -> Figures:
    """Ours alone, with more and more pairs: the speed of a step and what the process holds at the end.

    The sizes of one vocabulary take turns, since the machine's own speed changes more from minute to minute than what is
    measured. Small sets are read several times, so that each size times about as many steps; the first turn is not timed.
    """
    plans = {
        "pairs_2k_vocab": (
            {64: (2, 1), 128: (1, 1)} if quick else {1024: (4, 8), 4096: (1, 8), 16384: (1, 32)}, 2_000, 128, 2, 32,
        ),
        "pairs_256k_vocab": (
            {16: (2, 1), 32: (1, 1)} if quick else {16: (16, 4), 64: (4, 4), 256: (1, 4)},
            5_000 if quick else 256_000, 256, 4, 8,
        ),
    }  # fmt: skip
    result: Figures = {}
    spreads: dict[str, list[float]] = {"tokens_per_cpu_second": [], "resident_mb": []}
    for name, (sizes, vocabulary, hidden, layers, batch) in plans.items():
        sides = {}
        for count, (epochs, turn) in sizes.items():
            rows = write_rows(scratch / f"{name}-{count}.json", short_rows(count, vocabulary))
            sides[f"scaling {name} {count}"] = Side(
                "ours", "dpo", rows, vocabulary=vocabulary, hidden=hidden, layers=layers, batch_size=batch,
                epochs=epochs, warm=turn, turn=turn,
            )  # fmt: skip
        found = in_turns(sides)
        result[name] = {side.split()[-1]: _shown(figures) for side, figures in found.items()}
        for key, values in spreads.items():
            figures = [each[key] for each in found.values()]
            values.append(max(figures) / min(figures) - 1)
    return result | {
        "speed_spread": max(spreads["tokens_per_cpu_second"]),
        "memory_spread": max(spreads["resident_mb"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds polyrefuse/")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("ALIGNPRISM_CACHE", "~/.cache/alignprism")))
    parser.add_argument("--only", choices=(*CASES, *MORE), nargs="+", help="these cases")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--trl-forward-rows", type=int, default=0, help="pairs per forward of tuned TRL (0: the batch)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, no Gemma: says that it runs, measures nothing"
    )
    arguments = parser.parse_args()
    chosen = arguments.only or list(CASES)
    quick, repeat = arguments.quick, arguments.repeat
    started = time.monotonic()
    result: Figures = {"load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="alignprism-bench-") as folder:
        scratch = Path(folder)
        pairs: list[Example] = []
        if set(chosen) - {"sweep", "scaling"}:
            pairs = real_pairs(arguments.data, arguments.cache.expanduser(), quick=quick)
        for case in chosen:
            if case == "positions":
                result[case] = positions(pairs)
            elif case == "sweep":
                result[case] = sweep(scratch)
            elif case == "scaling":
                result[case] = scaling(scratch, quick=quick)
            elif case == "ablation":
                result[case] = ablation(training_side(case, pairs, scratch, quick=quick), repeat)
            else:
                side = training_side(case, pairs, scratch, quick=quick)
                stock = case not in ("sft", "large_vocab_long")
                together = quick or psutil.virtual_memory().available > BOTH_IN_MEMORY[case]
                result[case] = versus(
                    case, side, repeat, forward_rows=arguments.trl_forward_rows, stock=stock, together=together
                )
    result["machine"] = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "system": platform.machine()}
    result["versions"] = {name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")}
    result["minutes"] = (time.monotonic() - started) / 60
    print(json.dumps(result))


def training_side(case: str, pairs: Sequence[Example], scratch: Path, *, quick: bool) -> Side:
    """Our side of a case that trains.

    The random model gets the lengths of real answers (``natural_lengths``) up to 512 tokens, and in ``large_vocab_long``
    those of the pairs as they are, up to 256.
    """
    random_model = case in ("large_vocab", "large_vocab_long", "ablation")
    natural = case in ("large_vocab", "ablation")
    counts = {"large_vocab": 64, "large_vocab_long": 32, "ablation": 16}
    count, limit = (8, 48) if quick else (counts.get(case, 24), 256 + 256 * natural)
    examples = sample(cut(natural_lengths(pairs) if natural else pairs, limit), count)
    method = "sft" if case == "sft" else "dpo"
    rank = 0 if random_model or case == "gemma_full" else 16
    rate = 1e-4 if random_model else 1e-5 if case == "gemma_full" else 2e-4
    if quick or random_model:
        vocabulary, hidden = (5_000, 64) if quick else (256_000, 256)
        rows = write_rows(scratch / f"{case}.json", with_random_ids(examples, vocabulary))
        return Side(
            "ours", method, rows, vocabulary=vocabulary, hidden=hidden, lora_rank=rank, learning_rate=rate,
            batch_size=2 if quick else 8,
        )  # fmt: skip
    rows = write_rows(scratch / f"{case}.json", examples)
    return Side("ours", method, rows, model=GEMMA, lora_rank=rank, learning_rate=rate)


if __name__ == "__main__":
    main()
