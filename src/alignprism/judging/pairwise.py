"""A model that compares two answers to one prompt: both orders, ties, the reason before the preference.

Judges favour a place (Zheng et al. 2023, arXiv 2306.05685, section 3.3), so every pair is shown twice, once in each
order. A win counts when both orders say so; where they differ it is a tie and a flip (`combine`). Answers that are the
same text are a tie that is not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alignprism.errors import InputError
from alignprism.judging.asking import calls_of, no_reply, replies_in_order
from alignprism.judging.preferences import Place, read_preference, words_digest
from alignprism.judging.settings import PairwiseSettings
from alignprism.judging.template_file import (
    JudgeTemplate,
    JudgeTemplateError,
    block,
    load_template,
    mark_of,
    shipped,
    shipped_languages,
)
from alignprism.languages import language
from alignprism.models.protocol import Answer, Decoding, Engine, Outcome, Progress, Request
from alignprism.rows import Comparison, content_id

IDENTICAL = "identical answers: not asked"
"""The reason of a comparison that no judge was asked for."""

Order = Literal["ab", "ba"]
Preferred = Literal["a", "b", "tie", "undecidable"]

_ORDERS: tuple[Order, ...] = ("ab", "ba")
_PARTS = ("prompt", "first", "second")


@dataclass(frozen=True, slots=True)
class Matchup:
    """Two answers to one prompt. ``seed_id`` is the cluster; ``model_b`` is measured against ``model_a``, the baseline."""

    prompt_id: str
    prompt: str
    completion_a: str
    completion_b: str
    answer_a: str
    answer_b: str
    language: str
    seed_id: str
    model_a: str = "a"
    model_b: str = "b"

    @property
    def identical(self) -> bool:
        """Whether there is nothing to compare."""
        return self.answer_a.strip() == self.answer_b.strip()


@dataclass(frozen=True, slots=True)
class Combined:
    """What both orders say together. ``flipped``: they differ; ``asked``: a judge saw the answers at all."""

    preferred: Preferred
    flipped: bool
    asked: bool


def combine(ab: Comparison, ba: Comparison) -> Combined:
    """One outcome out of two orders: a win only if both agree, a tie and a flip if they differ.

    Undecidable if either order is: half a comparison cannot tell preference from place.
    """
    asked = ab.reason != IDENTICAL
    if "undecidable" in (ab.preferred, ba.preferred):
        return Combined("undecidable", False, asked)
    if ab.preferred == ba.preferred:
        return Combined(ab.preferred, False, asked)
    return Combined("tie", True, asked)


class PairwiseJudge:
    """Asks an engine which of two answers is better. ``digest`` covers model, templates, words and decoding."""

    def __init__(self, engine: Engine, settings: PairwiseSettings) -> None:
        """Raises JudgeTemplateError when the settings' own template cannot be read or leaves a text out."""
        self.engine = engine
        self.name = engine.name
        self._own = load_template(Path(settings.template)) if settings.template else None
        self._target = settings.prompt_language == "target"
        self._decoding = Decoding(max_new_tokens=settings.max_new_tokens)
        if self._own is not None:
            _require_texts(self._own)
        templates = [template.digest for template in self._templates().values()]
        self.digest = content_id("pairwise", engine.digest, templates, words_digest(), self._decoding.identity())

    def _templates(self) -> Mapping[str, JudgeTemplate]:
        """The templates by language; ``*`` is any."""
        if self._own is not None:
            return {"*": self._own}
        return {code: shipped(f"pairwise/{code}") for code in shipped_languages("pairwise")} if self._target else {
            "*": shipped("pairwise/en")
        }  # fmt: skip

    def check(self, matchups: Sequence[Matchup]) -> None:
        """Look at everything that could go wrong before the first call.

        Raises
        ------
        InputError
            two matchups are the same, or a language has no template.
        """
        seen: set[str] = set()
        for matchup in matchups:
            key = _key(matchup)
            if key in seen:
                raise InputError(f"prompt {matchup.prompt_id!r}: the same two completions are compared twice")
            seen.add(key)
        templates = self._templates()
        if "*" not in templates:
            lacking = sorted({m.language for m in matchups if language(m.language).code not in templates})
            if lacking:
                raise InputError(
                    f"prompt_language: target has no template for {', '.join(lacking)} (there are: "
                    f"{', '.join(templates)}); use prompt_language: english or a template of your own"
                )

    def requests(self, matchup: Matchup) -> list[Request]:
        """What the engine is asked: both orders, or nothing when the answers are the same text."""
        if matchup.identical:
            return []
        templates = self._templates()
        template = templates.get("*") or templates[language(matchup.language).code]
        return [
            Request(f"{_key(matchup)}/{order}", _rendered(template, matchup, order), role="pairwise")
            for order in _ORDERS
        ]

    def compare(self, matchups: Sequence[Matchup], progress: Progress | None = None) -> Iterator[Comparison]:
        """Two comparisons per matchup, order ab then ba, in the order of the matchups. Stored replies cost no call.

        A reply that cannot be read, a withheld one and a call without an answer are undecidable; `reason` says which.
        `progress` is called with (matchups done, all matchups).

        Raises
        ------
        InputError
            see `check`.
        """
        self.check(matchups)
        asked = [self.requests(matchup) for matchup in matchups]
        replies = replies_in_order(self.engine, asked, self._decoding, progress)
        for matchup, outcomes in zip(matchups, replies, strict=True):
            if not outcomes:
                yield from (self._row(matchup, order, "tie", IDENTICAL, ()) for order in _ORDERS)
                continue
            for order, outcome in zip(_ORDERS, outcomes, strict=True):
                place, reason = _read(outcome)
                yield self._row(matchup, order, _side(place, order), reason, calls_of([outcome]))

    def _row(
        self,
        matchup: Matchup,
        order: Order,
        preferred: Preferred,
        reason: str,
        calls: tuple[str, ...],
    ) -> Comparison:
        return Comparison(
            matchup.prompt_id, matchup.completion_a, matchup.completion_b, self.name, self.digest, order, preferred,
            reason, calls,
        )  # fmt: skip


