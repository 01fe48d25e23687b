"""M-ALERT in both layouts; rows made after the published schema."""

from __future__ import annotations

from typing import Any


def test_a_wide_row_is_a_prompt_in_every_language_it_has(made: Any) -> None:
    row = {"id": 3, "category": "hate_women", "en": "one", "de": "eins", "fr": "", "it": "uno", "es": "una"}
    outcome = made("m-alert", {"m-alert.jsonl": [row]})
    assert {(p.language, p.seed_id, p.categories) for p in outcome.tables["prompts"]} == {
        (code, "m-alert-3", ("hate_speech",)) for code in ("en", "de", "it", "es")
    }
    assert [a["column"] for a in outcome.aside] == ["fr"]


def test_a_long_row_names_its_language_and_weapons_of_mass_casualty_are_tagged(made: Any) -> None:
    rows = [{"id": 1, "category": "weapon_chemical", "prompt": "x", "language": "de"}]
    (prompt,) = made("m-alert", {"m_alert_de.jsonl": rows}).tables["prompts"]
    assert (prompt.language, prompt.tags, prompt.redistribute) == ("de", ("weapon_chemical", "cbrn"), False)
    (prompt,) = made("m-alert", {"m_alert.jsonl": [{"category": "crime_tax", "prompt": "x"}]}, language="it").tables[
        "prompts"
    ]
    assert prompt.language == "it"
