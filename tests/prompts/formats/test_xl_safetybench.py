"""XL-SafetyBench; rows made after the columns that the published loader requires."""

from __future__ import annotations

from typing import Any

import pytest


def attack(**change: Any) -> dict[str, Any]:
    return {
        "id": "JB-1", "category": "Hate & Discrimination", "subcategory_english": "Slur", "subcategory_local": "Insulto",
        "base_query_english": "A base query.", "base_query_local": "Una pregunta.", "attack_prompt": "Una pregunta larga.",
    } | change  # fmt: skip


def test_attacks_of_one_base_query_are_one_cluster_and_always_test(made: Any) -> None:
    outcome = made("xl-safetybench", {"jailbreak/spain/attack_prompts.csv": [attack(), attack(id="JB-2"), attack(id="JB-3", attack_prompt=" ")]})  # fmt: skip
    prompts = outcome.tables["prompts"]
    assert {(p.language, p.locale, p.split, p.scope) for p in prompts} == {("es", "es-ES", "test", "local")}
    assert len({p.seed_id for p in prompts}) == 1
    assert [a["column"] for a in outcome.aside] == ["attack_prompt"]


def test_a_cultural_scenario_keeps_the_hidden_violation_as_explanation(made: Any) -> None:
    row = {
        "id": "CC-1", "category": "Legal Landmines", "scenario_english": "A scenario.", "scenario_local": "シナリオ。",
        "hidden_violation": "A rule.",
    }  # fmt: skip
    (prompt,) = made("xl-safetybench", {"cultural/japan/scenarios.csv": [row]}).tables["prompts"]
    assert (prompt.text, prompt.semantic_translation, prompt.explanation) == ("シナリオ。", "A scenario.", "A rule.")
    with pytest.raises(ValueError, match="no country in the file's path"):
        made("xl-safetybench", {"cultural/atlantis/scenarios.csv": [row]})
