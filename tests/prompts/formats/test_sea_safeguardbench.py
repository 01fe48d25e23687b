"""SEA-SafeguardBench; rows made after the schema that its published loaders read."""

from __future__ import annotations

from typing import Any


def test_a_cultural_row_is_two_prompts_of_one_seed_with_labelled_responses(made: Any) -> None:
    row = {
        "en_prompt": "A question.", "local_prompt": "Isang tanong.", "prompt_label": "Harmful",
        "en_response": "An answer.", "local_response": "Isang sagot.", "response_label": "Safe",
    }  # fmt: skip
    outcome = made("sea-safeguardbench", {"cultural_content_generation_TL_EN.jsonl": [row, row | {"local_prompt": ""}]})
    prompts = outcome.tables["prompts"]
    assert [(p.language, p.scope, p.set) for p in prompts] == [("en", "local", "redteam"), ("tl", "local", "redteam")]
    assert len({p.seed_id for p in prompts}) == 1
    assert [(label.harm, label.annotator) for label in outcome.tables["labels"]] == [
        ("harmless", "native speakers")
    ] * 2
    assert {r.given for r in outcome.tables["ratings"]} == {"Harmful", "Safe"}
    assert [a["column"] for a in outcome.aside] == [
        "id",
        "local_prompt",
    ]  # the second English prompt is the first again


def test_general_rows_take_their_language_from_the_split(made: Any) -> None:
    rows = [
        {"prompt": "Soalan.", "prompt_label": "Safe", "response": None, "response_label": None},
        {"prompt": "Soalan dua.", "prompt_label": "Sensitive", "response": "Jawapan.", "response_label": "Sensitive"},
    ]
    outcome = made("sea-safeguardbench", {"general_IN.jsonl": rows})
    assert [(p.language, p.set) for p in outcome.tables["prompts"]] == [("id", "benign"), ("id", "redteam")]
    assert outcome.tables["labels"] == []  # "sensitive" is neither harmful nor harmless
    assert [r.value for r in outcome.tables["ratings"]] == [0.0, 0.5, 0.5]
