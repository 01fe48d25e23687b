"""What labels are drawn from: the judged completions of one model, or of two on the same prompts, in their strata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignprism.labels.plan import PlanError
from alignprism.rows import Completion, Prompt, Verdict, by_id, read_rows


@dataclass(frozen=True, slots=True)
class Unit:
    """What is drawn as one: a prompt with one completion of each model, and the verdicts on them.

    ``stratum`` is the verdict, or for two models both, joined by a slash: a change is estimated best where the joint
    verdict says whether something changed.
    """

    prompt: Prompt
    completions: tuple[Completion, ...]
    stratum: str


def units_of(run: Path, manifest: Mapping[str, Any], models: Sequence[str], prompt_set: str) -> list[Unit]:
    """Every unit of a finished run: one per prompt of the set (and sample), in the order of the completions.

    Raises
    ------
    PlanError
        a model is unknown or not judged yet (or not all of its answers), or two models did not answer the same prompts.
    """
    judged = [name.removeprefix("judge:") for name in manifest["stages"] if name.startswith("judge:")]
    for model in models:
        if model not in judged:
            raise PlanError(f"{run}: no verdicts on {model!r}; models with verdicts: {', '.join(judged) or 'none'}")
    prompts = by_id(read_rows(run / "stages" / "prompts" / "prompts.parquet", Prompt))
    answers = [_judged(run, model, prompts, prompt_set) for model in models]
    keys = [list(rows) for rows in answers]
    if any(other != keys[0] for other in keys[1:]):
        raise PlanError(f"{run}: {' and '.join(models)} did not answer the same prompts; let the run finish first")
    if not keys[0]:
        raise PlanError(f"{run}: no completion of a prompt of set {prompt_set!r}")
    return [
        Unit(
            prompts[key[0]],
            tuple(rows[key][0] for rows in answers),
            "/".join(rows[key][1].harm for rows in answers),
        )
        for key in keys[0]
    ]


def _judged(
    run: Path, model: str, prompts: Mapping[str, Prompt], prompt_set: str
) -> dict[tuple[str, int], tuple[Completion, Verdict]]:
    """Completions with their verdicts, by prompt and sample."""
    completions = read_rows(run / "stages" / f"complete-{model}" / "completions.parquet", Completion)
    verdicts = read_rows(run / "stages" / f"judge-{model}" / "verdicts.parquet", Verdict)
    by_completion = {verdict.completion_id: verdict for verdict in verdicts}
    if strange := sum(row.prompt_id not in prompts for row in completions):
        raise PlanError(
            f"{run}: {strange} completions of {model} are of no prompt of this run; let the run finish first"
        )
    own = [row for row in completions if prompts[row.prompt_id].set == prompt_set]
    if missing := sum(row.id not in by_completion for row in own):
        raise PlanError(f"{run}: no verdict on {missing} completions of {model}; let the run finish first")
    return {(row.prompt_id, row.sample): (row, by_completion[row.id]) for row in own}
