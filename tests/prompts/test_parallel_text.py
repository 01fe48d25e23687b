"""Parallel text: own files, pairs of files, one file per language; what is wrong is named with file and line."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from alignprism.errors import InputError
from alignprism.prompts.parallel import drawn, parallel_of, read_parallel
from alignprism.rows import Prompt


def flores(folder: Path, lines: int = 3) -> Path:
    folder.mkdir()
    for code in ("eng_Latn", "hin_Deva", "fra_Latn"):
        text = "".join(f"{code} sentence {n}\n" for n in range(lines))
        (folder / f"{code}.devtest").write_text(text, encoding="utf-8")
    return folder


def test_one_file_per_language_shares_its_english(tmp_path: Path) -> None:
    rows = read_parallel(flores(tmp_path / "flores"))
    assert [(r.id, r.language) for r in rows] == [
        ("fr:1", "fr"), ("fr:2", "fr"), ("fr:3", "fr"), ("hi:1", "hi"), ("hi:2", "hi"), ("hi:3", "hi"),
    ]  # fmt: skip
    assert (rows[4].text, rows[4].english) == ("hin_Deva sentence 1", "eng_Latn sentence 1")
    assert rows[0].seed_id == rows[3].seed_id


def test_pairs_of_files_have_english_of_their_own(tmp_path: Path) -> None:
    for code in ("hin", "srp"):
        for side in (code, "eng"):
            data = f"{side} of {code} 1\r\n{side} of {code} 2\n".encode()
            (tmp_path / f"tatoeba.{code}-eng.{side}.gz").write_bytes(gzip.compress(data))
    rows = read_parallel(tmp_path, ["sr"])
    assert [(r.id, r.text, r.english) for r in rows] == [
        ("sr:1", "srp of srp 1", "eng of srp 1"), ("sr:2", "srp of srp 2", "eng of srp 2"),
    ]  # fmt: skip
    hindi = read_parallel(tmp_path, ["hi"])
    assert not {r.seed_id for r in rows} & {r.seed_id for r in hindi}


def test_own_files(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("id,language,text,english\n7,Hindi,नमस्ते,Hello\n7,fra,Bonjour,Hello\n", encoding="utf-8")
    assert [(r.id, r.language, r.seed_id) for r in read_parallel(path)] == [("hi:7", "hi", "7"), ("fr:7", "fr", "7")]


def test_prompts_with_translations_are_parallel_text() -> None:
    with_one = Prompt("p1", "नमस्ते", "hi", "general", "test", "s1", semantic_translation="Hello")
    without, english = replace(with_one, id="p2", semantic_translation=None), replace(with_one, id="p3", language="en")
    assert [(r.id, r.english, r.seed_id) for r in parallel_of([with_one, without, english])] == [("p1", "Hello", "s1")]


def test_what_is_drawn_is_the_same_sentence_in_every_language(tmp_path: Path) -> None:
    rows = read_parallel(flores(tmp_path / "flores", 50))
    kept = drawn(rows, 10, seed=3)
    assert [r.language for r in kept] == ["fr"] * 10 + ["hi"] * 10
    assert {r.seed_id for r in kept[:10]} == {r.seed_id for r in kept[10:]}
    assert drawn(rows, 10, seed=4) != kept
    assert drawn(rows, 99, seed=3) == rows


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "hin_Deva.devtest").write_text("one\n"), "has 1 lines and eng_Latn.devtest 3"),
        (lambda f: (f / "hin_Deva.devtest").write_text("one\n\nthree\n"), "hin_Deva.devtest: line 2 is empty"),
        (lambda f: (f / "hin_Deva.devtest").write_bytes(b"\xff\n\n\n"), "not UTF-8 at byte 0"),
        (lambda f: (f / "eng_Latn.devtest").unlink(), "no parallel text; expected files such as"),
        (lambda f: (f / "qqz_Latn.devtest").write_text("a\nb\nc\n"), "'qqz' is no language"),
        (lambda f: (f / "fra_Latn.devtest.gz").write_bytes(b"no gzip"), "cannot be read"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path: Path, change: object, said: str) -> None:
    folder = flores(tmp_path / "flores")
    change(folder)
    with pytest.raises(InputError, match=said):
        read_parallel(folder)


def test_rows_and_languages_that_are_wrong_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"id": 1, "language": "hi", "text": "x", "english": " "}\n', encoding="utf-8")
    with pytest.raises(InputError, match="row 1: column english is missing or empty"):
        read_parallel(path)
    path.write_text('{"id": 1, "language": "en", "text": "x", "english": "x"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="language is English"):
        read_parallel(path)
    path.write_text('{"id": 1, "language": "hi", "text": "x", "english": "x"}\n' * 2, encoding="utf-8")
    with pytest.raises(InputError, match="'hi:1' occurs twice"):
        read_parallel(path)
    with pytest.raises(InputError, match="no sentences in de"):
        read_parallel(flores(tmp_path / "flores"), ["hi", "de"])


def test_the_published_tatoeba_files(shared_data: Path) -> None:
    rows = read_parallel(shared_data / "tatoeba")
    counts = {code: sum(r.language == code for r in rows) for code in {r.language for r in rows}}
    assert counts == dict.fromkeys(("ar", "es", "fr", "hi", "ru", "sr", "tl"), 1_000)
