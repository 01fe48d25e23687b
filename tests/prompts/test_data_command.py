"""The commands, from a file to a published folder: what they print, what they write, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from alignprism.cli import app
from alignprism.prompts.formats.format import make_pair
from alignprism.prompts.prompt_files import read_prompts
from alignprism.prompts.read import read_file
from alignprism.prompts.tables import read_folder
from alignprism.rows import Pair, Prompt, write_rows

RUNNER = CliRunner()
WORDS = ("garden", "window", "river", "candle", "forest", "letter", "bridge", "engine", "winter", "market")
SECRET = "the words that must not be shown"


def run(*arguments: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["data", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [
        {"Prompt": f"Please tell me about the {one} and the {other} of the old town today.", "Lang": "English", "scope": "local", "categories": "profanity"}
        for one in WORDS for other in WORDS if one < other
    ]  # fmt: skip
    rows.append({"Prompt": SECRET, "Lang": "Nowhere", "scope": "", "categories": ""})
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_from_a_file_to_a_published_folder(tmp_path: Path, source: Path) -> None:
    mapped = ("--map", "text=Prompt,language=Lang")
    said = run(
        "import", source, "--format", "own", "--out", tmp_path / "in", *mapped, "--licence", "CC0-1.0", "--redistribute"
    )
    assert "prompts 46 45 1" in said
    assert "set aside 1: Lang: 'Nowhere' is no language known to CLDR" in said
    assert SECRET not in said
    said = run("split", tmp_path / "in", "--out", tmp_path / "split", "--exact", "--near-cut", "0.9")
    assert "45 prompts in 45 clusters, 0 set aside" in said
    assert "--previous" not in said
    apart = ("--near-cut", "0.9", "--embed-rows", "10")
    said = run("split", tmp_path / "in", "--out", tmp_path / "across", *apart)
    assert "rows that are added later can move old ones" in said and "give the next split --previous" in said
    assert "can move" not in run(
        "split", tmp_path / "in", "--out", tmp_path / "next", "--previous", tmp_path / "across", *apart
    )
    run("check", tmp_path / "split", "--embed-rows", "0", "--near-cut", "0.9", "--out", tmp_path / "findings.jsonl")
    said = run("export", tmp_path / "split", "--format", "aya", "--out", tmp_path / "aya")
    assert "prompts: 45 written, 45 come back unchanged" in said
    said = run("export", tmp_path / "split", "--format", "alignprism", "--out", tmp_path / "ours")
    assert "prompts: 45 written, 45 come back unchanged" in said
    run(
        "publish",
        tmp_path / "split",
        "--out",
        tmp_path / "pub",
        "--name",
        "Ours",
        "--canary",
        "canary-1",
        "--format",
        "aya",
    )
    assert "canary-1" in (tmp_path / "pub" / "README.md").read_text(encoding="utf-8")
    # A study reads what was written.
    prompts = read_file(tmp_path / "split" / "prompts.parquet", "redteam")
    assert prompts == read_folder(tmp_path / "split")["prompts"]


def test_an_error_among_the_findings_ends_with_1_and_fix_writes_the_others(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"{n}",
            "text": f"A question about the {w} in the park?",
            "language": "en",
            "seed_id": f"s{n}",
            "split": "train",
        }
        for n, w in enumerate(WORDS)
    ]
    rows.append(rows[0] | {"id": "double", "seed_id": "sx", "split": "test"})
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said = run("check", path, "--embed-rows", "0", "--near-cut", "1", "--fix", tmp_path / "fixed", code=1)
    assert "leak error 1 double: a duplicate lies in train, this row in test" in said
    assert "10 prompts, 1 left out" in said
    run("check", tmp_path / "fixed", "--embed-rows", "0", "--near-cut", "1")
    run("check", path, "--embed-rows", "0", "--near-cut", "1", "--no-leaks")
    assert path.read_text(encoding="utf-8").count("\n") == 10  # the file itself is as it was


def test_transform_writes_slices_with_the_seeds_of_the_originals(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "मेरा दोस्त कहाँ है?", "language": "hi"},
        {"id": "b", "text": "Љубав је лепа.", "language": "sr"},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said = run("transform", path, "--to", "romanised-hi,sr-latin,sr-cyrillic", "--out", tmp_path / "out")
    assert "romanised-hi: 1 prompts sr-latin: 1 prompts sr-cyrillic: 0 prompts" in said
    made = [read[2] for read in read_prompts([tmp_path / "out"]) if isinstance(read, tuple)]
    assert [(p.id, p.text, p.seed_id) for p in made] == [
        ("a~romanised-hi", "mera dost kahaan hai?", "a"), ("b~sr-latin", "Ljubav je lepa.", "b")
    ]  # fmt: skip


GOOD = {"id": "a", "text": "मेरा दोस्त कहाँ है?", "language": "hi"}
BAD = {"id": "b", "text": SECRET, "language": "Nowhere"}


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("transform", "{file}", "--out", "{out}"), "1 rows unreadable, see set_aside.jsonl"),
        (("check", "{file}", "--embed-rows", "0", "--fix", "{out}"), "1 prompts, 0 left out, 1 rows unreadable"),
        (("split", "{file}", "--out", "{out}"), "1 prompts in 1 clusters, 0 set aside, 1 rows unreadable"),
    ],
)
def test_rows_that_cannot_be_read_are_kept_with_their_reason_and_nothing_is_left_of_a_failure(
    tmp_path: Path, command: tuple[str, ...], told: str
) -> None:
    path, out = tmp_path / "own.jsonl", tmp_path / "out"
    arguments = [part.format(file=path, out=out) for part in command]
    path.write_text(json.dumps(BAD), encoding="utf-8")
    said = run(*arguments, code=2)
    assert "own.jsonl: no row can be read; the first:" in said and "row 1: column language: 'Nowhere'" in said
    assert [p.name for p in tmp_path.iterdir()] == ["own.jsonl"]
    path.write_text("\n".join(map(json.dumps, (BAD, GOOD))), encoding="utf-8")
    said = run(*arguments, code=1 if command[0] == "check" else 0)
    assert told in said and SECRET not in said
    (aside,) = [json.loads(line) for line in (out / "set_aside.jsonl").open(encoding="utf-8")]
    assert (aside["row"], aside["column"]) == (1, "language")


def test_a_table_that_breaks_off_leaves_no_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD), encoding="utf-8")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no more")
    transform = ("transform", tmp_path / "a.jsonl", tmp_path / "b.parquet", "--out", tmp_path / "out")
    assert "b.parquet" in run(*transform, code=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "b.parquet"]


def test_split_says_where_the_pairs_of_held_out_prompts_are_and_publish_takes_them_with_their_split(
    tmp_path: Path,
) -> None:
    rights = {"licence": "CC0-1.0", "redistribute": True}
    (tmp_path / "in").mkdir()
    prompts, pairs = [], []
    for number, word in enumerate(WORDS):
        name = {"seed_id": f"s{number}", "language": "en"} | rights
        text = f"A question about the {word} in the park, number {number * 7919}?"
        prompts.append(Prompt(id=f"p{number}", text=text, set="redteam", split="train", **name))  # type: ignore[arg-type]
        pairs.append(
            make_pair(id=f"x{number}", prompt=text, chosen="No.", rejected="Yes.", prompt_id=f"p{number}", kind="safety", **name)  # type: ignore[arg-type]
        )  # fmt: skip
    write_rows(tmp_path / "in" / "prompts.parquet", prompts, Prompt)
    write_rows(tmp_path / "in" / "pairs.parquet", pairs, Pair)
    said = run("split", tmp_path / "in", "--out", tmp_path / "split", "--exact", "--shares", "train=0.5,test=0.5")
    assert "pairs: 5 of train prompts; 5 of dev and test prompts are apart, in" in said
    said = run("export", tmp_path / "split", "--out", tmp_path / "files", "--format", "trl")
    assert "pairs: 5 written" in said and "not exported: held_out_pairs.parquet" in said
    run("publish", tmp_path / "split", "--out", tmp_path / "pub", "--name", "x", "--format", "trl")
    counts = {file.stem: len(file.read_text("utf-8").splitlines()) for file in (tmp_path / "pub/data/pairs").iterdir()}
    assert counts == {"train": 5, "test": 5}


def test_rows_of_own_files_keep_the_set_that_they_name(tmp_path: Path) -> None:
    rows = [
        {"text": "One.", "language": "en", "kind": "Benign"},
        {"text": "Two.", "language": "en", "kind": ""},
        {"text": "Three.", "language": "en", "kind": "harmless"},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said = run("import", path, "--format", "own", "--map", "set=kind", "--set", "general", "--out", tmp_path / "in")
    assert "kind: 'harmless'; accepted: redteam, translated, benign, general" in said
    assert [(p.text, p.set) for p in read_folder(tmp_path / "in")["prompts"]] == [
        ("One.", "benign"),
        ("Two.", "general"),
    ]
    path.write_text("\n".join(json.dumps({**row, "set": row["kind"]}) for row in rows[:2]), encoding="utf-8")
    run("import", path, "--format", "own", "--out", tmp_path / "plain")
    assert [p.set for p in read_folder(tmp_path / "plain")["prompts"]] == ["benign", "redteam"]


def test_formats_lists_all_and_says_what_they_were_tested_on() -> None:
    said = run("formats")
    assert "aya: Aya Red-teaming" in said and "tested on rows made after the published schema" in said
    assert "CohereForAI/aya_redteaming, CohereLabs/aya_redteaming" in said


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("import", "{file}", "--format", "nonsense", "--out", "{out}"), 2, "--format nonsense: accepted: alignprism, aya"),
        (("import", "{file}", "--format", "own", "--out", "{out}", "--map", "text"), 2, "OURS=THEIRS is expected"),
        (("import", "{file}", "--format", "own", "--out", "{out}", "--map", "colour=x"), 2, "'colour' is no column of a prompt"),
        (("import", "{file}", "--format", "own", "--out", "{out}", "--set", "x"), 2, "accepted: redteam"),
        (("import", "{file}", "--format", "own", "--out", "{out}", "--encoding", "klingon"), 2, "no such encoding"),
        (("import", "none.csv", "--format", "own", "--out", "{out}"), 2, "no such file or folder"),
        (("import", "nobody/nothing", "--format", "aya", "--out", "{out}"), 1, "the hub did not give this data set"),
        (("check", "{file}", "--out", "f.txt"), 2, "ends in .parquet or .jsonl"),
        (("split", "{file}", "--out", "{out}", "--shares", "train=1,dev=1"), 2, "they have to be 1"),
        (("transform", "{file}", "--to", "klingon", "--out", "{out}"), 2, "accepted: romanised-hi"),
        (("export", "{empty}", "--format", "aya", "--out", "{out}"), 2, "holds none of prompts.parquet"),
        (("publish", "{empty}", "--name", "x", "--out", "{out}", "--format", "csv"), 2, "accepted: parquet, aya"),
    ],
)  # fmt: skip
def test_wrong_use_says_what_is_accepted(tmp_path: Path, source: Path, arguments: Any, code: int, told: str) -> None:
    (tmp_path / "empty").mkdir()
    places = {"file": source, "out": tmp_path / "out", "empty": tmp_path / "empty"}
    assert told in run(*(a.format(**places) for a in arguments), code=code)
    assert not (tmp_path / "out").exists()


def test_an_encrypted_archive_wants_a_real_password(tmp_path: Path, source: Path) -> None:
    run(
        "import",
        source,
        "--format",
        "own",
        "--out",
        tmp_path / "in",
        "--map",
        "text=Prompt,language=Lang",
        "--licence",
        "CC0-1.0",
        "--redistribute",
    )
    (tmp_path / "password").write_text("short\n")
    publish = (
        "publish",
        tmp_path / "in",
        "--out",
        tmp_path / "pub",
        "--name",
        "x",
        "--password-file",
        tmp_path / "password",
    )
    assert "12 characters or more" in run(*publish, code=2)
    (tmp_path / "password").write_text("long enough to count\n")
    run(*publish)
    assert sorted(p.name for p in (tmp_path / "pub").iterdir()) == ["README.md", "data.zip"]
