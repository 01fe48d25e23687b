"""One timed run of one trainer, ours or TRL's, in a process of its own; started by training_vs_trl.py.

    python benchmarks/trl_side.py < side.json

Both trainers get the same token ids, weights and optimiser settings. Loading, tokenising and the reference pass before
training are not timed, nor are the first ``warm`` steps: CPU seconds run from their end to the end of the last step. Memory
is the peak of the whole process up to there. One JSON object comes last; texts are never printed.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

from alignprism.models.local import load
from alignprism.models.spec import ModelSpec, resolve
from alignprism.training import loop, scorer
from alignprism.training.config import TrainConfig
from alignprism.training.curve import read_curve
from alignprism.training.examples import Example
from alignprism.training.head import HeadForm
from alignprism.training.plan import Plan, make_plan
from alignprism.training.reference import compute_reference

BETA, SEED, LORA_ALPHA = 0.1, 0, 16
WORDS = 64
LEVERS = ("head", "bucketing", "prefix_sharing", "reference_cache")


@dataclasses.dataclass(frozen=True)
class Side:
    """What one process runs. ``rows`` is a file that `write_rows` wrote.

    ``trainer`` is ours or trl. ``steps`` 0 means one epoch. ``stock`` leaves TRL's settings as TRL has them;
    ``epochs`` counts for our side only. ``forward_rows`` (0: all) are TRL's pairs in one forward. ``off`` are our levers that are switched off; ``order`` gives
    our trainer the row ids of every step, and means no bucketing. ``shared`` is a folder that outlives the process:
    with it only the reference pass runs and its forwards are counted. ``turn`` (0: never) are the steps after which a
    side says ``turn`` and waits for a line: sides that take turns see the same fast and slow minutes of the machine
    (their wall seconds count the others' turns).
    """

    trainer: str
    method: str
    rows: str
    model: str = "cohere"
    vocabulary: int = 256_000
    hidden: int = 256
    layers: int = 4
    lora_rank: int = 0
    learning_rate: float = 1e-4
    batch_size: int = 8
    steps: int = 0
    epochs: int = 1
    warm: int = 1
    stock: bool = False
    forward_rows: int = 0
    off: Sequence[str] = ()
    order: Sequence[Sequence[str]] = ()
    shared: str = ""
    turn: int = 0

    def planned_steps(self, rows: int) -> int:
        return self.steps or math.ceil(rows / self.batch_size)


class Clock:
    """CPU and wall seconds at the end of every step, and the peak memory at the end of the last one so far."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.peak_mb = 0.0

    def step_done(self) -> None:
        self.cpu.append(time.process_time())
        self.wall.append(time.perf_counter())
        self.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

    def figures(self, tokens: Sequence[int], positions: Sequence[int], warm: int = 1) -> dict[str, Any]:
        """Completion tokens per CPU second after the `warm` first steps; the other arguments have one entry per step."""
        if len(tokens) <= warm:
            raise SystemExit(f"a run needs more than {warm} steps: the first are not timed")
        seconds = self.cpu[-1] - self.cpu[warm - 1]
        return {
            "tokens_per_cpu_second": sum(tokens[warm:]) / seconds,
            "cpu_seconds": seconds,
            "wall_seconds": self.wall[-1] - self.wall[warm - 1],
            "timed_steps": len(tokens) - warm,
            "tokens": sum(tokens[warm:]),
            "positions": sum(positions[warm:]),
            "peak_mb": self.peak_mb,
        }


def give_turn(side: Side, done: int) -> None:
    """Let the others work, where this step ends a turn; the first one ends with the steps that are not timed."""
    if side.turn and done >= side.warm and (done - side.warm) % side.turn == 0:
        print("turn", flush=True)
        sys.stdin.readline()


def write_rows(path: Path, examples: Sequence[Example]) -> str:
    path.write_text(json.dumps([dataclasses.asdict(example) for example in examples]), encoding="utf-8")
    return str(path)


def read_rows(path: str) -> list[Example]:
    records: list[dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))
    for record in records:
        record.update({key: tuple(value) for key, value in record.items() if isinstance(value, list)})
    return [Example(**record) for record in records]


