"""MultiJail: one row is ten prompts of one seed; a bad cell costs one language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignprism.prompts.formats.multijail import LANGUAGES


def row(**change: Any) -> dict[str, Any]:
    return (
        {"id": "0", "source": "anthropics", "tags": "['Self-harm', 'Theft']"}
        | {c: f"text {c}" for c in LANGUAGES}
        | change
    )


def test_a_row_is_a_prompt_in_every_language_with_one_seed(made: Any) -> None:
    prompts = made("multijail", {"MultiJail.csv": [row()]}).tables["prompts"]
    assert [p.language for p in prompts] == list(LANGUAGES)
    assert {(p.seed_id, p.categories, p.tags, p.set) for p in prompts} == {
        ("multijail-0", ("self_harm",), ("Self-harm", "Theft"), "translated")
    }
    assert {p.semantic_translation for p in prompts if p.language != "en"} == {"text en"}


def test_an_empty_cell_costs_one_language(made: Any) -> None:
    outcome = made("multijail", {"MultiJail.csv": [row(sw=" "), row(id="1", en="")]})
    assert (outcome.imported.total.read, outcome.imported.total.kept) == (20, 18)
    assert [(a["row"], a["column"]) for a in outcome.aside] == [(1, "sw"), (2, "en")]


def test_the_published_file_is_read_whole_and_comes_back_equal(
    shared_data: Path, importing: Any, round_trip: Any
) -> None:
    outcome = importing(shared_data / "multijail" / "MultiJail.csv", "multijail")
    assert outcome.imported.total.kept == 3150
    assert outcome.aside == []
    again = round_trip(outcome, "multijail")
    assert sorted(again["prompts"], key=lambda p: p.id) == sorted(outcome.tables["prompts"], key=lambda p: p.id)
