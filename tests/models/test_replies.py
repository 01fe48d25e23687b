"""Replies as servers really send them are read, and nothing that arrives can break the reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alignprism.models.replies import read_reply, read_trouble

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _with(place: str, value: object) -> bytes:
    """A good reply with one field replaced by anything."""
    reply: dict[str, Any] = {
        "model": "m",
        "system_fingerprint": "f",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop", "logprobs": None}],
    }
    *path, last = place.split(".")
    target: Any = reply
    for step in path:
        target = target[int(step) if step.isdigit() else step]
    target[int(last) if last.isdigit() else last] = value
    return json.dumps(reply).encode()


PLACES = [
    "model", "system_fingerprint", "usage", "usage.prompt_tokens", "choices", "choices.0", "choices.0.message",
    "choices.0.message.content", "choices.0.message.refusal", "choices.0.message.tool_calls", "choices.0.finish_reason",
    "choices.0.logprobs", "error",
]  # fmt: skip


@given(st.sampled_from(PLACES), JSON, st.booleans())
def test_no_field_of_any_type_breaks_the_reader(place: str, value: object, plain: bool) -> None:
    reply = read_reply(_with(place, value), plain=plain)
    reply.text.encode()  # whatever came can be written to a file
    assert isinstance(reply.text, str)
    assert reply.problem == "" or reply.text == ""
    assert reply.prompt_tokens is None or reply.prompt_tokens >= 0


@given(st.binary(max_size=200), st.integers(100, 599))
def test_no_bytes_break_the_reader(body: bytes, status: int) -> None:
    assert read_reply(body, plain=False).problem
    assert read_trouble(status, body).detail.startswith("status ")


@given(st.text(), st.integers(0, 60))
def test_a_cut_reply_is_a_problem_and_a_whole_one_is_the_text(text: str, cut: int) -> None:
    body = _with("choices.0.message.content", text)
    assert read_reply(body, plain=False).text == text
    assert read_reply(body[: len(body) - 1 - cut], plain=False).problem


@given(st.text(min_size=12), JSON)
def test_details_repeat_nothing_of_a_message(message: str, other: object) -> None:
    assume(message not in json.dumps(other, ensure_ascii=False))
    body = json.dumps({"error": {"message": message, "code": "some_code", "param": other}}).encode()
    detail = read_trouble(400, body).detail
    assert "some_code" in detail
    assert message not in detail


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "yes"}, "yes"),
        ({"content": ""}, ""),
        ({"content": None, "reasoning_content": "hm"}, ""),
        ({"content": None, "refusal": "I can't."}, "I can't."),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": "half \ud83d"}, "half \ufffd"),
    ],
)
def test_where_the_text_of_a_message_is(message: dict[str, Any], text: str) -> None:
    reply = read_reply(_with("choices.0.message", message), plain=False)
    assert (reply.text, reply.problem) == (text, "")


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("choices", [], "no choices"),
        ("choices.0.message", {"content": 3}, "no text in the first choice"),
        ("choices.0.message", {"content": None, "tool_calls": [{}]}, "no text in the first choice"),
        ("error", {"code": 502, "message": "upstream"}, "an error inside a reply of status 200 (502)"),
    ],
)
def test_what_is_no_answer_says_why(place: str, value: object, problem: str) -> None:
    assert read_reply(_with(place, value), plain=False).problem == problem


def test_ends_filters_usage_and_log_probabilities_are_read() -> None:
    assert read_reply(_with("choices.0.finish_reason", "length"), plain=False).truncated
    filtered = read_reply(_with("choices.0.finish_reason", "content_filter"), plain=False)
    assert filtered.filtered and not filtered.problem
    content = [{"token": "h", "logprob": -0.5}, {"token": "i", "logprob": -1}]
    chat = read_reply(_with("choices.0.logprobs", {"content": content}), plain=False)
    assert (chat.log_probs, chat.tokens) == ((-0.5, -1.0), ("h", "i"))
    assert (chat.prompt_tokens, chat.completion_tokens, chat.served, chat.fingerprint) == (3, 2, "m", "f")
    plain = {"choices": [{"text": "hi", "logprobs": {"tokens": ["h", "i"], "token_logprobs": [-0.5, -1.0]}}]}
    completion = read_reply(json.dumps(plain).encode(), plain=True)
    assert (completion.text, completion.log_probs, completion.tokens) == ("hi", (-0.5, -1.0), ("h", "i"))
    gap = read_reply(_with("choices.0.logprobs", {"content": [{"token": "h", "logprob": None}]}), plain=False)
    assert gap.log_probs is None


@pytest.mark.parametrize(
    ("status", "error", "reason", "again", "filtered"),
    [
        (429, {"code": "rate_limit_exceeded"}, "rate limited", True, False),
        (429, {"code": "insufficient_quota"}, "rate limited", False, False),
        (500, {}, "server error", True, False),
        (503, {}, "server error", True, False),
        (501, {}, "server error", False, False),
        (408, {}, "timeout", True, False),
        (302, {}, "refused request", False, False),
        (400, {"code": "unknown_parameter", "param": "seed"}, "refused request", False, False),
        (400, {"message": "maximum context length is 10"}, "prompt too long", False, False),
        (400, {"code": "content_filter"}, "refused request", False, True),
        (400, {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}, "refused request", False, True),
        (403, {"code": 403, "metadata": {"flagged_input": "..."}}, "refused request", False, True),
    ],
)
def test_statuses_mean_what_providers_mean(
    status: int, error: dict[str, Any], reason: str, again: bool, filtered: bool
) -> None:
    trouble = read_trouble(status, json.dumps({"error": error}).encode())
    assert (trouble.reason, trouble.again, trouble.filtered) == (reason, again, filtered)
