"""What a server's reply says: pure reading of the OpenAI interface as servers really speak it.

Nothing here raises, whatever the bytes: what cannot be read comes back with its problem in words that hold no text of
prompts or answers. `VERSION` counts changes of the reading; replies are stored as they came and can be read again.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from alignprism.models.protocol import Reason

VERSION = 1

_LARGEST = 2**53  # of a token count that is believed
_WORD = re.compile(r"[^A-Za-z0-9_.:/-]+")
_FILTERED_CODES = frozenset(
    (
        "content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed",
        "datainspectionfailed", "moderation_blocked", "content_blocked", "prohibited_content", "safety",
    )
)  # fmt: skip
_RETRIED = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529))


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of status 200. ``problem`` is empty if ``text`` is the answer, else why there is none to be had from it.

    ``truncated``: the length limit ended it. ``filtered``: the provider's filter did. Token counts are None where the
    server gave none; ``log_probs`` too, and ``tokens``, the texts of the same tokens.
    """

    text: str = ""
    truncated: bool = False
    filtered: bool = False
    finish: str = ""
    served: str = ""
    fingerprint: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    log_probs: tuple[float, ...] | None = None
    tokens: tuple[str, ...] | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A reply of another status: the reason for the call's row, one line for people, and whether to try again.

    ``filtered``: it is no error; the provider's filter refused the prompt.
    """

    reason: Reason
    detail: str
    again: bool
    filtered: bool = False


def read_reply(body: bytes, *, plain: bool) -> Reply:
    """Read a reply to a chat (or, if `plain`, a completions) request."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Reply(problem="not JSON" if body.strip() else "empty body")
    if not isinstance(document, dict):
        return Reply(problem="JSON, but not an object")
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    about: dict[str, Any] = {
        "served": _text(document.get("model")) or "",
        "fingerprint": _text(document.get("system_fingerprint")) or "",
        "prompt_tokens": _count(usage.get("prompt_tokens")),
        "completion_tokens": _count(usage.get("completion_tokens")),
    }
    error = document.get("error")
    if error:
        return Reply(problem=f"an error inside a reply of status 200 ({_code(error)})", **about)
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Reply(problem="no choices", **about)
    choice = choices[0]
    finish = _word(choice.get("finish_reason"))
    about |= {
        "finish": finish,
        "truncated": finish in ("length", "max_tokens", "model_length"),
        "filtered": finish.startswith("content_filter"),
    }
    about["log_probs"], about["tokens"] = _log_probs(choice.get("logprobs"))
    text = _text(choice.get("text")) if plain else _message_text(choice.get("message"))
    if text is None and about["filtered"]:
        text = ""
    if text is None:
        return Reply(problem="no text in the first choice", **about)
    return Reply(text=text, **about)


def _message_text(message: object) -> str | None:
    """The text of a chat message: its content (a string, or parts), or what it says where it refuses; None if none."""
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type", "text") == "text"]
        texts = [_text(part) for part in parts]
        content = "".join(text for text in texts if text is not None) if texts and None not in texts else None
    text = _text(content)
    if text:
        return text
    refusal = _text(message.get("refusal"))
    if refusal:
        return refusal
    if content is None and message.get("tool_calls"):
        return None  # it called a tool that nobody offered
    # Null is how servers write an answer without text: the limit ended it while the model was still thinking.
    return "" if text is not None or (content is None and "content" in message) else None


def read_trouble(status: int, body: bytes) -> Trouble:
    """Read a reply of any status but 200."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    error = document.get("error", document) if isinstance(document, dict) else None
    code = _code(error)
    if status in (400, 403, 422) and _is_filter(error):
        return Trouble("refused request", f"status {status}: content filter", again=False, filtered=True)
    detail = f"status {status}" + (f" ({code})" if code else "")
    if status == 429:
        # Without quota no later try of this run succeeds.
        return Trouble("rate limited", detail, again="quota" not in code.lower() and "billing" not in code.lower())
    if status in _RETRIED or status >= 500:
        reason: Reason = "timeout" if status == 408 else "server error"
        return Trouble(reason, detail, again=status in _RETRIED or status > 504)
    if 300 <= status < 400:
        return Trouble("refused request", f"{detail}: a redirect, which is not followed; name the final address", False)
    message = error.get("message") if isinstance(error, dict) else None
    if isinstance(message, str) and re.search("context.?length|context.?window", message.lower()):
        return Trouble(
            "prompt too long", f"{detail}: prompt and max_new_tokens do not fit the model's context", again=False
        )
    return Trouble("refused request", detail, again=False)


def _is_filter(error: object) -> bool:
    if not isinstance(error, dict):
        return False
    inner = error.get("innererror")
    metadata = error.get("metadata")
    words = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    flagged = isinstance(metadata, dict) and "flagged_input" in metadata
    return flagged or any(isinstance(word, str) and word.lower() in _FILTERED_CODES for word in words)


def _code(error: object) -> str:
    """The provider's word for an error, and the parameter it is about; never its message, which may repeat the prompt."""
    if isinstance(error, str):
        return ""
    if not isinstance(error, dict):
        return ""
    words = [_word(error.get(name)) for name in ("code", "type", "param")]
    return ", ".join(dict.fromkeys(word for word in words if word))


def _word(value: object) -> str:
    return _WORD.sub("_", str(value))[:80] if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _text(value: object) -> str | None:
    """A string without halves of surrogate pairs, which JSON can spell and no file can hold; None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        return None
    return int(value)


def _log_probs(value: object) -> tuple[tuple[float, ...] | None, tuple[str, ...] | None]:
    """Log-probabilities of the answer's tokens and their texts: ``content[]`` (chat), or ``token_logprobs`` and ``tokens``.

    None for both unless every token has its number; None for the texts unless every token has one.
    """
    if not isinstance(value, dict):
        return None, None
    content = value.get("content")
    if isinstance(content, list):
        entries = [entry if isinstance(entry, dict) else {} for entry in content]
        found, named = [entry.get("logprob") for entry in entries], [entry.get("token") for entry in entries]
    else:
        found, named = (
            v if isinstance(v, list) else [None] for v in (value.get("token_logprobs"), value.get("tokens"))
        )
    numbers = [float(x) for x in found if isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < _LARGEST]
    if len(numbers) < len(found) or not all(map(math.isfinite, numbers)):
        return None, None
    texts = [text for text in map(_text, named) if text is not None]
    return tuple(numbers), tuple(texts) if len(texts) == len(numbers) == len(named) else None
