"""`construct rephrase` and `construct twins` on the command line: folders, counts, exit codes, a killed run that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from invented import NO, YES, inventive, seed
from typer.testing import CliRunner, Result

from alignprism.cli import app
from alignprism.construct.examples import Examples
from alignprism.construct.rephrase import new_prompt
from alignprism.construct.seeds import SYNTHETIC
from alignprism.models.store import CallStore
from alignprism.rows import Prompt, read_rows

LOOPBACK = Path(__file__).parent.parent / "models" / "loopback.py"
SEEDS = [seed(n) for n in range(3)]
HELD = [seed(7, split="dev"), seed(8, split="test")]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["construct", *(str(a) for a in arguments)])


def said(result: Result) -> str:
    return " ".join((result.stdout + result.stderr).split())


def write_prompts(path: Path, prompts: list[Prompt]) -> Path:
    rows = ({k: list(v) if isinstance(v, tuple) else v for k, v in asdict(prompt).items()} for prompt in prompts)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def script(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return f"script:{path}"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_prompts(tmp_path / "seeds.jsonl", [*SEEDS, *HELD])


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str]:
    """A writer and a checker as scripts: one round, three prompts from each seed."""
    from alignprism.models.protocol import Request

    replies = {
        f"{kind}/{one.id}/0": inventive(Request(f"{kind}/{one.id}/0", "numbered list of 3 "), 0)
        for kind in ("rephrase", "twin")
        for one in (*SEEDS, *HELD)
    }
    writer = script(tmp_path / "writer.jsonl", [{"id": name, "text": text} for name, text in replies.items()])
    made = [line.split(". ", 1)[1] for text in replies.values() for line in text.split("\n")]
    from alignprism.construct.twins import new_twin

    checks = [
        {"id": f"check/{make(one, text, 'w').id}", "text": reply}
        for make, reply in ((new_prompt, YES.format("global", "bullying_harassment")), (new_twin, NO))
        for one in (*SEEDS, *HELD)
        for text in made
    ]
    return writer, script(tmp_path / "checker.jsonl", checks)


ONE_ROUND = ("--rounds", "1", "--variants", "3")


def test_rephrase_writes_rows_what_was_set_aside_and_a_report(prompts: Path, models: Any, tmp_path: Path) -> None:
    out = tmp_path / "out" / "r"
    options = ("--writer", models[0], "--checker", models[1], *ONE_ROUND, "--per-seed", "2", "--no-embed")
    result = call("rephrase", prompts, *options, "--out", out)
    assert result.exit_code == 0, said(result)
    rows = read_rows(out / "prompts.parquet", Prompt)
    assert len(rows) == 6 and {r.split for r in rows} == {"train"} and all(SYNTHETIC in r.tags for r in rows)
    assert Counter(r.seed_id for r in rows) == {one.id: 2 for one in SEEDS}
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    aside = [json.loads(line) for line in (out / "set_aside.jsonl").read_text(encoding="utf-8").splitlines()]
    assert report["command"] == "rephrase" and report["stopped"] == "quota" and report["checked"]
    assert report["came"] == 9 == report["accepted"] + len(aside)
    assert Counter(row["reason"] for row in aside) == report["set_aside"]
    assert "over the quota 3" in said(result) and "6 prompts of 3 seeds" in said(result)
    texts = [p.text for p in (*SEEDS, *HELD, *rows)]
    shown = said(result) + json.dumps([report, aside], ensure_ascii=False)
    assert not [text for text in texts if text in shown]
    assert out.stat().st_mode & 0o077 == 0


def test_the_same_command_again_gives_the_same_bytes_and_asks_nothing(
    prompts: Path, models: Any, tmp_path: Path
) -> None:
    options = ("--writer", models[0], "--checker", models[1], *ONE_ROUND, "--no-embed")
    for name in ("a", "b"):
        assert call("rephrase", prompts, *options, "--out", tmp_path / "out" / name).exit_code == 0
        with CallStore(tmp_path / "out" / "calls.sqlite") as store:
            assert len(store) == 3 + 9
    for file in ("prompts.parquet", "set_aside.jsonl", "report.json"):
        assert (tmp_path / "out" / "a" / file).read_bytes() == (tmp_path / "out" / "b" / file).read_bytes()
    again = call("rephrase", prompts, *options, "--out", tmp_path / "out" / "a")
    assert again.exit_code == 2 and "exists; name a new folder" in said(again)


@pytest.mark.parametrize("command", ["rephrase", "twins"])
def test_every_written_prompt_names_its_seed_and_its_calls_and_they_are_proved(
    command: str, prompts: Path, models: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "w"
    options = ("--writer", models[0], "--checker", models[1], *ONE_ROUND)
    assert call(command, prompts, *options, "--out", out).exit_code == 0
    rows = read_rows(out / "prompts.parquet", Prompt)
    origins = [json.loads(line) for line in (out / "origins.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["id"], row["seed"]) for row in origins] == [(prompt.id, prompt.seed_id) for prompt in rows]
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        roles = {purpose.key: purpose.role for purpose in store.purposes()}
    assert {tuple(roles[key] for key in row["calls"]) for row in origins} == {("write", "check")}
    proved = CliRunner().invoke(app, ["calls", "check", str(tmp_path / "out")])
    assert proved.exit_code == 0 and f"w/prompts writer {len(rows)} {len(rows)}" in said(proved), said(proved)
    (out / "origins.jsonl").write_text(
        "".join(json.dumps(row | {"calls": row["calls"] if n else ["gone"]}) + "\n" for n, row in enumerate(origins)),
        encoding="utf-8",
    )
    broken = CliRunner().invoke(app, ["calls", "check", str(tmp_path / "out")])
    assert broken.exit_code == 1 and "its call is not in the store" in said(broken), said(broken)


def test_twins_lie_in_their_seeds_splits(prompts: Path, models: Any, tmp_path: Path) -> None:
    out = tmp_path / "out" / "t"
    result = call("twins", prompts, "--writer", models[0], "--checker", models[1], *ONE_ROUND, "--out", out)
    assert result.exit_code == 0, said(result)
    rows = read_rows(out / "prompts.parquet", Prompt)
    assert [(r.seed_id, r.split, r.set) for r in rows] == [(p.seed_id, p.split, "benign") for p in (*SEEDS, *HELD)]


def test_without_a_checker_it_says_so(prompts: Path, models: Any, tmp_path: Path) -> None:
    out = tmp_path / "out" / "r"
    result = call("rephrase", prompts, "--writer", models[0], *ONE_ROUND, "--no-embed", "--out", out)
    assert result.exit_code == 0 and "Nothing was checked" in said(result)
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["checked"] is False


def test_a_checker_that_accepts_nothing_fails_and_leaves_the_reasons(
    prompts: Path, models: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "t"
    wrong = script(tmp_path / "wrong.jsonl", [{"prompt": "never asked", "text": NO}])
    result = call("twins", prompts, "--writer", models[0], "--checker", wrong, *ONE_ROUND, "--out", out)
    assert result.exit_code == 2 and "no row for request" in said(result) and not out.exists()
    refusing = script(
        tmp_path / "refusing.jsonl",
        [{"id": f"rephrase/{one.id}/0", "text": "I'm sorry, but I can't help with that."} for one in SEEDS],
    )
    result = call("rephrase", prompts, "--writer", refusing, *ONE_ROUND, "--no-embed", "--out", out)
    assert result.exit_code == 1 and "nothing was accepted (refusal instead of a prompt 3)" in said(result)
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["accepted"] == 0


def test_a_spent_budget_is_exit_code_1_and_what_was_made_is_written(prompts: Path, models: Any, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (tmp_path / "writer.jsonl").read_text(encoding="utf-8").splitlines()]
    poor = script(tmp_path / "poor.jsonl", [*rows[:2], {"id": rows[2]["id"], "failure": "over budget"}])
    out = tmp_path / "out" / "r"
    result = call("rephrase", prompts, "--writer", poor, *ONE_ROUND, "--no-embed", "--out", out)
    assert result.exit_code == 1 and "ended early: over budget" in said(result) and "--max-cost" in said(result)
    assert len(read_rows(out / "prompts.parquet", Prompt)) == 6


def test_a_dry_run_says_calls_cost_and_where_text_goes_and_asks_nothing(prompts: Path, tmp_path: Path) -> None:
    model = tmp_path / "far.yaml"
    model.write_text(
        "endpoint: {urls: ['https://api.example.org/v1'], model: m, price: {input: 1, output: 1000}}\n",
        encoding="utf-8",
    )
    for command in ("rephrase", "twins"):
        options = ("--writer", model, "--checker", model, "--out", tmp_path / "out" / "x", "--dry-run")
        result = call(command, prompts, *options)
        assert result.exit_code == 0, said(result)
        calls = 3 if command == "rephrase" else 5
        assert f"first round {calls} calls" in said(result) and "at most $" in said(result)
        assert "api.example.org (not allowed yet: --allow-remote api.example.org)" in said(result)
        assert "Nothing was asked" in said(result) and not (tmp_path / "out").exists()
    refused = call("rephrase", prompts, "--writer", model, "--out", tmp_path / "out" / "x")
    assert refused.exit_code == 2 and "api.example.org" in said(refused)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--language", "hi"], "no seed there"),
        (["--language", "klingonish"], "klingonish"),
        (["--per-seed", "0"], "--per-seed"),
        (["--temperature", "-1"], "--temperature"),
        (["--template", "none.jinja"], "none.jinja"),
        (["--template", "none.jinja", "--writer", "no/model"], "none.jinja"),  # before a model is looked for
        (["--max-cost", "-1"], "a cap of -1"),
    ],
)
def test_what_cannot_work_is_wrong_input(
    options: list[str], says: str, prompts: Path, models: Any, tmp_path: Path
) -> None:
    result = call("rephrase", prompts, "--writer", models[0], "--no-embed", "--out", tmp_path / "out" / "r", *options)
    assert result.exit_code == 2, said(result)
    assert says in said(result)
    assert not (tmp_path / "out" / "r").exists()


@pytest.mark.parametrize("command", ["rephrase", "twins"])
def test_a_folder_that_cannot_be_made_is_named_before_anything_is_asked(
    command: str, prompts: Path, models: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = call(command, prompts, "--writer", models[0], "--out", tmp_path / "file" / "r")
    assert result.exit_code == 2 and "is a file, and nothing can be written below it" in said(result)


def test_where_no_row_can_be_read_the_first_is_named_without_its_text(models: Any, tmp_path: Path) -> None:
    # A comma that nobody quoted moves a text into the column of languages.
    text = "mocks the neighbour for a very old hat and for his coat"
    path = tmp_path / "shifted.csv"
    path.write_text(f"id,text,language,split\na,Something that, {text},en,train\n", encoding="utf-8")
    result = call("rephrase", path, "--writer", models[0], "--out", tmp_path / "out" / "r")
    assert result.exit_code == 2, said(result)
    assert "the first unreadable one" in said(result) and "row 1" in said(result) and text not in said(result)


@pytest.mark.parametrize("command", ["rephrase", "twins"])
def test_a_seed_too_long_to_be_a_prompt_is_set_aside_and_never_sent(command: str, models: Any, tmp_path: Path) -> None:
    long = replace(seed(0), id="long", seed_id="long", text="Insult him. " * 100_000)
    file = write_prompts(tmp_path / "long.jsonl", [long, *SEEDS])
    out = tmp_path / "out" / "r"
    options = ("--writer", models[0], *ONE_ROUND, "--out", out)
    result = call(command, file, *options)
    assert result.exit_code == 0, said(result)
    assert "1 rows could not be read" in said(result)
    first = json.loads((out / "set_aside.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["id"] == f"{file}: row 1" and "1,200,000 characters; the limit is 100,000" in first["detail"]


def test_rows_that_are_none_are_counted_and_made_prompts_are_no_seeds(models: Any, tmp_path: Path) -> None:
    made = replace(SEEDS[2], id="made", tags=(SYNTHETIC,))
    path = write_prompts(tmp_path / "mixed.jsonl", [*SEEDS[:2], made, *HELD])
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"text": "A row in no language.", "id": "bad"}) + "\n")
    out = tmp_path / "out" / "r"
    result = call("rephrase", path, "--writer", models[0], *ONE_ROUND, "--no-embed", "--out", out)
    assert result.exit_code == 0, said(result)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["seeds"]["given"] == 2 and report["unreadable_rows"] == 1
    assert "1 rows could not be read" in said(result) and "unreadable row" in (out / "set_aside.jsonl").read_text()
    empty = call(
        "rephrase", write_prompts(tmp_path / "none.jsonl", [made]), "--writer", models[0], "--out", tmp_path / "o"
    )
    assert empty.exit_code == 2 and "no seed there" in said(empty)


def test_a_killed_run_goes_on_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    """SIGKILL in the middle of the writer's calls; the same command then asks only for what is missing."""
    many = write_prompts(tmp_path / "many.jsonl", [seed(n) for n in range(60)])
    log = tmp_path / "log"
    server = subprocess.Popen(
        [sys.executable, str(LOOPBACK), "--log", str(log), "--delay", "0.3"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None and server.stdin is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        model = tmp_path / "m.yaml"
        model.write_text(f"endpoint: {{urls: ['{url}'], model: tiny, connections: 4}}\n", encoding="utf-8")
        command = [
            sys.executable, "-m", "alignprism", "construct", "rephrase", str(many), "--writer", str(model), "--rounds", "1",
            "--no-embed", "--out", str(tmp_path / "out" / "r"),
        ]  # fmt: skip
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and (not log.exists() or len(log.read_text().splitlines()) < 12):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        assert not (tmp_path / "out" / "r").exists()
        with CallStore(tmp_path / "out" / "calls.sqlite") as store:
            kept = len(store)
        assert 0 < kept < 60
        time.sleep(0.5)  # what was in flight ends at the server
        before = len(log.read_text().splitlines())
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        # The server's replies are no lists, so nothing is accepted; every call is accounted for all the same.
        assert again.returncode == 1 and "nothing was accepted" in again.stderr
        assert len(log.read_text().splitlines()) - before == 60 - kept
        report = json.loads((tmp_path / "out" / "r" / "report.json").read_text(encoding="utf-8"))
        assert report["came"] == sum(report["set_aside"].values()) == 60
    finally:
        server.stdin.close()
        server.wait(timeout=10)
        server.stdout.close()


def test_examples_are_never_held_out() -> None:
    with pytest.raises(ValueError, match="split train"):
        Examples([*SEEDS, *HELD], None, 0.5)
