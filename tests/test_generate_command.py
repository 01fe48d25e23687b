"""`generate` completes any file, goes on where it stopped, and says plainly what got no answer."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from alignprism.cli import app
from alignprism.models.store import CallStore

LOOPBACK = Path(__file__).parent / "models" / "loopback.py"
COMMAND = [sys.executable, "-m", "alignprism", "generate"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def said(result: Result) -> str:
    return " ".join((result.stdout + result.stderr).split())


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "in" / "p.jsonl", [{"text": f"प्रश्न {n}", "extra": n} for n in range(20)])


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


@pytest.fixture
def server(tmp_path: Path) -> Any:
    processes = []

    def start(*options: str) -> str:
        command = [sys.executable, str(LOOPBACK), *options]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{int(process.stdout.readline())}/v1"

    yield start
    for process in processes:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


def test_answers_stand_beside_the_columns_that_were_there(prompts: Path, server: Any, tmp_path: Path) -> None:
    options = ("--endpoint", server(), "--served-model", "tiny", "--temperature", "0.7", "--samples", "2")
    for name in ("a.jsonl", "a.parquet", "a.csv"):
        result = call("generate", prompts, *options, "--out", tmp_path / "out" / name)
        assert result.exit_code == 0, said(result)
    first = [json.loads(line) for line in (tmp_path / "out" / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(r["id"], r["sample"], r["extra"]) for r in first[:3]] == [
        ("row 1", 0, 0),
        ("row 1", 1, 0),
        ("row 2", 0, 1),
    ]
    assert first[0]["prompt"] == first[0]["text"] == "प्रश्न 0"
    assert len({r["completion"] for r in first}) == 40
    assert pq.read_table(tmp_path / "out" / "a.parquet").to_pylist() == first
    with (tmp_path / "out" / "a.csv").open(encoding="utf-8", newline="") as handle:
        assert [row["completion"] for row in csv.DictReader(handle)] == [r["completion"] for r in first]
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        assert len(store) == 40  # asked once for all three files
    check = call("calls", "check", tmp_path / "out")
    assert check.exit_code == 0, said(check)
    assert "Everything was done exactly once." in said(check)


def test_rows_without_an_answer_carry_their_reason_and_the_exit_code_says_so(
    prompts: Path, server: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "a.jsonl"
    options = ("--served-model", "tiny", "--set", "attempts=1", "--set", "timeout_seconds=0.4", "--out", out)
    result = call("generate", prompts, "--endpoint", server("--faults"), *options)
    assert result.exit_code == 1
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    failed = [row for row in rows if row["failure"]]
    assert failed and len(rows) == 20
    assert all(row["completion"] == "" and row["failure_detail"] for row in failed)
    assert f"{len(failed)} of 20 rows got no answer" in said(result)
    assert "प्रश्न" not in said(result)
    check = call("calls", "check", tmp_path / "out")
    assert check.exit_code == 1
    assert "Not everything was done exactly once." in said(check)


def test_a_dry_run_says_cost_and_where_the_text_goes_and_asks_nothing(prompts: Path, tmp_path: Path) -> None:
    options = ("--endpoint", "https://api.example.org/v1", "--served-model", "m", "--out", tmp_path / "out" / "a.jsonl")
    assert call("generate", prompts, *options, "--dry-run").exit_code == 2  # not even then without leave
    price = ("--set", "price={input: 1, output: 1000}", "--allow-remote", "api.example.org")
    result = call("generate", prompts, *options, *price, "--dry-run")
    assert result.exit_code == 0
    assert "20 calls" in said(result) and "at most $5.12" in said(result) and "go to api.example.org" in said(result)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "either --model"),
        (["--endpoint", "http://localhost:1/v1"], "--served-model"),
        (["--model", "m", "--served-model", "x"], "belong to --endpoint"),
        (["--endpoint", "localhost:1", "--served-model", "x"], "is no address"),
        (["--endpoint", "http://localhost:1/v1", "--served-model", "x", "--set", "conections=3"], "conections"),
        (["--endpoint", "http://far.org/v1", "--served-model", "x"], "far.org"),
        (["--model", "script:none.jsonl", "--samples", "2"], "greedy"),
        (["--model", "script:none.jsonl", "--column", "nothing"], "column nothing is missing; there are text, extra"),
        (["--model", "script:none.jsonl", "--prefix", ""], "none.jsonl"),
    ],
)
def test_what_cannot_work_is_wrong_input(options: list[str], says: str, prompts: Path, tmp_path: Path) -> None:
    result = call("generate", prompts, *options, "--out", tmp_path / "out" / "a.jsonl")
    assert result.exit_code == 2, said(result)
    assert says in said(result)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"text": "a", "id": "x"}, {"text": "b", "id": "x"}], "row 2: column id: 'x' stands in row 1 already"),
        ([{"text": " "}], "row 1: column text: a text"),
        ([{"prompt": [{"role": "user"}]}], "messages with role and content"),
        ([{"text": "a", "model": "x"}], "has a column model already; --prefix"),
        ([], "no rows"),
    ],
)
def test_a_file_that_cannot_be_completed_is_named_by_row(rows: list[dict[str, Any]], says: str, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "in" / "q.jsonl", rows)
    result = call("generate", file, "--model", "script:none.jsonl", "--out", tmp_path / "o.jsonl")
    assert result.exit_code == 2
    assert says in said(result)


def test_the_cap_stops_and_a_higher_one_goes_on(prompts: Path, server: Any, tmp_path: Path) -> None:
    out = tmp_path / "out" / "a.jsonl"
    price = ("--set", "price={input: 1000, output: 1000}", "--max-new-tokens", "8")
    options = ("--endpoint", server(), "--served-model", "tiny", *price, "--out", out)
    first = call("generate", prompts, *options, "--max-cost", "0.1")
    assert first.exit_code == 1
    assert "over budget" in said(first) and "raise --max-cost" in said(first)
    assert call("generate", prompts, *options, "--max-cost", "10").exit_code == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert all(row["completion"] for row in rows)


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_keeps_what_was_paid_for_and_the_same_command_goes_on(signals: int, server: Any, tmp_path: Path) -> None:
    prompts = jsonl(tmp_path / "in" / "many.jsonl", [{"text": f"prompt {n}"} for n in range(300)])
    log = tmp_path / "log"
    url = server("--log", str(log), "--delay", "0.2")
    options = [str(prompts), "--endpoint", url, "--served-model", "tiny", "--out", str(tmp_path / "out" / "a.jsonl")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*COMMAND, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while len(log.read_text().splitlines()) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        kept = len(store)
    if signals == 1:
        assert "in flight" in out
        assert kept == len(log.read_text().splitlines())
    assert 0 < kept < 300
    if signals == 1:
        again = subprocess.run([*COMMAND, *options], env=environment, stdout=subprocess.DEVNULL, check=False)
        assert again.returncode == 0
        assert len(log.read_text().splitlines()) == 300  # nothing that was paid for was asked again
