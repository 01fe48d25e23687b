"""Own files: what people really save is read, and what cannot be read is named by file, row and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignprism.prompts.check import set_aside
from alignprism.prompts.read import read_file, split_of
from alignprism.rows import CATEGORIES, Prompt, RowError


def jsonl(path: Path, *records: dict[str, Any], start: str = "") -> Path:
    path.write_text(start + "\n".join(json.dumps(r, ensure_ascii=False) for r in records), encoding="utf-8")
    return path


def error_of(path: Path) -> str:
    with pytest.raises(RowError) as caught:
        read_file(path, "redteam")
    return str(caught.value)


FULL: dict[str, Any] = {
    "id": "a", "text": "Bonjour ?", "language": "fr", "split": "dev", "seed_id": "s", "scope": "local",
    "categories": ["profanity"], "cultures": ["FR"], "locale": "fr-CA", "reference": "Non.", "explanation": "why",
    "literal_translation": "Good day?", "semantic_translation": "Hello?", "source": "us", "licence": "CC0-1.0",
    "redistribute": True,
}  # fmt: skip


def test_every_column_is_read_from_jsonl_and_parquet(tmp_path: Path) -> None:
    expected = Prompt(
        id="a", text="Bonjour ?", language="fr", set="redteam", split="dev", seed_id="s", scope="local",
        categories=("profanity",), cultures=("FR",), locale="fr-CA", source="us", reference="Non.", explanation="why",
        literal_translation="Good day?", semantic_translation="Hello?", licence="CC0-1.0", redistribute=True,
    )  # fmt: skip
    assert read_file(jsonl(tmp_path / "a.jsonl", FULL), "redteam") == [expected]
    pq.write_table(pa.Table.from_pylist([FULL]), tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet", "redteam") == [expected]


def test_text_and_language_are_enough(tmp_path: Path) -> None:
    (prompt,) = read_file(jsonl(tmp_path / "a.jsonl", {"prompt": "Hi", "language": "fil"}), "redteam")
    assert (prompt.text, prompt.language, prompt.redistribute, prompt.licence) == ("Hi", "tl", False, "unknown")
    assert prompt.id and prompt.seed_id


def test_a_line_separator_inside_a_text_ends_no_row(tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\x85four\x0cfive"
    assert read_file(jsonl(tmp_path / "a.jsonl", {"text": text, "language": "en"}), "redteam")[0].text == text
    (tmp_path / "a.csv").write_text(f"text,language\n{text},en\n", encoding="utf-8")
    assert read_file(tmp_path / "a.csv", "redteam")[0].text == text


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path: Path, line_end: str) -> None:
    (tmp_path / "a.csv").write_bytes(f"\ufefftext,language{line_end}Hi,en{line_end}".encode())
    (tmp_path / "a.jsonl").write_bytes(f'\ufeff{{"text": "Hi", "language": "en"}}{line_end}{line_end}'.encode())
    for name in ("a.csv", "a.jsonl"):
        assert [p.text for p in read_file(tmp_path / name, "redteam")] == ["Hi"]


def test_csv_with_quoted_newlines_quotes_and_lists_as_aya_publishes_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "text,language,categories,scope,redistribute\n"
        '"one\ntwo, ""three""",en,"[\'profanity\', \'self_harm\']",Global,no\n'
        "next,hi,,,true\n",
        encoding="utf-8",
    )
    first, second = read_file(tmp_path / "a.csv", "redteam")
    assert first.text == 'one\ntwo, "three"'
    assert (first.categories, first.scope, first.redistribute) == (("profanity", "self_harm"), "global", False)
    assert (second.language, second.categories, second.scope, second.redistribute) == ("hi", (), None, True)


def test_a_cell_of_very_many_lines_is_one_cell(tmp_path: Path) -> None:
    text = "a\n" * 3000
    (tmp_path / "a.csv").write_text(f'text,language\n"{text}",en\nnext,en\n', encoding="utf-8")
    assert [prompt.text for prompt in read_file(tmp_path / "a.csv", "redteam")] == [text, "next"]


