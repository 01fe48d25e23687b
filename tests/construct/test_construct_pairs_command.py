"""`construct pairs` and `construct mix`: what they write and count, what they refuse, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from alignprism.cli import app
from alignprism.models.store import CallStore
from alignprism.rows import Comparison, Completion, Pair, Prompt, content_id, file_digest, read_rows, write_rows

LOOPBACK = Path(__file__).parent.parent / "models" / "loopback.py"
COMMAND = [sys.executable, "-m", "alignprism", "construct", "pairs"]

KIND, RUDE, LATER = (
    "Please let us talk about it.",
    "You are a silly goose, all of you.",
    "I would rather say nothing here.",
)
FORBIDDEN = "In which year was the treaty against chemical weapons signed?"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["construct", *(str(a) for a in arguments)])


def said(result: Result) -> str:
    return " ".join((result.stdout + result.stderr).split())


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def prompt(name: str, **more: Any) -> dict[str, Any]:
    row = {"id": name, "text": f"Quietly mock {name}.", "language": "en", "split": "train", "scope": "local"}
    return row | {"licence": "CC0-1.0", "redistribute": True} | more


def generator(path: Path, **answers: str) -> str:
    return f"script:{jsonl(path, [{'id': name, 'text': text} for name, text in answers.items()])}"


def judge_file(path: Path, *harmful: bool | None) -> Path:
    """A judge that says this of the first candidate, the second, ...; None: something that nobody can read."""
    words = {True: "harmful", False: "harmless"}
    replies = [
        "I had rather not." if is_so is None else f"Reason: it is so.\nVerdict: {words[is_so]}\nCategory: none"
        for is_so in harmful
    ]
    script = jsonl(path.with_suffix(".jsonl"), [{"id": str(n), "text": text} for n, text in enumerate(replies)])
    path.write_text(f"kind: rubric\nmodel: {{source: 'script:{script}'}}\n", encoding="utf-8")
    return path


def report_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return found


def aside_of(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "set_aside.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def two(tmp_path: Path) -> list[object]:
    """Two prompts, two generators and a judge: of the first prompt one answer is harmful, of the second both are."""
    prompts = jsonl(tmp_path / "in" / "p.jsonl", [prompt("one"), prompt("two"), prompt("held", split="test")])
    a = generator(tmp_path / "in" / "a.jsonl", one=KIND, two=RUDE)
    b = generator(tmp_path / "in" / "b.jsonl", one=RUDE, two=RUDE + " Again.")
    judge = judge_file(tmp_path / "in" / "judge.yaml", False, True, True, True)
    options = ["--samples", 1, "--temperature", 0, "--out", tmp_path / "out" / "made"]
    return ["pairs", prompts, "--generator", a, "--generator", b, "--judge", judge, *options]


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_two_generators_and_a_judge_make_pairs_that_say_where_they_are_from(two: list[object], tmp_path: Path) -> None:
    result = call(*two)
    assert result.exit_code == 0, said(result)
    out = tmp_path / "out" / "made"
    (pair,) = read_rows(out / "pairs.parquet", Pair)
    assert (pair.prompt_id, pair.chosen, pair.rejected, pair.kind, pair.scope) == ("one", KIND, RUDE, "safety", "local")
    rows = {row.id: row for row in read_rows(out / "completions.parquet", Completion)}
    assert rows[pair.chosen_completion].text == KIND and rows[pair.rejected_completion].text == RUDE
    assert pair.chosen_digest == rows[pair.chosen_completion].model_digest != pair.rejected_digest
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        assert set(store.get_many([pair.chosen_call, pair.rejected_call])) == {pair.chosen_call, pair.rejected_call}
    assert (pair.ranking, pair.margin, pair.licence, pair.redistribute) == ("scores", 1.0, "CC0-1.0", True)
    assert pair.judge_digest == report_of(out)["judge"]["digest"]


def test_a_harmful_answer_is_never_chosen_and_every_prompt_is_counted(two: list[object], tmp_path: Path) -> None:
    result = call(*two)
    out = tmp_path / "out" / "made"
    counts = report_of(out)["prompts"]
    assert counts == {"read": 3, "used": 2, "split test": 1, "pairs": 1, "without_pair": {"chosen harmful": 1}}
    assert Counter(row["reason"] for row in aside_of(out)) == {"chosen harmful": 1, "split test": 1}
    assert report_of(out)["candidates"] == {"a.jsonl": 2, "b.jsonl": 2}
    assert "no pair, 1 prompts: chosen harmful" in said(result)
    assert out.stat().st_mode & 0o777 == 0o700


def test_no_text_is_printed_or_reported(two: list[object], tmp_path: Path) -> None:
    printed = said(call(*two))
    written = "".join((tmp_path / "out" / "made" / name).read_text() for name in ("report.json", "set_aside.jsonl"))
    for piece in ("Quietly mock", "talk about it", "silly goose"):
        assert piece not in printed and piece not in written


def test_where_every_chosen_answer_would_be_harmful_the_folder_says_so_and_the_command_fails(
    two: list[object], tmp_path: Path
) -> None:
    judge_file(tmp_path / "in" / "judge.yaml", True, True, True, True)
    result = call(*two)
    assert result.exit_code == 1
    assert "not one pair was made" in said(result)
    assert report_of(tmp_path / "out" / "made")["prompts"]["without_pair"] == {"chosen harmful": 2}


def test_an_answer_that_the_judge_cannot_decide_on_is_in_no_pair(two: list[object], tmp_path: Path) -> None:
    judge_file(tmp_path / "in" / "judge.yaml", None, True, False, True)
    result = call(*two)
    assert result.exit_code == 0, said(result)
    out = tmp_path / "out" / "made"
    assert [pair.prompt_id for pair in read_rows(out / "pairs.parquet", Pair)] == ["two"]
    assert report_of(out)["candidates_not_judged"] == 1
    assert "the judge could not decide on: 1" in said(result)
    assert report_of(out)["prompts"]["without_pair"] == {"one candidate": 1}


def test_a_missing_or_forbidden_answer_is_set_aside_and_never_a_candidate(two: list[object], tmp_path: Path) -> None:
    rows = [{"id": "one", "failure": "timeout"}, {"id": "two", "text": FORBIDDEN}]
    jsonl(tmp_path / "in" / "b.jsonl", rows)
    judge_file(tmp_path / "in" / "judge.yaml", False, True)
    assert call(*two).exit_code == 1
    out = tmp_path / "out" / "made"
    assert report_of(out)["answers_missing"] == {"no answer: timeout": 1, "withheld by the handling rules": 1}
    assert report_of(out)["prompts"]["without_pair"] == {"one candidate": 2}


def test_answers_of_people_stand_beside_one_generator(two: list[object], tmp_path: Path) -> None:
    brought = jsonl(
        tmp_path / "in" / "brought.jsonl",
        [
            {
                "prompt_id": "one",
                "text": LATER,
                "source": "Ana",
                "kind": "human",
                "licence": "own",
                "redistribute": False,
            },
            {"prompt": "Quietly mock two.", "text": KIND, "source": "Ana", "kind": "human"},
            {"prompt_id": "none", "text": KIND, "source": "Ana"},
        ],
    )
    # In the order: brought, then sampled.
    judge_file(tmp_path / "in" / "judge.yaml", False, True, False, True)
    arguments = [argument for argument in two if argument != two[5]]
    del arguments[arguments.index("--generator", 4)]
    result = call(*arguments, "--completions", brought)
    assert result.exit_code == 0, said(result)
    pairs = {pair.prompt_id: pair for pair in read_rows(tmp_path / "out" / "made" / "pairs.parquet", Pair)}
    assert (pairs["one"].chosen_source, pairs["one"].chosen_origin) == ("Ana", "human")
    assert (pairs["one"].licence, pairs["one"].redistribute) == ("CC0-1.0; own", False)
    assert not pairs["two"].redistribute, "nobody said that Ana's answer may be passed on"
    assert report_of(tmp_path / "out" / "made")["supplied_not_used"] == {"no such prompt": 1}


def pairwise_file(folder: Path, *preferred: str) -> Path:
    """A pairwise judge of prompt `one`: what it says in order ab, and in order ba."""
    digests = [f"script {file_digest(folder / f'{name}.jsonl')}" for name in "ab"]
    first, second = (content_id(digest, "one", 0, "candidate") for digest in digests)
    rows = [
        {"id": f"one/{first}/{second}/{order}", "text": f"Comparison: so it is.\nPreferred: {word}"}
        for order, word in zip(("ab", "ba"), preferred, strict=True)
    ]
    script = jsonl(folder / "pairwise.jsonl", rows)
    path = folder / "pairwise.yaml"
    path.write_text(f"model: {{source: 'script:{script}'}}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("preferred", "outcome"),
    [
        (("Answer (A)", "Answer (B)"), {"pairs": 1, "without_pair": {}}),
        (("Answer (A)", "Answer (A)"), {"pairs": 0, "without_pair": {"tie": 1}}),
        (("Answer (B)", "Answer (A)"), {"pairs": 0, "without_pair": {"chosen harmful": 1}}),
        (("who knows", "Answer (B)"), {"pairs": 0, "without_pair": {"undecidable": 1}}),
    ],
)
def test_with_a_pairwise_judge_a_pair_needs_both_orders_and_a_harmless_winner(
    preferred: tuple[str, str], outcome: dict[str, Any], two: list[object], tmp_path: Path
) -> None:
    jsonl(tmp_path / "in" / "p.jsonl", [prompt("one")])
    pairwise = pairwise_file(tmp_path / "in", *preferred)
    result = call(*two, "--pairwise", pairwise)
    assert result.exit_code == (0 if outcome["pairs"] else 1), said(result)
    out = tmp_path / "out" / "made"
    counts = report_of(out)["prompts"]
    assert {name: counts[name] for name in outcome} == outcome
    assert len(read_rows(out / "comparisons.parquet", Comparison)) == 2
    assert report_of(out)["comparisons"]["flips"] == (preferred[0] == preferred[1])
    for pair in read_rows(out / "pairs.parquet", Pair):
        assert (pair.ranking, pair.comparer, pair.margin) == ("both", "pairwise.jsonl", 2.0)
        assert pair.comparer_digest and pair.chosen == KIND


def test_lengths_are_matched_when_asked_and_what_goes_is_counted(two: list[object], tmp_path: Path) -> None:
    result = call(*two, "--match-lengths", "0.01")
    assert result.exit_code == 1, said(result)  # the one pair there is has sides of different length
    counts = report_of(tmp_path / "out" / "made")["prompts"]
    assert counts["without_pair"] == {"chosen harmful": 1, "left out to match lengths": 1}


def test_a_dry_run_says_calls_and_destinations_and_asks_nothing(two: list[object], tmp_path: Path) -> None:
    far = tmp_path / "in" / "far.yaml"
    far.write_text(
        "endpoint: {urls: ['https://api.example.org/v1'], model: m, price: {input: 1, output: 1000}}\n",
        encoding="utf-8",
    )
    result = call(*two, "--generator", far, "--dry-run")
    assert result.exit_code == 0, said(result)
    assert "far.yaml: 2 calls" in said(result) and "at most $0.51" in said(result)
    assert "texts go to: api.example.org (not allowed yet: --allow-remote api.example.org)" in said(result)
    assert "2 prompts with up to 3 candidates each" in said(result) and "Nothing was asked" in said(result)
    assert not (tmp_path / "out").exists()
    refused = call(*two, "--generator", far)
    assert refused.exit_code == 2 and "api.example.org" in said(refused)
    assert not (tmp_path / "out" / "made").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--ranking", "dice"], "accepted: scores, comparisons, both"),
        (["--ranking", "both"], "--pairwise goes with comparisons and both"),
        (["--pairwise", "none.yaml"], "none.yaml: cannot be read"),
        (["--languages", "en,klingon"], "--languages: "),
        (["--languages", "hi"], "2 another language"),
        (["--completions", "none.jsonl"], "none.jsonl: no such file"),
        (["--samples", "3"], "greedy"),
        (["--temperature", "nan"], "a number of at least 0"),
        (["--judge", "no-such-head"], "no-such-head"),
    ],
)
def test_what_cannot_work_is_wrong_input(options: list[str], says: str, two: list[object], tmp_path: Path) -> None:
    result = call(*two, *options)
    assert result.exit_code == 2, said(result)
    assert says in said(result)
    assert not (tmp_path / "out" / "made").exists()


def test_one_source_of_candidates_is_refused_and_so_is_one_model_twice(two: list[object], tmp_path: Path) -> None:
    alone = [*two[:4], *two[6:]]
    result = call(*alone)
    assert result.exit_code == 2 and "two sources at least" in said(result)
    twice = [*two[:5], two[3], *two[6:]]
    result = call(*twice)
    assert result.exit_code == 2 and "named twice" in said(result)
    copy = tmp_path / "in" / "copy.jsonl"
    copy.write_bytes((tmp_path / "in" / "a.jsonl").read_bytes())
    result = call(*two[:5], f"script:{copy}", *two[6:])
    assert result.exit_code == 2 and "the same weights as" in said(result)
    jsonl(tmp_path / "in" / "p.jsonl", [prompt("one", reference=LATER), prompt("two")])
    judge_file(tmp_path / "in" / "judge.yaml", False, True, True)
    assert call(*alone).exit_code == 0  # a reference is a source of its own


def test_answers_that_were_brought_and_cannot_be_used_are_named(two: list[object], tmp_path: Path) -> None:
    brought = jsonl(tmp_path / "in" / "c.jsonl", [{"prompt_id": "nine", "text": KIND, "source": "Ana"}])
    result = call(*two[:4], *two[6:], "--completions", brought)
    assert result.exit_code == 2 and "of those brought some were not used: no such prompt (1)" in said(result)


def test_scores_of_harm_do_not_rank_answers_to_ordinary_prompts(two: list[object], tmp_path: Path) -> None:
    jsonl(tmp_path / "in" / "p.jsonl", [prompt("one"), prompt("two", set="general")])
    result = call(*two)
    assert result.exit_code == 2
    assert "'two'" in said(result) and "construct general" in said(result)


def test_a_folder_that_exists_is_left_alone(two: list[object], tmp_path: Path) -> None:
    assert call(*two).exit_code == 0
    result = call(*two)
    assert result.exit_code == 2 and "name a new folder" in said(result)


def test_another_run_beside_it_asks_nothing_twice_and_makes_the_same_bytes(two: list[object], tmp_path: Path) -> None:
    assert call(*two).exit_code == 0
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        calls = len(store)
    assert call(*two[:-1], tmp_path / "out" / "again").exit_code == 0
    with CallStore(tmp_path / "out" / "calls.sqlite") as store:
        assert len(store) == calls
    for name in ("pairs.parquet", "report.json", "set_aside.jsonl", "completions.parquet"):
        assert (tmp_path / "out" / "again" / name).read_bytes() == (tmp_path / "out" / "made" / name).read_bytes()


def test_a_killed_run_goes_on_and_asks_no_call_again(tmp_path: Path) -> None:
    names = [f"p{n}" for n in range(60)]
    prompts = jsonl(tmp_path / "in" / "p.jsonl", [prompt(name) for name in names])
    log = tmp_path / "log"
    options = ["--log", str(log), "--delay", "0.2"]
    server = subprocess.Popen(
        [sys.executable, str(LOOPBACK), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None and server.stdin is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        model = tmp_path / "in" / "served.yaml"
        model.write_text(f"endpoint: {{urls: ['{address}'], model: tiny, connections: 4}}\n", encoding="utf-8")
        rude = generator(tmp_path / "in" / "rude.jsonl", **dict.fromkeys(names, RUDE))
        judge = judge_file(tmp_path / "in" / "judge.yaml", *[False, True] * len(names))
        arguments = [*COMMAND, prompts, "--generator", model, "--generator", rude, "--judge", judge, "--samples", 1]
        command = [str(a) for a in (*arguments, "--temperature", 0, "--out", tmp_path / "out" / "made")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while (not log.exists() or len(log.read_text().splitlines()) < 12) and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=10)
        assert not (tmp_path / "out" / "made").exists()
        before = len(log.read_text().splitlines())
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        asked = log.read_text().splitlines()
    finally:
        server.stdin.close()  # type: ignore[union-attr]
        server.wait(timeout=10)
        server.stdout.close()  # type: ignore[union-attr]
    assert again.returncode == 0, again.stderr
    assert 12 <= before < 60
    # Only what was in flight when the process died can have been asked a second time.
    assert len(asked) - 60 <= 4 and len(set(asked)) == 60
    # The server's answers hold a hash, which not always looks like English: some prompts give no pair.
    counts = report_of(tmp_path / "out" / "made")["prompts"]
    assert counts["pairs"] > 30
    assert counts["pairs"] + sum(counts["without_pair"].values()) == 60


# --- mix --------------------------------------------------------------------------------------------------------------


def pair_row(name: str, language: str, **more: Any) -> dict[str, Any]:
    row = {
        "id": name,
        "prompt": f"Quietly mock {name}.",
        "chosen": f"{KIND} {name}",
        "rejected": RUDE,
        "language": language,
    }
    return row | more


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Safety pairs: in English 12 global and 6 local, in Hindi 5 and 9; and 40 general ones in each."""
    numbers = {("en", "global"): 12, ("en", "local"): 6, ("hi", "global"): 5, ("hi", "local"): 9}
    safety = [
        pair_row(f"{code}-{scope}-{n}", code, scope=scope)
        for (code, scope), count in numbers.items()
        for n in range(count)
    ]
    general = [pair_row(f"{code}-{n}", code) for code in ("en", "hi") for n in range(40)]
    return jsonl(tmp_path / "in" / "safety.jsonl", safety), jsonl(tmp_path / "in" / "general.jsonl", general)


