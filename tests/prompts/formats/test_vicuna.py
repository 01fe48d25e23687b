"""Vicuna-80: the language is the file's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_the_language_is_in_the_name_or_given(made: Any) -> None:
    row = {"question_id": 1, "text": "Hola", "category": "generic"}
    assert made("vicuna", {"questions_Spanish.jsonl": [row]}).tables["prompts"][0].language == "es"
    assert made("vicuna", {"other.jsonl": [row]}, language="pt").tables["prompts"][0].language == "pt"
    with pytest.raises(ValueError, match="questions_LANGUAGE"):
        made("vicuna", {"other.jsonl": [row]})


def test_the_published_files_are_read_whole(shared_data: Path, importing: Any) -> None:
    outcome = importing(shared_data / "vicuna_multilingual", "vicuna")
    assert outcome.imported.total.kept == 480
    assert len({p.seed_id for p in outcome.tables["prompts"]}) == 80