@pytest.mark.parametrize(
    ("change", "column", "accepted"),
    [
        ({"text": ""}, "text", "columns read: id, text"),
        ({"text": None}, "text", "columns read"),
        ({"text": 3}, "text", "columns read"),
        ({"text": "half \ud83d"}, "text", "not Unicode text"),
        ({"language": "xx"}, "language", "BCP-47"),
        ({"language": None}, "language", "such as 'hi'"),
        ({"scope": "regional"}, "scope", "accepted: global, local"),
        ({"categories": ["rudeness"]}, "categories", ", ".join(CATEGORIES)),
        ({"categories": "['profanity'"}, "categories", "not a list"),
        ({"cultures": 5}, "cultures", "not a list"),
        ({"split": "validation"}, "split", "accepted: train, dev, test"),
        # A comma that nobody quoted moves a text into another column: it is not shown.
        ({"split": "a text " * 9}, "split", "a text of 63 characters; accepted"),
        ({"scope": "a text" * 9}, "scope", "a text of 54 characters; accepted"),
        ({"categories": ["a text" * 9]}, "categories", "a text of 54 characters is unknown"),
    ],
)
def test_a_bad_value_names_row_and_column_and_what_is_accepted(
    tmp_path: Path, change: dict[str, Any], column: str, accepted: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in (FULL, FULL | change)), encoding="utf-8")
    said = error_of(path)
    assert said.startswith(f"{path}: row 2: column {column}: ")
    assert accepted in said


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"text": "a", "language": "en"}\n{"text": \n', "row 2: not JSON"),
        ("a.jsonl", b"[1, 2]", "row 1: a JSON object is expected"),
        ("a.jsonl", b'{"text": "caf\xe9"}', "not UTF-8 at byte 13"),
        ("a.jsonl", b"", "holds no rows"),
        ("a.csv", b"text;language\nHi;en\n", "row 1: column text"),
        ("a.csv", b"text,language\n" + b"x" * 200_000 + b",en\n", "row 1: column text: 200,000 characters"),
        # A quote that nobody closes would take the rows behind it into one prompt.
        (
            "a.csv",
            b'language,text\nen,one\nen,"two\nen,three\nen,four\n',
            "row 2: a quote is opened and never closed at line 3",
        ),
        ("a.csv", b'language,text\nen,"two" or\nen,"three"\n', "row 1: broken quoting"),
        ("a.csv", b"language,text\nen,one, two and three\n", "row 1: 3 cells where the header has 2 (line 2)"),
        ("a.csv", b"text,language,split\none,en,test\ntwo,en\n", "row 2: 2 cells where the header has 3 (line 3)"),
        ("a.csv", b'text,"language\none,en\n', "header: a quote is opened and never closed at line 1"),
        ("a.csv", b"text,language\n", "holds no rows"),
        ("a.parquet", b"PAR1 no more", "not a readable Parquet file"),
        ("a.xlsx", b"", "accepted: .jsonl, .csv, .parquet"),
        ("a", b"", "ends in nothing"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_place(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    said = error_of(tmp_path / name)
    assert said.startswith(f"{tmp_path / name}: ")
    assert told in said


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in error_of(tmp_path / "none.jsonl")


def test_numbers_serve_as_ids_zero_included(tmp_path: Path) -> None:
    rows = [{"id": n, "seed_id": 0, "text": f"t{n}", "language": "en"} for n in range(2)]
    prompts = read_file(jsonl(tmp_path / "a.jsonl", *rows), "redteam")
    assert [(p.id, p.seed_id) for p in prompts] == [("0", "0"), ("1", "0")]


def test_a_row_tagged_as_forbidden_is_read_and_then_set_aside(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "a", "language": "en", "categories": ["csam"]},
        {"text": "b", "language": "en"},
    ]
    kept, out = set_aside(read_file(jsonl(tmp_path / "a.jsonl", *rows), "redteam"))
    assert [p.text for p in kept] == ["b"]
    assert [o.reason for o in out] == ["tag: csam"]


def test_the_split_of_a_row_does_not_move_when_rows_are_added(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "language": "en"} for n in range(60)]
    few = read_file(jsonl(tmp_path / "a.jsonl", *rows[::3]), "redteam")
    many = {p.text: p.split for p in read_file(jsonl(tmp_path / "b.jsonl", *reversed(rows)), "redteam")}
    assert {p.text: p.split for p in few}.items() <= many.items()
    assert set(many.values()) == {"train", "dev", "test"}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_seed_has_one_split(seed: str) -> None:
    assert split_of(seed) == split_of(seed)
    assert split_of(seed) in ("train", "dev", "test")


def test_splits_are_drawn_in_the_documented_shares() -> None:
    drawn: list[str] = [split_of(str(n)) for n in range(8000)]
    for name, share in (("train", 4 / 8), ("dev", 1 / 8), ("test", 3 / 8)):
        assert abs(drawn.count(name) / 8000 - share) < 0.02


def test_a_default_split_is_used_only_where_the_row_has_none(tmp_path: Path) -> None:
    rows = [{"text": "a", "language": "en", "split": "train"}, {"text": "b", "language": "en"}]
    assert [p.split for p in read_file(jsonl(tmp_path / "a.jsonl", *rows), "redteam", "test")] == ["train", "test"]


def test_rows_say_which_set_they_are_of(tmp_path: Path) -> None:
    rows = [{"text": f"Hello {name}", "language": "en", "set": name} for name in ("redteam", "general", "translated")]
    file = jsonl(tmp_path / "a.jsonl", *rows, {"text": "Hello", "language": "en"})
    assert [p.text for p in read_file(file, "redteam")] == ["Hello redteam", "Hello"]
    (parallel, _) = read_file(file, "redteam", rows_of="translated")
    assert (parallel.text, parallel.set) == ("Hello translated", "redteam")
    with pytest.raises(RowError, match=r"'benign'.*1 of set 'redteam'"):
        read_file(jsonl(tmp_path / "b.jsonl", *rows), "benign")
