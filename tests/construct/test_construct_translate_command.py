"""`construct translate` and `construct general` on the command line: what goes in, comes out, is refused and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_seq2seq
from general_bench import ANSWERS, HINDI
from general_bench import prompts as general_prompts
from parallel_sample import dictionary, sample
from typer.testing import CliRunner, Result

from alignprism.cli import app
from alignprism.models.store import CallStore
from alignprism.prompts.tables import read_table
from alignprism.rows import Pair, Prompt, write_rows

LOOPBACK = Path(__file__).parent.parent / "models" / "loopback.py"
ENGLISH = sample()


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["construct", *map(str, arguments)], env={"COLUMNS": "200"})


def said(result: Result) -> str:
    return " ".join((result.stdout + result.stderr).split())


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "prompts.parquet"
    path.parent.mkdir()
    write_rows(path, ENGLISH, Prompt)
    return path


@pytest.fixture
def script(tmp_path: Path) -> str:
    """A model that translates the sample into Hindi and back."""
    rows = []
    for prompt in ENGLISH:
        rows.append({"id": f"{prompt.id}/en-hi", "text": dictionary()[prompt.text, "hi"]})
        rows.append({"id": f"{prompt.id}-hi/hi-en", "text": prompt.text})
    return f"script:{jsonl(tmp_path / 'in' / 'script.jsonl', rows)}"


def test_prompts_are_translated_into_a_new_folder(prompts: Path, script: str, tmp_path: Path) -> None:
    out = tmp_path / "out" / "hi"
    options = ("translate", prompts, "--to", "hi", "--translator", script)
    result = call(*options, "--out", out)
    assert result.exit_code == 0, said(result)
    assert sorted(path.name for path in out.iterdir()) == ["prompts.parquet", "report.json", "set_aside.jsonl"]
    assert out.stat().st_mode & 0o077 == 0
    rows = list(read_table(out / "prompts.parquet", Prompt))
    assert [row.text for row in rows] == [dictionary()[prompt.text, "hi"] for prompt in ENGLISH]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["command"] == "translate" and report["by language"]["hi"]["translated"] == 12
    assert "hi 12 12 0 0 1.00" in said(result)
    assert not any(prompt.text in said(result) or prompt.text in str(report) for prompt in ENGLISH)
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        assert len(store) == 24
    assert call(*options, "--out", out).exit_code == 2  # never written over
    again = tmp_path / "out" / "again"
    assert call(*options, "--out", again).exit_code == 0
    assert (again / "prompts.parquet").read_bytes() == (out / "prompts.parquet").read_bytes()
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        assert len(store) == 24


def test_a_file_of_people_stands_beside_what_it_lacks(prompts: Path, tmp_path: Path) -> None:
    rows = [{"id": p.id, "language": "hi", "text": dictionary()[p.text, "hi"]} for p in ENGLISH[3:]]
    file = jsonl(tmp_path / "in" / "people.jsonl", [*rows, {"id": ENGLISH[0].id, "language": "hi", "text": ""}])
    out = tmp_path / "out"
    result = call("translate", prompts, "--to", "hi", "--translator", file, "--as", "general", "--out", out)
    assert result.exit_code == 0, said(result)
    assert {row["reason"] for row in read(out / "set_aside.jsonl")} == {"empty", "not in the file"}
    assert {row.set for row in read_table(out / "prompts.parquet", Prompt)} == {"general"}
    assert "Quality was not measured" in said(result) and "2 (not in the file)" in said(result)


def test_a_translation_model_is_known_by_its_configuration(tmp_path: Path) -> None:
    model = tiny_seq2seq.write_taught(tmp_path / "nllb-tiny")
    # One prompt that the model's only sentence back is like, and one that it is not.
    rows = [
        {"id": "near", "text": "Name a river and tell its tale.", "language": "en"},
        {"id": "far", "text": "What is bread made of?", "language": "en"},
        {"id": "", "text": "", "language": "en"},
    ]
    file, out = jsonl(tmp_path / "in" / "p.jsonl", rows), tmp_path / "out" / "hi"
    options = ("translate", file, "--to", "hin_Deva", "--translator", model, "--translation-tokens", 60)
    dry = call(*options, "--out", out, "--dry-run")
    assert dry.exit_code == 0 and "2 texts, translated on this machine" in said(dry) and not out.parent.exists()
    result = call(*options, "--out", out)
    assert result.exit_code == 0, said(result)
    (row,) = read_table(out / "prompts.parquet", Prompt)
    assert (row.id, row.text, row.source) == ("near-hi", tiny_seq2seq.PHRASES["hin_Deva"], "translated by nllb-tiny")
    aside = read(out / "set_aside.jsonl")
    assert [one["reason"] for one in aside] == ["unreadable row", "back-translation unlike"]
    assert f"{out}: 1 prompts; 2 set aside" in said(result)
    unknown = call("translate", file, "--to", "sw", "--translator", model, "--out", tmp_path / "out" / "sw")
    assert unknown.exit_code == 2 and "does not know Swahili (sw)" in said(unknown)
    assert not (tmp_path / "out" / "sw").exists()


def test_a_dry_run_says_calls_cost_and_where_texts_go(prompts: Path, tmp_path: Path) -> None:
    model = tmp_path / "in" / "far.yaml"
    model.write_text(
        "endpoint:\n  urls: ['https://api.example.org/v1']\n  model: m\n  price: {input: 1, output: 1000}\n", encoding="utf-8"
    )  # fmt: skip
    options = ("translate", prompts, "--to", "hi,ar", "--translator", model, "--out", tmp_path / "out" / "x")
    result = call(*options, "--dry-run")
    assert result.exit_code == 0, said(result)
    assert said(result).count("24 calls") == 2 and "at most $" in said(result)
    assert "texts go to: api.example.org (not allowed yet: --allow-remote api.example.org)" in said(result)
    assert not (tmp_path / "out").exists()
    refused = call(*options)
    assert refused.exit_code == 2 and "allow_remote does not list" in said(refused)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "en"], "nothing to translate into en: is in the target language already"),
        (["--to", "hi,hin"], "hi is named twice"),
        (["--to", "klingonish"], "no language known"),
        (["--to", "hi", "--as", "benign"], "--as benign: accepted: translated, general"),
        (["--to", "hi", "--translator-kind", "magic"], "--translator-kind magic: accepted: seq2seq, model, file"),
        (["--to", "hi", "--min-chrf", "7"], "--min-chrf: Input should be less than or equal to 1"),
        (["--to", "hi", "--back", "x.csv"], "a file holds no back-translations"),
        (["--to", "hi", "--back", "x", "--no-back"], "give one of them"),
        (["--to", "hi", "--translator", "no/such/folder/of/a/model"], "no configuration of a transformers model"),
        (["--to", "hi", "--translator", "none.csv"], "no such file"),
    ],
)
def test_what_cannot_work_is_wrong_input(
    options: list[str], words: str, prompts: Path, script: str, tmp_path: Path
) -> None:
    given = options if "--translator" in options else [*options, "--translator", script]
    result = call("translate", prompts, *given, "--out", tmp_path / "out" / "x")
    assert result.exit_code == 2, said(result)
    assert words in said(result)
    assert not (tmp_path / "out" / "x").exists()


def test_where_no_row_can_be_read_the_first_is_named(script: str, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "in" / "p.jsonl", [{"id": "a", "text": "", "language": "en"}])
    result = call("translate", file, "--to", "hi", "--translator", script, "--out", tmp_path / "out" / "x")
    assert result.exit_code == 2, said(result)
    assert "no row can be used (unreadable row 1; the first unreadable one" in said(result)
    assert "row 1: text" in said(result)


def test_a_dry_run_finds_out_that_a_file_of_translations_is_not_there(prompts: Path, tmp_path: Path) -> None:
    options = ("--translator", tmp_path / "none.csv", "--out", tmp_path / "out" / "x", "--dry-run")
    result = call("translate", prompts, "--to", "hi", *options)
    assert result.exit_code == 2 and "no such file" in said(result)


def test_calls_without_an_answer_are_rows_and_the_exit_code_says_so(prompts: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": f"{p.id}/en-hi", "text": dictionary()[p.text, "hi"]} for p in ENGLISH]
    rows[0] = {"id": rows[0]["id"], "failure": "timeout"}
    file, out = jsonl(tmp_path / "in" / "s.jsonl", rows), tmp_path / "out" / "hi"
    result = call("translate", prompts, "--to", "hi", "--translator", f"script:{file}", "--no-back", "--out", out)
    assert result.exit_code == 1 and "1 rows got no answer" in said(result)
    assert [row["reason"] for row in read(out / "set_aside.jsonl")] == ["no answer: timeout"]


# --- general pairs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def general(tmp_path: Path) -> list[object]:
    """File and options of `construct general`, every model a script."""
    folder = tmp_path / "in"
    rows = [{"prompt": p.text, "chosen": p.reference, "rejected": "No.", "prompt_id": p.id, "licence": "MIT"} for p in general_prompts()]  # fmt: skip
    translations, answers, trials = [], [], []
    for prompt in general_prompts():
        translations += [
            {"id": f"{prompt.id}/en-hi", "text": HINDI[prompt.text]},
            {"id": f"{prompt.id}/reference/en-hi", "text": HINDI[prompt.reference or ""]},
            {"id": f"{prompt.id}-hi/hi-en", "text": prompt.text},
        ]
        answers.append({"id": f"{prompt.id}-hi", "text": ANSWERS[HINDI[prompt.text]]})
        for order, better in (("ab", "B"), ("ba", "A")):
            trials.append(
                {"id": f"{prompt.id}-hi/translated/regenerated/{order}", "text": f"Preferred: Answer ({better})"}
            )
    judge = folder / "pairwise.yaml"
    scripts = {
        name: f"script:{jsonl(folder / f'{name}.jsonl', rows)}"
        for name, rows in (("nllb", translations), ("writer", answers), ("referee", trials))
    }
    judge.write_text(f"model:\n  source: '{scripts['referee']}'\n", encoding="utf-8")
    return [
        "general", jsonl(folder / "general.jsonl", rows), "--language", "en", "--to", "hi", "--translator", scripts["nllb"],
        "--generator", scripts["writer"], "--judge", judge,
    ]  # fmt: skip


def test_general_pairs_are_made_and_counted_by_language(general: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out" / "pairs"
    result = call(*general, "--out", out, "--generator-licence", "MIT", "--generator-redistribute")
    assert result.exit_code == 0, said(result)
    pairs = list(read_table(out / "pairs.parquet", Pair))
    assert [(pair.prompt_id, pair.chosen_source, pair.judge) for pair in pairs] == [
        (f"g{n}-hi", "writer.jsonl", "referee.jsonl") for n in range(3)
    ]
    assert {(pair.licence, pair.redistribute) for pair in pairs} == {("MIT", False)}  # the prompts' own rows forbid it
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["by language"]["hi"]["regenerated won, of decided"]["estimate"] == 1.0
    assert report["translation"]["by language"]["hi"]["translated"] == 3
    assert "regenerated won, of decided" in said(result) and "3 pairs; 0 set aside" in said(result)
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        assert len(store) == 3 * (3 + 1 + 2)
        assert {purpose.role for purpose in store.purposes()} == {"translate", "completion", "pairwise"}


def test_a_dry_run_of_general_pairs_counts_every_kind_of_call(general: list[object], tmp_path: Path) -> None:
    result = call(*general, "--out", tmp_path / "out" / "x", "--dry-run")
    assert result.exit_code == 0, said(result)
    for words in ("translations by", "6 calls", "back-translations by", "completions by", "3 calls", "comparisons by"):
        assert words in said(result)
    assert "texts go to: this machine only" in said(result) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--ties", "both"], "--ties"), (["--temperature", "-1"], "--temperature"), (["--to", "en"], "nothing to translate")],
)  # fmt: skip
def test_wrong_settings_of_general_pairs_are_named(
    options: list[str], words: str, general: list[object], tmp_path: Path
) -> None:
    result = call(*general, *options, "--out", tmp_path / "out" / "x")
    assert result.exit_code == 2 and words in said(result), said(result)


# --- killed ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    log = tmp_path / "log"
    command = [sys.executable, str(LOOPBACK), "--log", str(log), "--delay", "0.1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1", log
    process.stdin.close()
    process.wait(timeout=10)
    process.stdout.close()


def test_a_killed_command_goes_on_and_pays_for_nothing_twice(server: tuple[str, Path], tmp_path: Path) -> None:
    url, log = server
    texts = [{"id": f"p{n}", "text": f"Name river number {n} of this list.", "language": "en"} for n in range(60)]
    model = tmp_path / "model.yaml"
    model.write_text(f"endpoint:\n  urls: ['{url}']\n  model: tiny\n  connections: 4\n", encoding="utf-8")
    out = tmp_path / "out" / "x"
    command = [
        sys.executable, "-m", "alignprism", "construct", "translate", jsonl(tmp_path / "p.jsonl", texts), "--to", "hi",
        "--translator", model, "--no-back", "--out", out,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 90
    while (not log.exists() or len(log.read_text().splitlines()) < 16) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        kept = len(store)
    before = len(log.read_text().splitlines())
    assert 0 < kept <= before < 60
    result = call("translate", tmp_path / "p.jsonl", "--to", "hi", "--translator", model, "--no-back", "--out", out)
    # The server writes no Hindi: every row is there, with that reason.
    assert result.exit_code == 1 and "no prompts were made" in said(result)
    assert len(read(out / "set_aside.jsonl")) == 60
    assert len(log.read_text().splitlines()) - before == 60 - kept
