"""The training loop: one for SFT and DPO, for LoRA and full weights, resumable to the bit on a CPU.

Read `train` from top to bottom: it prepares, then repeats ``run_step``; everything it needs to repeat after a kill (rows,
order, learning rate) is a function of the configuration and the step number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignprism.rows import write_atomic
from alignprism.training import curve as curves
from alignprism.training.adapters import attach_lora, save_adapter, whole_folder
from alignprism.training.checkpoint import (
    BEST_FILE,
    CHECKPOINT_FILE,
    Checkpoint,
    check_identity,
    copy_checkpoint,
    is_sharded,
    load_checkpoint,
    restore,
    save_checkpoint,
    trained,
    whole_weights,
)
from alignprism.training.checks import check_scorer, check_strategy
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.curve import CurveRow
from alignprism.training.examples import Example
from alignprism.training.held_out import HeldOut
from alignprism.training.plan import Plan, make_plan, run_identity
from alignprism.training.plan import training_steps as training_steps
from alignprism.training.precision import compute_dtype, computed_in
from alignprism.training.reference import Reference
from alignprism.training.scorer import Scorer, head_cost, why_not_shared
from alignprism.training.step import run_step
from alignprism.training.trackers import start_trackers, track

RESULT_FILE = "training.json"
RUN_FILE = "run.json"
ADAPTER_FOLDER = "adapter"
MODEL_FOLDER = "model"
LAST_FOLDER = "last"

Evaluate = Callable[[int, PreTrainedModel], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Progress:
    """What the caller may show: `done` of `total` optimiser steps, and the last curve row."""

    done: int
    total: int
    row: CurveRow


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished run. Exactly one of ``adapter`` and ``model`` is a folder; paths are relative to the run folder.

    ``steps`` were taken of ``planned_steps``; ``kept_step`` is the one whose weights are the result; where it is not the
    last one, the last one's weights lie in the folder ``last``. ``unshared`` says why
    pairs did not share a row (None: they did). ``precision`` is what products were computed in. ``displacement`` is
    `alignprism.training.curve.displacement`, ``displacement_by_language`` that of each language with rows enough to tell;
    ``warnings`` are sentences for people.
    """

    method: str
    steps: int
    planned_steps: int
    kept_step: int
    rows: int
    held_out_rows: int
    tokens: int
    positions: int
    adapter: str | None
    model: str | None
    first_loss: float
    last_loss: float
    seconds: float
    reference: str | None
    reference_digest: str | None
    unshared: str | None
    displacement: float | None
    warnings: list[str]
    identity: dict[str, str]
    # Last and with defaults: results of earlier versions have none.
    precision: str = ""
    displacement_by_language: dict[str, float] = field(default_factory=dict)


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
    run_name: str = "",
    shard: Callable[[Scorer], None] | None = None,
) -> TrainResult:
    """Train `model` on `examples` and leave the adapter (or the full model), the curve and ``training.json`` in `out`.

    `model` holds the start weights (adapters merged) and is changed in place; weights that the caller froze stay as they
    are in full training. DPO needs a `reference` that was computed
    for these examples; it must be the start model, or the first loss is not ln 2 and the run stops. ``start_digest``
    names the start weights, so that a checkpoint of another start is refused. ``run_name`` is what trackers call the run
    (default: as the folder). ``evaluate(step, model)`` is called at
    ``config.evaluate_steps``, and with held-out rows at the step that is kept; what it returned is kept in ``evaluations.jsonl`` and not asked for again. ``shard``
    distributes the scorer's parameters itself (torch's ``fully_shard``), where accelerate is not to do it.

    Raises
    ------
    TrainingError
        no examples, DPO without a reference or without rejected sides, a wrong reference, a non-finite loss, a head
        that is not understood, a strategy that is not in force, or a folder that belongs to another run.
    """
    accelerator = Accelerator(log_with=list(config.trackers) or None, project_dir=str(out))
    check_strategy(accelerator)
    plan = make_plan(config, examples, tokenizer, reference, why_not_shared(model), head_cost(model, config))
    identity = run_identity(plan, start_digest, computed_in(model.dtype, compute_dtype(config)))
    finished = _finished(out, identity)
    if finished is not None:
        return finished
    if accelerator.is_main_process:
        _claim(out, identity)
    accelerator.wait_for_everyone()
    scorer, optimiser = _prepare(accelerator, plan, model, shard)
    step = _resume(accelerator, out, identity, scorer, optimiser)
    held_out = HeldOut(plan, out, step)

    def keep(at: int) -> None:
        save_checkpoint(accelerator, out / CHECKPOINT_FILE, Checkpoint.of(at, identity, scorer, optimiser))

    def keep_best(at: int) -> None:
        # First as the checkpoint, so that a resumed run never starts before its best: repeated steps need not win again.
        keep(at)
        copy_checkpoint(accelerator, out / CHECKPOINT_FILE, out / BEST_FILE)

    start_trackers(accelerator, config, run_name or out.resolve().name)
    steps_to_evaluate = {min(s, plan.steps) if s >= 0 else plan.steps + 1 + s for s in config.evaluate_steps}
    while True:
        if evaluate is not None and step in steps_to_evaluate:
            _evaluate(accelerator, out, step, scorer, evaluate)
        if held_out.due(step):
            held_out.score(accelerator, step, scorer, partial(keep_best, step))
        if step == plan.steps or held_out.exhausted:
            break
        row = run_step(accelerator, plan, step, scorer, optimiser)
        step += 1
        if accelerator.is_main_process:
            curves.append_row(out, row)
        if step % config.checkpoint_every == 0 and step < plan.steps:
            keep(step)
        track(accelerator, config, row)
        if report is not None:
            report(Progress(step, plan.steps, row))
    if config.trackers:
        accelerator.end_training()
    kept = _restore_best(accelerator, config, out, identity, scorer, optimiser, step)
    if evaluate is not None and config.evaluate_steps and config.held_out_share:
        # The weights that are the result, whichever step's they are.
        _evaluate(accelerator, out, kept, scorer, evaluate)
    return _finish(accelerator, plan, out, identity, scorer, steps=step, kept=kept)


