"""`alignprism judge pair|translations|summaries`: any file, a real socket, nothing asked twice, figures beside the rows."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judge_server import serving
from typer.testing import CliRunner, Result

from alignprism.cli import app

ANSWER = r"<<<ANSWER \({0}\) (\w+)>>>\n(.*?)\n<<<END OF ANSWER"


def longer(shown: str) -> str:
    first, second = (len(re.search(ANSWER.format(letter), shown, re.DOTALL)[2]) for letter in "AB")
    return f"Comparison: length\nPreferred: {'TIE' if first == second else 'Answer (A)' if first > second else 'Answer (B)'}"


def call(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(app, ["judge", *map(str, arguments)], env={"COLUMNS": "200", **environment})


def pairs(count: int = 24) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Say {n}", "completion_a": "x" * (3 + n % 5), "completion_b": "y" * (4 + n % 3), "language": "hi" if n % 2 else "en", "mine": n}
        for n in range(count)
    ]  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def judge_file(folder: Path, address: str, more: str = "") -> Path:
    file = folder / "pairwise.yaml"
    file.write_text(
        f"{more}model:\n  endpoint:\n    urls: ['{address}']\n    model: judge-1\n    attempts: 1\n    price: {{input: 1, output: 1}}\n",
        encoding="utf-8",
    )
    return file


def test_pairs_are_compared_in_both_orders_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    rows = [
        *pairs(),
        {**pairs()[0], "completion_b": None, "mine": 24},
        {**pairs()[0], "completion_a": "yyyy", "mine": 25},
    ]
    file, out = write(tmp_path / "pairs.jsonl", rows), tmp_path / "out" / "wins.jsonl"
    with serving(longer) as server:
        judge = judge_file(tmp_path, server.address)
        done = call("pair", file, "--judge", judge, "--out", out)
        assert done.exit_code == 0, done.output
        asked = 2 * 24  # a row without an answer and a row with two equal ones are not sent
        assert len(server.shown) == asked
        first, figures = read(out), read(out.with_name("wins.figures.jsonl"))
        again = call("pair", file, "--judge", judge, "--out", out)
        assert again.exit_code == 0 and len(server.shown) == asked
    assert read(out) == first and read(out.with_name("wins.figures.jsonl")) == figures
    assert [row["mine"] for row in first] == list(range(26))
    for row in first[:24]:
        a, b = len(row["completion_a"]), len(row["completion_b"])
        assert row["preferred"] == ("tie" if a == b else "a" if a > b else "b")
        assert (row["flipped"], row["reason_ab"], len(row["calls"])) == (False, "length", 2)
    assert (first[24]["preferred"], first[24]["reason_ab"]) == ("", "not compared: an answer is missing")
    assert (first[25]["preferred"], first[25]["reason_ab"]) == ("tie", "identical answers: not asked")
    half = [f for f in figures if f["metric"] == "win_rate" and f["estimand"].endswith("ties half")]
    assert [(f["language"], f["n"]) for f in half] == [("en", 13), ("hi", 12), (None, 25)]
    assert "b over a" in done.output and "ties dropped" in done.output
    assert "xxxx" not in done.output


def test_an_interrupted_or_unaffordable_run_goes_on(tmp_path: Path) -> None:
    file, out = write(tmp_path / "pairs.jsonl", pairs()), tmp_path / "wins.jsonl"
    with serving(longer) as server:
        judge = judge_file(tmp_path, server.address)
        done = call("pair", file, "--judge", judge, "--out", out, "--max-cost", "0.0000001")
        assert done.exit_code == 1 and "48 comparisons were not made" in done.output and not server.shown
        assert {row["preferred"] for row in read(out)} == {"undecidable"}
        assert call("pair", file, "--judge", judge, "--out", out).exit_code == 0
        assert len(server.shown) == 48
    assert "undecidable" not in {row["preferred"] for row in read(out)}


def test_a_judge_that_never_parses_ends_with_a_clear_error(tmp_path: Path) -> None:
    file, out = write(tmp_path / "pairs.jsonl", pairs(12)), tmp_path / "wins.jsonl"
    with serving(lambda _: "Both have merits.") as server:
        done = call("pair", file, "--judge", judge_file(tmp_path, server.address), "--out", out)
    assert done.exit_code == 1
    assert "decided none of 24 comparisons (most often: unparsable: no verdict line)" in done.output
    assert "100 (" in done.output and "% undecidable, in no win rate" in done.output.replace("\n", " ")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_other_kinds_of_files_other_names_and_more_models(tmp_path: Path, suffix: str) -> None:
    rows = []
    for n, row in enumerate(pairs(60)):
        a, b = [("base", "sft"), ("sft", "dpo"), ("dpo", "base")][n % 3]
        rows.append({**row, "response_a": row.pop("completion_a"), "model_a": a, "model_b": b})
    file, out = write(tmp_path / f"pairs{suffix}", rows), tmp_path / f"wins{suffix}"
    with serving(longer) as server:
        judge = judge_file(tmp_path, server.address, "kind: pairwise\nprompt_language: target\n")
        done = call("pair", file, "--judge", judge, "--out", out, "--column", "completion_a=response_a")
        assert done.exit_code == 0, done.output
    assert out.exists() and out.with_name(f"wins.figures{suffix}").exists()
    assert "sft over base" in done.output and "dpo over sft" in done.output
    assert "chance that dpo beats base (Bradley-Terry)" in done.output


def test_a_dry_run_asks_nothing_and_says_what_goes_where(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", [*pairs(), {**pairs()[0], "completion_a": "yyyy"}])
    done = call(
        "pair",
        file,
        "--judge",
        judge_file(tmp_path, "https://judge.example.org/v1"),
        "--out",
        tmp_path / "w.jsonl",
        "--dry-run",
    )
    assert done.exit_code == 0, done.output
    assert "25 pairs to compare in both orders, 1 of them identical" in done.output
    assert "48 calls" in done.output and "at most $" in done.output
    assert "judge.example.org (not allowed yet: --allow-remote judge.example.org)" in done.output
    assert not (tmp_path / "calls.sqlite").exists()


def test_a_remote_host_that_is_not_allowed_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", pairs())
    done = call(
        "pair", file, "--judge", judge_file(tmp_path, "https://judge.example.org/v1"), "--out", tmp_path / "w.jsonl"
    )
    assert done.exit_code == 2 and "allow_remote does not list" in done.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": " "}, "row 1: column prompt: a text is expected"),
        ({"completion_a": 7}, "row 1: column completion_a: a text is expected, not int"),
        ({"language": "xx-"}, "row 1: column language: "),
        ({"language": "de"}, "no template for de"),
        ({"model_a": "base"}, "model_a and model_b come together"),
        ({"model_a": "base", "model_b": "base"}, "are the same model, 'base'"),
        ({"preferred": "a"}, "the file has a column preferred already"),
    ],
)
def test_bad_rows_are_named_before_anything_is_asked(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    file = write(tmp_path / "pairs.jsonl", [{**pairs()[0], **change}])
    with serving(longer) as server:
        judge = judge_file(tmp_path, server.address, "prompt_language: target\n")
        done = call("pair", file, "--judge", judge, "--out", tmp_path / "w.jsonl")
        assert done.exit_code == 2 and said in done.output, done.output
        assert not server.shown


def test_bad_judge_files_name_line_and_key(tmp_path: Path) -> None:
    file, judge = write(tmp_path / "pairs.jsonl", pairs()), tmp_path / "pairwise.yaml"
    judge.write_text("model:\n  source: x/y\nordre: both\n", encoding="utf-8")
    done = call("pair", file, "--judge", judge, "--out", tmp_path / "w.jsonl")
    assert done.exit_code == 2
    assert (
        "pairwise.yaml:3: ordre: unknown key; accepted here: model, prompt_language, template, max_new_tokens"
        in done.output
    )
    missing = write(tmp_path / "short.jsonl", [{"prompt": "x", "completion_a": "y", "language": "en"}])
    judge.write_text("model:\n  source: x/y\n", encoding="utf-8")
    done = call("pair", missing, "--judge", judge, "--out", tmp_path / "w.jsonl")
    assert "column completion_b is missing" in done.output and "--column completion_b=THEIRS" in done.output


def test_translations_are_scored_against_a_baseline(tmp_path: Path) -> None:
    rows = [
        {"model": model, "id": n, "reference": f"The {n} trains leave the old town at noon", "language": "en", "source_language": "ru",
         "completion": f"The {n} trains leave {place} at noon"}
        for n in range(40)
        for model, place in (("base", "a town"), ("tuned", "the old town" if n % 2 else "a city"))
    ]  # fmt: skip
    out = tmp_path / "scores.jsonl"
    done = call(
        "translations",
        write(tmp_path / "t.jsonl", [*rows, {**rows[0], "id": 99, "completion": None}]),
        "--out",
        out,
        "--baseline",
        "base",
        "--tokenizer",
        "13a",
    )
    assert done.exit_code == 0, done.output
    found = {(f["metric"], f["estimand"], f["model"]): f for f in read(out)}
    assert found["chrf++", "b - a, paired; to English", "tuned"]["low"] > 0
    assert found["bleu", "to English; tok:13a", "base"]["language"] == "ru"
    assert found["spbleu", "to English", "base"]["estimate"] is None
    assert "no SentencePiece model is named" in done.output and "1 rows without a completion" in done.output
    for more, said in (
        (["--tokenizer", "flores200"], "--tokenizer flores200: accepted: intl, char"),
        (["--baseline", "gpt"], "--baseline gpt: no such model in the file; there are base, tuned"),
    ):
        wrong = call("translations", tmp_path / "t.jsonl", "--out", out, *more)
        assert wrong.exit_code == 2 and said in wrong.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source_language": None}, "needs the column source_language"),
        ({"source_language": "en"}, "must be English, not both or neither"),
        ({"reference": ""}, "row 1: column reference: a text is expected"),
        ({"completion": None}, "no row with a completion"),
    ],
)
def test_translations_that_cannot_be_scored_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    row = {"id": 1, "reference": "x", "language": "en", "source_language": "ru", "completion": "x", **change}
    done = call("translations", write(tmp_path / "t.jsonl", [row]), "--out", tmp_path / "o.jsonl")
    assert done.exit_code == 2 and said in done.output, done.output


def test_summaries_are_scored_in_any_script(tmp_path: Path) -> None:
    rows = [{"reference": f"सड़क {n} खुली है", "completion": f"सड़क {n} खुली है", "language": "hi"} for n in range(12)]
    out = tmp_path / "scores.csv"
    done = call("summaries", write(tmp_path / "s.csv", rows), "--out", out)
    assert done.exit_code == 0, done.output
    assert "rougeL" in done.output and "100.0" in done.output
    twice = call("summaries", write(tmp_path / "s.csv", [rows[0], rows[0]]), "--out", out)
    assert twice.exit_code == 2 and "model 'model' has two completions" in twice.output
