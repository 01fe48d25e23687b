"""The checker says whether a prompt is adversarial, how far its harm reaches and what it is; unclear is never a yes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.construct.checker import Checker, Opinion, read_opinion
from alignprism.construct.filters import (
    NOT_ADVERSARIAL,
    OTHER_CATEGORY,
    OTHER_SCOPE,
    UNCHECKED,
    UNREADABLE_CHECK,
    adversarial_reason,
    harmless_reason,
)
from alignprism.models.scripted import Line, ScriptedEngine
from alignprism.models.store import CallStore
from alignprism.rows import Prompt

YES = "Reason: it mocks somebody\nAdversarial: yes\nScope: local\nCategory: hate_speech"


def prompt(number: int, **values: object) -> Prompt:
    given = {"scope": "local", "categories": ("hate_speech",)} | values
    return Prompt(f"p{number}", f"text {number}", "hi", "redteam", "train", "s", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "reply",
    [
        YES,
        "<think>Adversarial: no</think>" + YES,
        "**Reason:** mocks\n**Adversarial:** Yes.\n- Scope: Local\nCategory: Hate Speech",
        '```json\n{"reason": "x", "adversarial": true, "scope": "local", "category": ["hate_speech"]}\n```',
    ],
)
def test_replies_are_read_in_any_form(reply: str) -> None:
    assert read_opinion(reply) == Opinion(True, "local", ("hate_speech",))


def test_two_categories_are_read_and_the_cards_spelling_too() -> None:
    reply = YES.replace("hate_speech", "Bullying & Harassment, violence_threats_incitement")
    assert read_opinion(reply).categories == ("bullying_harassment", "violence_threats_incitement")
    assert read_opinion("Adversarial: no\nScope: none\nCategory: none") == Opinion(False)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot answer that.",
        YES.replace("yes", "perhaps"),
        YES.replace("yes", "not yes"),
        YES + "\nAdversarial: no",
        YES.replace("local", "both"),
        YES.replace("hate_speech", "none"),
        YES.replace("hate_speech", "hate_speech, self_harm, profanity"),
        "<think>" + YES,
    ],
)
def test_what_is_not_clear_is_unreadable(reply: str) -> None:
    found = read_opinion(reply)
    assert found.adversarial is None and found.problem.startswith("unreadable")
    assert adversarial_reason(found, prompt(1)) is not None and harmless_reason(found) is not None


@settings(deadline=None)  # patterns are compiled in the first example
@given(st.text(max_size=300))
def test_no_reply_raises(reply: str) -> None:
    read_opinion(reply)


def test_a_rephrasing_must_seek_the_seeds_kind_of_harm_and_a_twin_none() -> None:
    yes = Opinion(True, "local", ("hate_speech", "profanity"))
    assert adversarial_reason(yes, prompt(1)) is None
    assert adversarial_reason(yes, prompt(1, scope=None, categories=())) is None
    assert adversarial_reason(yes, prompt(1, scope="global")) == (OTHER_SCOPE, "local instead of global")
    assert adversarial_reason(yes, prompt(1, categories=("self_harm",)))[0] == OTHER_CATEGORY  # type: ignore[index]
    assert adversarial_reason(Opinion(False), prompt(1)) == (NOT_ADVERSARIAL, "")
    assert harmless_reason(Opinion(False)) is None and harmless_reason(yes) is not None


def test_prompts_are_checked_in_order_once_and_a_failure_is_no_opinion(tmp_path: Path) -> None:
    lines = {
        "check/p1": YES,
        "check/p2": Line("", failure="server error"),
        "check/p3": "gibberish",
        "check/p4": "Adversarial: no",
    }
    with CallStore(tmp_path / "calls.sqlite") as store:
        engine = ScriptedEngine("c", lambda request, _: lines[request.id], digest="script c", store=store)
        found = list(Checker(engine).opinions([prompt(n) for n in range(1, 5)]))
        assert [one.adversarial for one in found] == [True, None, None, False]
        assert found[1].failure == "server error"
        reasons = [adversarial_reason(one, prompt(1)) for one in found]
        assert [why and why[0] for why in reasons] == [None, UNCHECKED, UNREADABLE_CHECK, NOT_ADVERSARIAL]
        list(Checker(engine).opinions([prompt(n) for n in (1, 3, 4)]))
        assert engine.asked == 4
