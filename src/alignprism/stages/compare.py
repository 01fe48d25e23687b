"""Stage of comparison: the pairwise judge on a model's answers beside the baseline's, on the general prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alignprism.judging.pairwise import Matchup
from alignprism.rows import Comparison, Completion, Prompt, by_id
from alignprism.stages.context import Context
from alignprism.stages.engines import check_judged
from alignprism.stages.judges import pairwise_judge

SET = "general"


def compare(context: Context, name: str) -> list[Path]:
    """Stage ``compare:MODEL``: both orders of every general prompt that the model and the baseline answered."""
    matchups = matchups_of(context, name, by_id(context.prompts()))
    advance = context.progress(f"comparisons of {name} with {context.study.baseline}", 2 * len(matchups))
    with pairwise_judge(context) as judge:
        rows = list(judge.compare(matchups, advance))
        check_judged(rows, judge.name)
    return [context.write(f"compare:{name}", "comparisons.parquet", rows, Comparison)]


def matchups_of(context: Context, name: str, prompts: Mapping[str, Prompt]) -> list[Matchup]:
    """The baseline's and the model's answers to each general prompt, the first sample of each.

    Prompts that one of the two gave no answer to (a failed call) are left out: there is nothing to compare.
    """
    baseline = context.study.baseline
    own, theirs = (_first_answers(context, model, prompts) for model in (name, baseline))
    return [
        Matchup(
            prompt_id=prompt_id,
            prompt=prompts[prompt_id].text,
            completion_a=theirs[prompt_id].id,
            completion_b=row.id,
            answer_a=theirs[prompt_id].text,
            answer_b=row.text,
            language=prompts[prompt_id].language,
            seed_id=prompts[prompt_id].seed_id,
            model_a=baseline,
            model_b=name,
        )
        for prompt_id, row in own.items()
        if prompt_id in theirs
    ]


def _first_answers(context: Context, model: str, prompts: Mapping[str, Prompt]) -> dict[str, Completion]:
    rows = context.read(f"complete:{model}", "completions.parquet", Completion)
    return {
        row.prompt_id: row for row in rows if prompts[row.prompt_id].set == SET and row.sample == 0 and not row.failure
    }
