"""MultiQ: parallel questions by id."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_a_question_keeps_its_id_across_languages_and_its_locale(made: Any) -> None:
    rows = [
        {"id": "gpt-1", "language": code, "prompt": f"Q {code}", "domain": "music"} for code in ("en", "zh-TW", "fil")
    ]
    prompts = made("multiq", {"MultiQ.csv": rows}).tables["prompts"]
    assert [(p.language, p.locale, p.seed_id) for p in prompts] == [
        ("en", None, "multiq-gpt-1"), ("zh", "zh-TW", "multiq-gpt-1"), ("tl", None, "multiq-gpt-1")
    ]  # fmt: skip


def test_the_published_file_is_read_whole_and_comes_back_equal(
    shared_data: Path, importing: Any, round_trip: Any
) -> None:
    outcome = importing(shared_data / "multiq", "multiq")
    assert outcome.imported.total.kept == 3200
    assert sorted(round_trip(outcome, "multiq")["prompts"], key=lambda p: p.id) == sorted(
        outcome.tables["prompts"], key=lambda p: p.id
    )
