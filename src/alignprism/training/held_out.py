"""Rows that are scored and not trained on: they say which step was best, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from alignprism.training import curve as curves
from alignprism.training.batches import micro_batches
from alignprism.training.plan import Plan
from alignprism.training.step import FIGURES, over_processes, score


class HeldOut:
    """Scores of the held-out rows over a run; kept in ``held_out.jsonl``, so that a resumed run goes on from them.

    DPO is judged by accuracy (how often the policy prefers the chosen side more than the reference does), with the loss
    deciding between equals; SFT by the loss per token.
    """

    def __init__(self, plan: Plan, out: Path, step: int) -> None:
        self._plan = plan
        self._path = out / curves.HELD_OUT_FILE
        rows = [row for row in curves.read_lines(self._path) if row["step"] <= step]
        self._best = max((self._rank(row) for row in rows), default=(-math.inf, -math.inf))
        ranks = [self._rank(row) for row in rows]
        self._without = len(rows) - 1 - ranks.index(self._best) if rows else 0
        self._scored = {int(row["step"]) for row in rows}
        epoch = math.ceil(len(plan.examples) / plan.config.batch_size)
        self._every = plan.config.held_out_every or epoch

    @property
    def exhausted(self) -> bool:
        """Whether the run's patience is at its end."""
        patience = self._plan.config.patience
        return bool(patience) and self._without >= patience

    def due(self, step: int) -> bool:
        """Whether the rows are to be scored after `step` steps."""
        if not self._plan.held_out or step in self._scored or step == 0:
            return False
        return step % self._every == 0 or step == self._plan.steps

    @torch.no_grad()
    def score(self, accelerator: Accelerator, step: int, scorer: nn.Module, keep: Callable[[], None]) -> None:
        """Score the rows, and `keep` the weights that are better than at every step before.

        The rows are shared out among the processes. The score is written after the weights: a kill between repeats both.
        """
        plan = self._plan
        scorer.eval()
        totals = torch.zeros(len(FIGURES), dtype=torch.float64)
        lengths = [2 * len(e.prompt_ids) + len(e.chosen_ids) + len(e.rejected_ids or ()) for e in plan.held_out]
        parts = micro_batches(range(len(plan.held_out)), lengths, plan.config.micro_batch_tokens)
        world, mine = accelerator.num_processes, accelerator.process_index
        for start in range(0, len(parts), world):
            part = parts[start : start + world]
            # As in training: who has no part of its own repeats the first one, since collectives need every process.
            weight, rows = (1.0, part[mine]) if mine < len(part) else (0.0, part[0])
            examples = [plan.held_out[row] for row in rows]
            outcome = score(plan, scorer, examples, plan.layout(examples).to(accelerator.device))
            totals += weight * outcome.figures.sum(0)
        totals = over_processes(accelerator, totals)
        scorer.train()
        sums = dict(zip(FIGURES, totals.tolist(), strict=True))
        both = plan.config.preference
        row = {"step": step, "rows": sums["rows"], "loss": sums["loss"] / (sums["rows"] if both else sums["tokens"])}
        if both:
            row["accuracy"] = sums["accuracy"] / sums["rows"]
        better = self._rank(row) > self._best
        if better:
            keep()
        if accelerator.is_main_process:
            curves.append_line(self._path, dict(row))
        self._scored.add(step)
        self._best = max(self._best, self._rank(row))
        self._without = 0 if better else self._without + 1

    @staticmethod
    def _rank(row: dict[str, float]) -> tuple[float, float]:
        return (row.get("accuracy", 0.0), -row["loss"])
