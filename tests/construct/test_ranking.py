"""Ranking: by scores, by comparisons in both orders, by both; a harmful or broken chosen side in none of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignprism.construct.candidates import Candidate, Written
from alignprism.construct.pairing import PairsStopped, Ranking, rank
from alignprism.construct.prefer import RankedBy
from alignprism.construct.ranking import (
    ALL_PAIRS_UP_TO,
    Choice,
    Meetings,
    NoChoice,
    by_comparisons,
    by_scores,
    n_meetings,
    net_wins,
    schedule,
)
from alignprism.judging.pairwise import Combined, PairwiseJudge, Preferred
from alignprism.judging.settings import PairwiseSettings
from alignprism.models.protocol import Request
from alignprism.models.scripted import Line, ScriptedEngine
from alignprism.models.settings import ModelSettings
from alignprism.models.store import CallStore
from alignprism.rows import Prompt


def candidate(text: str, harm: float = 0.0, **more: bool) -> Candidate:
    return Candidate(Written(text, "base", "model"), harm, **more)


def said(preferred: Preferred, flipped: bool = False) -> Combined:
    return Combined(preferred, flipped, asked=True)


A, B, C = candidate("a", 0.1), candidate("b", 0.2), candidate("c", 0.9)
BEST_FIRST: Meetings = {(0, 1): said("a"), (0, 2): said("a"), (1, 2): said("a")}


def choose(
    candidates: list[Candidate], met: Meetings, filtered: bool = False, threshold: float = 0.5
) -> Choice | NoChoice:
    return by_comparisons(candidates, met, threshold, filtered=filtered)


def test_scores_give_the_difference_in_harm_as_margin() -> None:
    found = by_scores([C, A, B], 0.5, 0.1)
    assert isinstance(found, Choice)
    assert (found.chosen, found.rejected) == (A, C)
    assert found.margin == pytest.approx(0.8)


def test_comparisons_choose_the_two_furthest_apart_in_net_wins() -> None:
    found = choose([A, B, C], BEST_FIRST)
    assert found == Choice(A, C, 2.0)


def test_the_winner_must_be_preferred_in_both_orders_over_the_loser_itself() -> None:
    # a beats b, b beats c; a against c changed with the order: the best and the worst make no pair.
    found = choose([A, B, C], {(0, 1): said("a"), (0, 2): said("tie", True), (1, 2): said("a")})
    assert isinstance(found, Choice)
    assert {found.chosen.text, found.rejected.text} != {"a", "c"}


@pytest.mark.parametrize(
    ("candidates", "met", "reason"),
    [
        ([], {}, "one candidate"),
        ([A], {}, "one candidate"),
        ([A, B], {(0, 1): said("tie", True)}, "tie"),
        ([A, B], {(0, 1): said("undecidable")}, "undecidable"),
        ([A, B, C], {(0, 1): said("undecidable"), (0, 2): said("tie"), (1, 2): said("tie")}, "tie"),
        ([A, C], {(0, 1): said("b")}, "chosen harmful"),
        ([A, replace(B, on_language=False)], {(0, 1): said("b")}, "chosen unusable"),
        ([A, replace(B, degenerate=True)], {(0, 1): said("b")}, "chosen unusable"),
    ],
)
@pytest.mark.parametrize("filtered", [False, True])
def test_what_makes_no_honest_pair_has_its_reason(
    candidates: list[Candidate], met: Meetings, reason: str, filtered: bool
) -> None:
    assert choose(candidates, met, filtered) == NoChoice(reason)


def test_with_both_a_harmful_winner_gives_way_to_the_next_and_alone_it_ends_the_prompt() -> None:
    met: Meetings = {(0, 1): said("a"), (0, 2): said("b"), (1, 2): said("b")}  # c, which is harmful, wins twice
    assert choose([A, B, C], met) == NoChoice("chosen harmful")
    assert choose([A, B, C], met, filtered=True) == Choice(A, B, 1.0)


def test_with_both_a_winner_may_not_be_more_harmful_than_its_loser() -> None:
    assert choose([A, B], {(0, 1): said("b")}, filtered=True) == NoChoice("judges disagree")
    assert choose([A, B], {(0, 1): said("b")}) == Choice(B, A, 2.0)


def test_a_reply_that_cannot_be_read_counts_for_nobody() -> None:
    met: Meetings = {(0, 1): said("undecidable"), (0, 2): said("a"), (1, 2): said("tie")}
    assert net_wins(3, met) == [0.5, 0.0, -0.5]
    assert choose([A, B, C], met) == Choice(A, C, 1.0)


@given(st.data())
def test_the_order_of_candidates_changes_nothing(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 4))
    harms = data.draw(st.lists(st.sampled_from([0.0, 0.2, 0.7]), min_size=size, max_size=size))
    own = [candidate(str(n), harm) for n, harm in enumerate(harms)]
    outcomes: dict[tuple[int, int], Preferred] = {
        (a, b): data.draw(st.sampled_from(["a", "b", "tie", "undecidable"]))
        for a in range(size)
        for b in range(a + 1, size)
    }
    turned: dict[Preferred, Preferred] = {"a": "b", "b": "a", "tie": "tie", "undecidable": "undecidable"}
    filtered = data.draw(st.booleans())
    results = set()
    for order in permutations(range(size)):
        place = {old: new for new, old in enumerate(order)}
        met = {
            (min(place[a], place[b]), max(place[a], place[b])): said(result if place[a] < place[b] else turned[result])
            for (a, b), result in outcomes.items()
        }
        results.add(repr(choose([own[old] for old in order], met, filtered)))
    assert len(results) == 1


@given(st.integers(0, 40), st.integers(0, 5))
def test_few_candidates_all_meet_and_many_meet_four_each_in_one_connected_round(count: int, seed: int) -> None:
    names = [str(n) for n in range(count)]
    met = schedule(names, seed)
    assert all(a < b for a, b in met) and len(set(met)) == len(met) == n_meetings(count)
    if count <= ALL_PAIRS_UP_TO:
        assert len(met) == count * (count - 1) // 2
        return
    games = [sum(place in pair for pair in met) for place in range(count)]
    assert all(n == 4 for n in games) or count == ALL_PAIRS_UP_TO
    reached = {0}
    for _ in range(count):
        reached |= {n for pair in met if reached & set(pair) for n in pair}
    assert len(reached) == count


# --- with a judge -----------------------------------------------------------------------------------------------------

PROMPT = Prompt("p", "Say something kind.", "en", "redteam", "train", "s", "local")
SETTINGS = PairwiseSettings(model=ModelSettings(source="script:none"))


def likes_long(request: Request, sample: int) -> str:
    """Prefers the longer answer, and the first of two that are nearly as long."""
    assert isinstance(request.prompt, str)
    first, second = (request.prompt.count(letter * 3) for letter in ("x", "y"))
    place = request.prompt.find("xxx") < request.prompt.find("yyy")
    if abs(first - second) <= 1:
        return "Comparison: much alike.\nPreferred: Answer (A)"
    return f"Comparison: one is longer.\nPreferred: Answer ({'A' if (first > second) == place else 'B'})"


def scripted_judge(store: CallStore | None = None, script: object = likes_long) -> PairwiseJudge:
    return PairwiseJudge(ScriptedEngine("likes long", script, digest="d", store=store), SETTINGS)  # type: ignore[arg-type]


RANKING = Ranking("comparisons", 0.5, 0.1, 0)
BY = RankedBy("heads", "h", "scores")


def test_comparisons_become_pairs_with_both_judges_named_and_flips_counted(tmp_path: Path) -> None:
    other = replace(PROMPT, id="q")
    texts = {"p": ("xxx" * 9, "yyy" * 2), "q": ("xxx" * 4, "yyy" * 4)}
    candidates = {name: [candidate(text, 0.1) for text in own] for name, own in texts.items()}
    with CallStore(tmp_path / "calls.sqlite") as store:
        judge = scripted_judge(store)
        made, compared = rank([PROMPT, other], candidates, RANKING, BY, judge)
        again, _ = rank([PROMPT, other], candidates, RANKING, BY, judge)
        assert judge.engine.asked == len(store) == 4  # type: ignore[attr-defined]
    (pair,) = made.pairs
    assert (pair.chosen, pair.rejected, pair.margin) == (texts["p"][0], texts["p"][1], 2.0)
    assert (pair.judge, pair.judge_digest, pair.ranking) == ("heads", "h", "comparisons")
    assert (pair.comparer, pair.comparer_digest) == ("likes long", judge.digest)
    assert made.dropped == {"tie": 1}
    assert compared is not None and len(compared.rows) == 4
    assert compared.counts() == {
        "comparisons": 2, "won": 1, "ties": 1, "undecidable": 0, "flips": 1, "flip_rate": 0.5,
    }  # fmt: skip
    assert again == made


def test_comparisons_that_nobody_paid_for_stop_the_ranking() -> None:
    def broke(request: Request, sample: int) -> Line:
        return Line("", failure="over budget")

    candidates = {"p": [candidate("xxx"), candidate("yyy")]}
    with pytest.raises(PairsStopped, match="2 comparisons were not made") as caught:
        rank([PROMPT], candidates, RANKING, BY, scripted_judge(None, broke))
    assert "xxx" not in str(caught.value)


def test_a_failed_call_is_undecidable_and_never_a_preference() -> None:
    def down(request: Request, sample: int) -> Line:
        return Line("", failure="server error")

    made, _ = rank([PROMPT], {"p": [candidate("xxx"), candidate("yyy")]}, RANKING, BY, scripted_judge(None, down))
    assert (made.pairs, made.dropped) == ([], {"undecidable": 1})


def test_a_rule_that_compares_needs_a_judge_that_does() -> None:
    with pytest.raises(ValueError, match="needs a pairwise judge"):
        rank([PROMPT], {}, RANKING, BY)
