"""One optimiser step: the forwards of a batch, the loss, and what the curve says about it, in all and by language."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from alignprism.training.checkpoint import trained
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.curve import CurveRow, LanguageFigures
from alignprism.training.examples import Example, sequences
from alignprism.training.layout import Batch
from alignprism.training.losses import LN2, dpo_loss, dpo_margins, per_token, preference_accuracy, sft_loss
from alignprism.training.plan import Plan, learning_rate
from alignprism.training.precision import is_half, pair_rounding
from alignprism.training.scorer import Scorer

FIGURES = ("loss", "chosen", "rejected", "reference_chosen", "margin", "accuracy", "tokens", "chosen_tokens", "rows")
"""Sums over rows that a step counts, by language: columns of a float64 tensor."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of some rows: the loss of each, (n,) with gradient, the chosen sides' summed log-probability, the router's loss,
    and the figures, (n, len(FIGURES)) float64."""

    losses: Tensor
    chosen: Tensor
    router: Tensor
    figures: Tensor


def run_step(
    accelerator: Accelerator, plan: Plan, step: int, scorer: nn.Module, optimiser: torch.optim.Optimizer
) -> CurveRow:
    """One optimiser step over one batch, in as many forwards as the plan cuts it into.

    Raises
    ------
    TrainingError
        the loss or the gradient is not finite, or before the first update some pair's loss is not ln 2.
    """
    started, config = time.perf_counter(), plan.config
    rate = learning_rate(config, step, plan.steps)
    for group in optimiser.param_groups:
        group["lr"] = rate
    rows = plan.batches[step]
    totals = torch.zeros(len(plan.languages), len(FIGURES), dtype=torch.float64)
    place = {language: number for number, language in enumerate(plan.languages)}
    positions = 0
    world, mine = accelerator.num_processes, accelerator.process_index
    parts = plan.forwards(rows, at_least=world)
    rounds = [parts[start : start + world] for start in range(0, len(parts), world)]
    for number, part in enumerate(rounds):
        # A process without a part of its own runs the first one with weight 0: collectives need every process.
        weight, micro = (1.0, part[mine]) if mine < len(part) else (0.0, part[0])
        examples = [plan.examples[row] for row in micro]
        with torch.enable_grad(), nullcontext() if number == len(rounds) - 1 else accelerator.no_sync(scorer):
            batch = plan.layout(examples).to(accelerator.device)
            outcome = score(plan, scorer, examples, batch)
            if step == 0 and plan.reference is not None:
                _check_first_loss(plan, examples, outcome.losses.detach(), _tolerances(plan, scorer, examples))
            accelerator.backward(weight * world * _loss(plan, scorer, rows, micro, outcome))
        totals.index_add_(0, torch.tensor([place[e.language] for e in examples]), weight * outcome.figures)
        positions += int(weight) * batch.input_ids.numel()
    summed = over_processes(accelerator, torch.cat([totals.flatten(), torch.tensor([positions], dtype=torch.float64)]))
    totals, positions = summed[:-1].reshape(totals.shape), round(float(summed[-1]))
    norm = _clipped_norm(accelerator, scorer, config)
    loss = float(totals[:, FIGURES.index("loss")].sum()) / _divisor(plan, rows)
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise TrainingError(
            f"step {step + 1} of {plan.steps}: the loss is {loss} and the gradient norm {norm}; nothing was updated. "
            f"A lower learning rate than {config.learning_rate} is the usual cure; rows of the batch: "
            f"{', '.join(plan.examples[row].pair_id for row in rows)}"
        )
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return _curve_row(plan, step, totals, positions, norm, rate, time.perf_counter() - started)


def score(plan: Plan, scorer: nn.Module, examples: Sequence[Example], batch: Batch) -> Outcome:
    """Losses and figures of some rows, laid out as `batch`."""
    scores = scorer(batch)
    if plan.reference is None:
        losses, n = sft_loss(scores.sums), len(examples)
        zero = losses.new_zeros(n)
        columns = [losses, scores.sums, zero, zero, zero, zero, batch.tokens, zero, zero + 1]
        return Outcome(losses, scores.sums, scores.router, _columns(columns))
    chosen, rejected = scores.sums.chunk(2)
    stored = torch.tensor([plan.reference.pair(example) for example in examples]).to(scores.sums)
    sides = (chosen, rejected, stored[:, 0], stored[:, 1])
    chosen_tokens, rejected_tokens = batch.tokens.chunk(2)
    if plan.config.loss == "length-normalised":
        first, second = chosen_tokens, rejected_tokens
        sides = (
            per_token(chosen, first),
            per_token(rejected, second),
            per_token(stored[:, 0], first),
            per_token(stored[:, 1], second),
        )
    losses = dpo_loss(*sides, plan.config.beta)
    margins = dpo_margins(*sides, plan.config.beta).detach()
    figures = [losses, chosen, rejected, stored[:, 0], margins, preference_accuracy(margins)]
    return Outcome(
        losses,
        chosen,
        scores.router,
        _columns([*figures, chosen_tokens + rejected_tokens, chosen_tokens, torch.ones_like(margins)]),
    )


def _columns(values: Sequence[Tensor]) -> Tensor:
    return torch.stack([value.detach().double().cpu() for value in values], dim=1)


def _loss(plan: Plan, scorer: nn.Module, rows: Sequence[int], micro: Sequence[int], outcome: Outcome) -> Tensor:
    """The part of the batch's loss that some of its rows bring, so that the parts add up whatever the cut."""
    loss = outcome.losses.sum() / _divisor(plan, rows)
    if plan.config.nll_weight and plan.config.preference:
        tokens = sum(len(plan.examples[row].chosen_ids) for row in rows)
        loss = loss - plan.config.nll_weight * outcome.chosen.sum() / tokens
    if outcome.router.requires_grad:
        # The balancing loss is no sum over rows: each forward's counts by its share of the rows.
        loss = loss + _router_weight(plan.config, scorer) * outcome.router * len(micro) / len(rows)
    return loss


