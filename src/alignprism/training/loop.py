"""The training loop: one for SFT and DPO, for LoRA and full weights, resumable to the bit on a CPU.

Read `train` from top to bottom: it prepares, then repeats ``_step``; everything it needs to repeat after a kill (rows,
order, learning rate) is a function of the configuration and the step number.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignprism.rows import write_atomic
from alignprism.training import curve as curves
from alignprism.training.adapters import attach_lora, publish, save_adapter
from alignprism.training.batches import collate, micro_batches
from alignprism.training.checkpoint import (
    CHECKPOINT_FILE,
    check_identity,
    load_checkpoint,
    restore,
    save_checkpoint,
    trained,
)
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.curve import CurveRow
from alignprism.training.examples import Example, sequences
from alignprism.training.losses import LN2, dpo_loss, dpo_margins, preference_accuracy, sft_loss
from alignprism.training.plan import Plan, learning_rate, make_plan, run_identity
from alignprism.training.plan import training_steps as training_steps
from alignprism.training.reference import Reference
from alignprism.training.scorer import Scorer, check_against_logits

RESULT_FILE = "training.json"
RUN_FILE = "run.json"
ADAPTER_FOLDER = "adapter"
MODEL_FOLDER = "model"

Evaluate = Callable[[int, PreTrainedModel], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Progress:
    """What the caller may show: `done` of `total` optimiser steps, and the last curve row."""

    done: int
    total: int
    row: CurveRow


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished run. Exactly one of ``adapter`` and ``model`` is a folder; paths are relative to the run folder."""

    method: str
    steps: int
    rows: int
    tokens: int
    adapter: str | None
    model: str | None
    first_loss: float
    last_loss: float
    seconds: float
    reference: str | None
    reference_digest: str | None
    identity: dict[str, str]


def train(
    config: TrainConfig,
    examples: Sequence[Example],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    reference: Reference | None = None,
    evaluate: Evaluate | None = None,
    report: Callable[[Progress], None] | None = None,
    *,
    start_digest: str = "",
) -> TrainResult:
    """Train `model` on `examples` and leave the adapter (or the full model), the curve and ``training.json`` in `out`.

    `model` holds the start weights (adapters merged) and is changed in place. DPO needs a `reference` that was computed
    for these examples; it must be the start model, or the first loss is not ln 2 and the run stops. ``start_digest``
    names the start weights, so that a checkpoint of another start is refused. ``evaluate(step, model)`` is called at
    ``config.evaluate_steps``; what it returned is kept in ``evaluations.jsonl`` and not asked for again.

    Raises
    ------
    TrainingError
        no examples, DPO without a reference or without rejected sides, a wrong reference, a non-finite loss, a head
        that is not understood, or a folder that belongs to another run.
    """
    accelerator = Accelerator()
    plan = make_plan(config, examples, tokenizer, reference)
    identity = run_identity(plan, start_digest)
    finished = _finished(out, identity)
    if finished is not None:
        return finished
    if accelerator.is_main_process:
        _claim(out, identity)
    scorer, optimiser = _prepare(accelerator, plan, model)
    step = _resume(accelerator, out, identity, scorer, optimiser)
    steps_to_evaluate = {min(s, plan.steps) if s >= 0 else plan.steps + 1 + s for s in config.evaluate_steps}
    while True:
        if evaluate is not None and step in steps_to_evaluate:
            _evaluate(accelerator, out, step, scorer, evaluate)
        if step == plan.steps:
            break
        row = _step(accelerator, plan, step, scorer, optimiser)
        step += 1
        if accelerator.is_main_process:
            curves.append_row(out, row)
            if step % config.checkpoint_every == 0 and step < plan.steps:
                save_checkpoint(out, step, identity, _inner(accelerator, scorer), optimiser)
        if report is not None:
            report(Progress(step, plan.steps, row))
    return _finish(accelerator, plan, out, identity, scorer)


