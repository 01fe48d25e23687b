"""Checks of whole data sets: each finding is found, none holds a prompt's text, and no row is lost on the way."""

from __future__ import annotations

import dataclasses
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from alignprism.prompts import checking
from alignprism.prompts.checking import Settings, check
from alignprism.prompts.findings import Findings
from alignprism.prompts.prompt_files import read_prompts
from alignprism.prompts.tables import TableWriter
from alignprism.rows import Prompt

SENTENCES = {
    "en": "Where can I find the nearest bakery that opens before seven",
    "hi": "मुझे सुबह सात बजे से पहले खुलने वाली सबसे पास की बेकरी कहाँ मिलेगी",
    "fr": "Où puis-je trouver la boulangerie la plus proche qui ouvre avant sept heures",
}
LIGHT = Settings(embed_rows=0)


def prompt(number: int, language: str = "en", **change: Any) -> Prompt:
    # Words of the number, so that no two are near-duplicates.
    tail = " ".join(sha256(f"{number} {place}".encode()).hexdigest()[:9] for place in range(6))
    made = Prompt(f"p{number}", f"{SENTENCES[language]} {tail}?", language, "redteam", "train", f"s{number}")
    return dataclasses.replace(made, **change)


def run(tmp_path: Path, prompts: list[Prompt], settings: Settings = LIGHT) -> tuple[dict[str, list[Any]], Any]:
    folder = tmp_path / f"set-{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    with TableWriter(folder / "prompts.parquet", Prompt) as table:
        for row in prompts:
            table.write(row)
    out = tmp_path / f"{folder.name}.jsonl"
    with Findings(out) as findings:
        outcome = check(read_prompts([folder]), findings, settings)
    by_check: dict[str, list[Any]] = {}
    for line in out.read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            by_check.setdefault(row["check"], []).append(row)
    assert sum(map(len, by_check.values())) == sum(findings.counts.values())
    return by_check, outcome


def test_a_clean_set_has_no_finding(tmp_path: Path) -> None:
    found, outcome = run(tmp_path, [prompt(n) for n in range(20)])
    assert (found, outcome.rows) == ({}, 20)


@pytest.mark.parametrize(
    ("change", "name", "severity", "evidence"),
    [
        ({"text": SENTENCES["fr"]}, "language", "warning", "labelled en, identified as fr"),
        ({"language": "hi"}, "language", "warning", "of the letters are of another script"),
        ({"text": " "}, "empty", "error", "no text"),
        ({"categories": ("rudeness",)}, "category", "error", "'rudeness' is none of the nine"),
        ({"scope": "regional"}, "scope", "error", "'regional'; accepted: global, local"),
        ({"split": "validation"}, "split", "error", "'validation'; accepted"),
        (
            {"text": SENTENCES["en"] + " ask jane@example.org"},
            "personal-data",
            "warning",
            "e-mail address at character 65",
        ),
        ({"text": "a\u202e" + SENTENCES["en"]}, "hidden-character", "error", "U+202E at character 2"),
        ({"tags": ("csam",)}, "handling", "warning", "tag: csam"),
        ({"id": "p0"}, "repeated-id", "error", "prompts.parquet: row 1 too"),
        ({"text": prompt(0).text.upper()}, "duplicate", "warning", "the same text"),
        ({"text": prompt(0).text + " Please"}, "near-duplicate", "warning", "Jaccard similarity 0."),
    ],
)
def test_one_wrong_row_is_one_finding_with_its_place(
    tmp_path: Path, change: dict[str, Any], name: str, severity: str, evidence: str
) -> None:
    rows = [prompt(n) for n in range(10)]
    rows[7] = dataclasses.replace(rows[7], **change)
    found, _ = run(tmp_path, rows)
    mine = [f for f in found[name] if f["row"] == 8]
    assert [(f["severity"], evidence in f["evidence"]) for f in mine] == [(severity, True)], mine
    assert mine[0]["id"] == rows[7].id


