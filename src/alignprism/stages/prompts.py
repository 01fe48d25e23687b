"""The first stage: a study's prompts, and those that are set aside."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from alignprism.judging.head import prompt_digest
from alignprism.prompts.check import SetAside
from alignprism.prompts.select import select_prompts
from alignprism.rows import Prompt
from alignprism.stages.context import Context
from alignprism.stages.data import write_json
from alignprism.stages.judges import known_to_judges
from alignprism.study import Study, StudyError


def study_prompts(study: Study) -> tuple[list[Prompt], list[SetAside]]:
    """The prompts of a study, and those set aside: by the handling rules, or because a judge was trained on them.

    A judge that was trained on a prompt knows the answer.

    Raises
    ------
    RowError
        see `select_prompts`.
    StudyError
        a judge was trained on prompts of the study, and ``data.known_to_judges`` is not `drop`.
    """
    prompts, aside = select_prompts(study)
    known = known_to_judges(study)
    seen = {p.id: head for p in prompts if (head := known.get(prompt_digest(p.text))) is not None}
    if seen and study.data.known_to_judges == "refuse":
        first, head = next(iter(seen.items()))
        raise StudyError(
            f"judges: {head!r} was trained on {sum(name == head for name in seen.values())} prompts of this study (the first: "
            f"{first!r}); name another judge, or set data.known_to_judges: drop to take these prompts out"
        )
    kept = [prompt for prompt in prompts if prompt.id not in seen]
    dropped = [
        SetAside(p.id, p.language, p.set, f"judge {seen[p.id]} was trained on it") for p in prompts if p.id in seen
    ]
    return kept, [*aside, *dropped]


def write_prompts(context: Context) -> list[Path]:
    """Stage ``prompts``: the study's prompts, and those that the handling rules keep out (ids and reasons only)."""
    prompts, aside = study_prompts(context.study)
    if aside:
        context.say(f"{len(aside)} prompts were set aside (reasons: stages/prompts/set_aside.json)")
    return [
        context.write("prompts", "prompts.parquet", prompts, Prompt),
        write_json(context.run.stage_folder("prompts") / "set_aside.json", [asdict(row) for row in aside]),
    ]
