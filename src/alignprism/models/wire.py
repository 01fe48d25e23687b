"""One try on the wire: what is sent for an item, and what the reply, or its absence, means."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from alignprism.models import replies
from alignprism.models.addresses import Address, Addresses
from alignprism.models.cost import dollars, estimate_tokens, prompt_tokens
from alignprism.models.limits import LONGEST_WAIT_SECONDS, Gate, retry_after_seconds
from alignprism.models.probe import Probed
from alignprism.models.protocol import Decoding, Reason, Request
from alignprism.models.settings import EndpointSettings
from alignprism.models.store import call_key
from alignprism.models.wording import messages, rendered, sample_seed

_NO_QUOTA_SECONDS = 60.0
_AWAY = (502, 503)
"""What a gateway says while its server is down or starts."""


@dataclass(frozen=True, slots=True)
class Item:
    """One sample of one request, and the key of its call."""

    request: Request
    sample: int
    seed: int | None
    key: str

    @classmethod
    def of(cls, digest: str, settings: EndpointSettings, decoding: Decoding, request: Request, sample: int) -> Item:
        """Greedy decoding sends no seed: it has nothing to draw."""
        text = rendered(request.prompt, request.plain)
        seed = sample_seed(decoding.seed, text, sample) if decoding.temperature > 0.0 else None
        identity = decoding.identity() | ({"extra": settings.extra} if settings.extra else {})
        return cls(request, sample, seed, call_key(digest, text, identity, sample, seed or 0))


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one try brought: a reply that is an answer, or a reason and whether to try again. ``away``: nobody was there."""

    latency: float
    cost: float = 0.0
    answer: replies.Reply | None = None
    reason: Reason = "invalid reply"
    detail: str = ""
    again: bool = True
    wait: float | None = None
    raw: bytes | None = None
    problem: str = ""
    away: bool = False


