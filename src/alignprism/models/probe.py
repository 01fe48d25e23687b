"""What is behind an endpoint, found out before anything is paid: is it up, does it know the model, what does it serve.

The identity of a model behind an endpoint is a hash over: the first address; the requested name; the name that the server
says it served; and what it tells of its weights in ``/models`` (vLLM: the path they were loaded from; llama.cpp: their
size). Further addresses are replicas of the first by the user's word, checked against it here, so that one may be added or
taken away without asking anything again; one that does not answer now is checked once it does, before it takes part. A user who says what the servers load (``weights``) takes the address out too:
servers may then move. The fingerprint is no part of it: providers answer from several backends at once, and no call
could be found again; it is kept beside every answer instead, and `alignprism calls check` counts them. What ``extra`` sends
with every request follows the hash (`alignprism.models.extra`), as it changes the answers but not the model.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from alignprism.errors import Failure, InputError
from alignprism.models import replies
from alignprism.models.extra import with_extra
from alignprism.models.limits import retry_after_seconds, retry_delay
from alignprism.models.settings import EndpointSettings
from alignprism.models.store import Served

_ATTEMPTS = 4
_LONGEST_WAIT_SECONDS = 20.0
# What /models tells of the weights, and nothing that changes when the same weights are served again.
_TOLD = ("root", "parent", "quantization", "digest")
_TOLD_META = ("n_params", "size", "n_vocab", "n_ctx_train", "n_embd", "vocab_type", "ftype")


class Unreachable(Failure):
    """No server answers at an address now: none is there, or what is there gives errors that pass, or nothing in time."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What an endpoint serves: ``served`` is the name in its replies; ``limit_name`` how it calls the length limit.

    ``absent`` are the addresses that did not answer. They are no part of the identity.
    """

    served: str
    description: str
    limit_name: str = "max_tokens"
    absent: tuple[str, ...] = ()

    def digest(self, settings: EndpointSettings) -> str:
        """The identity of what answers (see the module)."""
        place = f"weights {settings.weights}" if settings.weights else settings.urls[0]
        parts = ["endpoint 1", place, settings.model, self.served, self.description]
        return with_extra(hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest(), settings.extra)


async def probe(session: aiohttp.ClientSession, settings: EndpointSettings, name: str) -> Probed:
    """Ask every address for one token. One that answers is enough; the others are named in the result.

    Raises
    ------
    Unreachable
        no server answers at any of the addresses.
    Failure
        a server does not speak the OpenAI interface.
    InputError
        a server does not know the model or refuses the key; or two addresses serve different models.
    """
    asked = (_probe_one(session, settings, url, name) for url in settings.urls)
    found = dict(zip(settings.urls, await asyncio.gather(*asked, return_exceptions=True), strict=True))
    there: dict[str, Probed] = {}
    absent: dict[str, Unreachable] = {}
    for url, one in found.items():
        if isinstance(one, Unreachable):
            absent[url] = one
        elif isinstance(one, BaseException):
            raise one
        else:
            there[url] = one
    if not there:
        raise next(iter(absent.values()))
    (place, first), *others = there.items()
    for url, other in others:
        _refuse_other(name, (place, first), (url, other))
    return replace(first, absent=tuple(absent))


async def probe_absent(
    session: aiohttp.ClientSession, settings: EndpointSettings, name: str, url: str, probed: Probed
) -> None:
    """Ask an address that was absent; returns if it answers and serves what the others do.

    Raises
    ------
    Unreachable
        it does not answer yet.
    Failure, InputError
        as `probe`.
    """
    there = next(address for address in settings.urls if address not in probed.absent)
    _refuse_other(name, (there, probed), (url, await _probe_one(session, settings, url, name)))


def _refuse_other(name: str, one: tuple[str, Probed], two: tuple[str, Probed]) -> None:
    (place, first), (url, other) = one, two
    if (other.served, other.description) != (first.served, first.description):
        raise InputError(
            f"model {name!r}: {_place(place)} and {_place(url)} serve different models ({first.served} "
            f"{first.description} and {other.served} {other.description}); list only replicas of one model"
        )


def remembered(records: Sequence[Served | None]) -> Probed | None:
    """What the addresses, replicas of each other, served when one of them was last asked; None if none ever was."""
    known = [record for record in records if record is not None]
    if not known:
        return None
    last = max(known, key=lambda record: record.seen)
    return Probed(last.served, last.description)


def records(settings: EndpointSettings, probed: Probed) -> list[Served]:
    """What to remember of a probe: of the addresses that answered."""
    now = time.time()
    there = [url for url in settings.urls if url not in probed.absent]
    return [Served(url, settings.model, probed.served, probed.description, now) for url in there]


async def _probe_one(session: aiohttp.ClientSession, settings: EndpointSettings, url: str, name: str) -> Probed:
    who = f"model {name!r}: {_place(url)}"
    limit_name = "max_tokens"
    status, body = await _ask(session, settings, url, who, "chat", limit_name)
    if status == 400 and b"max_completion_tokens" in body:
        limit_name = "max_completion_tokens"
        status, body = await _ask(session, settings, url, who, "chat", limit_name)
    plain = False
    if status in (400, 404, 405, 422, 501):  # a base model without a chat template, or a server without chat
        again, other = await _ask(session, settings, url, who, "plain", "max_tokens")
        if again == 200:
            status, body, plain = again, other, True
    if status != 200:
        raise await _refused(session, settings, url, who, status, body)
    reply = replies.read_reply(body, plain=plain)
    if not reply.served and reply.problem:
        raise Failure(f"{who} does not speak the OpenAI interface ({reply.problem}); the address should end in /v1")
    return Probed(reply.served, await _description(session, settings, url), limit_name)


async def _ask(
    session: aiohttp.ClientSession, settings: EndpointSettings, url: str, who: str, kind: str, limit_name: str
) -> tuple[int, bytes]:
    """One token, with a few tries; returns the last status and body."""
    path, asked = (
        ("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]})
        if kind == "chat"
        else ("completions", {"prompt": "Hi"})
    )
    # A reasoning model refuses limits that leave no room to think; elsewhere one token is enough and costs least.
    tokens = 256 if limit_name == "max_completion_tokens" else 1
    body = {"model": settings.model, **asked, limit_name: tokens, **settings.extra}
    body = {key: value for key, value in body.items() if value is not None}
    problem = ""
    for attempt in range(1, _ATTEMPTS + 1):
        wait: float | None = None
        try:
            async with session.post(f"{url}/{path}", json=body, allow_redirects=False) as response:
                content = await response.read()
                readable = response.status != 200 or not replies.read_reply(content, plain=kind == "plain").problem
                if readable and (response.status == 200 or not replies.read_trouble(response.status, content).again):
                    return response.status, content
                problem = f"status {response.status}"
                wait = retry_after_seconds(
                    response.headers.get("Retry-After"), response.headers.get("retry-after-ms"), time.time()
                )
                if attempt == _ATTEMPTS:
                    return response.status, content
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(
                f"{who} cannot be reached ({error.os_error.strerror or type(error).__name__}); is the server running, and is "
                "the address right?"
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            problem = type(error).__name__
        await asyncio.sleep(min(_LONGEST_WAIT_SECONDS, retry_delay(attempt, wait)))
    raise Unreachable(f"{who} did not answer a probe in {_ATTEMPTS} tries (last: {problem}); try again later")


async def _refused(
    session: aiohttp.ClientSession, settings: EndpointSettings, url: str, who: str, status: int, body: bytes
) -> Exception:
    trouble = replies.read_trouble(status, body)
    if status in (401, 403):
        key = (
            f"the key in {settings.api_key_env} is wrong or has no access"
            if settings.api_key_env
            else "it wants a key: name the environment variable that holds it as api_key_env"
        )
        return InputError(f"{who} refuses the request ({trouble.detail}): {key}")
    if status in (400, 404, 405, 422, 501):
        names = await _model_names(session, url)
        known = f"it knows {', '.join(names)}" if names else "its list of models cannot be read"
        if settings.model in names:
            return InputError(
                f"{who} refuses the request ({trouble.detail}), though it knows {settings.model!r}; check `extra` and that the "
                "address ends in /v1"
            )
        return InputError(f"{who} does not know the model {settings.model!r} ({trouble.detail}); {known}")
    # A gateway whose server is down, a limit that is reached: it passes, and what is stored can be read meanwhile.
    passes = trouble.reason in ("rate limited", "server error", "timeout")
    kind = Unreachable if passes else Failure
    return kind(f"{who} answers with errors only ({trouble.detail}); try again later")


async def _models(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    """The entries of ``GET /models``; empty where a server has no such list."""
    try:
        async with session.get(f"{url}/models", allow_redirects=False) as response:
            document = json.loads(await response.read()) if response.status == 200 else {}
    except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError):
        return []
    data = document.get("data") if isinstance(document, dict) else None
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


async def _model_names(session: aiohttp.ClientSession, url: str) -> list[str]:
    names = [str(entry["id"]) for entry in await _models(session, url) if "id" in entry]
    return names if len(names) <= 12 else [*names[:12], f"and {len(names) - 12} more"]


async def _description(session: aiohttp.ClientSession, settings: EndpointSettings, url: str) -> str:
    """What the server tells of the model's weights, as JSON; empty where it tells nothing."""
    for entry in await _models(session, url):
        if entry.get("id") != settings.model:
            continue
        meta = entry.get("meta")
        told = {key: entry[key] for key in _TOLD if entry.get(key) is not None}
        told |= {key: meta[key] for key in _TOLD_META if key in meta} if isinstance(meta, dict) else {}
        return json.dumps(told, ensure_ascii=False, sort_keys=True) if told else ""
    return ""


def _place(url: str) -> str:
    return urlsplit(url).netloc
