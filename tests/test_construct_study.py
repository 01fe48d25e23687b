"""Construction inside a study: seeds grown into prompts, answers that people wrote, pairs that lie ready, silent generators."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_model import Bench, results

from alignprism.judging.head import Head, head_bytes, prompt_digest
from alignprism.prompts.read import read_sample
from alignprism.rows import Completion, Pair, Prompt, read_rows

sys.path[:0] = [str(Path(__file__).parent / "construct"), str(Path(__file__).parent / "judging")]
from invented import YES, invented, listed  # noqa: E402
from judge_server import JudgeServer, serving  # noqa: E402

GROWN = [invented("study", number) for number in range(6)]
"""What the writer says to every seed."""
ANSWER = "I would rather not mock anyone. I can help you to write something kind about them instead."


class Writer:
    """A writer that says the same six prompts, and a checker that agrees with the seed."""

    def __init__(self) -> None:
        self.kind = ("global", "bullying_harassment")

    def __call__(self, text: str) -> str | None:
        if "numbered list of" in text:
            category = re.search(r"stays in the category (.+?) and does harm", text)
            assert category is not None
            self.kind = ("local" if "harm LOCAL" in text else "global", category[1])
            return listed(*GROWN)
        return YES.format(*self.kind) if "ADVERSARIAL:" in text else None


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with serving(Writer()) as running:
        yield running


def grown_study(bench: Bench, folder: Path, server: JudgeServer) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": text, "text": ANSWER, "source": "Ana", "kind": "human"} for text in GROWN]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = f'{{endpoint: {{urls: ["{server.address}"], model: judge-1}}}}'
    return bench.study(
        folder,
        train="  train: [en]",
        per_language="  per_language: 1\n  completions: answers.jsonl",
        mixture="mixture: 0.5",
        methods=f"methods: [sft-preferred]\nrephrase: {{per_seed: 4, rounds: 2, embed: false, writer: {model}, checker: {model}}}",
    )


def test_seeds_grow_into_training_prompts_and_peoples_answers_are_candidates(
    bench: Bench, tmp_path: Path, server: JudgeServer
) -> None:
    run, study = tmp_path / "run", grown_study(bench, tmp_path / "study", server)
    said = bench.call("run", study, "--run", run)
    assert said.code == 0, said.all
    grown = read_rows(run / "stages" / "rephrase" / "prompts.parquet", Prompt)
    assert len(grown) == 4 and {p.text for p in grown} <= set(GROWN)
    assert {(p.split, p.set) for p in grown} == {("train", "redteam")}
    assert all("synthetic-adversarial" in p.tags for p in grown)
    pairs = read_rows(run / "stages" / "pairs" / "pairs.parquet", Pair)
    of_grown = [pair for pair in pairs if pair.prompt_id in {p.id for p in grown}]
    assert of_grown and {(pair.chosen_source, pair.chosen) for pair in of_grown} == {("Ana", ANSWER)}
    assert {pair.rejected_source for pair in of_grown} == {"base"}
    proved = bench.call("calls", "check", run)
    assert proved.code == 0 and "rephrase/prompts" in proved.all, proved.all
    report = results(run)["rephrase"]
    assert report["accepted"] == 4 and report["checked"] and report["checker_is_writer"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Vendi score and distance in meaning, en: not measured: embed is false." in page
    assert "Training prompts grown from seeds" in page and GROWN[0] not in page
    asked = len(server.shown)
    assert "nothing to compute" in bench.call("run", study, "--run", run).all
    assert len(server.shown) == asked
    checked = bench.call("calls", "check", run)
    assert checked.code == 0, checked.all


def test_a_writer_that_stops_answering_ends_the_stage_and_freezes_no_half_of_it(bench: Bench, tmp_path: Path) -> None:
    whole, said_before = Writer(), list[str]()

    def tired(text: str) -> str | None:
        if "numbered list of" not in text:
            return whole(text)
        said_before.append(text)
        return listed(*GROWN[:2]) if whole(text) and len(said_before) == 1 else None

    with serving(tired) as server:
        study = grown_study(bench, tmp_path / "study", server)
        said = bench.call("run", study, "--run", tmp_path / "run")
    assert said.code == 1 and "the writer gave no answer after 2 new prompts" in said.err, said.all
    assert not (tmp_path / "run" / "stages" / "rephrase" / "prompts.parquet").exists()


def test_a_dry_run_says_what_the_writer_would_see(bench: Bench, tmp_path: Path, server: JudgeServer) -> None:
    study = grown_study(bench, tmp_path / "study", server)
    text = study.read_text(encoding="utf-8").replace("127.0.0.1", "writer.example")
    study.write_text(text, encoding="utf-8")
    said = bench.call("run", study, "--run", tmp_path / "run", "--dry-run")
    assert said.code == 0, said.all
    assert "human seeds and their explanations" in said.out and "writer.example" in said.out
    # The seed stands for itself and for what grows from it: three safety prompts are tried, and two general ones.
    assert "training prompts to base on this machine: 5 calls" in said.out
    refused = bench.call("run", study, "--run", tmp_path / "run")
    assert refused.code == 2 and "allow_remote" in refused.err and "rephrase.writer" in refused.err


def ready_files(folder: Path) -> None:
    """Ready safety pairs of the sample's train, dev and test seeds, and some that cannot be used."""
    seeds = [p for p in read_sample("redteam") if p.language in ("en", "ar", "fr") and p.reference]
    rows: list[dict[str, Any]] = [
        {
            "id": f"ready-{p.id}", "prompt": p.text, "chosen": p.reference, "rejected": "Of course, here it is: mock them.",
            "prompt_id": p.id, "seed_id": p.seed_id, "language": p.language, "scope": p.scope,
        }
        for p in seeds
    ]  # fmt: skip
    rows.append(rows[0] | {"id": "same", "rejected": rows[0]["chosen"]})
    rows.append(rows[0] | {"id": "empty", "chosen": ""})
    train = next(p.id for p in seeds if p.split == "train" and p.language == "ar")
    rows.append(next(row for row in rows if row["prompt_id"] == train) | {"id": "long", "chosen": "No. " * 300})
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_ready_pairs_are_trained_on_but_none_of_a_held_out_prompt(bench: Bench, tmp_path: Path) -> None:
    folder, run = tmp_path / "study", tmp_path / "run"
    ready_files(folder)
    study = bench.study(
        folder,
        per_language="  safety_pairs: pairs.csv",
        mixture="mixture: 0.5",
        methods="methods: [sft-preferred]",
    )
    extra = ["--set", "evaluation.batch_size=64", "--set", "languages.test=[en]"]
    said = bench.call("run", study, "--run", run, *extra)
    assert said.code == 0, said.all
    held_out = {p.seed_id for p in read_sample("redteam") if p.split != "train"}
    pairs = read_rows(run / "stages" / "pairs" / "pairs.parquet", Pair)
    safety = [pair for pair in pairs if pair.kind == "safety"]
    assert len(safety) == 2 and all(pair.id.startswith("ready-") for pair in safety)
    assert not {pair.seed_id for pair in safety} & held_out
    assert {pair.language for pair in safety} <= {"en", "ar"}
    dropped = results(run)["pairs"]["safety"]["dropped"]
    assert dropped["of a held-out prompt"] > 0 and dropped["another language"] > 0
    assert len([reason for reason in dropped if "chosen" in reason]) == 2, dropped
    assert results(run)["pairs"]["safety"]["not_compared_across_languages"] == []
    read = 3 + sum(1 for p in read_sample("redteam") if p.language in ("en", "ar", "fr") and p.reference)
    assert sum(dropped.values()) + results(run)["pairs"]["safety"]["made"] == read
    lines = (run / "stages" / "pairs" / "set_aside.jsonl").read_text(encoding="utf-8").splitlines()
    named = Counter(json.loads(line)["reason"] for line in lines)
    assert all(named[reason] >= number for reason, number in dropped.items()), (named, dropped)
    assert dropped["over 900 tokens a side"] == 1
    (long,) = [json.loads(line) for line in lines if "over 900 tokens" in line]
    assert long["language"] == "ar"
    limit = {report["language"]: report for report in results(run)["truncation"]["safety pairs"]}
    assert {code: limit[code]["over_limit"] for code in limit} == {"en": 0, "ar": 1}
    assert limit["ar"]["rows"] == limit["ar"]["kept"] + 1
    assert limit["ar"]["length_difference"] > limit["ar"]["length_difference_kept"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "safety pairs" in page.split("What the length limit did, by language", 1)[1]


def test_a_file_without_a_pair_is_refused_before_anything_is_asked(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    study = bench.study(folder, per_language="  safety_pairs: pairs.jsonl")
    (folder / "pairs.jsonl").write_text('{"text": "This is no pair.", "language": "en"}\n', encoding="utf-8")
    said = bench.call("run", study, "--run", tmp_path / "run", "--dry-run")
    assert said.code == 2 and "no safety pair can be used of 1 rows" in said.err, said.all


def test_a_generator_that_is_not_compared_gives_candidates_and_no_figures(bench: Bench, tmp_path: Path) -> None:
    study = bench.study(
        tmp_path / "study",
        source=f"    source: {bench.model}\n  other: {{source: {bench.other}, evaluate: false}}",
        methods="methods: [sft-preferred]\ngenerators: [base, other]",
    )
    run = tmp_path / "run"
    said = bench.call("run", study, "--run", run)
    assert said.code == 0, said.all
    assert not (run / "stages" / "complete-other").exists()
    assert results(run)["models"] == ["base", "sft-preferred"]
    candidates = read_rows(run / "stages" / "candidates" / "completions.parquet", Completion)
    assert {row.model for row in candidates} == {"base", "other"}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"source": "    source: {model}\n    evaluate: false"}, "models"),
        ({"mixture": "mixture: 1:5"}, "mixture"),
        ({"per_language": "  safety_pairs: nothing.csv"}, "data.safety_pairs"),
        ({"mixture": "mixture: 0.5\nrephrase: {per_seed: 2}"}, "rephrase.writer"),
    ],
)
def test_wrong_settings_of_construction_are_named(
    bench: Bench, tmp_path: Path, change: dict[str, str], key: str
) -> None:
    change = {name: line.format(model=bench.model) if "{model}" in line else line for name, line in change.items()}
    said = bench.call("run", bench.study(tmp_path, **change), "--run", tmp_path / "run", "--dry-run")
    assert said.code == 2 and key in said.err, said.all


