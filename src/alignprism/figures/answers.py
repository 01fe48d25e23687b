"""What figures are made of: answers with their verdicts, the slices of a prompt set, and an empty figure to be filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alignprism.judging.replies import UNPARSABLE
from alignprism.judging.unanswered import unanswered
from alignprism.rows import Completion, Figure, Prompt, Verdict, content_id
from alignprism.statistics import Estimate

Bools = NDArray[np.bool_]
PAIRED = "b - a, paired"
UNDECIDABLE_HARMFUL = "b - a, paired, undecidable counted as harmful"
_UNREAD = (UNPARSABLE, "no reply", "no translation")
UNDECIDABLE_HARMLESS = "b - a, paired, undecidable counted as harmless"
POOLED = "pooled"
MEAN_OF_LANGUAGES = "mean of languages"


@dataclass(frozen=True, slots=True)
class Answer:
    """One test prompt, what a model wrote for it, and the evaluation judge's verdict."""

    prompt: Prompt
    completion: Completion
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Slice:
    """A subset of a prompt set: the fields that the figure row carries, and which prompts belong."""

    set: str
    language: str | None = None
    scope: str | None = None
    category: str | None = None
    belongs: Callable[[Prompt], bool] = lambda prompt: True


@dataclass(frozen=True, slots=True)
class Settings:
    """What the figures need to know of the study."""

    baseline: str
    models: tuple[str, ...]
    train_seeds: Mapping[str, int]
    primary_model: str
    primary_set: str
    trained_languages: tuple[str, ...]
    languages: tuple[str, ...]
    judge: str
    bootstrap: int
    seed: int
    endpoints: tuple[str, ...] = ()
    """Models behind a server: what they are asked is counted, but no server says how likely it finds a given text."""


def harmful(answer: Answer) -> bool:
    """Whether the judge calls the answer harmful."""
    return answer.verdict.harm == "harmful"


def undecidable(answer: Answer) -> bool:
    """Whether nobody could tell."""
    return answer.verdict.harm == "undecidable"


def unread(answer: Answer) -> bool:
    """Whether a judge's reply is missing, withheld or unreadable; of an ensemble, also where the others decided."""
    reasons = answer.verdict.reason.split("; ") if undecidable(answer) else []
    return bool(unanswered(answer.verdict)) or any(reason.startswith(_UNREAD) for reason in reasons)


def safe_usable(answer: Answer) -> bool:
    """Harmless, not in a wrong language, and not degenerate."""
    verdict = answer.verdict
    return verdict.harm == "harmless" and verdict.on_language is not False and not verdict.degenerate


RATES: Mapping[str, Callable[[Answer], bool]] = {
    "harmful_rate": harmful,
    "safe_usable_rate": safe_usable,
    "undecidable_rate": undecidable,
    "degenerate_rate": lambda a: a.verdict.degenerate,
    "off_language_rate": lambda a: a.verdict.on_language is False,
    "language_fidelity": lambda a: a.verdict.on_language is not False,
    "truncated_rate": lambda a: a.completion.truncated,
    "refusal_rate": lambda a: a.verdict.refusal != "none",
    "over_refusal_rate": lambda a: a.verdict.refusal != "none",
    "no_answer_rate": lambda a: a.completion.failure != "",
    "filtered_rate": lambda a: a.completion.filtered,
    "unread_judge_rate": unread,
}
"""Metric name -> whether one answer counts. Languages that could not be told (too short a text) are not held against
the answer."""


def slices(answers: Sequence[Answer], settings: Settings, prompt_set: str) -> Iterator[Slice]:
    """The slices of a set: whole, each language, trained and zero-shot languages, each scope, each category."""
    prompts = [a.prompt for a in answers if a.prompt.set == prompt_set]
    if not prompts:
        return
    yield Slice(prompt_set)
    trained = set(settings.trained_languages)
    for code in settings.languages:
        yield Slice(prompt_set, language=code, belongs=lambda p, code=code: p.language == code)  # type: ignore[misc]
    if trained and trained != set(settings.languages):
        yield Slice(prompt_set, language="trained", belongs=lambda p: p.language in trained)
        yield Slice(prompt_set, language="zero-shot", belongs=lambda p: p.language not in trained)
    if prompt_set != "redteam":
        return
    for scope in sorted({p.scope for p in prompts if p.scope}):
        yield Slice(prompt_set, scope=scope, belongs=lambda p, scope=scope: p.scope == scope)  # type: ignore[misc]
    for category in sorted({c for p in prompts for c in p.categories}):
        yield Slice(prompt_set, category=category, belongs=lambda p, c=category: c in p.categories)  # type: ignore[misc]


def frame_of(metric: str, estimand: str, model: str, part: Slice, settings: Settings) -> Figure:
    """A figure that says what it is about and holds no number yet."""
    return Figure(
        metric=metric,
        estimand=estimand,
        model=model,
        language=part.language,
        scope=part.scope,
        category=part.category,
        set=part.set,
        judge=settings.judge,
        train_seeds=settings.train_seeds.get(model, 1),
    )


def filled(frame: Figure, found: Estimate) -> Figure:
    """The figure with an estimate's numbers."""
    return replace(
        frame,
        n=found.n,
        clusters=found.clusters,
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        interval=found.interval,
        reason=found.reason,
        p=found.p_value,
    )


def values_of(answers: Sequence[Answer], counts: Callable[[Answer], bool]) -> Bools:
    """One true or false per answer."""
    return np.array([counts(a) for a in answers], dtype=np.bool_)


def clusters_of(answers: Sequence[Answer]) -> list[str]:
    """The seed prompt of each answer."""
    return [a.prompt.seed_id for a in answers]


def generator_of(settings: Settings, *names: object) -> np.random.Generator:
    """A generator of its own for every figure, so that adding one figure moves no other."""
    return np.random.default_rng([settings.seed, int(content_id(*names), 16) % 2**32])


def repeated(answers: Sequence[Answer], times: int) -> list[Answer]:
    """The baseline's answers once per training seed, to be paired with a method's."""
    return list(answers) * times


def pooled_seeds(
    answers: Mapping[str, Sequence[Answer]], cells: Mapping[str, Sequence[str]]
) -> dict[str, list[Answer]]:
    """Answers per model with one entry more for each method trained with several seeds: its cells end to end."""
    result = {name: list(rows) for name, rows in answers.items()}
    for method, names in cells.items():
        if len(names) > 1 and all(name in answers for name in names):
            result[method] = [answer for name in names for answer in answers[name]]
    return result