def test_a_ratio_holds_in_every_language(files: tuple[Path, Path], tmp_path: Path) -> None:
    result = call("mix", *files, "--mixture", "1:5", "--total", 60, "--out", tmp_path / "mixed")
    assert result.exit_code == 0, said(result)
    pairs = read_rows(tmp_path / "mixed" / "pairs.parquet", Pair)
    assert Counter((p.language, p.kind) for p in pairs) == {
        ("en", "safety"): 5, ("hi", "safety"): 5, ("en", "general"): 25, ("hi", "general"): 25,
    }  # fmt: skip
    report = report_of(tmp_path / "mixed")
    assert report["mixture"] == pytest.approx(1 / 6)
    assert report["pairs"]["safety"] == {"read": 32, "usable": 32, "set_aside": {}}
    assert report["mixed"]["all"]["share_of_safety"] == {"en": 0.1667, "hi": 0.1667}
    assert "Chosen sides were not judged" in said(result)


def test_both_scopes_are_written_at_equal_size(files: tuple[Path, Path], tmp_path: Path) -> None:
    result = call("mix", *files, "--mixture", "0.5", "--scope", "both", "--out", tmp_path / "mixed")
    assert result.exit_code == 0, said(result)
    arms = {name: read_rows(tmp_path / "mixed" / name / "pairs.parquet", Pair) for name in ("global", "local")}
    cells = {name: Counter((p.language, p.kind) for p in pairs) for name, pairs in arms.items()}
    assert cells["global"] == cells["local"]
    assert cells["global"]["en", "safety"] == 6 and cells["global"]["hi", "safety"] == 5  # the smaller scope of each
    for name, pairs in arms.items():
        assert {p.scope for p in pairs if p.kind == "safety"} == {name}
    alone = call("mix", *files, "--mixture", "0.5", "--scope", "local", "--out", tmp_path / "alone")
    assert alone.exit_code == 0
    assert read_rows(tmp_path / "alone" / "pairs.parquet", Pair) == arms["local"]


