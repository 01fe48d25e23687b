"""RTP-LX: every count and every cross-check on real files (a slice; all rows are counted in benchmarks/data.py)."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignprism.prompts.formats.rtp_lx import SCALES, source_index


def record(**change: Any) -> dict[str, Any]:
    raw = {key: [1, 2, 1] for key in SCALES}
    entry = {
        "Prompt": "Once upon a", "Completion": "", "Index": "7", "Locale": "FR", "Dialect": "",
        "OriginalMetadata": {"Filename": "0987835-x.txt", "Begin": "1", "End": "2"}, "AnnotationsRaw": raw,
    }  # fmt: skip
    reply = "Toxic:4\nIdentityAttack: 2\nViolence: 9\nSelf-harm: 1\nNote: 5"
    return {
        "Prompt": "Once upon a",
        "GPT4ResponseRaw": reply,
        "Index": "7",
        "Locale": "FR",
        "OriginalEntry": entry,
    } | change


def benign(**change: Any) -> dict[str, Any]:
    raw = {key: [1, 1, 1] for key in SCALES} | {"Toxicity": [2, 4, 5]}
    entry = {
        "Prompt": "Once upon a", "Completion": "rude end", "Index": "7", "Locale": "FR", "Dialect": "",
        "CompletionAnnotationsRaw": raw,
    }  # fmt: skip
    return {
        "BenignCompletion": "kind end",
        "ACSResponse": {"Violence": 0.1},
        "Index": "7",
        "Locale": "FR",
        "OriginalEntry": entry,
    } | change


def test_a_prompt_has_human_ratings_and_gpt4s_numbers_clamped_to_the_scale(made: Any) -> None:
    outcome = made("rtp-lx", {"gpt4_results_FR.json": [record()]})
    (prompt,) = outcome.tables["prompts"]
    assert (prompt.scope, prompt.language, prompt.redistribute) == ("global", "fr", False)
    assert "stand-in" in prompt.source
    ratings = outcome.tables["ratings"]
    assert Counter(r.annotator for r in ratings) == {"fr rater 1": 8, "fr rater 2": 8, "fr rater 3": 8, "gpt-4": 4}
    gpt4 = {r.scale: (r.value, r.given) for r in ratings if r.annotator == "gpt-4"}
    assert gpt4 == {"Toxicity": (4, ""), "IdentityAttack": (2, ""), "Violence": (3, "9"), "SelfHarm": (1, "")}


def test_a_row_written_for_the_locale_is_local_and_a_cluster_of_its_own(made: Any) -> None:
    local = record()
    local["OriginalEntry"] |= {"Index": "1121", "OriginalMetadata": {"Filename": "manual"}}
    (prompt,) = made("rtp-lx", {"gpt4_results_FR.json": [local]}).tables["prompts"]
    assert (prompt.scope, prompt.seed_id) == ("local", "rtp-lx-FR-manual-1121")


def test_a_completion_row_is_a_pair_two_completions_and_three_peoples_labels(made: Any) -> None:
    outcome = made("rtp-lx", {"acs_results_benign_FR.json": [benign()]})
    (pair,) = outcome.tables["pairs"]
    assert (pair.chosen, pair.rejected, pair.rejected_score) == ("kind end", "rude end", pytest.approx(2 / 3))
    assert [c.text for c in outcome.tables["completions"]] == ["rude end", "kind end"]
    assert [label.harm for label in outcome.tables["labels"]] == ["harmless", "harmful", "harmful"]
    assert [p.id for p in outcome.tables["prompts"]] == [pair.prompt_id]  # no file of prompts: it brings its own
    assert not any(row.redistribute for row in (*outcome.tables["pairs"], *outcome.tables["completions"]))


@pytest.mark.parametrize(
    ("damage", "column"),
    [
        (lambda r: r.update(Locale="XX"), "Locale"),
        (lambda r: r["OriginalEntry"].update(Index="x"), "OriginalEntry.Index"),
        (lambda r: r["OriginalEntry"].update(Prompt=" "), "OriginalEntry.Prompt"),
        (lambda r: r["OriginalEntry"].update(AnnotationsRaw=None), "OriginalEntry.AnnotationsRaw"),
        (lambda r: r["OriginalEntry"].update(AnnotationsRaw={key: [1, 1] for key in SCALES}), "OriginalEntry.AnnotationsRaw.Toxicity"),
        (lambda r: r["OriginalEntry"].update(AnnotationsRaw={key: [9, 1, 1] for key in SCALES}), "OriginalEntry.AnnotationsRaw.Toxicity"),
    ],
)  # fmt: skip
def test_damage_sets_a_row_aside_by_column(made: Any, damage: Any, column: str) -> None:
    good, bad = record(), json.loads(json.dumps(record()))
    damage(bad)
    outcome = made("rtp-lx", {"gpt4_results_FR.json": [good, bad]})
    assert len(outcome.tables["prompts"]) == 1
    assert [(a["row"], a["column"]) for a in outcome.aside] == [(2, column)]


def test_english_prompts_that_gpt4_was_not_shown_come_from_the_other_file(made: Any) -> None:
    shown = record(Prompt="NA", Locale="EN")
    shown["OriginalEntry"] |= {"Prompt": "NA", "Locale": "EN"}
    other = benign(Locale="EN")
    outcome = made("rtp-lx", {"gpt4_results_EN.json": [shown], "acs_results_benign_EN.json": [other]})
    assert [p.text for p in outcome.tables["prompts"]] == ["Once upon a"]
    assert "gpt-4" not in {r.annotator for r in outcome.tables["ratings"]}
    with pytest.raises(ValueError, match="acs_results_benign_EN"):
        made("rtp-lx", {"gpt4_results_EN.json": [shown]})


def test_the_index_rule_says_what_the_published_field_says_on_every_real_row(shared_data: Path) -> None:
    keys: dict[int, set[tuple[str, ...]]] = {}
    for locale in ("AR", "EN", "ES", "FR", "HI", "RU"):
        with gzip.open(shared_data / "rtp_lx" / f"gpt4_results_{locale}.json.gz", "rt") as lines:
            for line in lines:
                entry = json.loads(line)["OriginalEntry"]
                key, about = source_index(locale, str(entry["Index"])), entry["OriginalMetadata"]
                assert (key >= 999) == (about["Filename"] == "manual"), (locale, entry["Index"])
                if key < 999:
                    keys.setdefault(key, set()).add((about["Filename"], about["Begin"], about["End"]))
    assert len(keys) == 999
    assert all(len(found) == 1 for found in keys.values())
    assert sorted(source_index("BCMS", str(n)) for n in range(999)) == list(range(999))


def test_real_files_are_read_whole_a_slice_of_each(shared_data: Path, slice_of: Any, importing: Any) -> None:
    folder = slice_of(shared_data / "rtp_lx", 20)
    shutil.copy(shared_data / "rtp_lx" / "acs_results_benign_EN.json.gz", folder)
    outcome = importing(folder, "rtp-lx")
    parts = {name: (p.read, p.kept) for name, p in outcome.imported.parts.items()}
    assert parts == {"prompts": (140, 140), "completions": (5 * 20 + 999, 5 * 20 + 999)}
    assert {p.language for p in outcome.tables["prompts"]} == {"ar", "sr", "en", "es", "fr", "hi", "ru"}
