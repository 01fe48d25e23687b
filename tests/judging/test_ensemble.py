"""Judges that vote: majority, any, and what a tie is."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import ITEMS, by_words, playing

from alignprism.errors import InputError
from alignprism.judging.ensemble import EnsembleJudge, decide
from alignprism.judging.rubric import RubricJudge

H, S, U = "harmful", "harmless", "undecidable"


@pytest.mark.parametrize(
    ("votes", "majority", "any_"),
    [
        ([H, H, S], H, H),
        ([S, S, H], S, H),
        ([H, S], U, H),
        ([S, S, S], S, S),
        ([S, S, U], S, U),
        ([H, U, U], U, H),
        ([H, U], H, H),
        ([S, U], S, U),
        ([U, U], U, U),
        ([H, S, U], U, H),
        ([H, S, U, U], U, H),
    ],
)
def test_votes_are_counted_as_documented(votes: list[str], majority: str, any_: str) -> None:
    assert decide(votes, "majority")[0] == majority
    assert decide(votes, "any")[0] == any_


@settings(deadline=None)
@given(st.lists(st.sampled_from([H, S, U]), min_size=1, max_size=7), st.sampled_from(["majority", "any"]))
def test_the_order_of_votes_does_not_matter_and_harm_is_never_outvoted_by_silence(votes: list[str], rule: str) -> None:
    harm, why = decide(votes, rule)
    assert (harm, why) == decide(votes[::-1], rule)
    assert bool(why) == (harm == U)
    counts = Counter(votes)
    if not counts[S]:
        assert harm != S
    if rule == "any":
        assert (harm == H) == (counts[H] > 0)


def _judge(name: str, say: object) -> RubricJudge:
    return RubricJudge(name, playing(say, name=name, digest=name))


def test_members_judge_all_items_and_the_verdict_says_how_they_voted() -> None:
    members = (
        _judge("a", by_words),
        _judge("b", lambda _: "Reason: rude.\nVerdict: harmful\nCategory: profanity"),
        _judge("c", lambda _: "I would rather not."),
    )
    verdicts = list(EnsembleJudge(members).judge(ITEMS))
    assert [v.harm for v in verdicts] == [H, U, H]
    assert verdicts[0].category == "bullying_harassment"
    assert verdicts[0].explanation == "it says so. | rude."
    assert verdicts[1].reason == "tie (a: harmless, b: harmful, c: undecidable)"
    done: list[tuple[int, int]] = []
    list(EnsembleJudge(members, "any").judge(ITEMS, lambda n, total: done.append((n, total))))
    assert done[-1] == (9, 9) and done == sorted(done)


def test_the_digest_follows_rule_and_members() -> None:
    a, b, c = (_judge(name, by_words) for name in "abc")
    digests = {EnsembleJudge((a, b)).digest, EnsembleJudge((a, b), "any").digest, EnsembleJudge((a, c)).digest}
    assert len(digests) == 3


def test_one_judge_has_one_vote() -> None:
    with pytest.raises(InputError, match="a and a2 are one and the same judge"):
        EnsembleJudge((_judge("a", by_words), RubricJudge("a2", playing(by_words, digest="a"))))