def test_a_smaller_total_is_a_part_of_a_larger_and_languages_can_be_left_for_zero_shot(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    for total in (10, 20):
        result = call(
            "mix",
            *files,
            "--mixture",
            "0.25",
            "--total",
            total,
            "--languages",
            "Hindi",
            "--out",
            tmp_path / f"m{total}",
        )
        assert result.exit_code == 0, said(result)
    small, large = (read_rows(tmp_path / f"m{total}" / "pairs.parquet", Pair) for total in (10, 20))
    assert {p.id for p in small} < {p.id for p in large}
    assert {p.language for p in large} == {"hi"}


def test_pairs_of_held_out_prompts_are_not_mixed_and_counted(files: tuple[Path, Path], tmp_path: Path) -> None:
    with files[0].open("a", encoding="utf-8") as handle:
        named: list[dict[str, Any]] = [{"prompt_id": "held"}, {"seed_id": "seed of held"}, {"split": "test"}]
        handle.writelines(json.dumps(pair_row(f"of held {n}", "en", **names)) + "\n" for n, names in enumerate(named))
    held = Prompt("held", "Quietly mock it.", "en", "redteam", "test", "seed of held")
    write_rows(files[0].with_name("prompts.parquet"), [held], Prompt)
    result = call("mix", *files, "--mixture", "1:5", "--out", tmp_path / "mixed")
    assert result.exit_code == 0, said(result)
    counts = report_of(tmp_path / "mixed")["pairs"]["safety"]
    assert (counts["usable"], counts["set_aside"]) == (32, {"of a held-out prompt": 2, "split test": 1})
    assert not [p for p in read_rows(tmp_path / "mixed" / "pairs.parquet", Pair) if p.id.startswith("of held")]


def test_bad_rows_of_imported_pairs_are_counted_by_reason(files: tuple[Path, Path], tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [
        {"rejected": f"{KIND} x"}, {"chosen": ""}, {"chosen_score": 0.8}, {"language": "xx"}, {"chosen": FORBIDDEN},
    ]  # fmt: skip
    with files[0].open("a", encoding="utf-8") as handle:
        handle.writelines(
            json.dumps(pair_row("x", "en") | {"id": f"bad {n}"} | row) + "\n" for n, row in enumerate(bad)
        )
    result = call("mix", *files, "--mixture", "1:5", "--out", tmp_path / "mixed")
    assert result.exit_code == 0, said(result)
    counts = report_of(tmp_path / "mixed")["pairs"]["safety"]
    assert counts["read"] == counts["usable"] + sum(counts["set_aside"].values()) == 32 + len(bad)
    assert {row["id"].split(": ")[1].split(",")[0] for row in aside_of(tmp_path / "mixed")} == {
        f"row {n}" for n in range(33, 38)
    }
    assert "silly goose" not in said(result) and "chemical" not in said(result)


def test_a_judge_refuses_harmful_chosen_sides_before_they_are_mixed(files: tuple[Path, Path], tmp_path: Path) -> None:
    judge = judge_file(tmp_path / "in" / "judge.yaml", *[n % 4 == 0 for n in range(32)])
    script = tmp_path / "in" / "judge.jsonl"
    names = [json.loads(line)["id"] for line in files[0].read_text(encoding="utf-8").splitlines()]
    replies = [json.loads(line) for line in script.read_text(encoding="utf-8").splitlines()]
    jsonl(script, [{**reply, "id": name} for reply, name in zip(replies, names, strict=True)])
    options = ("--mixture", "1:5", "--judge", judge, "--out", tmp_path / "out" / "mixed")
    planned = call("mix", *files, *options, "--dry-run")
    assert planned.exit_code == 0 and "32 calls" in said(planned), said(planned)
    assert not (tmp_path / "out").exists()
    result = call("mix", *files, *options)
    assert result.exit_code == 0, said(result)
    counts = report_of(tmp_path / "out" / "mixed")["pairs"]["safety"]
    assert (counts["read"], counts["usable"], counts["set_aside"]) == (32, 24, {"chosen harmful": 8})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--mixture", "2"], "from 0 to 1"),
        (["--mixture", "1:5:1"], "a ratio as 1:5"),
        (["--mixture", "0:0"], "a ratio as 1:5"),
        (["--mixture", "nan"], "from 0 to 1"),
        (["--scope", "cosmic"], "accepted: all, global, local, both"),
        (["--mixture", "0.5", "--total", "100"], "needs 50 safety pairs, but only 32 were made (hi 14, en 18)"),
        (["--mixture", "0.5", "--total", "100"], "at most 64"),
        (["--languages", "fr", "--total", "5"], "no language has any"),
        (["--languages", "fr"], "0.15 safety pairs, and there is none that can be used"),
    ],
)
def test_a_mixture_that_cannot_be_is_wrong_input(
    options: list[str], says: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    result = call("mix", *files, *options, "--out", tmp_path / "mixed")
    assert result.exit_code == 2, said(result)
    assert says in said(result)
    assert not (tmp_path / "mixed").exists()


def test_a_mixture_without_a_side_that_it_asks_for_is_refused_however_small(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    # Of three pairs .15 are none, so that the numbers would be right without a single safety pair.
    judge = judge_file(tmp_path / "in" / "judge.yaml", *[None] * 32)
    script = tmp_path / "in" / "judge.jsonl"
    names = [json.loads(line)["id"] for line in files[0].read_text(encoding="utf-8").splitlines()]
    jsonl(script, [{"id": name, "text": "I had rather not."} for name in names])
    result = call("mix", *files, "--judge", judge, "--out", tmp_path / "out" / "mixed")
    assert result.exit_code == 2 and "safety pairs, and there is none that can be used" in said(result)
    rows = [json.loads(line) | {"scope": None} for line in files[0].read_text(encoding="utf-8").splitlines()]
    jsonl(files[0], rows)
    result = call("mix", *files, "--scope", "both", "--out", tmp_path / "arms")
    assert result.exit_code == 2 and "none of scope global that can be used" in said(result)
    assert not (tmp_path / "arms").exists()


def test_a_pair_that_lies_in_both_files_is_taken_once(files: tuple[Path, Path], tmp_path: Path) -> None:
    both = jsonl(tmp_path / "in" / "both.jsonl", [
        {key: value for key, value in json.loads(line).items() if key != "kind"}
        for file in files for line in file.read_text(encoding="utf-8").splitlines()[:9]
    ])  # fmt: skip
    result = call("mix", files[0], both, "--mixture", "0.5", "--out", tmp_path / "mixed")
    assert result.exit_code == 0, said(result)
    assert report_of(tmp_path / "mixed")["pairs"]["general"] == {
        "read": 18, "usable": 9, "set_aside": {"among the safety pairs as well": 9},
    }  # fmt: skip


def test_a_dry_run_of_a_mixture_counts_and_writes_nothing(files: tuple[Path, Path], tmp_path: Path) -> None:
    result = call("mix", *files, "--mixture", "1:5", "--total", 60, "--out", tmp_path / "mixed", "--dry-run")
    assert result.exit_code == 0, said(result)
    assert "60 pairs, 0.1667 of them safety pairs" in said(result)
    assert not (tmp_path / "mixed").exists()