def test_translations_are_missed_only_where_others_have_one(tmp_path: Path) -> None:
    rows = [prompt(n, "fr", semantic_translation="An English text") for n in range(5)]
    rows[3] = dataclasses.replace(rows[3], semantic_translation=None)
    rows[4] = dataclasses.replace(rows[4], literal_translation=rows[4].text)
    found, _ = run(tmp_path, rows)
    assert [(f["row"], f["evidence"]) for f in found["translation"]] == [
        (5, "literal_translation is the prompt itself"), (4, "no English translation")
    ]  # fmt: skip
    found, _ = run(tmp_path, [prompt(n, "fr") for n in range(5)])
    assert [f["evidence"] for f in found["translation"]] == ["5 of 5 rows have no English translation"]


def test_lengths_far_from_the_languages_median(tmp_path: Path) -> None:
    rows = [prompt(n) for n in range(60)]
    rows[30] = dataclasses.replace(rows[30], text=" ".join(f"word{n}" for n in range(4000)))
    found, _ = run(tmp_path, rows)
    assert [f["row"] for f in found["length"]] == [31]


def test_balance_names_what_a_language_lacks(tmp_path: Path) -> None:
    rows = [prompt(n, scope=s) for n, s in enumerate(("global", "local"))] + [
        prompt(5, "fr", scope="global", semantic_translation="x")
    ]
    found, outcome = run(tmp_path, rows)
    assert [(f["language"], f["evidence"]) for f in found["balance"]] == [("fr", "no prompt of scope local")]
    assert outcome.cells[("fr", "global", "none")] == 1


def test_a_seed_a_text_or_a_near_duplicate_in_two_splits_is_an_error(tmp_path: Path) -> None:
    rows = [
        prompt(0), prompt(1, seed_id="s0", split="test"),
        prompt(2), dataclasses.replace(prompt(2), id="x", seed_id="sx", split="test"),
        prompt(4), dataclasses.replace(prompt(4), id="y", seed_id="sy", split="dev", text=prompt(4).text + " Please"),
    ]  # fmt: skip
    found, _ = run(tmp_path, rows)
    assert {(f["id"], f["other"], f["severity"]) for f in found["leak"]} == {
        ("p1", "p0", "error"), ("x", "p2", "error"), ("y", "p4", "error")
    }  # fmt: skip
    found, _ = run(tmp_path, rows, dataclasses.replace(LIGHT, leaks=False))
    assert "leak" not in found


def test_across_languages_only_other_seeds_are_findings_and_the_rest_is_counted(tmp_path: Path) -> None:
    pairs = [
        ("The cat sleeps on the sofa all day long.", "Le chat dort sur le canapé toute la journée."),
        ("We need three eggs and some flour for the cake.", "Il nous faut trois œufs et de la farine pour le gâteau."),
        ("The train to Lyon leaves at half past nine.", "Le train pour Lyon part à neuf heures et demie."),
        ("My sister plays the piano in a small orchestra.", "Ma sœur joue du piano dans un petit orchestre."),
        ("Please water the tomatoes in the garden tonight.", "Arrose les tomates du jardin ce soir, s'il te plaît."),
        ("The museum is closed on Mondays in winter.", "Le musée est fermé le lundi en hiver."),
        ("He repaired the old bicycle with a new chain.", "Il a réparé le vieux vélo avec une chaîne neuve."),
        ("The lake froze earlier than last year.", "Le lac a gelé plus tôt que l'année dernière."),
    ]
    rows = [Prompt(f"en{n}", one, "en", "redteam", "train", f"s{n}") for n, (one, _) in enumerate(pairs)]
    rows += [
        Prompt(f"fr{n}", other, "fr", "redteam", "train", f"s{n}" if n else "another", semantic_translation=one)
        for n, (one, other) in enumerate(pairs)
    ]
    found, outcome = run(tmp_path, rows, Settings(embed_rows=100))
    assert [(f["id"], f["other"]) for f in found["across-languages"]] == [("fr0", "en0")]
    assert len(outcome.across) >= 7
    assert (outcome.embedded, outcome.not_embedded) == (16, 0)
    found, outcome = run(tmp_path, rows, Settings(embed_rows=4))
    assert (outcome.embedded, outcome.not_embedded) == (4, 12)
    assert "12 of 16 rows were not compared" in found["across-languages"][-1]["evidence"]