class Wire:
    """Sends to one endpoint's addresses and tells its gate how that went."""

    def __init__(self, settings: EndpointSettings, probed: Probed, session: aiohttp.ClientSession, gate: Gate) -> None:
        self._settings = settings
        self._probed = probed
        self._session = session
        self._gate = gate
        self._urls = {(u, plain): _url(u, plain) for u in settings.urls for plain in (True, False)}
        self._turned_away: Attempt | None = None
        self._turned_away_until = 0.0
        self.addresses = Addresses([url for url in settings.urls if url not in probed.absent])

    def no_use(self) -> Attempt | None:
        """Why nobody is asked now: the provider has just said that it answers nothing for longer than a run waits."""
        return self._turned_away if time.monotonic() < self._turned_away_until else None

    async def send(self, address: Address, item: Item, body: bytes, worst: float) -> Attempt:
        """One request on the wire. What may have been charged although nothing came counts as its worst."""
        began = time.monotonic()
        url = self._urls[(address.url, item.request.plain)]
        try:
            async with self._session.post(url, data=body, allow_redirects=False) as response:
                content = await response.read()
                status, headers = response.status, response.headers
        except TimeoutError:
            self._gate.stumbled()
            detail = f"{address.place}: no reply within {self._settings.timeout_seconds:g} s"
            return Attempt(time.monotonic() - began, worst, reason="timeout", detail=detail)
        except aiohttp.ClientPayloadError:
            self._gate.stumbled()
            return Attempt(time.monotonic() - began, worst, reason="cut reply", detail=f"{address.place}: cut off")
        except aiohttp.ClientResponseError:
            self._gate.stumbled()
            return Attempt(time.monotonic() - began, worst, detail=f"{address.place}: not HTTP", problem="not HTTP")
        except aiohttp.ClientError as error:
            self._gate.stumbled()
            self._away(address)
            detail = f"{address.place}: {type(error).__name__}"
            return Attempt(time.monotonic() - began, reason="connection", detail=detail, away=True)
        away = status in _AWAY
        if away:
            self._away(address)
        else:
            self.addresses.answered(address)
            self._gate.answered()
        latency = time.monotonic() - began
        if status == 200:
            return self._read(item, content, latency, address, worst)
        trouble = replies.read_trouble(status, content)
        if trouble.filtered:
            self._gate.succeeded()
            refused = replies.Reply(filtered=True, finish="content_filter", served=self._probed.served)
            return Attempt(latency, answer=refused, raw=content)
        wait = retry_after_seconds(headers.get("Retry-After"), headers.get("retry-after-ms"), time.time())
        detail = f"{address.place}: {trouble.detail}"
        too_long = wait is not None and wait > LONGEST_WAIT_SECONDS
        if too_long:
            detail += f", asks to wait {wait:.0f} s"
        attempt = Attempt(latency, reason=trouble.reason, detail=detail, again=trouble.again, wait=wait, away=away)
        if status == 429 and (too_long or not trouble.again):
            self._turned_away = attempt
            self._turned_away_until = time.monotonic() + (wait or _NO_QUOTA_SECONDS)
        elif status == 429:
            self._gate.throttled(wait)
        elif trouble.again:
            self._gate.stumbled()
        return attempt

    def _away(self, address: Address) -> None:
        self.addresses.failed(address, time.monotonic())
        if self.addresses.none_answers:
            self._gate.nobody_answers()

    def _read(self, item: Item, content: bytes, latency: float, address: Address, worst: float) -> Attempt:
        reply = replies.read_reply(content, plain=item.request.plain)
        cost = self._cost(item, reply, worst)
        if reply.served != self._probed.served and not (reply.problem and not reply.served):
            self._gate.stumbled()
            said = reply.served[:80] or "no name"
            detail = f"{address.place}: {said} answered, {self._probed.served or 'no name'} was asked"
            return Attempt(latency, cost, reason="other model", detail=detail, raw=content)
        if reply.problem:
            self._gate.stumbled()
            detail = f"{address.place}: {reply.problem}"
            return Attempt(latency, cost, detail=detail, raw=content, problem=reply.problem)
        self._gate.succeeded()
        return Attempt(latency, cost, answer=reply, raw=content)

    def _cost(self, item: Item, reply: replies.Reply, worst: float) -> float:
        if reply.prompt_tokens is not None and reply.completion_tokens is not None:
            return dollars(self._settings.price, reply.prompt_tokens, reply.completion_tokens)
        if reply.problem:
            return worst
        return dollars(self._settings.price, prompt_tokens(item.request.prompt), answer_length(reply))

    def body(self, item: Item, decoding: Decoding) -> bytes:
        """What is sent for an item."""
        request = item.request
        asked = {"prompt": request.prompt} if request.plain else {"messages": messages(request.prompt)}
        limit = "max_tokens" if request.plain else self._probed.limit_name
        body: dict[str, Any] = {"model": self._settings.model, **asked, limit: decoding.max_new_tokens}
        body["temperature"] = decoding.temperature
        if decoding.temperature > 0.0 and decoding.top_p < 1.0:
            body["top_p"] = decoding.top_p
        if item.seed is not None:
            body["seed"] = item.seed
        if decoding.stop:
            body["stop"] = list(decoding.stop)
        if decoding.log_probs:
            body["logprobs"] = 1 if request.plain else True
        body |= self._settings.extra
        kept = {key: value for key, value in body.items() if value is not None}
        return json.dumps(kept, ensure_ascii=False).encode("utf-8", "replace")


def _url(base: str, plain: bool) -> URL:
    return URL(f"{base}/{'completions' if plain else 'chat/completions'}")


def answer_length(reply: replies.Reply) -> int:
    """Tokens of an answer: as the server counts them, else its log-probabilities, else an estimate."""
    if reply.completion_tokens is not None:
        return reply.completion_tokens
    if reply.log_probs is not None:
        return len(reply.log_probs)
    return estimate_tokens(reply.text) if reply.text else 0