def test_prompts_that_a_judge_was_trained_on_are_refused_or_dropped_and_counted(bench: Bench, tmp_path: Path) -> None:
    prompts = [p for p in read_sample("redteam") if p.language == "en"]
    known = next(p for p in prompts if p.split == "test")
    head = Head.load("e5-harm-v1")
    folder = tmp_path / "study"
    (folder / "head").mkdir(parents=True)
    digests = head.training_prompt_digests | {prompt_digest(known.text)}
    (folder / "head" / "head.npz").write_bytes(head_bytes(replace(head.recipe, name="knows one"), head.linear, digests))
    study = bench.study(
        folder,
        train="  train: [en]",
        test="  test: [en]",
        per_language="  per_language: 40",
        evaluation=f"  evaluation: {folder / 'head'}",
        methods="methods: []\ngenerators: []",
        source=f"    source: {bench.model}\n  other: {{source: {bench.other}}}",
    )
    refused = bench.call("run", study, "--run", tmp_path / "run")
    assert refused.code == 2 and "known_to_judges: drop" in refused.err and known.id in refused.err, refused.all
    said = bench.call("run", study, "--run", tmp_path / "run", "--set", "data.known_to_judges=drop")
    assert said.code == 0, said.all
    kept = read_rows(tmp_path / "run" / "stages" / "prompts" / "prompts.parquet", Prompt)
    assert known.id not in {p.id for p in kept}
    assert [row["id"] for row in results(tmp_path / "run")["set_aside"]] == [known.id]
    warnings = results(tmp_path / "run")["headline"]["warnings"]
    assert any("was trained on it: 1" in warning["text"] for warning in warnings)


