"""The Aya evaluation suite; rows made after the published schema."""

from __future__ import annotations

from typing import Any


def test_the_rows_of_one_source_are_one_prompt_in_many_languages(made: Any) -> None:
    rows = [
        {
            "id": n,
            "inputs": f"Question {label}",
            "targets": "Answer",
            "language": label,
            "script": script,
            "source_id": 7,
        }
        for n, (label, script) in enumerate([("arb", "Arab"), ("srp", "Cyrl"), ("tgl", "Latn")])
    ]
    outcome = made("aya-evaluation-suite", {"dolly_machine_translated.jsonl": [*rows, rows[0] | {"inputs": ""}]})
    assert [(p.language, p.seed_id, p.set, p.reference) for p in outcome.tables["prompts"]] == [
        (code, "dolly-7", "general", "Answer") for code in ("ar", "sr", "tl")
    ]
    assert [a["column"] for a in outcome.aside] == ["inputs"]