@pytest.mark.parametrize("processes", [1, 2])
def test_no_row_is_lost_between_chunks_and_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(checking, "CHUNK", 7)
    monkeypatch.setattr(checking, "_FEW", 14)
    found, outcome = run(tmp_path, [prompt(n) for n in range(100)], Settings(embed_rows=0, processes=processes))
    assert (outcome.rows, found) == (100, {})


def test_unreadable_rows_of_own_files_are_findings_and_the_others_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,language\n{SENTENCES['en']},en\n,en\nHi,qq\n{SENTENCES['fr']},en\n", encoding="utf-8")
    with Findings(None) as findings:
        outcome = check(read_prompts([path]), findings, LIGHT)
    assert (outcome.rows, outcome.unreadable) == (2, 2)
    assert [f.evidence.split(":")[0] for f in findings.first["unreadable"]] == ["column text", "column language"]
    assert len(findings.first["language"]) == 1


def test_no_finding_repeats_a_text(tmp_path: Path) -> None:
    secret = "zebra quilt"
    rows = [prompt(n, text=f"{SENTENCES['fr']} {secret} jane@example.org \u200b x{n}") for n in range(4)]
    found, _ = run(tmp_path, rows)
    assert found and secret not in json.dumps(found)


def test_findings_go_to_parquet_as_well(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    (tmp_path / "a.jsonl").write_text(json.dumps({"text": SENTENCES["fr"], "language": "en"}))
    with Findings(tmp_path / "f.parquet") as findings:
        check(read_prompts([tmp_path / "a.jsonl"]), findings, LIGHT)
    assert pq.read_table(tmp_path / "f.parquet").to_pylist()[0]["check"] == "language"


SERBIAN = (
    "Како да пронађем најближу пекару која ради пре седам?",
    "Kako da pronađem najbližu pekaru koja radi pre sedam?",
)


def test_serbian_in_two_scripts_is_a_leak_between_splits_but_no_double(tmp_path: Path) -> None:
    rows = [
        Prompt(f"p{n}", text, "sr", "redteam", split, f"s{n}")  # type: ignore[arg-type]
        for n, (text, split) in enumerate(zip(SERBIAN, ("test", "train"), strict=True))
    ]
    found, outcome = run(tmp_path, rows)
    assert [row["evidence"] for row in found["leak"]] == ["a duplicate lies in test, this row in train"]
    assert [row["evidence"] for row in found["near-duplicate"]] == ["Jaccard similarity 1.00 of character 5-grams"]
    assert "duplicate" not in found and not outcome.exact, "--fix would drop the slice in the other script"


def test_the_script_that_a_locale_names_is_the_one_that_is_checked(tmp_path: Path) -> None:
    rows = [
        Prompt(
            "a", "Mujhe sabse paas ki bakery kahan milegi, bataiye?", "hi", "redteam", "train", "a", locale="hi-Latn"
        ),
        Prompt("b", SENTENCES["hi"], "hi", "redteam", "train", "b", locale="hi-Latn"),
        Prompt("c", SERBIAN[0], "sr", "redteam", "train", "c", locale="sr-Latn"),
    ]
    found, _ = run(tmp_path, rows)
    assert {row["id"]: row["evidence"] for row in found["language"]} == {
        "b": "labelled hi-Latn, but 100% of the letters are of another script",
        "c": "labelled sr-Latn, but 100% of the letters are of another script",
    }
