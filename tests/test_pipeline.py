"""A run does what is missing and nothing else, and neither a kill, nor damage, nor a full disk changes its figures."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import stat
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from tiny_model import Bench, Said, copy_of, fragments, manifest, results, texts_of

from alignprism.cli.console import console
from alignprism.judging.head import Head, head_bytes
from alignprism.pipeline import plan, refresh, stage_key
from alignprism.progress import ConsoleReporter
from alignprism.rows import Completion, Figure, Pair, Verdict, file_digest, read_rows
from alignprism.run_folder import RunFolderError
from alignprism.samples import write_run_samples
from alignprism.stages.context import cells_of
from alignprism.stages.train import tracked_as
from alignprism.study import load, parse
from alignprism.training.curve import CurveRow, read_curve
from alignprism.training.step import run_step

STAGES = [
    "prompts",
    "candidates",
    "pairs",
    "train:sft-preferred",
    "train:dpo-sft",
    "complete:base",
    "judge:base",
    "complete:sft-preferred",
    "judge:sft-preferred",
    "complete:dpo-sft",
    "judge:dpo-sft",
    "results",
    "report",
]


def kept(said: Said) -> int:
    return said.out.count(": done before, kept")


def remade(said: Said) -> list[str]:
    """Titles of the stages that were worked on."""
    lines = [line for line in said.out.splitlines() if line.startswith("[") and "done before" not in line]
    return [line.split("] ", 1)[1] for line in lines]


# --- what a finished run is -------------------------------------------------------------------------------------------


def test_a_run_folder_is_private_and_laid_out_as_documented(finished: tuple[Path, Said]) -> None:
    run, _ = finished
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    there = {path.name for path in run.iterdir()}
    wanted = {"study.yaml", "manifest.json", "calls.sqlite", "stages", "models"}
    assert wanted | {"results.parquet", "results.csv", "results.json", "report.html"} <= there
    assert "samples.html" not in there
    assert sorted(path.name for path in (run / "models").iterdir()) == ["dpo-sft", "sft-preferred"]
    for cell in ("dpo-sft", "sft-preferred"):
        assert (run / "models" / cell / "adapter_config.json").is_file()
    assert not list(run.rglob("*.tmp"))


def test_the_study_in_the_run_is_resolved(finished: tuple[Path, Said], bench: Bench) -> None:
    run, _ = finished
    study = yaml.safe_load((run / "study.yaml").read_text(encoding="utf-8"))
    assert study["training"]["beta"] == 0.1, "defaults are written out"
    assert study["models"]["base"]["source"] == str(bench.model)
    assert study["pairs"]["total"] == 4


def test_the_manifest_says_from_what_and_with_which_bytes(finished: tuple[Path, Said]) -> None:
    run, _ = finished
    found = manifest(run)
    assert set(found["stages"]) == set(STAGES)
    assert {"alignprism", "versions", "seeds", "timing", "judges"} <= set(found)
    assert set(found["models"]) == {"base", "sft-preferred", "dpo-sft"}
    digests = [entry["digest"] for entry in found["models"].values()]
    assert len(set(digests)) == 3 and all(digests)
    assert found["seeds"] == {"study": 0, "training": [0]}
    assert len(found["test"]["hash"]) == 64
    assert [e["model"] for e in found["test"]["evaluations"]] == ["base", "sft-preferred", "dpo-sft"]
    for stage in STAGES:
        assert found["timing"][stage]["seconds"] >= 0
        for name, digest in found["stages"][stage]["outputs"].items():
            assert file_digest(run / name) == digest


def test_the_three_result_files_hold_the_same_figures(finished: tuple[Path, Said]) -> None:
    run, _ = finished
    document = json.loads((run / "results.json").read_text(encoding="utf-8"))
    from_parquet = read_rows(run / "results.parquet", Figure)
    assert [Figure(**row) for row in document["figures"]] == from_parquet
    with (run / "results.csv").open(encoding="utf-8", newline="") as handle:
        from_csv = list(csv.DictReader(handle))
    assert len(from_csv) == len(from_parquet)
    for text, row in zip(from_csv, from_parquet, strict=True):
        assert text["metric"] == row.metric
        assert text["estimate"] == ("" if row.estimate is None else str(row.estimate))
    assert all(row.estimate is not None or row.reason for row in from_parquet), "a missing figure has a reason"


def test_dpo_starts_at_ln_2_from_a_named_reference(finished: tuple[Path, Said]) -> None:
    run, _ = finished
    summary = json.loads((run / "stages" / "train-dpo-sft" / "summary.json").read_text(encoding="utf-8"))
    assert summary["first_loss"] == pytest.approx(0.693147, abs=1e-3)
    card, models = summary["card"], manifest(run)["models"]
    assert card["reference"] == {"name": "sft-preferred", "digest": models["sft-preferred"]["digest"]}
    assert card["precision"] == "float32"


def test_checkpoints_are_judged_after_training_from_their_kept_answers(finished: tuple[Path, Said]) -> None:
    run, _ = finished
    checkpoints = json.loads((run / "stages" / "judge-dpo-sft" / "dev.json").read_text(encoding="utf-8"))
    assert checkpoints[-1]["n"] > 0
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert results["dev"]["dpo-sft"] == checkpoints
    verdicts = read_rows(run / "stages" / "judge-dpo-sft" / "dev_verdicts.parquet", Verdict)
    answers = read_rows(run / "stages" / "train-dpo-sft" / "completions.parquet", Completion)
    assert [v.completion_id for v in verdicts] == [c.id for c in answers]


def test_the_page_holds_no_text_of_prompts_or_completions(finished: tuple[Path, Said]) -> None:
    run, _ = finished
    page = (run / "report.html").read_text(encoding="utf-8")
    texts = texts_of(run)
    for kind in ("prompts", "completions"):
        pieces = fragments(texts[kind])
        assert len(pieces) > 10
        assert not [piece for piece in pieces if piece in page]
    assert "Judge only: no person has read these completions" in page
    assert "<script" not in page


# --- running again ----------------------------------------------------------------------------------------------------


def test_a_second_run_computes_nothing_and_says_so(copied: Path, bench: Bench, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*.parquet")}
    said = bench.call("run", bench.study(tmp_path), "--run", copied)
    assert said.code == 0
    assert kept(said) == len(STAGES)
    assert "nothing to compute" in said.out
    assert before == {path: path.read_bytes() for path in copied.rglob("*.parquet")}


def test_a_changed_learning_rate_redoes_that_training_and_what_follows(
    copied: Path, bench: Bench, tmp_path: Path
) -> None:
    said = bench.call("run", bench.study(tmp_path), "--run", copied, "--set", "training.dpo_learning_rate=0.01")
    assert said.code == 0, said.all
    assert remade(said) == [
        "Training dpo-sft",
        "Completions of dpo-sft",
        "Verdicts on dpo-sft",
        "Figures",
        "The page",
    ]
    evaluations = [entry["model"] for entry in manifest(copied)["test"]["evaluations"]]
    assert evaluations == ["base", "sft-preferred", "dpo-sft", "dpo-sft"], "every look at the test prompts counts"


def test_another_evaluation_judge_costs_verdicts_and_no_training(copied: Path, bench: Bench, tmp_path: Path) -> None:
    head = Head.load("e5-harm-v1")
    other = tmp_path / "stricter"
    other.mkdir()
    recipe = replace(head.recipe, name="stricter", threshold=0.05)
    (other / "head.npz").write_bytes(head_bytes(recipe, head.linear, head.training_prompt_digests))
    study = bench.study(tmp_path, evaluation=f"  evaluation: {other}")
    said = bench.call("run", study, "--run", copied)
    assert said.code == 0, said.err
    names = ("base", "sft-preferred", "dpo-sft")
    # The judge of the pairs is now another one than the judge of the test: it is asked about the test as well.
    judged = [title for name in names for title in (f"Verdicts on {name}", f"The preference judge on {name}")]
    assert remade(said) == [*judged, "Figures", "The page"]
    verdicts = read_rows(copied / "stages" / "judge-dpo-sft" / "dev_verdicts.parquet", Verdict)
    assert {v.judge for v in verdicts} == {"stricter"}


def test_other_test_prompts_are_refused_after_an_evaluation(copied: Path, bench: Bench, tmp_path: Path) -> None:
    before = (copied / "manifest.json").read_bytes(), (copied / "study.yaml").read_bytes()
    said = bench.call("run", bench.study(tmp_path, per_language="  per_language: 2"), "--run", copied)
    assert said.code == 2
    assert "test prompts differ" in said.err and "new run folder" in said.err
    assert before == ((copied / "manifest.json").read_bytes(), (copied / "study.yaml").read_bytes())


@pytest.mark.slow
def test_training_seeds_make_cells_and_pooled_figures(copied: Path, bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", bench.study(tmp_path), "--run", copied, "--set", "training.seeds=[0, 1]")
    assert said.code == 0, said.all
    cells = sorted(path.name for path in (copied / "models").iterdir())
    assert {"dpo-sft-seed0", "dpo-sft-seed1", "sft-preferred-seed0", "sft-preferred-seed1"} <= set(cells)
    document = results(copied)
    assert set(document["models"]) == {
        "base",
        *(f"{m}-seed{s}" for m in ("sft-preferred", "dpo-sft") for s in (0, 1)),
        "sft-preferred",
        "dpo-sft",
    }
    primary = document["headline"]["primary"]
    assert (primary["model"], primary["train_seeds"], primary["family"]) == ("dpo-sft", 2, "primary")
    assert primary["n"] == 2 * primary["clusters"], "both seeds' answers, still clustered by seed prompt"
    page = (copied / "report.html").read_text(encoding="utf-8")
    tables, singles = page.split("Each training seed alone", 1)
    assert "dpo-sft-seed1" not in tables.split("What the change costs")[1], "the page compares methods"
    assert "dpo-sft-seed1" in singles


def test_held_out_pairs_are_counted_and_the_kept_step_is_checked_on_dev(
    copied: Path, bench: Bench, tmp_path: Path
) -> None:
    changes = ("training.held_out_share=0.5", "training.sft_epochs=6", "training.dev_checks=2", "training.seeds=[3]")
    options = [part for change in changes for part in ("--set", change)]
    said = bench.call("run", bench.study(tmp_path, methods="methods: [sft-preferred]"), "--run", copied, *options)
    assert said.code == 0, said.all
    summary = json.loads((copied / "stages" / "train-sft-preferred" / "summary.json").read_text(encoding="utf-8"))
    result, card = summary["result"], summary["card"]
    assert (result["rows"], result["held_out_rows"]) == (card["pairs"], card["held_out_pairs"])
    assert card["pairs"] + card["held_out_pairs"] == 4 and 0 < card["pairs"] < 4
    pairs = read_rows(copied / "stages" / "pairs" / "pairs.parquet", Pair)
    assert sum(pair.kind == "safety" for pair in pairs) == 1
    assert card["safety_share"] in (0, 1 / card["pairs"]) and card["mixture"] == 0.25
    assert result["planned_steps"] == 6 * math.ceil(card["pairs"] / 2)
    dev = [row["step"] for row in results(copied)["dev"]["sft-preferred"]]
    wanted = {0, result["planned_steps"] // 2, result["planned_steps"], result["kept_step"]}
    assert dev == sorted(wanted), "spread over the steps that are taken, and the weights that are the result"
    page = (copied / "report.html").read_text(encoding="utf-8")
    assert f"sft-preferred learned {card['pairs']} and scored {card['held_out_pairs']}" in page


def test_longer_test_answers_train_nothing_again_and_the_page_says_what_dev_answers_were(
    copied: Path, bench: Bench, tmp_path: Path
) -> None:
    said = bench.call("run", bench.study(tmp_path), "--run", copied, "--set", "evaluation.max_new_tokens=7")
    assert said.code == 0, said.all
    assert not [title for title in remade(said) if title.startswith("Training")]
    page = (copied / "report.html").read_text(encoding="utf-8")
    assert "sft-preferred at most 6; dpo-sft at most 6; on the test prompts at most 7" in page
    assert results(copied)["training"]["dpo-sft"]["dev_max_new_tokens"] == [6]


def test_a_training_that_an_earlier_version_finished_is_done(copied: Path, bench: Bench, tmp_path: Path) -> None:
    study = bench.study(tmp_path)
    layout = plan(load(study), copied, bench.cache, ConsoleReporter(Console(quiet=True)))
    ours = dict(layout.run.manifest["stages"])
    for stage in layout.stages:
        if stage.earlier is not None:
            earlier = stage_key(replace(stage, settings=stage.earlier), layout.run)
            layout.run.manifest["stages"][stage.name] = ours[stage.name] | {"key": earlier}
    assert ours != layout.run.manifest["stages"]
    layout.run.save()
    said = bench.call("run", study, "--run", copied)
    assert said.code == 0 and kept(said) == len(STAGES), said.all
    assert manifest(copied)["stages"] == ours, "known by this version's key from now on"


def test_a_tracker_that_is_not_installed_is_refused_before_any_work(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    options = ("--run", tmp_path / "run", "--set", "training.trackers=[mlflow]")
    said = bench.call("run", bench.study(tmp_path), *options)
    assert said.code == 2 and "training.trackers: mlflow" in said.err and "pip install mlflow" in said.err
    assert not (tmp_path / "run").exists()


def test_trackers_get_a_name_that_tells_trainings_apart(
    copied: Path, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def note(_: object, project: str, config: object, init_kwargs: dict[str, dict[str, str]]) -> None:
        started.append(init_kwargs["wandb"]["name"])

    # What is sent to a tracker, without its package: none need be installed here.
    monkeypatch.setattr("accelerate.tracking._available_trackers", ["tensorboard"])
    monkeypatch.setattr("accelerate.Accelerator.init_trackers", note)
    more = ("--set", "training.trackers=[tensorboard]", "--set", "training.seeds=[5]")
    said = bench.call("run", bench.study(tmp_path), "--run", copied, *more)
    assert said.code == 0, said.all
    assert started == ["tiny-sft-preferred-seed5", "tiny-dpo-sft-seed5"]
    several = parse("name: a\ntraining: {seeds: [0, 1]}\n")
    assert tracked_as(several, cells_of(several)[0].name, 0) == "a-sft-preferred-seed0"


# --- interrupted ------------------------------------------------------------------------------------------------------


def appeared(run: Path, pattern: str, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until a path exists in the run, or the process ended."""
    end = time.monotonic() + seconds
    while not list(run.glob(pattern)):
        assert time.monotonic() < end, f"{pattern} never appeared"
        if process.poll() is not None:
            return
        time.sleep(0.002)


