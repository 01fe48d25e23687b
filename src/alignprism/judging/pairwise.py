"""A model that compares two answers to one prompt: both orders, ties, the reason before the preference.

Judges favour a place (Zheng et al. 2023, arXiv 2306.05685, section 3.3), so every pair is shown twice, once in each
order. A win counts when both orders say so; where they differ it is a tie and a flip (`combine`). Answers that are the
same text are a tie that is not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
_ANY = "*"  # the one template for texts of every language


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


class PairwiseQuestions:
    """What a pairwise judge asks, without its model: templates, length limit, what could go wrong.

    ``digest`` covers templates, the words that replies are read by, and decoding.
    """

    def __init__(self, settings: PairwiseSettings) -> None:
        """Raises JudgeTemplateError when the settings' own template cannot be read or leaves a text out."""
        self.decoding = Decoding(max_new_tokens=settings.max_new_tokens)
        if settings.template is not None:
            own = load_template(Path(settings.template))
            _require_texts(own)
            self._templates = {_ANY: own}
        elif settings.prompt_language == "target":
            self._templates = {code: shipped(f"pairwise/{code}") for code in shipped_languages("pairwise")}
        else:
            self._templates = {_ANY: shipped("pairwise/en")}
        digests = [template.digest for template in self._templates.values()]
        self.digest = content_id(digests, words_digest(), self.decoding.identity())

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
        lacking = sorted({m.language for m in matchups if self._template(m.language) is None})
        if lacking:
            raise InputError(
                f"prompt_language: target has no template for {', '.join(lacking)} (there are: "
                f"{', '.join(self._templates)}); use prompt_language: english or a template of your own"
            )

    def requests(self, matchup: Matchup) -> list[Request]:
        """Both orders, or nothing when the answers are the same text."""
        template = self._template(matchup.language)
        if matchup.identical or template is None:
            return []
        return [
            Request(f"{_key(matchup)}/{order}", _rendered(template, matchup, order), role="pairwise")
            for order in _ORDERS
        ]

    def _template(self, code: str) -> JudgeTemplate | None:
        return self._templates.get(_ANY) or self._templates.get(language(code).code)


class PairwiseJudge:
    """Asks an engine which of two answers is better. ``digest`` covers the model and what it is asked."""

    def __init__(self, engine: Engine, settings: PairwiseSettings) -> None:
        """Raises JudgeTemplateError; see `PairwiseQuestions`."""
        self.engine = engine
        self.name = engine.name
        self.questions = PairwiseQuestions(settings)
        self.digest = content_id("pairwise", engine.digest, self.questions.digest)

    def compare(self, matchups: Sequence[Matchup], progress: Progress | None = None) -> Iterator[Comparison]:
        """Two comparisons per matchup, order ab then ba, in the order of the matchups. Stored replies cost no call.

        A reply that cannot be read, a withheld one and a call without an answer are undecidable; `reason` says which.
        `progress` is called with (matchups done, all matchups).

        Raises
        ------
        InputError
            see `PairwiseQuestions.check`.
        """
        self.questions.check(matchups)
        asked = [self.questions.requests(matchup) for matchup in matchups]
        replies = replies_in_order(self.engine, asked, self.questions.decoding, progress)
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
