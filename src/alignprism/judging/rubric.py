"""The rubric judge: a model is asked for a short reason, then harmful, harmless or undecidable, and the category.

It is spoken to in English, in the language of the judged text, or in English about a translation of it. What it is shown
beside the texts (notes of annotators on similar prompts) is part of what it is, and so is every byte of its template.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignprism.errors import InputError
from alignprism.judging.asking import calls_of, failures_of, harm_probability, no_reply, replies_in_order
from alignprism.judging.language import on_language
from alignprism.judging.notes import Notes
from alignprism.judging.protocol import HarmVerdict, Item
from alignprism.judging.refusal import refusal
from alignprism.judging.replies import probability_of, read_reply, words_digest
from alignprism.judging.settings import PromptLanguage
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

TRANSLATION_TOKENS = 1024
"""Length limit of a translation; what is cut there is undecidable."""

TRANSLATING = Decoding(max_new_tokens=TRANSLATION_TOKENS)


@dataclass(frozen=True, slots=True)
class Shown:
    """An item as the judge sees it."""

    item: Item
    prompt: str
    completion: str
    translated: bool = False
    problem: str = ""
    calls: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Questions:
    """How a rubric judge is asked. ``template`` is the user's own, or None for the shipped ones."""

    prompt_language: PromptLanguage = "english"
    notes: Notes | None = None
    template: JudgeTemplate | None = None

    def templates(self) -> Mapping[str, JudgeTemplate]:
        """Every template that may be used, by what it is for."""
        if self.template is not None:
            found = {"own": self.template}
        elif self.prompt_language == "target":
            found = {code: shipped(f"harm/{code}") for code in shipped_languages("harm")}
        else:
            found = {"en": shipped("harm/en")}
        return found | ({"translate": shipped("harm/translate")} if self.prompt_language == "translate" else {})

    def check(self, name: str, languages: Iterable[str]) -> None:
        """Whether judge `name` can be spoken to about texts in these languages.

        Raises
        ------
        InputError
            ``prompt_language: target``, and no template ships in one of them; or a language is not known.
        """
        named = set(languages)
        if "" in named and self.prompt_language != "english":
            raise InputError(
                f"judge {name}: prompt_language: {self.prompt_language} needs to know the language of every row"
            )
        codes = {language(code).code for code in named if code}
        if self.template is not None:
            return
        if self.prompt_language == "target":
            known = shipped_languages("harm")
            missing = sorted(codes - set(known))
            if missing:
                raise InputError(
                    f"judge {name}: prompt_language: target has no template in {', '.join(missing)} (there are: "
                    f"{', '.join(known)}); name a template of your own, or use english or translate"
                )

    def request(self, shown: Shown) -> Request:
        """The question about one item."""
        item = shown.item
        notes = self.notes.nearest(item) if self.notes is not None else ()
        noted = [f"{note.prompt}\n-> {note.explanation}" for note in notes]
        mark = mark_of(shown.prompt, shown.completion, *noted)
        template = self.template or shipped(
            f"harm/{language(item.language).code}" if self.prompt_language == "target" else "harm/en"
        )
        values = {
            "prompt": block("PROMPT", shown.prompt, mark),
            "completion": block("ANSWER", shown.completion, mark),
            "mark": mark,
            "language": language(item.language).name if item.language else "an unknown language",
            "code": item.language,
            "translated": shown.translated,
            "notes": [block("NOTE", text, mark) for text in noted],
        }
        return Request(item.id, template.render(values), role="judge")


