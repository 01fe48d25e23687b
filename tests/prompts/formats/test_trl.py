"""TRL's preference format in each of its forms, and our own pairs through it and back."""

from __future__ import annotations

from typing import Any

import pytest

USER, ASSISTANT = "user", "assistant"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "good", "rejected": "bad"},
        {"prompt": [{"role": USER, "content": "Q"}], "chosen": [{"role": ASSISTANT, "content": "good"}], "rejected": [{"role": ASSISTANT, "content": "bad"}]},
        {"chosen": [{"role": USER, "content": "Q"}, {"role": ASSISTANT, "content": "good"}], "rejected": [{"role": USER, "content": "Q"}, {"role": ASSISTANT, "content": "bad"}]},
    ],
)  # fmt: skip
def test_strings_messages_and_implicit_prompts_say_the_same(made: Any, row: dict[str, Any]) -> None:
    (pair,) = made("trl", {"pairs.jsonl": [row]}, language="fr", licence="CC0-1.0", redistribute=True).tables["pairs"]
    assert (pair.prompt, pair.chosen, pair.rejected, pair.language) == ("Q", "good", "bad", "fr")
    assert (pair.licence, pair.redistribute) == ("CC0-1.0", True)


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"rejected": "good"}, "rejected"),
        ({"chosen": []}, "chosen"),
        ({"chosen": [{"role": USER, "content": "x"}]}, "chosen"),
        ({"prompt": [{"role": "system", "content": "s"}, {"role": USER, "content": "x"}]}, "prompt"),
        ({"language": "xx"}, "language"),
        ({"split": "somewhere"}, "split"),
        ({"margin": "wide"}, "margin"),
    ],
)
def test_what_cannot_be_one_pair_is_set_aside(made: Any, change: dict[str, Any], column: str) -> None:
    row = {"prompt": "Q", "chosen": "good", "rejected": "bad", "language": "en"}
    outcome = made("trl", {"pairs.jsonl": [row, row | {"prompt": "R"} | change]})
    assert [(a["row"], a["column"]) for a in outcome.aside] == [(2, column)]


def test_pairs_with_all_their_columns_come_back_equal(made: Any, round_trip: Any) -> None:
    rows = [
        {
            "prompt": f"Q{n}", "chosen": "good", "rejected": "bad", "language": "hi", "kind": "safety", "scope": "local",
            "categories": ["profanity"], "chosen_score": 0.1, "rejected_score": 0.9, "judge": "people", "seed_id": "s",
            "licence": "CC0-1.0", "redistribute": True, "judge_digest": "d", "comparer": "x", "comparer_digest": "y",
            "ranking": "both", "margin": 0.8, "chosen_source": "m", "chosen_origin": "model", "chosen_digest": "w",
            "chosen_completion": "c1", "chosen_call": "k1", "rejected_origin": "human", "rejected_completion": "c2",
            "split": "test", "tags": ["synthetic-adversarial", "mild"],
        }
        for n in range(5)
    ]  # fmt: skip
    outcome = made("trl", {"pairs.jsonl": rows})
    assert {(pair.split, pair.tags) for pair in outcome.tables["pairs"]} == {
        ("test", ("synthetic-adversarial", "mild"))
    }
    assert round_trip(outcome, "trl")["pairs"] == outcome.tables["pairs"]
