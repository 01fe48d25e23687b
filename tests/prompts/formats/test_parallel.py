"""Parallel text: lines of two files belong together, and files that do not match are said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / name).write_text(content, encoding="utf-8")
    return tmp_path / "p"


def test_lines_pair_up_and_a_longer_side_is_set_aside(tmp_path: Path, importing: Any) -> None:
    folder = write(tmp_path, {"tatoeba.hin-eng.hin": "क\nख\n\nग\n", "tatoeba.hin-eng.eng": "a\nb\nc\n"})
    outcome = importing(folder, "parallel")
    assert [(p.text, p.semantic_translation) for p in outcome.tables["prompts"]] == [("क", "a"), ("ख", "b")]
    assert [(a["row"], a["column"]) for a in outcome.aside] == [(3, "text"), (4, "text")]
    assert "not parallel" in outcome.aside[1]["reason"]


def test_flores_files_share_seeds_across_languages(tmp_path: Path, importing: Any) -> None:
    files = {"eng_Latn.devtest": "a\nb\n", "hin_Deva.devtest": "क\nख\n", "srp_Cyrl.devtest": "а\nб\n"}
    prompts = importing(write(tmp_path, files), "parallel").tables["prompts"]
    assert {(p.language, p.seed_id) for p in prompts} == {
        (code, f"flores.devtest-{n}") for code in ("hi", "sr") for n in (1, 2)
    }
    assert {p.licence for p in prompts} == {"CC-BY-SA-4.0"}


def test_the_published_pairs_are_read_whole_and_come_back_equal(
    shared_data: Path, importing: Any, round_trip: Any
) -> None:
    outcome = importing(shared_data / "tatoeba", "parallel")
    assert outcome.imported.total.kept == 7000
    again = round_trip(outcome, "parallel")
    assert sorted(again["prompts"], key=lambda p: p.id) == sorted(outcome.tables["prompts"], key=lambda p: p.id)
