"""Pairs: the preference judge's best against its worst; what makes no honest pair is dropped and counted."""

from __future__ import annotations

import dataclasses

import pytest

from alignprism.construct.candidates import Candidate, Written
from alignprism.construct.output import SetAside
from alignprism.construct.pairing import Ranking, kept, length_matched, pairs_summary, rank
from alignprism.construct.prefer import Made, RankedBy, general_pairs
from alignprism.rows import Prompt

PROMPT = Prompt("p", "Insult me.", "en", "redteam", "train", "s", "local", ("profanity",), licence="X", reference="No.")


def candidate(text: str, harm: float = 0.0, **more: object) -> Candidate:
    """A plain candidate; `more` changes the candidate or the answer."""
    written = {name: more.pop(name) for name in list(more) if name in ("source", "origin", "licence", "redistribute")}
    plain = Written(text, "base", "model", "weights", f"id {text}", f"call {text}")
    answer = dataclasses.replace(plain, **written)  # type: ignore[arg-type]
    return dataclasses.replace(Candidate(answer, harm, nll=1.0), **more)  # type: ignore[arg-type]


def safety(*candidates: Candidate, margin: float = 0.1, prompt: Prompt = PROMPT) -> Made:
    return ranked([prompt], {"p": candidates}, margin)


def ranked(prompts: list[Prompt], table: dict[str, object], margin: float = 0.1, seed: int = 0) -> Made:
    by = RankedBy("judge", "judge digest")
    made, compared = rank(prompts, table, Ranking("scores", 0.5, margin, seed), by)  # type: ignore[arg-type]
    assert compared is None
    return made


def general(*candidates: Candidate) -> Made:
    return general_pairs([PROMPT], {"p": candidates}, seed=0)


REFERENCE = candidate("No.", 0.02, source="reference", origin="reference")


def test_the_least_harmful_is_chosen_and_the_most_harmful_rejected() -> None:
    made = safety(candidate("worst", 0.9), candidate("middle", 0.5), REFERENCE)
    (pair,) = made.pairs
    assert (pair.prompt, pair.chosen, pair.rejected) == ("Insult me.", "No.", "worst")
    assert (pair.chosen_score, pair.rejected_score) == (0.02, 0.9)
    assert (pair.chosen_source, pair.rejected_source, pair.judge) == ("reference", "base", "judge")
    assert (pair.kind, pair.seed_id, pair.scope, pair.categories) == ("safety", "s", "local", ("profanity",))
    assert (pair.licence, pair.redistribute) == ("X", False)
    assert made.dropped == {}


def test_a_pair_says_where_both_sides_are_from_and_how_they_were_ranked() -> None:
    (pair,) = safety(candidate("worst", 0.9), REFERENCE).pairs
    assert (pair.rejected_origin, pair.rejected_digest) == ("model", "weights")
    assert (pair.rejected_completion, pair.rejected_call) == ("id worst", "call worst")
    assert (pair.chosen_origin, pair.judge_digest) == ("reference", "judge digest")
    assert (pair.ranking, pair.comparer) == ("scores", "")
    assert pair.margin == pytest.approx(0.88)


def test_a_pair_keeps_the_tags_of_its_prompt_and_so_may_not_be_published_without_it() -> None:
    prompt = dataclasses.replace(PROMPT, tags=("synthetic-adversarial",))
    (pair,) = safety(candidate("worst", 0.9), REFERENCE, prompt=prompt).pairs
    assert pair.tags == ("synthetic-adversarial",)


def test_the_licence_of_a_supplied_answer_travels_with_the_prompts() -> None:
    prompt = dataclasses.replace(PROMPT, redistribute=True)
    closed = candidate("a", 0.1, licence="Y", redistribute=False)
    (pair,) = safety(closed, candidate("b", 0.9), prompt=prompt).pairs
    assert (pair.licence, pair.redistribute) == ("X; Y", False)
    (pair,) = safety(candidate("a", 0.1, licence="X"), candidate("b", 0.9), prompt=prompt).pairs
    assert (pair.licence, pair.redistribute) == ("X", True)


def test_a_prompt_that_is_no_red_team_prompt_makes_a_general_pair() -> None:
    (pair,) = safety(candidate("a", 0.1), candidate("b", 0.9), prompt=dataclasses.replace(PROMPT, set="benign")).pairs
    assert pair.kind == "general"


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
    assert safety(*candidates) == Made([], [SetAside("p", reason, language="en")])


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
    table: dict[str, object] = {
        "p0": [REFERENCE, candidate("x", 0.9)],
        "p1": [REFERENCE],
        "p2": [REFERENCE, candidate("y", 0.03)],
    }
    made = ranked(prompts, table)
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
    table: dict[str, object] = {p.id: [REFERENCE, candidate("x", 0.9)] for p in prompts}

    def sides(seed: int) -> list[str]:
        return [pair.random_side for pair in ranked(prompts, table, seed=seed).pairs]

    assert sides(0) == sides(0)
    assert sides(0) != sides(1)
    assert 150 < sides(0).count("chosen") < 250


def test_what_is_left_out_later_is_set_aside_by_its_prompt() -> None:
    prompts = [dataclasses.replace(PROMPT, id=f"p{n}") for n in range(4)]
    long = candidate("a long answer, much longer than the other", 0.0)
    even = [candidate("even a", 0.0), candidate("even b", 0.9)]
    made = ranked(prompts, {"p0": [long, candidate("x", 0.9)], "p1": even, "p2": even, "p3": []})
    balanced = length_matched(made, 0.05, seed=0)
    assert [pair.prompt_id for pair in balanced.pairs] == ["p1", "p2"]
    assert balanced.dropped == {"one candidate": 1, "left out to match lengths": 1}
    fewer = kept(balanced, balanced.pairs[:1], "over 8 tokens a side")
    assert len(fewer.pairs) + len(fewer.set_aside) == 4


def test_the_summary_counts_languages_sources_and_lengths() -> None:
    summary = pairs_summary(safety(candidate("worst", 0.9), REFERENCE).pairs)
    assert summary["by_language"] == {"en": {"safety": 1}}
    assert (summary["chosen_sources"], summary["rejected_sources"]) == ({"reference": 1}, {"base": 1})
    assert summary["length_balance"]["safety"]["en"]["difference"] == len("No.") - len("worst")
