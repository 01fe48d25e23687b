"""From items to replies: requests go out as fast as the engine takes them, replies come back in the order of the items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alignprism.models.protocol import Answer, Decoding, Engine, Failed, Outcome, Progress, Request
from alignprism.rows import Harm


def replies_in_order(
    engine: Engine, asked: Sequence[Sequence[Request]], decoding: Decoding, progress: Progress | None = None
) -> Iterator[list[Outcome]]:
    """The outcomes of each item's requests (which may be none), item after item; ids of requests must be unique.

    `progress` is called with (items done, all items).
    """
    place = {request.id: number for number, requests in enumerate(asked) for request in requests}
    if len(place) < sum(map(len, asked)):
        raise ValueError("two requests share an id")
    waiting: dict[int, dict[str, Outcome]] = {}
    current = 0

    def ready() -> Iterator[list[Outcome]]:
        nonlocal current
        while current < len(asked) and len(waiting.get(current, {})) == len(asked[current]):
            found = waiting.pop(current, {})
            yield [found[request.id] for request in asked[current]]
            current += 1
            if progress is not None:
                progress(current, len(asked))

    yield from ready()
    if current < len(asked):
        for outcome in engine.complete([request for requests in asked for request in requests], decoding):
            waiting.setdefault(place[outcome.request_id], {})[outcome.request_id] = outcome
            yield from ready()
    if current < len(asked):
        raise ValueError(f"{engine.name} gave no outcome for item {current} of {len(asked)}")


def no_reply(outcome: Outcome) -> str:
    """Why there is nothing to read, in one line; empty where there is a reply."""
    if isinstance(outcome, Failed):
        return f"no reply: {outcome.reason}" + (f" ({outcome.detail})" if outcome.detail else "")
    if outcome.filtered and not outcome.text.strip():
        return "no reply: withheld by the provider's content filter"
    return ""


def failures_of(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Why calls got no answer, each reason once. A withheld reply is an answer: asking again gets the same."""
    return tuple(dict.fromkeys(outcome.reason for outcome in outcomes if isinstance(outcome, Failed)))


def calls_of(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Keys of the calls in the store; engines without a store have none."""
    return tuple(outcome.call for outcome in outcomes if outcome.call)


def harm_probability(harm: Harm, probability: float | None) -> float | None:
    """P(harmful) from the probability of the verdict word, rounded to four decimals: its complement if that is harmless.

    What the other words would have got is not known, so for harmless it is an upper bound.
    """
    if probability is None or harm == "undecidable":
        return None
    return round(probability if harm == "harmful" else 1.0 - probability, 4)


def answered(outcomes: Sequence[Outcome]) -> list[Answer]:
    """The outcomes that are answers."""
    return [outcome for outcome in outcomes if isinstance(outcome, Answer)]
