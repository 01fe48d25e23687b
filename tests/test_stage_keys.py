"""A stage's key holds everything that can change its result, so that an edit redoes what it changes, and nothing it does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_model import Bench

from alignprism.pipeline import plan
from alignprism.progress import ConsoleReporter
from alignprism.prompts.read import read_sample
from alignprism.rows import Prompt
from alignprism.stages import training_settings
from alignprism.stages.train import train_config
from alignprism.study import StudyError, load, parse

sys.path.insert(0, str(Path(__file__).parent / "judging"))
from judge_server import JudgeServer, serving

Keys = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with serving(lambda _: "Thank you.") as running:
        yield running


def settings_of(bench: Bench, study: Path, run: Path, *overrides: str, dry_run: bool = False) -> Keys:
    """What goes into each stage's key, its inputs aside."""
    reporter = ConsoleReporter(Console(quiet=True))
    layout = plan(load(study, overrides), run, bench.cache, reporter, dry_run=dry_run)
    return {stage.name: stage.settings for stage in layout.stages}


def changed(before: Keys, after: Keys) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_answers_that_people_brought_are_ranked_anew_when_their_file_changes(bench: Bench, tmp_path: Path) -> None:
    study = bench.study(tmp_path, per_language="  per_language: 1\n  completions: answers.jsonl")
    answers = tmp_path / "answers.jsonl"
    write_rows(answers, [{"prompt": "Who are you?", "text": "A friend.", "source": "Ana"}])
    before = settings_of(bench, study, tmp_path / "run", dry_run=True)
    write_rows(answers, [{"prompt": "Who are you?", "text": "A good friend.", "source": "Ana"}])
    after = settings_of(bench, study, tmp_path / "run", dry_run=True)
    assert changed(before, after) == {"pairs"}, "no candidate is sampled anew"
    without = settings_of(bench, bench.study(tmp_path / "none"), tmp_path / "run", dry_run=True)
    assert without["pairs"] != after["pairs"] and without["candidates"] == after["candidates"]