def _prepare(
    accelerator: Accelerator, plan: Plan, model: PreTrainedModel, shard: Callable[[Scorer], None] | None
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The scorer and its optimiser on their device, after the checks on real rows."""
    config = plan.config
    torch.manual_seed(config.seed)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy: PreTrainedModel | PeftModel = attach_lora(model, config) if config.lora_rank else model
    if not config.lora_rank:
        _check_trainable(model)
    scorer = Scorer(policy, config, compute_dtype(config)).to(accelerator.device)
    _without_dropout(scorer)
    check_scorer(scorer.eval(), plan, accelerator.device)
    scorer.train()
    if shard is not None:
        shard(scorer)
    optimiser = torch.optim.AdamW(_decayed(scorer, config.weight_decay), lr=config.learning_rate)
    if shard is not None:
        return scorer, optimiser
    prepared_scorer, prepared_optimiser = accelerator.prepare(scorer, optimiser)
    return prepared_scorer, prepared_optimiser


def _check_trainable(model: PreTrainedModel) -> None:
    """Refuse what would look like any other run: weights in 16 bits, whose small updates are rounded away, or none at all."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError("every weight of the model is frozen (requires_grad is false): nothing would be trained")
    half = {str(p.dtype).removeprefix("torch.") for p in model.parameters()} & {"bfloat16", "float16"}
    if half:
        raise TrainingError(
            f"full weights in {half.pop()} lose small updates; load the model in float32 (products may still be rounded: "
            "precision), or train a LoRA adapter"
        )


def _decayed(scorer: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """The trained parameters; where weights decay, in two groups: norms and biases do not, as in transformers' trainer."""
    parameters = list(trained(scorer).values())
    vectors = [parameter for parameter in parameters if parameter.ndim < 2] if weight_decay else []
    if not vectors:
        return [{"params": parameters, "weight_decay": weight_decay}]
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


_RATES = (
    "dropout",
    "attention_dropout",
    "hidden_dropout",
    "activation_dropout",
    "layerdrop",
    "jitter_noise",
    "router_jitter_noise",
    "input_jitter_noise",
)
"""Names under which models keep the rate of a dropout (or of noise) that is no module of its own."""


def _without_dropout(scorer: nn.Module) -> None:
    """Switch dropout off: DPO compares the policy with a reference that has none."""
    for module in scorer.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in _RATES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _resume(
    accelerator: Accelerator, out: Path, identity: dict[str, str], scorer: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    """Restore the last checkpoint, if there is one; returns the number of finished steps."""
    checkpoint = load_checkpoint(out / CHECKPOINT_FILE, identity)
    step = 0 if checkpoint is None else checkpoint.step
    if checkpoint is not None:
        restore(checkpoint, scorer, optimiser)
    if accelerator.is_main_process:
        curves.rewind(out / curves.CURVE_FILE, step)
        curves.rewind(out / curves.HELD_OUT_FILE, step)
        if accelerator.device.type != "cpu":  # a repeated step is only bit-equal on a CPU; its old figures stay true
            curves.rewind(out / curves.EVALUATIONS_FILE, step)
    accelerator.wait_for_everyone()
    return step


def _restore_best(
    accelerator: Accelerator,
    config: TrainConfig,
    out: Path,
    identity: dict[str, str],
    scorer: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
) -> int:
    """Put the weights that did best on held-out rows in place, the last ones beside them; returns the step of what is kept."""
    accelerator.wait_for_everyone()  # the first process may still be writing its best
    best = load_checkpoint(out / BEST_FILE, identity) if config.held_out_share else None
    if best is None or best.step == step:
        return step
    _save_weights(accelerator, scorer, out / LAST_FOLDER)
    restore(best, scorer, optimiser)
    return best.step


def _evaluate(accelerator: Accelerator, out: Path, step: int, scorer: nn.Module, evaluate: Evaluate) -> None:
    """Ask the caller for its figures of this step once, without touching the random state of training."""
    if is_sharded(scorer):  # its layers are gathered from processes that would not be asked
        raise TrainingError("a model that is spread over processes (FSDP2) cannot be evaluated while it trains")
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
    accelerator: Accelerator,
    plan: Plan,
    out: Path,
    identity: dict[str, str],
    scorer: nn.Module,
    *,
    steps: int,
    kept: int,
) -> TrainResult:
    """Save the weights, then say so in ``training.json``, then drop the checkpoints: a kill between repeats the save."""
    accelerator.wait_for_everyone()
    rows = curves.read_curve(out)
    lora = plan.config.lora_rank > 0
    fall, falls = curves.displacement(rows), curves.displacement_by_language(rows)
    result = TrainResult(
        method=plan.config.method,
        steps=steps,
        planned_steps=plan.steps,
        kept_step=kept,
        rows=len(plan.examples),
        held_out_rows=len(plan.held_out),
        tokens=sum(row.tokens for row in rows),
        positions=sum(row.positions for row in rows),
        adapter=ADAPTER_FOLDER if lora else None,
        model=None if lora else MODEL_FOLDER,
        first_loss=rows[0].loss,
        last_loss=rows[-1].loss,
        seconds=sum(row.seconds for row in rows),
        reference=plan.reference.name if plan.reference else None,
        reference_digest=plan.reference.digest if plan.reference else None,
        unshared=plan.unshared,
        displacement=fall,
        displacement_by_language=falls,
        warnings=_warnings(plan.config, fall, falls),
        precision=identity["precision"],
        identity=identity,
    )
    _save_weights(accelerator, scorer, out / (ADAPTER_FOLDER if lora else MODEL_FOLDER))
    if accelerator.is_main_process:
        write_atomic(out / RESULT_FILE, json.dumps(asdict(result), indent=2).encode())
        for name in (CHECKPOINT_FILE, BEST_FILE):
            (out / name).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return result


def _save_weights(accelerator: Accelerator, scorer: nn.Module, folder: Path) -> None:
    """The adapter, or the whole model, as a folder that replaces what stood there; every process must call this."""
    weights = whole_weights(scorer)
    if not accelerator.is_main_process:
        return
    inner = _inner(accelerator, scorer)
    if isinstance(inner.model, PeftModel):
        save_adapter(inner.model, folder, weights)
    else:
        with whole_folder(folder) as temporary:
            inner.model.save_pretrained(str(temporary), state_dict=weights)


_CURE = "a lower learning rate, a higher beta or an NLL term (nll_weight) keeps them"


def _warnings(config: TrainConfig, fall: float | None, by_language: Mapping[str, float]) -> list[str]:
    """Sentences on likelihood displacement: in all, and in single languages, which the whole may hide."""
    found = []
    if fall is not None and fall <= -config.displacement_alarm:
        found.append(
            f"likelihood displacement: at the end the chosen answers are {-fall:.2f} nats per token less likely than under the "
            f"reference; {_CURE}"
        )
    fallen = sorted((value, code) for code, value in by_language.items() if value <= -config.displacement_alarm)
    if fallen:
        listed = ", ".join(f"{code} {-value:.2f}" for value, code in fallen)
        found.append(
            f"likelihood displacement by language: at the end the chosen answers are less likely than under the reference by, "
            f"in nats per token: {listed}; {_CURE} (languages with fewer than {curves.FEWEST_ROWS} rows in the last quarter of "
            "the steps are not told)"
        )
    return found


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
    content = json.loads(path.read_text(encoding="utf-8"))
    check_identity(path, content["identity"], identity)  # first: a result of an earlier version has other fields
    return TrainResult(**content)


def _inner(accelerator: Accelerator, scorer: nn.Module) -> Scorer:
    inner = accelerator.unwrap_model(scorer)
    assert isinstance(inner, Scorer)
    return inner
