"""Our own rows: whatever the values, they come back equal."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.prompts.exports import export_tables
from alignprism.prompts.formats import find_format
from alignprism.prompts.formats.format import Options
from alignprism.prompts.imports import import_files
from alignprism.prompts.sources import list_files
from alignprism.prompts.tables import read_folder
from alignprism.rows import Prompt, Rating

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\u202d\u202e"), min_size=1, max_size=30
).filter(str.strip)
PROMPTS = st.builds(
    Prompt, id=TEXTS, text=TEXTS, language=st.sampled_from(["hi", "ar", "en"]), set=st.just("redteam"),
    split=st.sampled_from(["train", "dev", "test"]), seed_id=TEXTS, scope=st.sampled_from(["global", "local", None]),
    categories=st.lists(TEXTS, max_size=2).map(tuple), reference=st.none() | TEXTS, redistribute=st.booleans(),
)  # fmt: skip
RATINGS = st.builds(
    Rating, TEXTS, st.just("prompt"), TEXTS, TEXTS, st.none() | st.floats(allow_nan=False, allow_infinity=False)
)
EMPTY: dict[str, list[Any]] = {name: [] for name in ("prompts", "completions", "pairs", "labels", "ratings")}


@settings(deadline=None, max_examples=30)
@given(st.lists(PROMPTS, min_size=1, max_size=6, unique_by=lambda p: p.id), st.lists(RATINGS, max_size=3))
def test_rows_come_back_equal(prompts: list[Prompt], ratings: list[Rating]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        form, out = find_format("alignprism"), Path(scratch) / "out"
        export_tables(EMPTY | {"prompts": prompts, "ratings": ratings}, form, out)
        import_files(list_files(out), form, Path(scratch) / "again", Options())
        again = read_folder(Path(scratch) / "again")
    assert again["prompts"] == prompts
    assert again["ratings"] == ratings


@pytest.mark.parametrize(
    ("change", "column"),
    [({"text": 3}, "text"), ({"split": "validation"}, "split"), ({"categories": "profanity"}, "categories"), ({"redistribute": "yes"}, "redistribute"), ({"text": "nul \0"}, "text")],
)  # fmt: skip
def test_a_value_of_another_type_is_set_aside_by_column(made: Any, change: dict[str, Any], column: str) -> None:
    good = dataclasses.asdict(Prompt("a", "text", "en", "redteam", "dev", "s"))
    outcome = made("alignprism", {"prompts.jsonl": [good, good | {"id": "b"} | change]})
    assert [(a["row"], a["column"]) for a in outcome.aside] == [(2, column)]
