"""What every engine is asked and what it gives back: one protocol for models in this process, behind an endpoint, on a
Ray cluster, or played from a script. No heavy imports: whoever asks needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

Progress = Callable[[int, int], None]
"""Called with (calls done, all calls)."""


class Message(NamedTuple):
    """One turn of a conversation; ``role`` is system, user or assistant."""

    role: str
    content: str


Asked = str | Sequence[Message]
"""What a model is asked: a conversation that waits for the model's turn, or a text, which is one user message."""


Role = Literal["completion", "judge", "pairwise", "translate", "write", "check"]
"""What a call is made for; kept beside it, so that `alignprism calls check` can say what each one was."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to complete, as the user wrote it: the engine applies the chat template.

    With ``plain`` the prompt must be a text, and the model continues it as it stands, without a template. ``role`` says
    what the answer is for; it changes no answer.
    """

    id: str
    prompt: Asked
    plain: bool = False
    role: Role = "completion"

    def __post_init__(self) -> None:
        if self.plain and not isinstance(self.prompt, str):
            raise ValueError(f"request {self.id!r}: plain prompts are texts, not conversations")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How completions are made. ``temperature`` 0 is greedy; ``samples`` are drawn per prompt.

    ``stop`` strings end an answer and are no part of it. ``log_probs`` asks for those of the answer's tokens, where an
    engine offers them. ``batch_size`` bounds memory and is no part of an answer's identity.
    """

    max_new_tokens: int = 32
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    samples: int = 1
    batch_size: int = 96
    stop: tuple[str, ...] = ()
    log_probs: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.samples < 1 or self.batch_size < 1:
            raise ValueError("max_new_tokens, samples and batch_size must be at least 1")
        if not 0.0 <= self.temperature < math.inf or not 0.0 < self.top_p <= 1.0:  # so is NaN refused
            raise ValueError("temperature must be a number of at least 0, top_p above 0 and at most 1")
        if self.temperature == 0.0 and self.samples > 1:
            raise ValueError("greedy decoding (temperature 0) has one completion per prompt; set samples to 1")
        if any(not text for text in self.stop):
            raise ValueError("stop: an empty string would end every answer before its first token")

    def identity(self) -> dict[str, object]:
        """What of these settings can change an answer (its sample number and seed aside)."""
        sampled = {"temperature": self.temperature, "top_p": self.top_p} if self.temperature > 0.0 else {}
        stop = {"stop": list(self.stop)} if self.stop else {}
        log_probs = {"log_probs": True} if self.log_probs else {}
        return {"max_new_tokens": self.max_new_tokens, **sampled, **stop, **log_probs}


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion.

    ``n_tokens`` does not count the token that ended it; ``truncated`` if none did. ``filtered``: the provider's content
    filter withheld or cut it, which is something the system did and therefore data. ``call`` is its key in the call
    store. ``log_probs`` are those of the answer's tokens, in nats, when they were asked for and offered; ``tokens`` are
    the texts of these tokens, one for one, where the engine knows them (a judge's P(harmful) is read off its verdict word).
    """

    request_id: str
    sample: int
    text: str
    n_tokens: int
    truncated: bool
    filtered: bool = False
    call: str = ""
    log_probs: tuple[float, ...] | None = None
    tokens: tuple[str, ...] | None = None


Reason = Literal[
    "rate limited", "server error", "timeout", "connection", "cut reply", "invalid reply", "other model", "refused request",
    "over budget", "prompt too long", "out of memory", "lost worker", "interrupted",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failed:
    """A call that got no answer, after all retries. Never an answer: whoever reads an `Outcome` must tell them apart.

    ``detail`` is one line for people (status code, what was wrong with the reply); it holds no text of prompts or answers.
    """

    request_id: str
    sample: int
    reason: Reason
    detail: str = ""
    call: str = ""


Outcome = Answer | Failed


class Engine(Protocol):
    """Anything that completes prompts. ``digest`` says what it is (see `alignprism.models.identity`)."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def digest(self) -> str:
        """What it is: two engines with one digest give the same answers to the same call."""

    def complete(
        self, requests: Iterable[Request], decoding: Decoding, progress: Progress | None = None
    ) -> Iterable[Outcome]:
        """One outcome per request and sample, each stored before it is handed out, in any order (see `in_order`)."""


def in_order(outcomes: Iterable[Outcome], requests: Sequence[Request], samples: int = 1) -> list[Outcome]:
    """Outcomes in the order of the requests: all samples of the first, then of the second.

    Raises
    ------
    ValueError
        an outcome is missing or there twice, or two requests share an id.
    """
    places = {
        (request.id, sample): place * samples + sample
        for place, request in enumerate(requests)
        for sample in range(samples)
    }
    if len(places) < len(requests) * samples:
        raise ValueError("two requests share an id")
    result: list[Outcome | None] = [None] * len(places)
    for outcome in outcomes:
        place = places[(outcome.request_id, outcome.sample)]
        if result[place] is not None:
            raise ValueError(f"request {outcome.request_id!r}, sample {outcome.sample}: two outcomes")
        result[place] = outcome
    found = [outcome for outcome in result if outcome is not None]
    if len(found) < len(result):
        raise ValueError(f"{len(result) - len(found)} of {len(result)} outcomes are missing")
    return found
