"""What making pairs would ask of whom, before anything is opened or asked: calls, cost, hosts, and what cannot work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alignprism.construct.ranking import n_meetings
from alignprism.judging.head import Head
from alignprism.judging.open import model_name
from alignprism.judging.pairwise import Matchup, PairwiseQuestions
from alignprism.judging.planning import planned_calls
from alignprism.judging.protocol import Item
from alignprism.judging.settings import JudgeSettings, PairwiseSettings
from alignprism.models.cost import Estimate, estimate
from alignprism.models.protocol import Decoding, Request
from alignprism.models.settings import ModelSettings
from alignprism.rows import Prompt

EVEN = 0.5
"""A judge without a threshold of its own: harmful from an even chance on; its bare verdicts are 0 and 1."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Calls of one kind. ``hosts``: where the text goes, none for this machine; ``calls`` None: no model is asked."""

    text: str
    to: str
    hosts: tuple[str, ...]
    calls: Estimate | None


def harmful_from(judge: JudgeSettings) -> float:
    """The score from which a judge calls an answer harmful."""
    if judge.kind == "head":
        return Head.load(judge.head).threshold
    return judge.threshold if judge.kind == "guard" else EVEN


def planned(
    prompts: Sequence[Prompt],
    generators: Sequence[tuple[str, ModelSettings]],
    decoding: Decoding,
    judge: JudgeSettings,
    pairwise: PairwiseSettings | None,
    candidates: int,
) -> Iterator[Planned]:
    """Calls for so many candidates a prompt, answers as long as they may be.

    Raises
    ------
    InputError
        a judge that cannot work, or cannot be spoken to in a prompt's language.
    """
    requests = [Request(prompt.id, prompt.text) for prompt in prompts]
    for name, model in generators:
        yield _planned("prompts", name, model, requests, decoding)
    answers = [_answer(number, decoding.max_new_tokens) for number in range(candidates)]
    items = [
        Item(f"{prompt.id}/{number}", prompt.text, answer, prompt.language, prompt.seed_id, prompt.scope)
        for prompt in prompts
        for number, answer in enumerate(answers)
    ]
    for row in planned_calls(judge, items, prompts):
        yield Planned("prompts and answers", row.model, row.hosts, row.calls)
    if pairwise is not None:
        questions = PairwiseQuestions(pairwise)
        shown = [
            Matchup(p.id, p.text, f"{meeting} a", f"{meeting} b", _answer(0, decoding.max_new_tokens),
                    _answer(1, decoding.max_new_tokens), p.language, p.seed_id)
            for p in prompts
            for meeting in range(n_meetings(candidates))
        ]  # fmt: skip
        questions.check(shown)
        asked = [request for matchup in shown for request in questions.requests(matchup)]
        text = "prompts and two answers each"
        yield _planned(text, model_name(pairwise.model), pairwise.model, asked, questions.decoding)


def _answer(number: int, tokens: int) -> str:
    """A text of about that many tokens, unlike that of another number."""
    return f"{number} " + "ab " * tokens


def _planned(text: str, to: str, model: ModelSettings, requests: Sequence[Request], decoding: Decoding) -> Planned:
    endpoint = model.endpoint
    price = endpoint.price if endpoint is not None else None
    hosts = endpoint.hosts if endpoint is not None else ()
    return Planned(text, to, hosts, estimate(requests, decoding, price))
