"""XSafety: no header, languages and areas from folder and file names, and the quirks that its files have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = tmp_path / "xsafety" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "xsafety"


def test_row_numbers_stay_aligned_across_languages_when_one_is_empty(tmp_path: Path, importing: Any) -> None:
    outcome = importing(
        folder(
            tmp_path,
            {
                "en/Insult_n.csv": "\ufeffone, with comma\r\n".encode() + b"two\r\nthree\r\n",
                "ru/Insult.csv": b"odin\r\n\"\"\r\ntri\r\n",
                "sp/Unfairness_And_Discrimination.csv": b"uno,,,\r\n",
            },
        ),
        "xsafety",
    )  # fmt: skip
    seeds = {(p.language, p.seed_id): p.text for p in outcome.tables["prompts"]}
    assert seeds[("en", "xsafety-insult-001")] == "one"
    assert seeds[("en", "xsafety-insult-003")] == "three"
    assert seeds[("ru", "xsafety-insult-003")] == "tri"
    assert seeds[("es", "xsafety-unfairness_and_discrimination-001")] == "uno"
    assert [(a["row"], a["column"]) for a in outcome.aside] == [(2, "0")]


def test_commonsense_is_no_harmless_chat_and_its_variant_a_set_of_its_own(tmp_path: Path, importing: Any) -> None:
    files = {
        "hi/commonsense.csv": b"question\r\n",
        "hi/commen_sense.csv": b"question.\r\n",
        "ru/Crimes_And_Illegal_Activitie.csv": b"x\r\n",
    }
    prompts = importing(folder(tmp_path, files), "xsafety").tables["prompts"]
    found = {(p.set, p.tags, p.seed_id) for p in prompts}
    assert found == {
        ("translated", ("commonsense",), "xsafety-commonsense-001"),
        ("variant", ("commonsense",), "xsafety-commonsense-001"),
        ("translated", ("Crimes_And_Illegal_Activities",), "xsafety-crimes_and_illegal_activities-001"),
    }  # fmt: skip


def test_a_file_of_no_area_is_named(tmp_path: Path, importing: Any) -> None:
    with pytest.raises(ValueError, match="is no area of XSafety"):
        importing(folder(tmp_path, {"en/Weather.csv": b"x\r\n"}), "xsafety")


def test_the_published_archive_is_read_whole(shared_data: Path, importing: Any) -> None:
    outcome = importing(shared_data / "xsafety" / "xsafety.tar.gz", "xsafety")
    total = outcome.imported.total
    assert (total.read, total.kept, total.set_aside) == (17000, 16999, 1)
    assert (outcome.aside[0]["file"].endswith("ru/Insult.csv"), outcome.aside[0]["row"]) == (True, 165)
    assert sum(p.set == "variant" for p in outcome.tables["prompts"]) == 200