def prefer_longer(text: str) -> str | None:
    """A pairwise judge that prefers the longer answer, wherever it stands."""
    if "Preferred: Answer (A)" not in text:
        return None
    first, second = (part.split("<<<END OF", 1)[0] for part in text.split("<<<ANSWER (", 2)[1:])
    return f"Comparison: length\nPreferred: Answer ({'A' if len(first) > len(second) else 'B'})"


def test_pairs_ranked_by_comparisons_name_their_judge_and_follow_it(bench: Bench, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with serving(prefer_longer) as server:
        model = f'{{endpoint: {{urls: ["{server.address}"], model: judge-1}}}}'
        study = bench.study(
            tmp_path / "study",
            candidates="  candidates: 1\n  ranking: both",
            evaluation=f"  evaluation: e5-harm-v1\n  pairwise: {{model: {model}}}",
            methods="methods: [sft-preferred]",
        )
        said = bench.call("run", study, "--run", run)
        assert said.code == 0, said.all
        safety = [p for p in read_rows(run / "stages" / "pairs" / "pairs.parquet", Pair) if p.kind == "safety"]
        assert safety and {(p.comparer, p.ranking) for p in safety} == {("judge-1", "both")}
        assert all(len(p.chosen) > len(p.rejected) for p in safety)
        compared = results(run)["pairs"]["comparisons"]
        assert compared["flip_rate"] == 0 and compared["won"] == compared["comparisons"] > 0
        again = bench.call("run", study, "--run", run, "--set", "judges.pairwise.max_new_tokens=77", "--dry-run")
        todo = [line for line in again.out.splitlines() if line.strip().startswith("to do")]
        assert any("Preference pairs" in line for line in todo), "another judge ranks again"
        assert not any("Candidates" in line for line in todo)