def start_model(side: Side) -> tuple[Any, PreTrainedTokenizerBase]:
    """The same start weights in every process: an embedded model, or random ones of Cohere's architecture."""
    if side.model.startswith("embedded:"):
        cache = Path(os.environ.get("ALIGNPRISM_CACHE", "~/.cache/alignprism")).expanduser()
        return load(resolve(ModelSpec("start", side.model), cache), device="cpu", dtype=torch.float32)
    config = CohereConfig(
        vocab_size=side.vocabulary,
        hidden_size=side.hidden,
        intermediate_size=4 * side.hidden,
        num_hidden_layers=side.layers,
        num_attention_heads=max(side.hidden // 32, 1),
        num_key_value_heads=max(side.hidden // 32, 1),
        max_position_embeddings=1024,
        logit_scale=0.0625,
        tie_word_embeddings=True,
        initializer_range=0.1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(SEED)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval(), word_tokenizer()


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A few words that stand in for a vocabulary: the rows are ids already, only the special tokens count."""
    names = ["<pad>", "<s>", "</s>", *(f"w{number}" for number in range(3, WORDS))]
    inner = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


# --- ours ------------------------------------------------------------------------------------------------------------


def ours(side: Side) -> dict[str, Any]:
    unknown = set(side.off) - set(LEVERS)
    if unknown:
        raise SystemExit(f"levers are {', '.join(LEVERS)}, not {', '.join(unknown)}")
    model, tokenizer = start_model(side)
    examples = read_rows(side.rows)
    plans = _watch_plans(side.order)
    if "head" in side.off:
        _full_logits(model)
    frozen = start_model(side)[0] if "reference_cache" in side.off else None
    preference = side.method == "dpo"
    config = TrainConfig(
        "dpo-ift" if preference else "sft-preferred",
        learning_rate=side.learning_rate,
        batch_size=side.batch_size,
        beta=BETA,
        epochs=side.epochs,
        lora_rank=side.lora_rank,
        lora_alpha=LORA_ALPHA,
        seed=SEED,
        schedule="constant",
        warmup_share=0.0,
        checkpoint_every=1_000_000,
        prefix_sharing="prefix_sharing" not in side.off,
    )
    if side.order or "bucketing" in side.off:
        config = dataclasses.replace(config, bucket_pool=1)
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        reference = compute_reference("start", "start", model, examples, out / "start.jsonl") if preference else None

        def step_done(progress: loop.Progress) -> None:
            if frozen is not None:  # what a step costs that asks the reference model each time
                rows = [plans[-1].examples[row] for row in plans[-1].batches[progress.done - 1]]
                compute_reference("again", "again", frozen, rows, out / f"again-{progress.done}.jsonl")
            clock.step_done()
            give_turn(side, progress.done)

        result = loop.train(config, examples, model, tokenizer, out / "run", reference, report=step_done)
        curve = read_curve(out / "run")
    return {
        **clock.figures([row.tokens for row in curve], [row.positions for row in curve], side.warm),
        "resident_mb": resident_mb(),
        "unshared": result.unshared,
        "losses": [row.loss for row in curve],
        "gradient_norms": [row.gradient_norm for row in curve],
    }


def _watch_plans(order: Sequence[Sequence[str]]) -> list[Plan]:
    """The plans that `train` makes from now on, as it makes them; with `order`, these batches replace the plan's."""
    made: list[Plan] = []

    def watched(*arguments: Any, **named: Any) -> Plan:
        plan = make_plan(*arguments, **named)
        if order:
            rows = {example.pair_id: row for row, example in enumerate(plan.examples)}
            plan = dataclasses.replace(plan, batches=[tuple(rows[name] for name in batch) for batch in order])
        made.append(plan)
        return plan

    setattr(loop, "make_plan", watched)  # noqa: B010  (mypy lets no module's function be replaced)
    return made


def _full_logits(model: Any) -> None:
    """Replace our head by the usual one: full logits of every position of the batch, log_softmax, gather.

    Our head is asked for the completion positions only, so the rest of the batch's positions are put behind them.
    """
    seen: dict[str, Tensor] = {}

    def keep(_module: object, _arguments: object, output: Any) -> None:
        seen["states"] = output.last_hidden_state

    def log_probs(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, form: HeadForm) -> Tensor:
        grid = seen.pop("states").flatten(0, 1)
        others = grid[: max(len(grid) - len(hidden), 0)]
        logits = torch.nn.functional.linear(torch.cat([hidden, others]), weight, bias)
        if form.scale != 1.0:
            logits = logits * form.scale
        if form.cap is not None:
            logits = form.cap * torch.tanh(logits / form.cap)
        index = torch.cat([targets, targets.new_zeros(len(others))])
        return logits.float().log_softmax(-1).gather(-1, index[:, None]).squeeze(-1)[: len(hidden)]

    model.base_model.register_forward_hook(keep)
    setattr(scorer, "completion_log_probs", log_probs)  # noqa: B010


# --- TRL -------------------------------------------------------------------------------------------------------------


class Recorder:
    """A collator around TRL's that notes which rows it was given and how large the batch became."""

    def __init__(self, inner: Callable[[list[dict[str, Any]]], Mapping[str, Tensor]]) -> None:
        self.inner = inner
        self.rows: list[list[int]] = []
        self.tokens: list[int] = []
        self.positions: list[int] = []

    def __call__(self, examples: list[dict[str, Any]]) -> Mapping[str, Tensor]:
        batch = self.inner(examples)
        completion = batch["completion_mask"] if "completion_mask" in batch else batch["labels"] != -100
        self.rows.append([example["row"] for example in examples])
        self.tokens.append(int(completion.sum()))
        self.positions.append(batch["input_ids"].numel())
        return batch


class Ticker(TrainerCallback):  # type: ignore[misc]
    def __init__(self, clock: Clock, side: Side) -> None:
        self.clock, self.side = clock, side

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.step_done()
        give_turn(self.side, len(self.clock.cpu))


def with_trl(side: Side) -> dict[str, Any]:
    examples = read_rows(side.rows)
    steps, clock = side.planned_steps(len(examples)), Clock()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = (_dpo_trainer if side.method == "dpo" else _sft_trainer)(side, examples, scratch, steps)
        recorder = trainer.data_collator = Recorder(trainer.data_collator)
        trainer.add_callback(Ticker(clock, side))
        trainer.train()
        log = [row for row in trainer.state.log_history if "grad_norm" in row]
    parts = trainer.args.gradient_accumulation_steps

    def by_step(values: list[int]) -> list[int]:
        return [sum(values[step * parts : (step + 1) * parts]) for step in range(steps)]

    names = [[examples[row].pair_id for row in part] for part in recorder.rows]
    order = [[name for part in names[step * parts : (step + 1) * parts] for name in part] for step in range(steps)]
    return {
        **clock.figures(by_step(recorder.tokens), by_step(recorder.positions)),
        "resident_mb": resident_mb(),
        "bf16": bool(trainer.args.bf16),
        "gradient_checkpointing": bool(trainer.args.gradient_checkpointing),
        "order": order,
        "losses": [float(row["loss"]) for row in log],
        "gradient_norms": [float(row["grad_norm"]) for row in log],
    }


def _settings(side: Side, out: str, steps: int) -> dict[str, Any]:
    """What both methods tell TRL; everything else is TRL's default."""
    forward_rows = side.forward_rows or side.batch_size
    settings: dict[str, Any] = {
        "output_dir": out,
        "max_steps": steps,
        "per_device_train_batch_size": forward_rows,
        "gradient_accumulation_steps": max(side.batch_size // forward_rows, 1),
        "learning_rate": side.learning_rate,
        "lr_scheduler_type": "constant",
        "seed": SEED,
        "use_cpu": True,
        "remove_unused_columns": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return settings if side.stock else settings | {"bf16": False, "gradient_checkpointing": False, "logging_steps": 1}


def _peers() -> tuple[Any, Any]:
    """trl and datasets, which our own side must not load: they would count as its memory."""
    return importlib.import_module("trl"), importlib.import_module("datasets")


def _lora(side: Side) -> LoraConfig | None:
    if not side.lora_rank:
        return None
    return LoraConfig(
        r=side.lora_rank,
        lora_alpha=LORA_ALPHA,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _dpo_trainer(side: Side, examples: Sequence[Example], out: str, steps: int) -> Any:
    trl, datasets = _peers()

    class OnIds(trl.DPOTrainer):  # type: ignore[misc, name-defined]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset  # ids already

    model, tokenizer = start_model(side)
    rows = [
        {
            "row": row,
            "prompt_ids": list(example.prompt_ids),
            "chosen_ids": list(example.chosen_ids),
            "rejected_ids": list(example.side("rejected")),
        }
        for row, example in enumerate(examples)
    ]
    tuned = {} if side.stock else {"precompute_ref_log_probs": True}
    return OnIds(
        model=model,
        # TRL would read it from the model's folder; this one has the same size and the same weights.
        ref_model=start_model(side)[0] if side.stock and not side.lora_rank else None,
        args=trl.DPOConfig(beta=BETA, **tuned, **_settings(side, out, steps)),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=_lora(side),
    )


def _sft_trainer(side: Side, examples: Sequence[Example], out: str, steps: int) -> Any:
    trl, datasets = _peers()
    model, tokenizer = start_model(side)
    rows = [
        {
            "row": row,
            "input_ids": [*example.prompt_ids, *example.chosen_ids],
            "labels": [-100] * len(example.prompt_ids) + list(example.chosen_ids),
        }
        for row, example in enumerate(examples)
    ]
    return trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(dataset_kwargs={"skip_prepare_dataset": True}, **_settings(side, out, steps)),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=_lora(side),
    )


# --- the reference pass of a second study ----------------------------------------------------------------------------


def our_reference_forwards(side: Side) -> dict[str, Any]:
    model, _ = start_model(side)
    forwards = [0]

    def count(*_: object) -> None:
        forwards[0] += 1

    model.base_model.register_forward_hook(count)
    compute_reference("start", "start", model, read_rows(side.rows), Path(side.shared) / "ours.jsonl")
    return {"reference_forwards": forwards[0]}


def trl_reference_forwards(side: Side) -> dict[str, Any]:
    """TRL's own preparation from texts of made-up words, stored on disk, so that its cache has a place to be found."""
    trl, datasets = _peers()
    folder = Path(side.shared) / "dataset"
    if not folder.exists():
        rows = [
            {"prompt": _words(e.prompt_ids), "chosen": _words(e.chosen_ids), "rejected": _words(e.side("rejected"))}
            for e in read_rows(side.rows)
        ]
        datasets.Dataset.from_list(rows).save_to_disk(str(folder))
    forwards = [0]

    class Counting(trl.DPOTrainer):  # type: ignore[misc, name-defined]
        def compute_ref_log_probs(self, *arguments: Any) -> Any:
            forwards[0] += 1
            return super().compute_ref_log_probs(*arguments)

    model, tokenizer = start_model(side)
    settings = _settings(side, str(Path(side.shared) / "out"), 1) | {"remove_unused_columns": True}
    Counting(
        model=model,
        args=trl.DPOConfig(beta=BETA, precompute_ref_log_probs=True, **settings),
        train_dataset=datasets.load_from_disk(str(folder)),
        processing_class=tokenizer,
    )
    return {"reference_forwards": forwards[0]}


def _words(ids: Sequence[int]) -> str:
    return "".join(f" w{3 + number % (WORDS - 3)}" for number in ids)


def main() -> None:
    side = Side(**json.loads(sys.stdin.readline()))
    if side.shared:
        figures = our_reference_forwards(side) if side.trainer == "ours" else trl_reference_forwards(side)
    else:
        figures = ours(side) if side.trainer == "ours" else with_trl(side)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
