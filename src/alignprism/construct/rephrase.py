"""From human seeds to many training prompts (paper, section 2.2): a writer rephrases, filters and a checker sift.

It diversifies what people wrote, for training. Two models are asked, the writer and the checker, and no third: nothing
here sees what any model answers to a prompt, so nothing can be made better at drawing an answer.

In each round every cell of language, scope and category that lacks prompts asks its least used seeds. Requests, shots and
seeds of decoding depend on nothing but the input, the settings and earlier replies, so a run that is repeated with its
call store asks nothing and gives the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from alignprism.construct.cells import Ledger, cells_of
from alignprism.construct.checker import Checker
from alignprism.construct.diversity import coverage, measured
from alignprism.construct.examples import Examples
from alignprism.construct.filters import (
    OVER,
    Embedded,
    Why,
    across_reasons,
    adversarial_reason,
    kind_of,
    near_reason,
    text_reason,
    uncompared,
)
from alignprism.construct.near import NearIndex
from alignprism.construct.seeds import SYNTHETIC, usable_seeds
from alignprism.construct.settings import RephraseSettings
from alignprism.construct.sifting import Bars, Sifting, Written, WrittenPrompts
from alignprism.construct.writing import Commission, commission, continuation, end_of_list, writing_template
from alignprism.judging.template_file import JudgeTemplate
from alignprism.models.protocol import Decoding, Engine
from alignprism.prompts.meaning import Floats, embed
from alignprism.rows import Prompt, content_id

ENDED = ("quota", "rounds", "per_seed")
"""Ways for the work to end by itself: every cell has its own; there were as many rounds as may be; or every seed of a cell
that lacks prompts has given its share. All others are failures."""

_FEW = 200
_SHOWN_BEFORE = 5  # prompts made already that a writer is shown, so that it writes others


def rephrase(
    seeds: Sequence[Prompt], others: Sequence[Prompt], writer: Engine, checker: Checker | None,
    settings: RephraseSettings, *, seed: int = 0, progress: Bars | None = None,
) -> WrittenPrompts:  # fmt: skip
    """New prompts from `seeds`, none of them the same or nearly the same as one of `others` (every split).

    Raises
    ------
    RowError, InputError
        see `usable_seeds`; or a template that cannot be used.
    """
    used, spare = usable_seeds(seeds, settings.seeds_per_language, seed)
    template = template_of(settings)
    sifting = Sifting(writer, checker, progress)
    work = _Work(used, settings, seed, template, sifting)
    work.know([*seeds, *others])
    stopped = work.run()
    report = {
        "stopped": stopped,
        "seeds": {
            "given": len(seeds),
            "used": len(used),
            "set_aside": dict(sorted(Counter(row.reason for row in spare).items())),
        },
        **work.report(),
    }
    made = tuple(prompt for prompt, _ in sifting.made)
    return WrittenPrompts(made, sifting.origins(), (*spare, *sifting.aside), report, stopped)


def first_requests(seeds: Sequence[Prompt], settings: RephraseSettings, seed: int = 0) -> list[Commission]:
    """What the writer would be asked in the first round, without vectors: for an estimate of cost."""
    ledger = Ledger(seeds, settings.per_seed, settings.quota, seed)
    examples = Examples(seeds, None, settings.diversity)
    template = template_of(settings)
    return _commissions(ledger.next_seeds(settings.variants), examples, {}, settings, template, 0)


def template_of(settings: RephraseSettings) -> JudgeTemplate:
    """What the writer is told; raises JudgeTemplateError where it cannot be used."""
    return writing_template("continue" if settings.style == "continue" else "rephrase", settings.template)


def decoding_of(settings: RephraseSettings, seed: int, turn: int) -> Decoding:
    """How the writer answers in a round; each round draws anew."""
    draw = int(content_id("round", seed, turn), 16) % 2**31
    stop = (end_of_list(settings.shots + 1, settings.variants),) if settings.style == "continue" else ()
    return Decoding(settings.max_new_tokens, settings.temperature, settings.top_p, draw, stop=stop)


def new_prompt(seed: Prompt, text: str, writer: str) -> Prompt:
    """A training prompt made from a seed. It has no explanation: nobody has written one for it."""
    return Prompt(
        id=content_id("rephrased", seed.id, text),
        text=text,
        language=seed.language,
        set="redteam",
        split="train",
        seed_id=seed.seed_id,
        scope=seed.scope,
        categories=seed.categories,
        cultures=seed.cultures,
        locale=seed.locale,
        source=f"rephrased by {writer}",
        licence=seed.licence,
        redistribute=seed.redistribute,
        tags=tuple(dict.fromkeys((*seed.tags, SYNTHETIC))),
    )


def _commissions(
    chosen: Sequence[tuple[Prompt, int]], examples: Examples, texts: Mapping[str, Sequence[str]],
    settings: RephraseSettings, template: JudgeTemplate, turn: int,
) -> list[Commission]:  # fmt: skip
    """What the writer is asked for in one round; where one prompt is lacking two are asked for, as some are set aside."""
    asked = []
    for one, count in chosen:
        wanted = min(settings.variants, max(2, count))
        shots = examples.of(one, settings.shots, turn) if settings.shots else []
        name = f"rephrase/{one.id}/{turn}"
        if settings.style == "continue":
            asked.append(continuation(template, name, one, settings.variants, shots=shots))
            continue
        before = list(texts.get(one.id, ()))[-_SHOWN_BEFORE:]
        asked.append(commission(template, name, one, wanted, shots=shots, written=before))
    return asked


@dataclass
class _Work:
    """One rephrasing while it goes on."""

    seeds: tuple[Prompt, ...]
    settings: RephraseSettings
    seed: int
    template: JudgeTemplate
    sifting: Sifting

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.seeds, self.settings.per_seed, self.settings.quota, self.seed)
        self.index = NearIndex()
        self.vectors = self._embedded(self.seeds)
        self.examples = Examples(self.seeds, self.vectors, self.settings.diversity)
        self.texts: dict[str, list[str]] = {}
        self.held_out: list[Prompt] = []
        self.held_vectors: Floats | None = None
        self.new_vectors: dict[str, Floats] = {}

    def know(self, prompts: Sequence[Prompt]) -> None:
        """Nothing that is nearly one of these is new."""
        for kind in ("training", "dev", "test"):
            self.index.add([prompt for prompt in prompts if kind_of(prompt) == kind], kind)
        self.held_out = [prompt for prompt in prompts if prompt.split != "train"]
        self.held_vectors = self._embedded(self.held_out)

    def run(self) -> str:
        """Round after round, until quota, seeds, rounds or money end; returns which of them did."""
        for turn in range(self.settings.rounds):
            chosen = self.ledger.next_seeds(self.settings.variants)
            if not chosen:
                break
            self._round(chosen, turn)
            if self.sifting.stopped:
                return self.sifting.stopped
        lacking = self.ledger.next_seeds(self.settings.variants)
        return "quota" if self.ledger.full() else "rounds" if lacking else "per_seed"

    def _round(self, chosen: Sequence[tuple[Prompt, int]], turn: int) -> None:
        asked = _commissions(chosen, self.examples, self.texts, self.settings, self.template, turn)
        self.ledger.asked.update(one.seed.id for one in asked)
        make = partial(new_prompt, writer=self.sifting.writer.name)
        found = self.sifting.written(asked, decoding_of(self.settings, self.seed, turn), make, self._rule)
        for prompt, seed in self.sifting.checked(_in_turn(self._apart(found)), adversarial_reason, self._room):
            self.texts.setdefault(seed.id, []).append(prompt.text)

    def _rule(self, prompt: Prompt) -> Why | None:
        why = text_reason(prompt, self.settings.min_characters, self.settings.max_characters)
        why = why or near_reason(prompt, self.index)
        if why is None:
            # Known from now on, accepted or not: what is nearly the same would get the same opinion.
            self.index.add([prompt], "new")
        return why

    def _apart(self, found: list[Written]) -> list[Written]:
        """Without those that say the same as a held-out prompt of another language."""
        vectors = self._embedded([prompt for prompt, _ in found])
        if vectors is None or self.vectors is None or self.held_vectors is None:
            return found
        new = Embedded([prompt for prompt, _ in found], vectors)
        reasons = across_reasons(new, Embedded(self.seeds, self.vectors), Embedded(self.held_out, self.held_vectors))
        self.new_vectors |= {prompt.id: vectors[n] for n, (prompt, _) in enumerate(found)}
        for place, why in reasons.items():
            self.sifting.set_aside(found[place][0].id, found[place][1], why)
        return [one for n, one in enumerate(found) if n not in reasons]

    def _room(self, one: Written) -> Why | None:
        """Whether there is room for one more, which then is taken."""
        if not self.ledger.room(one[1]):
            return OVER, ""
        self.ledger.take(one[1])
        return None

    def _embedded(self, prompts: Sequence[Prompt]) -> Floats | None:
        if not self.settings.embed:
            return None
        # Threads spin while they wait for each other: few texts are done sooner by one.
        return embed([prompt.text for prompt in prompts], threads=1 if len(prompts) < _FEW else None)

    def report(self) -> dict[str, Any]:
        """What was made and set aside, in numbers."""
        made = self.sifting.made
        in_cells = Counter(cell for seed in self.seeds for cell in cells_of(seed))
        vectors = (
            np.stack([self.new_vectors[prompt.id] for prompt, _ in made]) if made and self.settings.embed else None
        )
        return {
            "settings": self.settings.model_dump(),
            "seed": self.seed,
            "template": self.template.digest,
            **self.sifting.report(),
            "coverage": coverage(self.ledger.quota, self.ledger.taken, in_cells),
            "diversity": measured(self.seeds, made, self.vectors, vectors),
            "seeds_without_prompts": [seed.id for seed in self.seeds if not self.ledger.children[seed.id]],
            "not_compared_across_languages": uncompared(self.seeds, self.held_out, self.settings.embed),
        }


def _in_turn(found: Sequence[Written]) -> list[Written]:
    """The first prompt of every seed, then the second of each: a writer that gives too many crowds no seed out."""
    before: Counter[str] = Counter()
    ranked = []
    for one in found:
        ranked.append((before[one[1].id], one))
        before[one[1].id] += 1
    return [one for _, one in sorted(ranked, key=lambda pair: pair[0])]