@pytest.mark.slow
def test_sigkill_at_any_moment_leaves_the_figures_as_they_are(
    finished: tuple[Path, Said], bench: Bench, tmp_path: Path
) -> None:
    run, study = tmp_path / "run", bench.study(tmp_path)
    moments = [
        ("calls.sqlite", 0.05),
        ("stages/train-sft-preferred/work/curve.jsonl", 0.0),
        ("models/dpo-sft", 0.0),
        ("results.csv", 0.0),
    ]
    for pattern, after in moments:
        process = bench.start("run", study, "--run", run)
        appeared(run, pattern, process)
        time.sleep(after)
        process.kill()
        process.communicate()
    said = bench.call("run", study, "--run", run)
    assert said.code == 0, said.all
    assert results(run) == results(finished[0])
    for name in ("results.parquet", "results.csv"):
        assert (run / name).read_bytes() == (finished[0] / name).read_bytes()
    assert manifest(run)["test"]["evaluations"] == manifest(finished[0])["test"]["evaluations"]


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_finished_and_says_how_to_go_on(
    finished: tuple[Path, Said], bench: Bench, tmp_path: Path
) -> None:
    # The stages before training are done already, so that the signal meets the training itself.
    run, study = copy_of(finished[0], tmp_path / "run"), bench.study(tmp_path)
    again = ["--set", "training.sft_epochs=400"]
    process = bench.start("run", study, "--run", run, *again)
    appeared(run, "stages/train-sft-preferred/work/checkpoint*", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert "goes on from there" in err and "Traceback" not in err
    found = manifest(run)
    assert set(found["stages"]) == set(STAGES)
    for name, digest in found["stages"]["pairs"]["outputs"].items():
        assert file_digest(run / name) == digest
    assert bench.call("run", study, "--run", run, "--dry-run", *again).code == 0


def test_a_study_that_ran_out_of_memory_goes_on_with_less(
    copied: Path, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, again = bench.study(tmp_path), ("--set", "training.sft_epochs=3")
    steps: list[int] = []

    def full(*arguments: Any) -> CurveRow:
        steps.append(arguments[2])
        if len(steps) == 4:
            raise torch.OutOfMemoryError("no room")
        return run_step(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("alignprism.training.loop.run_step", full)
        said = bench.call("run", study, "--run", copied, *again)
    assert said.code == 1 and "training.micro_batch_tokens" in said.err and "--micro-batch-tokens" not in said.err
    less = ("--set", "training.micro_batch_tokens=300", "--set", "training.gradient_checkpointing=true")
    said = bench.call("run", study, "--run", copied, *again, *less)
    assert said.code == 0, said.all
    assert [row["step"] for row in results(copied)["curves"]["sft-preferred"]] == [1, 2, 3, 4, 5, 6]
    spent = sum(row.seconds for row in read_curve(copied / "stages" / "train-sft-preferred" / "work"))
    timing = manifest(copied)["timing"]["train:sft-preferred"]
    assert timing["training_seconds"] == pytest.approx(spent, abs=0.01), "of the steps before the stop too"


@pytest.mark.slow
def test_a_second_process_on_one_run_folder_is_refused(bench: Bench, copied: Path, tmp_path: Path) -> None:
    study = bench.study(tmp_path)
    process = bench.start("run", study, "--run", copied, "--set", "training.sft_epochs=400")
    try:
        appeared(copied, "stages/train-sft-preferred/work/checkpoint*", process)
        said = bench.call("run", study, "--run", copied)
        assert said.code == 2
        assert "another alignprism is working in this folder" in said.err
    finally:
        process.kill()
        process.communicate()


def test_nothing_reads_the_results_of_a_run_that_is_half_redone(copied: Path, bench: Bench, tmp_path: Path) -> None:
    study = bench.study(tmp_path)
    stopped = bench.call("run", study, "--run", copied, "--set", "pairs.total=40")
    assert stopped.code == 2 and "safety pairs" in stopped.err
    before = {path: path.read_bytes() for path in copied.glob("results.*")}
    for arguments in (
        ("report", copied),
        ("report", copied, "--samples"),
        ("report", copied, "--fail-if", "harmful_rate.n > 1000"),
        ("labels", "plan", copied, "--out", tmp_path / "sheet.csv"),
    ):
        said = bench.call(*arguments)
        assert said.code == 2, (arguments, said.all)
        assert "has not ended" in said.err and "alignprism run STUDY" in said.err
    with pytest.raises(RunFolderError, match="has not ended"):
        write_run_samples(copied)
    with pytest.raises(RunFolderError, match="has not ended"):
        refresh(copied, bench.cache, ConsoleReporter(console))
    assert before == {path: path.read_bytes() for path in copied.glob("results.*")}
    assert not (tmp_path / "sheet.csv").exists()
    assert bench.call("run", study, "--run", copied).code == 0
    assert "unfinished" not in manifest(copied)
    assert bench.call("report", copied, "--samples").code == 0


@pytest.mark.slow
def test_a_copied_run_is_labelled_without_the_files_of_its_study(copied: Path, bench: Bench, tmp_path: Path) -> None:
    head = Head.load("e5-harm-v1")
    other = tmp_path / "stricter"
    other.mkdir()
    recipe = replace(head.recipe, name="stricter", threshold=0.05)
    (other / "head.npz").write_bytes(head_bytes(recipe, head.linear, head.training_prompt_digests))
    assert bench.call("run", bench.study(tmp_path, evaluation=f"  evaluation: {other}"), "--run", copied).code == 0
    before = {judge["role"]: judge for judge in results(copied)["judges"]}
    (other / "head.npz").unlink()
    said = bench.call("labels", "plan", copied, "--model", "base", "--out", tmp_path / "sheet.csv")
    assert said.code == 0, said.all
    said = bench.call("report", copied)
    assert said.code == 0 and "Figures made anew" in said.out, said.all
    assert {judge["role"]: judge for judge in results(copied)["judges"]} == before
    assert len(results(copied)["label_plans"]) == 1


# --- damaged ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "stages/complete-base/completions.parquet",
        "stages/pairs/pairs.parquet",
        "stages/judge-dpo-sft/verdicts.parquet",
        "results.json",
    ],
)
def test_a_damaged_file_is_named_set_aside_and_made_again(
    name: str, copied: Path, finished: tuple[Path, Said], bench: Bench, tmp_path: Path
) -> None:
    file = copied / name
    good = file.read_bytes()
    bad = good[: len(good) // 2] + b"\x00\xff" + good[len(good) // 2 + 2 :]
    file.write_bytes(bad)
    said = bench.call("run", bench.study(tmp_path), "--run", copied)
    assert said.code == 0, said.all
    assert name in said.out and "set aside" in said.out
    assert "nothing to compute" not in said.out
    assert file.with_name(f"{file.name}.damaged").read_bytes() == bad, "nothing is lost"
    if file.suffix == ".parquet":
        assert file.read_bytes() == good
    mine, theirs = results(copied), results(finished[0])
    assert mine["figures"] == theirs["figures"]
    if name == "results.json":
        assert mine == theirs


def test_a_damaged_results_file_is_named_by_every_command_that_reads_it(copied: Path, bench: Bench) -> None:
    (copied / "results.json").write_text('{"half', encoding="utf-8")
    said = bench.call("report", copied)
    assert said.code == 2
    assert str(copied / "results.json") in said.err and "run the study again" in said.err


@pytest.mark.parametrize("command", ["run", "report", "purge"])
def test_a_run_of_a_newer_schema_is_refused_untouched(command: str, copied: Path, bench: Bench, tmp_path: Path) -> None:
    newer = manifest(copied) | {"schema": 99}
    (copied / "manifest.json").write_text(json.dumps(newer), encoding="utf-8")
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    first = [bench.study(tmp_path), "--run"] if command == "run" else []
    said = bench.call(command, *first, copied)
    assert said.code == 2
    assert "newer alignprism" in said.err
    assert before == {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}


def test_a_folder_that_is_no_run_is_refused(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine", encoding="utf-8")
    said = bench.call("run", bench.study(tmp_path), "--run", folder)
    assert said.code == 2
    assert "is not empty" in said.err
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_stops_with_a_message_and_goes_on_with_room(
    finished: tuple[Path, Said], bench: Bench, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small disk that this test fills")
    disk, study = tmp_path / "disk", bench.study(tmp_path)
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False).returncode != 0:
        pytest.skip("this machine does not let root mount a tmpfs")
    stopped = 0
    try:
        for size in (64, 120, 200, 280, 360, 480, 640, 800, 16000):
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
            said = bench.call("run", study, "--run", disk / "run")
            if said.code == 0:
                break
            stopped += 1
            assert said.code == 1, said.all
            assert "disk is full" in said.err and "goes on from there" in said.err
            assert "Traceback" not in said.all
        assert stopped >= 3
        assert said.code == 0
        assert results(disk / "run") == results(finished[0])
    finally:
        subprocess.run(["umount", str(disk)], check=True)
