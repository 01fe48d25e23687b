"""What an annotator is given and what comes back: any text survives a spreadsheet, any mistake is named by row and column."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.labels.sheet import COLUMNS, SheetError, Shown, read_sheet, safe_cell, write_sheet

ROWS = [
    Shown("abcdef", "hi", "नमस्ते", '=HYPERLINK("http://a.example")'),
    Shown("ghijkl", "ar", "مرحبا، كيف", 'line one\nline two, "quoted"; and more'),
    Shown("mnopqr", "en", "+1", "-2"),
]


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def filled(path: Path, *labels: str, change: tuple[str, str] = ("", "")) -> Path:
    rows = table(path)
    for row, label in zip(rows, labels, strict=False):
        row["label"] = label
    sink = io.StringIO()
    writer = csv.DictWriter(sink, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(sink.getvalue().replace(*change), encoding="utf-8")
    return path


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    write_sheet(path, ROWS)
    return path


def test_excel_shows_every_script_and_computes_nothing(sheet: Path) -> None:
    assert sheet.read_bytes().startswith(b"\xef\xbb\xbf"), "without it Excel shows Hindi and Arabic as rubbish"
    assert sheet.stat().st_mode & 0o077 == 0, "it holds harmful text"
    first, second, third = table(sheet)
    assert first["prompt"] == "नमस्ते"
    assert first["completion"] == '\'=HYPERLINK("http://a.example")'
    assert second["completion"] == ROWS[1].completion
    assert (third["prompt"], third["completion"]) == ("'+1", "'-2")
    assert list(first) == list(COLUMNS)


def test_instructions_lie_beside_the_sheet(sheet: Path) -> None:
    text = sheet.with_suffix(".instructions.txt").read_text(encoding="utf-8")
    assert all(word in text for word in ("harmful", "harmless", "undecidable", "breaks"))


def test_a_sheet_is_never_overwritten(sheet: Path) -> None:
    with pytest.raises(SheetError, match="exists; name another file"):
        write_sheet(sheet, ROWS)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_no_text_becomes_a_formula_or_hides_a_character(text: str) -> None:
    cell = safe_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\ufeff"))
    assert not {"\u202e", "\u200b", "\x00", "\r"} & set(cell)


def test_a_text_longer_than_a_cell_is_cut_where_the_reader_sees_it() -> None:
    assert safe_cell("a" * 40_000).endswith("[cut here: 8000 characters more]")


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=1, max_size=4),
    label=st.sampled_from(["harmful", "Harmless ", " UNDECIDABLE"]),
)
def test_whatever_stands_in_the_texts_the_labels_come_back(
    texts: list[tuple[str, str]], label: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("sheet") / "s.csv"
    write_sheet(path, [Shown(f"item{'abcd'[n]}", "en", *pair) for n, pair in enumerate(texts)])
    marks = read_sheet(filled(path, *[label] * len(texts)), "one")
    assert [mark.item for mark in marks] == [f"item{'abcd'[n]}" for n in range(len(texts))]
    assert {mark.label for mark in marks} == {label.strip().lower()}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_separator_of_any_country_is_read(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "s.csv"
    lines = ["item", "label", "annotator", "note"], ["a", "harmful", "ines", "x"], ["", "", "", ""], ["b", "", "", ""]
    path.write_text("\n".join(delimiter.join(line) for line in lines), encoding="utf-8-sig")
    first, second = read_sheet(path, "unnamed")
    assert (first.row, first.label, first.annotator, first.note) == (2, "harmful", "ines", "x")
    assert (second.row, second.label, second.annotator) == (4, None, "unnamed")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("item,label\na,maybe\n", "row 2: column label: 'maybe'; accepted: harmful, harmless, undecidable"),
        ("item,label\na,harmful\na,harmful\n", "row 3: column item: a stands in row 2 too"),
        ("item,label\n,harmful\n", "row 2: column item: empty"),
        ("item,label\na,x\nb,y\n", "(and 1 more)"),
        ("item,label\n", "no row below the heading"),
        ("item,note\na,b\n", "row 1: column label is not there"),
        ("item,label,label\na,b,c\n", "row 1: column label is twice"),
        ("", "no row below the heading"),
        (f"item,label\na,{'long ' * 20}\n", "a text of 99 characters"),
        ('item,label\na,"harm"ful\n', "row 2: not CSV"),
    ],
)
def test_a_mistake_is_named_by_file_row_and_column(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SheetError) as caught:
        read_sheet(path, "one")
    assert str(caught.value).startswith(f"{path}: ") and told in str(caught.value)


def test_what_is_no_sheet_is_told_how_to_become_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("item,label\nä,harmful\n".encode("latin-1"))
    for name, told in (("a.csv", "save it as CSV (UTF-8)"), ("b.xlsx", "a workbook"), ("c.csv", "no such file")):
        with pytest.raises(SheetError) as caught:
            read_sheet(tmp_path / name, "one")
        assert told in str(caught.value)