@pytest.mark.parametrize(
    "correction",
    [
        {"seed_id": "the same cluster"},
        {"scope": "local"},
        {"categories": ("violence_threats_incitement",)},
        {"licence": "CC-BY-4.0"},
        {"redistribute": False},
        {"tags": ("corrected",)},
        {"explanation": "What is meant."},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_corrected_prompt_is_read_again_whatever_was_corrected(
    bench: Bench, tmp_path: Path, correction: dict[str, Any]
) -> None:
    prompts = [
        replace(p, redistribute=True, licence="", scope="global", tags=(), explanation=None, categories=())
        for p in read_sample("redteam")
        if p.language in ("en", "hi", "ar")
    ]
    study = bench.study(tmp_path, translated="  translated: null\n  redteam: own.jsonl")

    def keys(rows: list[Prompt]) -> Keys:
        write_rows(tmp_path / "own.jsonl", [asdict(row) for row in rows])
        return settings_of(bench, study, tmp_path / "run", "data.per_language=null", dry_run=True)

    last = next(p for p in reversed(prompts) if p.split == "train")
    after = [replace(p, **correction) if p is last else p for p in prompts]
    assert "prompts" in changed(keys(prompts), keys(after))


def served_study(bench: Bench, folder: Path, server: JudgeServer) -> Path:
    """A server that is compared, generates, translates and writes prompts."""
    model = f'endpoint: {{urls: ["{server.address}"], model: judge-1}}'
    folder.mkdir(parents=True, exist_ok=True)
    sentences = [{"id": f"{c}1", "language": c, "text": "नमस्ते", "english": "Hello."} for c in ("hi", "ar")]
    write_rows(folder / "parallel.jsonl", sentences)
    return bench.study(
        folder,
        source=f"    source: {bench.model}\n  served:\n    {model}",
        methods=f"methods: [sft-preferred]\ngenerators: [base, served]\nrephrase: {{per_seed: 2, embed: false, writer: {{{model}}}}}",
        bootstrap="  bootstrap: 200\n  translation: {data: parallel.jsonl, sentences: 1}",
    )


def test_what_is_sent_with_every_request_is_part_of_who_answers(
    bench: Bench, tmp_path: Path, server: JudgeServer
) -> None:
    study, run = served_study(bench, tmp_path / "study", server), tmp_path / "run"
    before = settings_of(bench, study, run)
    thinks = settings_of(bench, study, run, "models.served.endpoint.extra={reasoning_effort: high}")
    of_model = {"complete:served", "translate:served", "candidates"}
    assert changed(before, thinks) - {"results"} == of_model
    writes = settings_of(bench, study, run, "rephrase.writer.endpoint.extra={top_k: 5}")
    assert changed(before, writes) - {"results"} == {"rephrase"}
    assert changed(before, settings_of(bench, study, run, "models.served.endpoint.extra={}")) == set()
    assert changed(thinks, settings_of(
        bench, study, run, "models.served.endpoint.extra={reasoning_effort: high}", dry_run=True
    )) == set(), "a dry run knows it from the last time"  # fmt: skip


def test_a_judge_that_thinks_longer_is_still_the_model_that_generates(
    bench: Bench, tmp_path: Path, server: JudgeServer
) -> None:
    judge = (
        f'{{kind: rubric, model: {{endpoint: {{urls: ["{server.address}"], model: judge-1, extra: {{think: 1}}}}}}}}'
    )
    study = served_study(bench, tmp_path / "study", server)
    alone = ["allow_shared_judge=false", f"judges.preference={judge}"]
    with pytest.raises(StudyError, match="one and the same model is a generator and the preference judge"):
        settings_of(bench, study, tmp_path / "run", *alone)


def test_no_training_depends_on_what_changes_no_weight(bench: Bench, tmp_path: Path) -> None:
    study = bench.study(tmp_path, methods="methods: [sft-preferred, merge-slerp]")
    before = settings_of(bench, study, tmp_path / "run", dry_run=True)
    longer = settings_of(bench, study, tmp_path / "run", "evaluation.max_new_tokens=9", dry_run=True)
    assert {name.split(":")[0] for name in changed(before, longer)} == {"complete", "results"}
    checked = settings_of(bench, study, tmp_path / "run", "training.dev_checks=2", dry_run=True)
    assert changed(before, checked) - {"results"} == {"train:sft-preferred"}, "parts of a merge answer no dev prompts"


def test_sft_and_instruction_tuning_do_not_depend_on_what_only_dpo_uses() -> None:
    base, other = parse(""), parse("training: {beta: 0.5, dpo_loss: length-normalised, nll_weight: 1}\n")
    for method in ("ift", "sft-preferred", "sft-random"):
        assert train_config(base, method, 0) == train_config(other, method, 0)
    assert train_config(other, "dpo-sft", 0).beta == 0.5 and train_config(other, "dpo-ift", 0).nll_weight == 1


def test_rows_that_are_not_shared_are_another_dpo_training_and_the_default_is_what_it_was() -> None:
    base, apart = parse(""), parse("training: {prefix_sharing: false}\n")
    assert (
        "prefix_sharing" not in training_settings(base, "dpo-sft") and train_config(base, "dpo-sft", 0).prefix_sharing
    )
    assert training_settings(apart, "dpo-sft")["prefix_sharing"] is False
    assert not train_config(apart, "dpo-sft", 0).prefix_sharing
    assert training_settings(apart, "sft-preferred") == training_settings(base, "sft-preferred")


def test_another_precision_is_another_training_and_the_default_is_what_it_was() -> None:
    base, exact = parse(""), parse("training: {precision: float32}\n")
    for method in ("ift", "sft-preferred", "dpo-sft"):
        assert training_settings(exact, method) == {**training_settings(base, method), "precision": "float32"}
        assert "precision" not in training_settings(base, method), "runs of before there was a choice stay valid"