@dataclass(frozen=True)
class RubricJudge:
    """A model with a template. ``template`` is the user's own, or None for the shipped ones."""

    name: str
    engine: Engine
    prompt_language: PromptLanguage = "english"
    translator: Engine | None = None
    notes: Notes | None = None
    template: JudgeTemplate | None = None
    max_new_tokens: int = 256
    log_probs: bool = False

    @property
    def decoding(self) -> Decoding:
        """How the judge answers: greedily."""
        return Decoding(max_new_tokens=self.max_new_tokens, log_probs=self.log_probs)

    @property
    def questions(self) -> Questions:
        """How it is asked."""
        return Questions(self.prompt_language, self.notes, self.template)

    def check(self, languages: Iterable[str]) -> None:
        """See `HarmJudge.check`; ``prompt_language: target`` needs a template in every language."""
        self.questions.check(self.name, languages)

    @property
    def digest(self) -> str:
        """16 hex digits over model, template, prompt language, translator, notes, decoding and how replies are read."""
        templates = {path: template.digest for path, template in self.questions.templates().items()}
        parts: dict[str, object] = {
            "kind": "rubric",
            "model": self.engine.digest,
            "templates": templates,
            "prompt language": self.prompt_language,
            "translator": self._translator.digest if self.prompt_language == "translate" else None,
            "notes": self.notes.digest if self.notes is not None else None,
            "decoding": self.decoding.identity(),
            "reading": words_digest(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def _translator(self) -> Engine:
        return self.translator or self.engine

    def judge(self, items: Sequence[Item], progress: Progress | None = None) -> Iterator[HarmVerdict]:
        """One verdict per item, in the order of the items; ids must be unique.

        With ``translate`` all texts are translated first; a translation that failed makes its item undecidable.
        """
        self.check({item.language for item in items})
        shown = [Shown(item, item.prompt, item.completion) for item in items]
        if self.prompt_language == "translate":
            shown = list(self._translated(items))
        questions = self.questions
        asked = [[] if one.problem else [questions.request(one)] for one in shown]
        for one, outcomes in zip(shown, replies_in_order(self.engine, asked, self.decoding, progress), strict=True):
            yield self._verdict(one, outcomes)

    def _verdict(self, shown: Shown, outcomes: Sequence[Outcome]) -> HarmVerdict:
        item = shown.item
        calls = (*shown.calls, *calls_of(outcomes))
        problem = shown.problem or no_reply(outcomes[0])
        if problem:
            failures = (*shown.failures, *failures_of(outcomes))
            return HarmVerdict(item.id, "undecidable", reason=problem, calls=calls, failures=failures)
        answer = outcomes[0]
        assert isinstance(answer, Answer)  # no_reply speaks for all else
        reply = read_reply(answer.text, answer.truncated)
        score = harm_probability(reply.harm, probability_of(answer, reply.span))
        reason = reply.problem or ("the judge says undecidable" if reply.harm == "undecidable" else "")
        return HarmVerdict(item.id, reply.harm, score, reply.category, reason, reply.explanation, calls)

    # --- translation -------------------------------------------------------------------------------------------------

    def _translated(self, items: Sequence[Item]) -> Iterator[Shown]:
        """Items with both texts in English; equal texts are translated once."""
        wanted = texts_to_translate(items)
        requests = [[translation_request(code, text)] for code, text in wanted]
        decoding = TRANSLATING
        found = {
            key: _read_translation(*key, outcome)
            for key, [outcome] in zip(wanted, replies_in_order(self._translator, requests, decoding), strict=True)
        }
        for item in items:
            prompt, completion = (
                found.get((item.language, text), _Translation(text)) for text in (item.prompt, item.completion)
            )
            yield Shown(
                item,
                prompt.text,
                completion.text,
                translated=language(item.language).code != "en",
                problem=completion.problem or prompt.problem,
                calls=(*prompt.calls, *completion.calls),
                failures=tuple(dict.fromkeys((*prompt.failures, *completion.failures))),
            )


@dataclass(frozen=True, slots=True)
class _Translation:
    text: str
    problem: str = ""
    calls: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def texts_to_translate(items: Sequence[Item]) -> list[tuple[str, str]]:
    """Language and text of everything that is not English, once each."""
    texts = dict.fromkeys((item.language, text) for item in items for text in (item.prompt, item.completion))
    return [(code, text) for code, text in texts if language(code).code != "en" and text.strip()]


def translation_request(code: str, text: str) -> Request:
    """The question that gets a text in English; its id is made of the text."""
    mark = mark_of(text)
    values = {"language": language(code).name, "mark": mark, "text": block("TEXT", text, mark)}
    content = hashlib.sha256(f"{code}\x1f{text}".encode()).hexdigest()[:16]
    return Request(f"translation {content}", shipped("harm/translate").render(values), role="translate")


def _read_translation(code: str, text: str, outcome: Outcome) -> _Translation:
    """The translation, or why there is none. A translator that refuses would make every answer look like a refusal."""
    calls = calls_of([outcome])
    problem = no_reply(outcome)
    if problem or not isinstance(outcome, Answer):
        return _Translation("", f"no translation: {problem}", calls, failures_of([outcome]))
    mark = mark_of(text)
    english = "\n".join(line for line in outcome.text.splitlines() if mark not in line).strip()
    if not english:
        problem = "empty"
    elif outcome.truncated:
        problem = f"cut at {TRANSLATION_TOKENS} tokens"
    elif on_language(english, "en").on_language is False:
        problem = "not in English"
    elif refusal(english, "en") == "full" and refusal(text, code) == "none":
        problem = "the translator declines, or the answer does and its language's patterns miss it"
    return _Translation(english, f"no translation: {problem}" if problem else "", calls)


def own_template(path: Path) -> JudgeTemplate:
    """A user's template, tried once before any call is made.

    Raises
    ------
    JudgeTemplateError
        it cannot be read or filled, or does not show the answer.
    """
    template = load_template(path)
    texts = {name: block(name.upper(), f"text of the {name}", "0" * 12) for name in ("prompt", "completion")}
    tried = [
        template.render(
            {**texts, "mark": "0" * 12, "language": "English", "code": "en", "translated": flag, "notes": notes}
        )
        for flag, notes in ((False, []), (True, [block("NOTE", "text of a note", "0" * 12)]))
    ]
    if not all(texts["completion"] in text for text in tried):
        raise JudgeTemplateError(f"{path}:1: the template does not show the answer; write {{{{ completion }}}} in it")
    return template
