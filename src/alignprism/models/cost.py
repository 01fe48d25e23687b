"""What calls cost: an estimate before, from characters where there is no tokenizer, and a hard cap while they are made."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from alignprism.errors import InputError
from alignprism.models.protocol import Asked, Decoding, Request
from alignprism.models.settings import Price

# Characters per token, of the worst language of each script: the sample's instructions and answers under Gemma 3's
# tokenizer (262,144 tokens), rounded down; English has 4.4. Scripts without a measurement count one token per character.
# Small, mostly English vocabularies make three times as many tokens of Hindi and Arabic: an estimate is no bill.
_CHARACTERS_PER_TOKEN = {"LATIN": 2.7, "CYRILLIC": 2.7, "ARABIC": 2.6, "DEVANAGARI": 3.0}
_TURN_TOKENS = 8  # a chat template's own tokens around one turn


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is; at least one. Blanks and digits count with the Latin script."""
    counts: dict[float, int] = {}
    for character in text:
        rate = _rate(character)
        counts[rate] = counts.get(rate, 0) + 1
    return max(1, round(sum(count / rate for rate, count in counts.items())))


@lru_cache(maxsize=16384)
def _rate(character: str) -> float:
    if character.isascii():
        return _CHARACTERS_PER_TOKEN["LATIN"]
    script = unicodedata.name(character, "").partition(" ")[0]
    return _CHARACTERS_PER_TOKEN.get(script, 2.0 if unicodedata.combining(character) else 1.0)


def prompt_tokens(prompt: Asked) -> int:
    """About how many tokens a prompt is, with what a chat template adds."""
    texts = [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]
    return sum(estimate_tokens(text) + _TURN_TOKENS for text in texts)


def dollars(price: Price | None, n_prompt: int, n_answer: int) -> float:
    """The price of one call; 0.0 without a price."""
    return 0.0 if price is None else (n_prompt * price.input + n_answer * price.output) / 1e6


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a list of calls will use. ``most`` dollars if every answer is as long as it may be; None without a price."""

    calls: int
    prompt_tokens: int
    answer_tokens: int
    most: float | None

    def __add__(self, other: Estimate) -> Estimate:
        most = None if self.most is None and other.most is None else (self.most or 0.0) + (other.most or 0.0)
        return Estimate(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.answer_tokens + other.answer_tokens,
            most,
        )

    def __str__(self) -> str:
        cost = "no price given" if self.most is None else f"at most ${self.most:,.2f}"
        return (
            f"{self.calls:,} calls, about {self.prompt_tokens:,} prompt tokens, at most {self.answer_tokens:,} answer "
            f"tokens; {cost}"
        )


def estimate(requests: Iterable[Request], decoding: Decoding, price: Price | None) -> Estimate:
    """What completing these requests will use, were none of them stored. Answer tokens are an upper bound."""
    calls = prompts = 0
    for request in requests:
        calls += decoding.samples
        prompts += decoding.samples * prompt_tokens(request.prompt)
    answers = calls * decoding.max_new_tokens
    return Estimate(calls, prompts, answers, None if price is None else dollars(price, prompts, answers))


class Budget:
    """A cap on dollars over everything that shares it. Safe for threads.

    A request reserves what it may cost at most before it goes, and settles what it did cost. So the cap is passed by no
    more than the estimates of prompt tokens are wrong for what is in flight. `spent` is what was paid before: with the sum
    of the call store, a cap holds for a run however often it is continued.
    """

    def __init__(self, cap: float, spent: float = 0.0) -> None:
        if not cap >= 0.0:
            raise InputError(f"a cap of {cap} dollars; give a number that is not negative")
        self.cap = cap
        self._spent = spent
        self._reserved = 0.0
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        """Dollars paid so far, those paid before included."""
        return self._spent

    def reserve(self, amount: float) -> bool | None:
        """Set `amount` aside: True if that was done; False if it can never be; None if what is in flight may leave room."""
        with self._lock:
            if self._spent + amount > self.cap:
                return False
            if self._spent + self._reserved + amount > self.cap:
                return None
            self._reserved += amount
            return True

    def settle(self, reserved: float, cost: float) -> None:
        """What was reserved did cost `cost`."""
        with self._lock:
            self._reserved -= reserved
            self._spent += cost