def _key(matchup: Matchup) -> str:
    return f"{matchup.prompt_id}/{matchup.completion_a}/{matchup.completion_b}"


def _side(place: Place, order: Order) -> Preferred:
    if place == "tie" or place == "undecidable":
        return place
    return "a" if (place == "first") == (order == "ab") else "b"


def _read(outcome: Outcome) -> tuple[Place, str]:
    """Which answer one reply prefers, and why."""
    nothing = no_reply(outcome)
    if nothing or not isinstance(outcome, Answer):
        return "undecidable", nothing
    found = read_preference(outcome.text, outcome.truncated)
    return found.place, found.problem or found.explanation


def _rendered(template: JudgeTemplate, matchup: Matchup, order: Order) -> str:
    first, second = (matchup.answer_a, matchup.answer_b) if order == "ab" else (matchup.answer_b, matchup.answer_a)
    # Sorted, so that the two orders differ in nothing but the order.
    mark = mark_of(matchup.prompt, *sorted((first, second)))
    return template.render(
        {
            "prompt": block("REQUEST", matchup.prompt, mark),
            "first": block("ANSWER (A)", first, mark),
            "second": block("ANSWER (B)", second, mark),
            "mark": mark,
            "language": language(matchup.language).name,
            "code": language(matchup.language).code,
        }
    )


def _require_texts(template: JudgeTemplate) -> None:
    """A template that leaves one of the three texts out would be answered all the same, and mean nothing."""
    texts = {part: f"the {part} of a trial" for part in _PARTS}
    shown = template.render({**texts, "mark": "0", "language": "English", "code": "en"})
    missing = [part for part, text in texts.items() if text not in shown]
    if missing:
        raise JudgeTemplateError(
            f"{template.path}: {{{{ {missing[0]} }}}} is missing; it must show: {', '.join(_PARTS)}"
        )
