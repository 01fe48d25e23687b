"""Benign twins: harmless prompts that look like a red-team seed, for the over-refusal rate.

A twin lies in the split of its seed and in its cluster. It is no adversarial prompt, so it carries neither the seed's scope
and categories nor the mark of synthetic adversarial text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from alignprism.construct.checker import Checker
from alignprism.construct.filters import OVER, Why, harmless_reason, text_reason
from alignprism.construct.near import NearIndex
from alignprism.construct.seeds import allowed_seeds
from alignprism.construct.settings import TwinSettings
from alignprism.construct.sifting import Bars, Sifting, Written, WrittenPrompts
from alignprism.construct.writing import Commission, commission, writing_template
from alignprism.judging.template_file import JudgeTemplate
from alignprism.models.protocol import Decoding, Engine
from alignprism.rows import Prompt, content_id

DUPLICATE = "duplicate of a known prompt"
OTHER_SPLIT = "near-duplicate of a prompt of another split"


def twins(
    seeds: Sequence[Prompt], others: Sequence[Prompt], writer: Engine, checker: Checker | None,
    settings: TwinSettings, *, seed: int = 0, progress: Bars | None = None,
) -> WrittenPrompts:  # fmt: skip
    """Twins of `seeds`, which may be of any split; no twin has the text of one of `others`.

    It ends by ``quota`` (every seed has its twins), ``rounds``, or a failure.

    Raises
    ------
    RowError
        an id twice.
    InputError
        no seed can be used, or the template cannot.
    """
    used, kept_out = allowed_seeds(seeds)
    template = writing_template("twin", settings.template)
    index, has, sifting = NearIndex(), Counter[str](), Sifting(writer, checker, progress)
    index.add([*seeds, *others], "known")

    def lacking() -> list[Prompt]:
        return [prompt for prompt in used if has[prompt.id] < settings.per_seed]

    def rule(twin: Prompt) -> Why | None:
        why = text_reason(twin, settings.min_characters, settings.max_characters) or twin_near_reason(twin, index)
        if why is None:
            index.add([twin], "new")
        return why

    def room(found: Written) -> Why | None:
        has[found[1].id] += 1
        return None if has[found[1].id] <= settings.per_seed else (OVER, "")

    for turn in range(settings.rounds):
        if sifting.stopped or not lacking():
            break
        asked = twin_requests(lacking(), settings, template, turn)
        found = sifting.written(asked, twin_decoding(settings, seed, turn), partial(new_twin, writer=writer.name), rule)
        sifting.checked(found, lambda opinion, _: harmless_reason(opinion), room)
    stopped = sifting.stopped or ("rounds" if lacking() else "quota")
    places = {prompt.id: place for place, prompt in enumerate(used)}
    sifting.made.sort(key=lambda one: places[one[1].id])
    report = {
        "stopped": stopped,
        "seeds": {
            "given": len(seeds),
            "used": len(used),
            "set_aside": dict(sorted(Counter(row.reason for row in kept_out).items())),
        },
        "settings": settings.model_dump(),
        "seed": seed,
        "template": template.digest,
        **sifting.report(),
        "seeds_without_twins": [prompt.id for prompt in used if not has[prompt.id]],
    }
    made = tuple(twin for twin, _ in sifting.made)
    return WrittenPrompts(made, sifting.origins(), (*kept_out, *sifting.aside), report, stopped)


def twin_requests(
    seeds: Sequence[Prompt], settings: TwinSettings, template: JudgeTemplate, turn: int
) -> list[Commission]:
    """What the writer is asked in a round."""
    return [commission(template, f"twin/{one.id}/{turn}", one, settings.variants) for one in seeds]


def twin_decoding(settings: TwinSettings, seed: int, turn: int) -> Decoding:
    """How the writer answers in a round; each round draws anew."""
    draw = int(content_id("twin round", seed, turn), 16) % 2**31
    return Decoding(settings.max_new_tokens, settings.temperature, settings.top_p, draw)


def new_twin(seed: Prompt, text: str, writer: str) -> Prompt:
    """A harmless prompt beside its seed."""
    return Prompt(
        id=content_id("twin", seed.id, text),
        text=text,
        language=seed.language,
        set="benign",
        split=seed.split,
        seed_id=seed.seed_id,
        locale=seed.locale,
        source=f"twin written by {writer}",
        licence=seed.licence,
        redistribute=seed.redistribute,
    )


def twin_near_reason(twin: Prompt, index: NearIndex) -> Why | None:
    """Why a twin is no new prompt. It may be close to its seed, which is its purpose, but not to another split's prompt."""
    for near in index.near(twin):
        if near.similarity == 1.0:
            return DUPLICATE, near.prompt.id
        if near.prompt.split != twin.split and near.prompt.seed_id != twin.seed_id:
            return OTHER_SPLIT, f"{near.prompt.id} ({near.similarity:.2f})"
    return None