def _prepare(accelerator: Accelerator, plan: Plan, model: PreTrainedModel) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The scorer and its optimiser on their device, after the scorer was compared with the model's own logits."""
    config = plan.config
    torch.manual_seed(config.seed)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy: PreTrainedModel | PeftModel = attach_lora(model, config) if config.lora_rank else model
    if not config.lora_rank:
        model.requires_grad_(True)
    scorer = Scorer(policy, config).to(accelerator.device)
    _without_dropout(scorer)
    shortest = min(range(len(plan.examples)), key=lambda row: (plan.lengths[row], plan.examples[row].pair_id))
    sample = collate(sequences(config, plan.examples[shortest])[:1], plan.pad_id).to(accelerator.device)
    check_against_logits(scorer.eval(), sample, tolerance=1e-3 if model.dtype == torch.float32 else 0.1)
    optimiser = torch.optim.AdamW(
        list(trained(scorer).values()), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    prepared_scorer, prepared_optimiser = accelerator.prepare(scorer.train(), optimiser)
    return prepared_scorer, prepared_optimiser


def _without_dropout(scorer: nn.Module) -> None:
    """Switch dropout off: DPO compares the policy with a reference that has none."""
    for module in scorer.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010  (nn.Module types every attribute as a module)


def _resume(
    accelerator: Accelerator, out: Path, identity: dict[str, str], scorer: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    """Restore the last checkpoint, if there is one; returns the number of finished steps."""
    checkpoint = load_checkpoint(out, identity)
    step = 0 if checkpoint is None else checkpoint.step
    if checkpoint is not None:
        restore(checkpoint, _inner(accelerator, scorer), optimiser)
    if accelerator.is_main_process:
        curves.rewind(out / curves.CURVE_FILE, step)
        if accelerator.device.type != "cpu":  # a repeated step is only bit-equal on a CPU; its old figures stay true
            curves.rewind(out / curves.EVALUATIONS_FILE, step)
    accelerator.wait_for_everyone()
    return step


def _step(
    accelerator: Accelerator, plan: Plan, step: int, scorer: nn.Module, optimiser: torch.optim.Optimizer
) -> CurveRow:
    """One optimiser step over one batch, in as many forwards as the token budget asks for."""
    started, config = time.perf_counter(), plan.config
    rate = learning_rate(config, step, plan.steps)
    for group in optimiser.param_groups:
        group["lr"] = rate
    rows = plan.batches[step]
    tokens = sum(len(c) for row in rows for _, c in sequences(config, plan.examples[row]))
    totals = torch.zeros(6, dtype=torch.float64)
    world, mine = accelerator.num_processes, accelerator.process_index
    parts = micro_batches(rows, plan.lengths, 2 if config.preference else 1, config.micro_batch_tokens)
    rounds = [parts[start : start + world] for start in range(0, len(parts), world)]
    for number, part in enumerate(rounds):
        # A process without a part of its own runs the first one with weight 0: collectives need every process.
        weight, micro = (1.0, part[mine]) if mine < len(part) else (0.0, part[0])
        last = number == len(rounds) - 1
        with torch.enable_grad(), nullcontext() if last else accelerator.no_sync(scorer):
            loss, figures = _forward(accelerator, plan, scorer, micro, first=step == 0)
            scale = weight * world / (len(rows) if config.preference else tokens)
            accelerator.backward(loss * scale)
        totals += weight * figures
    totals = (
        accelerator.reduce(totals.to(torch.float32).to(accelerator.device), "sum").double().cpu()
        if world > 1
        else totals
    )
    loss_sum, chosen, rejected, margin, correct, positions = totals.tolist()
    loss_mean = loss_sum / (len(rows) if config.preference else tokens)
    norm = accelerator.clip_grad_norm_(list(trained(scorer).values()), config.max_grad_norm)
    if not math.isfinite(loss_mean) or not math.isfinite(float(norm)):
        raise TrainingError(
            f"step {step + 1} of {plan.steps}: the loss is {loss_mean} and the gradient norm {float(norm)}; nothing "
            f"was updated. A lower learning rate than {config.learning_rate} is the usual cure; rows of the batch: "
            f"{', '.join(plan.examples[row].pair_id for row in rows)}"
        )
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    n, both = len(rows), config.preference
    return CurveRow(
        step=step + 1,
        epoch=(step + 1) * config.epochs / plan.steps,
        loss=loss_mean,
        chosen_log_prob=chosen / n,
        rejected_log_prob=rejected / n if both else None,
        margin=margin / n if both else None,
        accuracy=correct / n if both else None,
        gradient_norm=float(norm),
        learning_rate=rate,
        tokens=tokens,
        positions=int(positions),
        seconds=time.perf_counter() - started,
    )


def _forward(
    accelerator: Accelerator, plan: Plan, scorer: nn.Module, rows: Sequence[int], *, first: bool
) -> tuple[Tensor, Tensor]:
    """Summed loss of some rows, and sums of (loss, chosen, rejected, margin, correct, positions) for the curve."""
    config = plan.config
    pairs = [sequences(config, plan.examples[row]) for row in rows]
    batch = collate([pair[side] for side in range(len(pairs[0])) for pair in pairs], plan.pad_id).to(accelerator.device)
    sums, _ = scorer(batch.input_ids, batch.completion_mask)
    zero = torch.zeros(())
    if plan.reference is None:
        loss = sft_loss(sums).sum()
        parts = [loss, sums.sum(), zero, zero, zero]
    else:
        chosen, rejected = sums.chunk(2)
        stored = torch.tensor([plan.reference.pair(plan.examples[row]) for row in rows]).to(sums)
        losses = dpo_loss(chosen, rejected, stored[:, 0], stored[:, 1], config.beta)
        margins = dpo_margins(chosen, rejected, stored[:, 0], stored[:, 1], config.beta).detach()
        if first:
            _check_first_loss(plan, rows, losses.detach())
        loss = losses.sum()
        parts = [loss, chosen.sum(), rejected.sum(), margins.sum(), preference_accuracy(margins).sum()]
    figures = torch.tensor(
        [*(float(part.detach()) for part in parts), float(batch.input_ids.numel())], dtype=torch.float64
    )
    return loss, figures


def _check_first_loss(plan: Plan, rows: Sequence[int], losses: Tensor) -> None:
    """Before the first update the policy is the reference and every pair's loss is ln 2; else it is a wrong one."""
    assert plan.reference is not None
    worst = int((losses - LN2).abs().nan_to_num(math.inf).argmax())
    if not abs(float(losses[worst]) - LN2) <= plan.config.step0_tolerance:
        raise TrainingError(
            f"wrong reference: before the first update the DPO loss of row {plan.examples[rows[worst]].pair_id!r} is "
            f"{float(losses[worst]):.5f}, not ln 2 = {LN2:.5f} (within {plan.config.step0_tolerance}); the reference "
            f"{plan.reference.name!r} ({plan.reference.digest[:12]}) is not the model that training starts from"
        )


def _evaluate(accelerator: Accelerator, out: Path, step: int, scorer: nn.Module, evaluate: Evaluate) -> None:
    """Ask the caller for its figures of this step once, without touching the random state of training."""
    path = out / curves.EVALUATIONS_FILE
    if any(row["step"] == step for row in curves.read_lines(path)):
        return
    if accelerator.is_main_process:
        state, inner = torch.get_rng_state(), _inner(accelerator, scorer)
        inner.eval()
        with torch.no_grad():
            figures = dict(evaluate(step, inner.causal))
        inner.train()
        torch.set_rng_state(state)
        curves.append_line(path, {"step": step, **figures})
    accelerator.wait_for_everyone()


def _finish(
    accelerator: Accelerator, plan: Plan, out: Path, identity: dict[str, str], scorer: nn.Module
) -> TrainResult:
    """Save the weights, then say so in ``training.json``, then drop the checkpoint: a kill between repeats the save."""
    accelerator.wait_for_everyone()
    rows = curves.read_curve(out)
    lora = plan.config.lora_rank > 0
    result = TrainResult(
        method=plan.config.method,
        steps=plan.steps,
        rows=len(plan.examples),
        tokens=sum(row.tokens for row in rows),
        adapter=ADAPTER_FOLDER if lora else None,
        model=None if lora else MODEL_FOLDER,
        first_loss=rows[0].loss,
        last_loss=rows[-1].loss,
        seconds=sum(row.seconds for row in rows),
        reference=plan.reference.name if plan.reference else None,
        reference_digest=plan.reference.digest if plan.reference else None,
        identity=identity,
    )
    if accelerator.is_main_process:
        inner = _inner(accelerator, scorer)
        if isinstance(inner.model, PeftModel):
            save_adapter(inner.model, out / ADAPTER_FOLDER)
        else:
            temporary = out / f".{MODEL_FOLDER}.tmp"
            inner.model.save_pretrained(str(temporary))
            publish(temporary, out / MODEL_FOLDER)
        write_atomic(out / RESULT_FILE, json.dumps(asdict(result), indent=2).encode())
        (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return result


def _claim(out: Path, identity: dict[str, str]) -> None:
    """Make the folder this run's, or find that it already is."""
    path = out / RUN_FILE
    if path.exists():
        check_identity(path, json.loads(path.read_text(encoding="utf-8")), identity)
    else:
        write_atomic(path, json.dumps(identity, indent=2).encode())


def _finished(out: Path, identity: dict[str, str]) -> TrainResult | None:
    path = out / RESULT_FILE
    if not path.exists():
        return None
    result = TrainResult(**json.loads(path.read_text(encoding="utf-8")))
    check_identity(path, result.identity, identity)
    return result


def _inner(accelerator: Accelerator, scorer: nn.Module) -> Scorer:
    inner = accelerator.unwrap_model(scorer)
    assert isinstance(inner, Scorer)
    return inner
