"""From the study's data section to the prompts of a run: read, limit, set aside, check."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from alignprism.prompts.check import SetAside, check_leaks, set_aside
from alignprism.prompts.read import read_file, read_sample
from alignprism.rows import PROMPT_SETS, Prompt, RowError, content_id
from alignprism.study import SAMPLE, Study


def select_prompts(study: Study) -> tuple[list[Prompt], list[SetAside]]:
    """The prompts of a study, and those set aside by the handling rules.

    Rows of languages that the study does not name are left out; `data.per_language` limits each set, split and
    language, by the hash of the id, so that a limit picks the same rows on every machine.

    Raises
    ------
    RowError
        a file is wrong, a split leaks into another, or a tested language has no red-team prompt.
    """
    kept, out = set_aside(_limited(all_prompts(study), study.data.per_language))
    check_leaks(kept)
    tested = {p.language for p in kept if p.set == "redteam" and p.split == "test"}
    missing = [code for code in study.languages.test if code not in tested]
    if missing:
        raise RowError(
            f"data.redteam: no test prompt in {', '.join(missing)}; add rows, or take it out of languages.test"
        )
    return kept, out


def all_prompts(study: Study) -> list[Prompt]:
    """Every prompt of a study's files in its languages, before any limit.

    Raises
    ------
    RowError
        a file is wrong.
    """
    languages = set(study.languages.train) | set(study.languages.test)
    training = bool(study.methods) or any(entry.ift == "train" for entry in study.models.values())
    prompts: list[Prompt] = []
    for prompt_set in PROMPT_SETS:
        source = getattr(study.data, prompt_set)
        if source is None:
            continue
        rows = read_sample(prompt_set) if source == SAMPLE else _own_rows(study, Path(source), prompt_set, training)
        prompts += [row for row in rows if row.language in languages]
    return prompts


def _own_rows(study: Study, path: Path, prompt_set: str, training: bool) -> list[Prompt]:
    rows_of = study.data.redteam_set if prompt_set == "redteam" else None
    return read_file(path, prompt_set, None if training else "test", rows_of)


def _limited(prompts: list[Prompt], limit: int | None) -> list[Prompt]:
    if limit is None:
        return prompts
    groups: dict[tuple[str, str, str], list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        groups[(prompt.set, prompt.split, prompt.language)].append(prompt)
    chosen: set[str] = set()
    for rows in groups.values():
        # By seed, so that a red-team prompt and its benign twin are kept together.
        rows.sort(key=lambda p: content_id(p.seed_id))
        chosen |= {p.id for p in rows[:limit]}
    return [p for p in prompts if p.id in chosen]
