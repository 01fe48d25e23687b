"""Bad input: the error names file, row, column and what to do; good rows are kept, and the counts add up."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from alignprism.errors import Failure
from alignprism.prompts.formats import find_format
from alignprism.prompts.formats.format import Format, Options, Part
from alignprism.prompts.hub import hub_files, is_hub_id
from alignprism.prompts.imports import Imported, import_files
from alignprism.prompts.sources import list_files
from alignprism.prompts.tables import read_folder
from alignprism.rows import RowError

Importing = Callable[..., Any]
GOOD = b"text,language\nOne,en\nTwo,hi\n"


def write(tmp_path: Path, name: str, content: bytes) -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def texts(outcome: Any) -> list[str]:
    return [p.text for p in outcome.tables["prompts"]]


def test_a_quote_never_closed_costs_one_row_not_the_file(tmp_path: Path, importing: Importing) -> None:
    content = b'text,language\nOne,en\n"Two,hi\nThree,fr\n"Four, with ""quotes""\nand a second line",es\nFive,ar\n'
    outcome = importing(write(tmp_path, "a.csv", content), "own")
    assert texts(outcome) == ["One", "Three", 'Four, with "quotes"\nand a second line', "Five"]
    (bad,) = outcome.aside
    assert (bad["row"], bad["file"]) == (2, str(tmp_path / "a.csv"))
    assert 'line 3: write a quote inside a cell twice ("")' in bad["reason"]


def test_an_endless_quote_is_given_up_after_a_thousand_lines(tmp_path: Path, importing: Importing) -> None:
    content = b'text,language\n"Open,en\n' + b"".join(b"Row %d,en\n" % n for n in range(3000))
    outcome = importing(write(tmp_path, "a.csv", content), "own")
    assert len(texts(outcome)) == 3000
    assert "opened and never closed" in outcome.aside[0]["reason"]


def test_rows_with_too_many_or_too_few_cells_are_set_aside(tmp_path: Path, importing: Importing) -> None:
    outcome = importing(write(tmp_path, "a.csv", b"text,language\nOne,en\nTwo, or three,en\nFour\nFive,en\n"), "own")
    assert texts(outcome) == ["One", "Five"]
    assert [a["row"] for a in outcome.aside] == [2, 3]
    assert "3 cells where the header has 2 (line 3)" in outcome.aside[0]["reason"]


def test_one_cell_in_another_encoding_is_named_and_an_encoding_can_be_given(
    tmp_path: Path, importing: Importing
) -> None:
    content = "text,language\nПривет,ru\nHello,en\n".encode("windows-1251")
    outcome = importing(write(tmp_path, "a.csv", content), "own")
    assert texts(outcome) == ["Hello"]
    assert [(a["row"], a["column"]) for a in outcome.aside] == [(1, "text")]
    assert "data import --encoding`, as windows-1251" in outcome.aside[0]["reason"]
    assert texts(importing(tmp_path / "a.csv", "own", "windows-1251")) == ["Привет", "Hello"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_may_be_mixed(tmp_path: Path, importing: Importing, end: bytes) -> None:
    content = b"text,language" + end + b"One,en\r\nTwo,hi\rThree,fr\n" + b'"Four\r\nlines",es' + end
    assert texts(importing(write(tmp_path, "a.csv", content), "own")) == ["One", "Two", "Three", "Four\r\nlines"]
    lines = [json.dumps({"text": t, "language": "en"}).encode() for t in ("One", "Two", "Three")]
    outcome = importing(write(tmp_path, "a.jsonl", lines[0] + b"\r\n" + lines[1] + end + lines[2]), "own")
    assert texts(outcome) == ["One", "Two", "Three"]


@pytest.mark.parametrize(
    ("bad", "column", "said"),
    [
        ("nul \0 byte", "text", "a NUL byte at character 5: remove it"),
        ("abc \u202egnp.exe", "text", "a direction override (U+202E) at character 5"),
        ("x" * 1_000_000, "text", "1,000,000 characters; the limit is 100,000"),
        (" \t ", "text", "empty or missing"),
        ("half \ud83d", "text", "half of a surrogate pair at character 6"),
        (7, "text", "empty or missing"),
    ],
)
def test_a_text_that_cannot_be_used_is_set_aside_without_being_shown(
    tmp_path: Path, importing: Importing, bad: Any, column: str, said: str
) -> None:
    rows = [{"text": "One", "language": "en"}, {"text": bad, "language": "en"}, {"text": "Two", "language": "en"}]
    path = write(tmp_path, "a.jsonl", "\n".join(json.dumps(r) for r in rows).encode())
    outcome = importing(path, "own")
    assert texts(outcome) == ["One", "Two"]
    (row,) = outcome.aside
    assert (row["row"], row["column"]) == (2, column)
    assert said in row["reason"]
    assert len(row["reason"]) < 300
    if isinstance(bad, str) and len(bad) > 100_000:
        assert len(texts(importing(path, "own", max_characters=2_000_000))) == 3


def test_nul_bytes_in_a_csv_file_cost_their_row(tmp_path: Path, importing: Importing) -> None:
    outcome = importing(write(tmp_path, "a.csv", b"text,language\nOne,en\nT\0o,hi\nThree,fr\n"), "own")
    assert texts(outcome) == ["One", "Three"]
    assert outcome.aside[0]["column"] == "text"


def test_an_id_that_repeats_and_a_language_nobody_knows_are_set_aside(tmp_path: Path, importing: Importing) -> None:
    content = b"id,text,language\n1,One,en\n1,Two,en\n2,Three,qq\n3,Four,\n"
    outcome = importing(write(tmp_path, "a.csv", content), "own")
    assert texts(outcome) == ["One"]
    assert [(a["row"], a["column"]) for a in outcome.aside] == [(2, "id"), (3, "language"), (4, "language")]
    assert "'1' occurs before" in outcome.aside[0]["reason"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "holds no rows"),
        ("a.jsonl", b"", "holds no rows"),
        ("a.csv", b"text,language\n", "holds no rows"),
        ("a.csv", b"words,language\nOne,en\n", "row 1: column text: empty or missing; columns read: id, text"),
        ("a.csv", b"text,text\nOne,en\n", "column 'text' occurs twice"),
        ("a.csv", GOOD.decode().encode("utf-16"), "UTF-16; save the file as UTF-8, or import it"),
        ("a.csv", b"t\xe9xt,language\nOne,en\n", "header: not UTF-8"),
        ("a.parquet", b"PAR1 no more", "not a readable Parquet file"),
        ("a.csv.gz", b"not gzip at all", "the gzip data are damaged"),
        ("a.csv.gz", gzip.compress(GOOD, mtime=0)[:-9], "the gzip data are damaged"),
        ("a.xlsx", b"no workbook", "not a readable Excel file"),
        ("a.tar.gz", b"no archive", "not a readable tar archive"),
        ("a.docx", b"", "accepted are .jsonl"),
        ("a.json", b"[1, 2", "row 1: not JSON"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_at_all_is_an_error_naming_it(
    tmp_path: Path, importing: Importing, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(RowError) as caught:
        importing(write(tmp_path, name, content), "own")
    assert str(tmp_path / name) in str(caught.value)
    assert said in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name]  # nothing half-written stays


def test_a_column_of_a_published_format_that_is_missing_is_named_with_what_there_is(
    tmp_path: Path, importing: Importing
) -> None:
    path = write(tmp_path, "MultiQ.csv", b"id,lang,prompt\n1,en,Hi\n")
    with pytest.raises(RowError, match=r"MultiQ.csv: row 1: column language is missing; found: id, lang, prompt"):
        importing(path, "multiq")
    with pytest.raises(RowError, match=r"other.csv: row 1: column language is missing"):
        importing(path.rename(tmp_path / "other.csv"), "multiq")


def test_excel_sheets_are_read_and_merged_cells_set_aside(tmp_path: Path, importing: Importing) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["Prompt", "Lang", "id"], ["One", "en", 1], ["Two", "hi", 2], [None, "fr", 3], ["Four", "es", 4.0]):
        sheet.append(row)
    sheet.merge_cells("A3:A4")
    book.save(tmp_path / "a.xlsx")
    outcome = importing(tmp_path / "a.xlsx", "own", columns={"text": "Prompt", "language": "Lang"})
    assert [(p.text, p.id) for p in outcome.tables["prompts"]] == [("One", "1"), ("Two", "2"), ("Four", "4")]
    (bad,) = outcome.aside
    assert (bad["row"], "A4 is merged" in bad["reason"]) == (4, True)


def test_a_merged_title_above_the_header_is_an_error_that_names_the_cell(tmp_path: Path, importing: Importing) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Our prompts", None])
    sheet.append(["text", "language"])
    sheet.merge_cells("A1:B1")
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(RowError, match="cell B1 of the header is merged; unmerge it"):
        importing(tmp_path / "a.xlsx", "own")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.jsonl", "a.json", "a.parquet", "a.tar.gz"])
def test_own_files_of_every_kind_with_a_column_map(tmp_path: Path, importing: Importing, name: str) -> None:
    rows = [{"Prompt": "One", "Lang": "English"}, {"Prompt": "Two", "Lang": "hin"}]
    separator = "\t" if name.endswith(".tsv") else ";"
    table = "\n".join(separator.join(r) for r in (rows[0].keys(), *(r.values() for r in rows))).encode()
    content = {".jsonl": "\n".join(map(json.dumps, rows)).encode(), ".json": json.dumps(rows, indent=1).encode()}.get(
        Path(name).suffix, table
    )
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    elif name.endswith(".tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz") as archive:
            member = tarfile.TarInfo("../../inside.csv")
            member.size = len(table)
            archive.addfile(member, io.BytesIO(table))
    else:
        write(tmp_path, name, gzip.compress(content) if name.endswith(".gz") else content)
    outcome = importing(
        tmp_path / name, "own", columns={"text": "Prompt", "language": "Lang"}, licence="CC0-1.0", redistribute=True
    )
    assert [(p.text, p.language, p.licence, p.redistribute) for p in outcome.tables["prompts"]] == [
        ("One", "en", "CC0-1.0", True), ("Two", "hi", "CC0-1.0", True)
    ]  # fmt: skip


def test_a_map_to_a_column_that_is_not_there_names_it(tmp_path: Path, importing: Importing) -> None:
    with pytest.raises(RowError, match="column Prompt: missing, but --map says that text is there"):
        importing(write(tmp_path, "a.csv", GOOD), "own", columns={"text": "Prompt"})


def test_what_a_row_says_of_its_licence_goes_before_the_options(tmp_path: Path, importing: Importing) -> None:
    content = b"text,language,licence\nOne,en,Secret\nTwo,en,\n"
    outcome = importing(write(tmp_path, "a.csv", content), "own", licence="CC0-1.0", redistribute=True)
    assert [(p.licence, p.redistribute) for p in outcome.tables["prompts"]] == [("Secret", False), ("CC0-1.0", True)]


def test_a_hub_that_cannot_be_reached_is_a_failure_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match=r"nobody/nothing: the hub did not give this data set .* download the files"):
        hub_files("nobody/nothing")


def test_a_hub_data_set_streams_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "owner" / "aya_like"
    folder.mkdir(parents=True)
    row = {"prompt": "P", "language": "Hindi", "harm_category": "['Profanity']", "global_or_local": "local"}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"prompt": ""}) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    files = hub_files("hf:owner/aya_like")
    assert [f.name for f in files] == ["default/test"]
    outcome = import_files(files, find_format("aya"), tmp_path / "out", Options())
    assert (outcome.total.read, outcome.total.kept, outcome.total.set_aside) == (2, 1, 1)
    assert [p.language for p in read_folder(tmp_path / "out")["prompts"]] == ["hi"]


def answer(asked: str, said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


def from_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, splits: dict[str, list[dict[str, Any]]]
) -> tuple[dict[str, list[Any]], Imported]:
    """A data set of that name, with these splits, as it comes through `datasets`."""
    published = folder / name
    published.mkdir(parents=True)
    listed = ""
    for split, rows in splits.items():
        (published / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        listed += f"  - split: {split}\n    path: {split}.jsonl\n"
    (published / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{listed}---\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    form = find_format("ultrafeedback")
    assert name in form.hub
    outcome = import_files(hub_files(name, known=form.hub), form, folder / "out", Options())
    return read_folder(folder / "out"), outcome


def test_ultrafeedback_of_the_hub_is_read_by_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [{"model": m, "response": f"by {m}", "overall_score": s} for m, s in (("a", 5.0), ("b", 9.0))]
    rows = [{"instruction": f"Why {n}?", "completions": said} for n in range(30)]
    tables, outcome = from_hub(tmp_path, monkeypatch, "openbmb/UltraFeedback", {"train": rows})
    assert (outcome.total.kept, outcome.total.set_aside) == (30, 0) and list(outcome.parts) == ["original"]
    # Nobody has split it: "train" is the hub's word for all of it.
    assert len({prompt.split for prompt in tables["prompts"]}) > 1


def test_the_published_test_split_of_the_hub_stays_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {
        f"{split}_prefs": [
            {
                "prompt": f"{split} {n}?", "prompt_id": f"{split} {n}", "chosen": answer("?", "Because."),
                "rejected": answer("?", "No."), "score_chosen": 8.0, "score_rejected": 4.0,
            }
            for n in range(12)
        ]
        for split in ("train", "test")
    }  # fmt: skip
    tables, outcome = from_hub(tmp_path, monkeypatch, "HuggingFaceH4/ultrafeedback_binarized", splits)
    assert outcome.total.kept == 24 and not outcome.not_read
    assert all(prompt.text.startswith(prompt.split) for prompt in tables["prompts"])


def test_a_set_that_moved_is_found_under_its_other_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "NewOwner" / "moved"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (file,) = hub_files("OldOwner/moved", known=("OldOwner/moved", "NewOwner/moved", "NewOwner/another"))
    assert file.shown == "hf:NewOwner/moved/default/test"


@pytest.mark.parametrize(
    ("source", "hub"), [("a/b", True), ("hf:a", True), ("./a", False), ("a/b/c", False), ("a.csv", False)]
)
def test_what_looks_like_a_hub_id(source: str, hub: bool) -> None:
    assert is_hub_id(source) is hub


def test_a_format_that_says_nothing_about_a_row_is_a_bug_and_not_a_silent_loss(tmp_path: Path) -> None:
    silent = Format("silent", "", "own files", {"prompts": Part(r"\.csv$", ())}, lambda *_: iter(()))
    with pytest.raises(AssertionError, match=r"said nothing about .*: row 1"):
        import_files(list_files(write(tmp_path, "a.csv", GOOD)), silent, tmp_path / "out", Options())


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(RowError, match="exists; name a new folder"):
        import_files(list_files(write(tmp_path, "a.csv", GOOD)), find_format("own"), tmp_path / "out", Options())


def test_the_summary_says_what_was_read(tmp_path: Path, importing: Importing) -> None:
    outcome = importing(write(tmp_path, "a.csv", GOOD + b"Three,qq\n"), "own")
    summary = json.loads((outcome.folder / "import.json").read_text())
    assert summary["total"] == {"read": 3, "kept": 2, "set_aside": 1}
    assert summary["files"] == {str(tmp_path / "a.csv"): 3}
    assert list(summary["reasons"].values()) == [1]
    assert outcome.folder.stat().st_mode & 0o777 == 0o700


def _count(content: bytes, name: str, form: str = "own") -> tuple[int, int, int] | None:
    with tempfile.TemporaryDirectory() as scratch:
        path = write(Path(scratch), name, content)
        try:
            outcome = import_files(list_files(path), find_format(form), Path(scratch) / "out", Options())
        except RowError as error:
            assert str(path) in str(error) or "nothing can be used" in str(error)
            return None
        lines = (Path(scratch) / "out" / "set_aside.jsonl").read_text().count("\n")
        prompts = len(read_folder(Path(scratch) / "out")["prompts"])
        total = outcome.total
        assert (total.kept, total.set_aside) == (prompts, lines)
        assert total.read == total.kept + total.set_aside
        return total.read, total.kept, total.set_aside


ROWS = b"".join(b'%d,"Text %d, quoted ""so""\nand more",hi\n' % (n, n) for n in range(8))
LINES = b"".join(json.dumps({"id": n, "text": f"Text {n}", "language": "hi"}).encode() + b"\n" for n in range(8))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(ROWS)), st.binary(max_size=3), st.integers(0, 3))
def test_damage_anywhere_in_a_csv_file_loses_no_row_silently(place: int, put: bytes, cut: int) -> None:
    damaged = ROWS[:place] + put + ROWS[place + cut :]
    found = _count(b"id,text,language\n" + damaged, "a.csv")
    assert found is not None
    assert found[1] >= 5  # one damage spoils its record and what its quotes reach, never the file


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(LINES)), st.binary(max_size=3), st.integers(0, 3))
def test_damage_anywhere_in_json_lines_costs_at_most_the_lines_it_touches(place: int, put: bytes, cut: int) -> None:
    damaged = LINES[:place] + put + LINES[place + cut :]
    found = _count(damaged, "a.jsonl")
    if damaged[:2] in (b"\xff\xfe", b"\xfe\xff"):
        assert found is None  # a file that begins like UTF-16 is refused as a whole
        return
    assert found is not None
    assert found[1] >= 8 - 2 - put.count(b"\n") - put.count(b"\r")


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=200), st.sampled_from(["a.csv", "a.jsonl", "a.json", "a.tsv", "a.parquet", "a.xlsx", "a.csv.gz"])
)
def test_any_bytes_are_read_set_aside_or_refused_with_the_name_of_the_file(content: bytes, name: str) -> None:
    _count(content, name)


def test_set_aside_rows_hold_no_text_of_the_data(tmp_path: Path, importing: Importing) -> None:
    secret = "an unspeakable sentence that nobody should read in a log"
    rows = [
        {"text": "One", "language": "en"},
        {"text": secret + "\0", "language": "en"},
        {"text": "x", "language": "en", "categories": f"['{secret}'"},
        {"text": "y", "language": "en", "scope": "g"},
    ]
    outcome = importing(write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)).encode()), "own")
    assert len(outcome.aside) == 3
    assert secret not in json.dumps(outcome.aside)
