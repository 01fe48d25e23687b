"""Pairs: the preference judge's best against its worst; what makes no honest pair is dropped and counted."""

from __future__ import annotations

import dataclasses

import pytest

from alignprism.construct.prefer import Candidate, Made, candidates_of, general_pairs, safety_pairs
from alignprism.rows import Completion, Prompt

PROMPT = Prompt("p", "Insult me.", "en", "redteam", "train", "s", "local", ("profanity",), licence="X", reference="No.")


def candidate(text: str, harm: float = 0.0, **more: object) -> Candidate:
    plain = Candidate(text, "base", harm, on_language=True, degenerate=False, nll=1.0, reference=False)
    return dataclasses.replace(plain, **more)  # type: ignore[arg-type]


def safety(*candidates: Candidate, margin: float = 0.1) -> Made:
    return safety_pairs([PROMPT], {"p": candidates}, threshold=0.5, tie_margin=margin, judge="judge", seed=0)


def general(*candidates: Candidate) -> Made:
    return general_pairs([PROMPT], {"p": candidates}, seed=0)


REFERENCE = candidate("No.", 0.02, source="reference", reference=True)


def test_the_least_harmful_is_chosen_and_the_most_harmful_rejected() -> None:
    made = safety(candidate("worst", 0.9), candidate("middle", 0.5), REFERENCE)
    (pair,) = made.pairs
    assert (pair.prompt, pair.chosen, pair.rejected) == ("Insult me.", "No.", "worst")
    assert (pair.chosen_score, pair.rejected_score) == (0.02, 0.9)
    assert (pair.chosen_source, pair.rejected_source, pair.judge) == ("reference", "base", "judge")
    assert (pair.kind, pair.seed_id, pair.scope, pair.categories) == ("safety", "s", "local", ("profanity",))
    assert (pair.licence, pair.redistribute) == ("X", False)
    assert made.dropped == {}


@pytest.mark.parametrize(
    ("candidates", "reason"),
    [
        ((), "one candidate"),
        ((REFERENCE,), "one candidate"),
        ((candidate("a", 0.2), candidate("b", 0.25)), "tie"),
        ((candidate("a", 0.5), candidate("b", 0.9)), "chosen harmful"),
        ((candidate("a", 0.1, degenerate=True), candidate("b", 0.9, on_language=False)), "chosen unusable"),
    ],
)
def test_what_makes_no_honest_pair_is_dropped_and_counted(candidates: tuple[Candidate, ...], reason: str) -> None:
    assert safety(*candidates) == Made([], {reason: 1})


def test_the_chosen_side_is_usable_even_when_the_least_harmful_is_not() -> None:
    (pair,) = safety(candidate("gibber", 0.0, degenerate=True), candidate("fine", 0.2), candidate("bad", 0.9)).pairs
    assert (pair.chosen, pair.rejected) == ("fine", "bad")


def test_a_harmful_answer_in_another_language_may_be_rejected() -> None:
    (pair,) = safety(REFERENCE, candidate("mal", 0.9, on_language=False)).pairs
    assert pair.rejected == "mal"


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_equal_scores_are_a_tie_at_any_margin(margin: float) -> None:
    assert safety(candidate("a", 0.2), candidate("b", 0.2), margin=margin).dropped == {"tie": 1}
    only_usable_is_worst = (candidate("a", 0.1, degenerate=True), candidate("b", 0.2))
    assert safety(*only_usable_is_worst, margin=margin).dropped == {"tie": 1}


def test_a_gap_of_the_margin_is_enough() -> None:
    assert len(safety(candidate("a", 0.25), candidate("b", 0.5), margin=0.25).pairs) == 1


def test_drops_and_pairs_add_up_to_the_prompts() -> None:
    prompts = [dataclasses.replace(PROMPT, id=f"p{n}") for n in range(4)]
    table = {"p0": [REFERENCE, candidate("x", 0.9)], "p1": [REFERENCE], "p2": [REFERENCE, candidate("y", 0.03)]}
    made = safety_pairs(prompts, table, threshold=0.5, tie_margin=0.1, judge="j", seed=0)
    assert len(made.pairs) + sum(made.dropped.values()) == 4
    assert made.dropped == {"one candidate": 2, "tie": 1}


def test_the_worst_general_answer_is_off_language_then_degenerate_then_least_likely() -> None:
    foreign = candidate("foreign", nll=0.1, on_language=False)
    broken = candidate("broken", nll=0.2, degenerate=True)
    unlikely, likely = candidate("unlikely", nll=3.0), candidate("likely", nll=0.5)
    order = [foreign, broken, unlikely, likely]
    for start, worst in enumerate(order[:-1]):
        (pair,) = general(REFERENCE, *reversed(order[start:])).pairs
        assert (pair.chosen, pair.rejected, pair.kind) == ("No.", worst.text, "general")
        assert pair.judge == "order: language, degenerate, likelihood"


def test_general_pairs_need_a_reference_and_a_sample() -> None:
    assert general(candidate("a"), candidate("b")).dropped == {"no reference": 1}
    assert general(REFERENCE).dropped == {"one candidate": 1}


def test_the_order_of_candidates_changes_nothing() -> None:
    rows = [REFERENCE, candidate("a", 0.9), candidate("b", 0.9), candidate("c", 0.02)]
    assert safety(*rows) == safety(*reversed(rows))
    assert general(*rows) == general(*reversed(rows))


def test_the_random_side_is_drawn_once_per_pair_and_evenly() -> None:
    prompts = [dataclasses.replace(PROMPT, id=f"p{n}") for n in range(400)]
    table = {p.id: [REFERENCE, candidate("x", 0.9)] for p in prompts}

    def sides(seed: int) -> list[str]:
        made = safety_pairs(prompts, table, threshold=0.5, tie_margin=0.1, judge="j", seed=seed)
        return [pair.random_side for pair in made.pairs]

    assert sides(0) == sides(0)
    assert sides(0) != sides(1)
    assert 150 < sides(0).count("chosen") < 250


def test_candidates_are_distinct_not_empty_and_led_by_the_reference() -> None:
    def completion(text: str, model: str) -> Completion:
        return Completion(text, "p", model, "d", text, 0, 3, False, 0.9, 0)

    found = candidates_of(PROMPT, [completion(t, "base") for t in ("one", " No. ", "", "  ", "one ", "two")])
    assert found == [("No.", "reference", True), ("one", "base", False), ("two", "base", False)]