def _router_weight(config: TrainConfig, scorer: nn.Module) -> float:
    if config.router_weight is not None:
        return config.router_weight
    return float(_inner(scorer).causal.router_aux_loss_coef)


def _inner(scorer: nn.Module) -> Scorer:
    inner = getattr(scorer, "module", scorer)
    assert isinstance(inner, Scorer)
    return inner


def _divisor(plan: Plan, rows: Sequence[int]) -> int:
    """What a batch's summed loss is divided by: pairs for DPO, completion tokens for SFT."""
    if plan.config.preference:
        return len(rows)
    return sum(len(c) for row in rows for _, c in sequences(plan.config, plan.examples[row]))


def _tolerances(plan: Plan, scorer: nn.Module, examples: Sequence[Example]) -> Tensor:
    """How far each pair's first loss may lie from ln 2, (n,). Near it the loss changes by beta / 2 for each nat."""
    config, inner = plan.config, _inner(scorer)
    exact = torch.full((len(examples),), config.step0_tolerance)
    if not is_half(inner.causal.dtype, inner.compute):
        return exact
    by_token = config.loss == "length-normalised"
    rounding = [pair_rounding(len(e.chosen_ids), len(e.side("rejected")), per_token=by_token) for e in examples]
    return exact + config.beta / 2 * torch.tensor(rounding)


def _check_first_loss(plan: Plan, examples: Sequence[Example], losses: Tensor, tolerances: Tensor) -> None:
    """Before the first update the policy is the reference and every pair's loss is ln 2; else it is a wrong one."""
    assert plan.reference is not None
    excess = ((losses - LN2).abs().cpu() - tolerances).nan_to_num(math.inf)
    worst = int(excess.argmax())
    if excess[worst] > 0:
        raise TrainingError(
            f"wrong reference: before the first update the DPO loss of row {examples[worst].pair_id!r} is "
            f"{float(losses[worst]):.5f}, not ln 2 = {LN2:.5f} (within {float(tolerances[worst]):.3g}); the reference "
            f"{plan.reference.name!r} ({plan.reference.digest[:12]}) is not the model that training starts from"
        )


def over_processes(accelerator: Accelerator, flat: Tensor) -> Tensor:
    """The sum of a float64 tensor on the CPU over all processes, the same on each."""
    if accelerator.num_processes == 1:
        return flat
    # Sent in two float32 halves: not every backend reduces float64, and a rounded sum would show in the curve.
    high = flat.float()
    halves = torch.stack([high, (flat - high.double()).float()]).to(accelerator.device)
    summed: Tensor = accelerator.reduce(halves, "sum").double().cpu().sum(0)
    return summed


def _clipped_norm(accelerator: Accelerator, scorer: nn.Module, config: TrainConfig) -> float:
    norm = accelerator.clip_grad_norm_(list(trained(scorer).values()), config.max_grad_norm)
    whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return float(whole)


def _curve_row(
    plan: Plan, step: int, totals: Tensor, positions: int, norm: float, rate: float, seconds: float
) -> CurveRow:
    config = plan.config
    overall = dict(zip(FIGURES, totals.sum(0).tolist(), strict=True))
    n, both = overall["rows"], config.preference
    languages = {}
    for language, values in zip(plan.languages, totals.tolist(), strict=True):
        sums = dict(zip(FIGURES, values, strict=True))
        if sums["rows"]:
            languages[language] = _language_figures(sums, both=both)
    return CurveRow(
        step=step + 1,
        epoch=(step + 1) * config.epochs / plan.steps,
        loss=overall["loss"] / (n if both else overall["tokens"]),
        chosen_log_prob=overall["chosen"] / n,
        rejected_log_prob=overall["rejected"] / n if both else None,
        reference_chosen_log_prob=overall["reference_chosen"] / n if both else None,
        margin=overall["margin"] / n if both else None,
        accuracy=overall["accuracy"] / n if both else None,
        gradient_norm=norm,
        learning_rate=rate,
        tokens=int(overall["tokens"]),
        positions=positions,
        languages=languages,
        seconds=seconds,
        chosen_tokens=int(overall["chosen_tokens"]) if both else None,
    )


def _language_figures(sums: dict[str, float], *, both: bool) -> LanguageFigures:
    n = sums["rows"]
    figures: LanguageFigures = {
        "rows": int(n),
        "tokens": int(sums["tokens"]),
        "loss": sums["loss"] / (n if both else sums["tokens"]),
        "chosen_log_prob": sums["chosen"] / n,
    }
    if both:
        figures["rejected_log_prob"] = sums["rejected"] / n
        figures["margin"] = sums["margin"] / n
        figures["accuracy"] = sums["accuracy"] / n
        figures["reference_chosen_log_prob"] = sums["reference_chosen"] / n
        figures["chosen_tokens"] = int(sums["chosen_tokens"])
    return figures
