"""Which seeds are used: none that the handling rules keep out, none that is held out, and not too many of a language."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alignprism.construct.cells import Cell, cells_of
from alignprism.construct.filters import handling_reason
from alignprism.construct.output import SetAside, first_unreadable, unreadable
from alignprism.errors import InputError
from alignprism.languages import find_language
from alignprism.prompts.formats.format import Options
from alignprism.prompts.prompt_files import read_prompts
from alignprism.prompts.sources import Unreadable
from alignprism.rows import Prompt, RowError, by_id, content_id

SYNTHETIC = "synthetic-adversarial"
"""The tag of prompts that were made from seeds; `alignprism data publish` refuses such rows unless it is told not to."""

SPARE_SEED = "seed beyond seeds_per_language"


@dataclass
class Given:
    """What a file holds: the seeds, all other prompts, and rows that are none."""

    seeds: list[Prompt] = field(default_factory=list)
    others: list[Prompt] = field(default_factory=list)
    unreadable: list[SetAside] = field(default_factory=list)


def read_seeds(path: Path, languages: Sequence[str], splits: Sequence[str]) -> Given:
    """The red-team prompts of a file that people wrote, in some languages (none named: all) and splits, and the others.

    Raises
    ------
    InputError
        the file cannot be read, a language is not known, or there is no seed.
    """
    codes = {find_language(name).code for name in languages}
    given = Given()
    for read in read_prompts([path], Options()):
        if isinstance(read, Unreadable):
            given.unreadable.append(unreadable(read))
            continue
        prompt = read[2]
        human = prompt.set == "redteam" and SYNTHETIC not in prompt.tags
        wanted = human and prompt.split in splits and (not codes or prompt.language in codes)
        (given.seeds if wanted else given.others).append(prompt)
    if not given.seeds:
        among = f" in {', '.join(sorted(codes))}" if codes else ""
        raise InputError(
            f"{path}: no seed there, which is a red-team prompt that a person wrote, of split {' or '.join(splits)}{among} "
            f"({len(given.others)} other prompts, {len(given.unreadable)} unreadable rows{first_unreadable(given.unreadable)})"
        )
    return given


def allowed_seeds(seeds: Sequence[Prompt]) -> tuple[list[Prompt], list[SetAside]]:
    """The seeds that may be sent to a model, and those that the handling rules keep out.

    Raises
    ------
    RowError
        an id twice.
    InputError
        no seed is left.
    """
    by_id(seeds)
    reasons = {prompt.id: why for prompt in seeds if (why := handling_reason(prompt)) is not None}
    if len(reasons) == len(seeds):
        raise InputError(f"no seed can be used: {len(seeds)} given, {len(reasons)} kept out by the handling rules")
    allowed = [prompt for prompt in seeds if prompt.id not in reasons]
    return allowed, [SetAside(name, *why) for name, why in reasons.items()]


def usable_seeds(
    seeds: Sequence[Prompt], per_language: int, seed: int = 0
) -> tuple[tuple[Prompt, ...], tuple[SetAside, ...]]:
    """The seeds to use, and the others with their reason: handling rules first, then at most `per_language` of a language.

    Raises
    ------
    RowError
        a seed of split dev or test, or an id twice.
    InputError
        no seed is left.
    """
    held_out = [prompt for prompt in seeds if prompt.split != "train"]
    if held_out:
        raise RowError(
            f"prompt {held_out[0].id!r} is of split {held_out[0].split}: rephrasings of held-out prompts would leak into "
            "training; give seeds of split train only"
        )
    allowed, aside = allowed_seeds(seeds)
    drawn = drawn_seeds(allowed, per_language, seed)
    used = {prompt.id for prompt in drawn}
    return tuple(drawn), (*aside, *(SetAside(p.id, SPARE_SEED) for p in allowed if p.id not in used))


def drawn_seeds(prompts: Sequence[Prompt], per_language: int, seed: int) -> list[Prompt]:
    """At most `per_language` prompts of each language, evenly over scopes and categories; by id, whatever their order."""
    queues: dict[Cell, list[Prompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda p: content_id("seed", seed, p.id)):
        queues[cells_of(prompt)[0]].append(prompt)
    left: Counter[str] = Counter()
    drawn: list[Prompt] = []
    for depth in range(max(map(len, queues.values()), default=0)):
        for cell in sorted(queues, key=lambda cell: content_id("cell", seed, *cell)):
            if depth < len(queues[cell]) and left[cell[0]] < per_language:
                left[cell[0]] += 1
                drawn.append(queues[cell][depth])
    return sorted(drawn, key=lambda prompt: (prompt.language, prompt.id))
