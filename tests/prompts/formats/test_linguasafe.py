"""LinguaSafe; rows made after the schema that the authors' evaluation reads."""

from __future__ import annotations

from typing import Any

import pytest


def row(**change: Any) -> dict[str, Any]:
    return {
        "id": 5,
        "lang": "sr",
        "prompt": "Пример.",
        "type": "FJ",
        "subtype": "Gender",
        "level": 2,
        "specific": False,
    } | change


def test_level_and_specific_become_set_and_scope(made: Any) -> None:
    rows = [row(), row(lang="en", prompt="An example."), row(id=6, level=0), row(id=7, specific=True)]
    prompts = made("linguasafe", {"linguasafe.jsonl": rows}).tables["prompts"]
    assert [(p.language, p.set, p.scope, p.seed_id) for p in prompts] == [
        ("sr", "redteam", "global", "linguasafe-5"),
        ("en", "redteam", "global", "linguasafe-5"),
        ("sr", "benign", "global", "linguasafe-6"),
        ("sr", "redteam", "local", "linguasafe-sr-7"),
    ]
    assert prompts[0].categories == ("discrimination_injustice",)
    assert "stand-in" in prompts[0].source


@pytest.mark.parametrize(
    ("change", "column"), [({"level": 4}, "level"), ({"level": "high"}, "level"), ({"specific": "maybe"}, "specific"), ({"lang": "qq"}, "lang")]
)  # fmt: skip
def test_damage_is_set_aside_by_column(made: Any, change: dict[str, Any], column: str) -> None:
    outcome = made("linguasafe", {"linguasafe.jsonl": [row(), row(id=9) | change]})
    assert [(a["row"], a["column"]) for a in outcome.aside] == [(2, column)]
