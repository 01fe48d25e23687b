"""The command line: what it writes, what it says, and how it ends (0 done, 1 failed, 2 wrong input, 3 held)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import Bench, Said, fragments, manifest, results, texts_of

from alignprism.study import Study, load

SHARED = ("--set", "judges.preference=e5-harm-v1", "--set", "allow_shared_judge=true")


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "line", "parts"),
    [
        ("mixture", "mixtur: 0.5", [":16: mixtur: ", "unknown key", "mixture"]),
        ("mixture", "mixture: 1.3", [":16: mixture: ", "less than or equal to 1"]),
        ("seed", "seed: many", [": seed: ", "integer"]),
        ("test", "  test: [en, klingon]", [":4: languages.test.1: ", "BCP-47"]),
        ("translated", "  translated: gone.jsonl", [":6: data.translated: ", "gone.jsonl", "accepted"]),
        ("allow_shared_judge", "allow_shared_judge: false", [": judges: ", "allow_shared_judge: true"]),
    ],
)
def test_a_bad_study_is_one_line_that_names_file_line_and_key(
    key: str, line: str, parts: list[str], bench: Bench, tmp_path: Path
) -> None:
    study = bench.study(tmp_path)
    lines = study.read_text(encoding="utf-8").splitlines()
    place = next((n for n, old in enumerate(lines) if old.strip().startswith(f"{key}:")), len(lines))
    lines[place : place + 1] = [line]
    study.write_text("\n".join(lines), encoding="utf-8")
    said = bench.call("run", study, "--run", tmp_path / "run")
    assert said.code == 2
    assert said.err.count("\n") == 1 and said.err.startswith(str(study))
    for part in parts:
        assert part in said.err, part
    assert not (tmp_path / "run").exists()


def test_a_launched_study_is_refused_before_any_work(bench: Bench, tmp_path: Path) -> None:
    launch = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "alignprism", "run")
    command = [sys.executable, "-m", *map(str, (*launch, bench.study(tmp_path)))]
    ended = subprocess.run(command, env=bench.environment(), cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert ended.returncode != 0 and not (tmp_path / "runs").exists()
    assert "2 processes were launched" in ended.stderr and "working in this folder" not in ended.stderr


def test_a_study_runs_in_one_process(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, run = bench.study(tmp_path), tmp_path / "run"
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"):
        with monkeypatch.context() as launched:
            launched.setenv(name, "2")
            said = bench.call("run", study, "--run", run)
        assert said.code == 2 and "a study runs in one process" in said.err and "alignprism train" in said.err
    assert not run.exists()
    with monkeypatch.context() as launched:
        launched.setenv("WORLD_SIZE", "1")
        assert bench.call("run", study, "--run", run, "--dry-run").code == 0


def test_a_study_that_is_not_there_says_how_to_get_one(bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", tmp_path / "study.yaml")
    assert said.code == 2
    assert "no such file; `alignprism init study.yaml` writes one" in said.err


def test_a_wrong_override_is_named_as_such(bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", bench.study(tmp_path), "--set", "training.beta=-1", "--run", tmp_path / "run")
    assert said.code == 2
    assert said.err.startswith("--set training.beta: ")


def test_a_mixture_that_cannot_be_filled_names_the_short_side(copied: Path, bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", bench.study(tmp_path), "--run", copied, "--set", "pairs.total=40")
    assert said.code == 2
    assert "needs 10 safety pairs" in said.err and "the safety side is short" in said.err


@pytest.mark.parametrize(
    ("line", "said_what"),
    [
        ("    source: nowhere/at/all/", "there is no folder nowhere/at/all/"),
        ("    source: embedded:gpt", "embedded:gemma-3-270m"),
    ],
)
def test_a_model_that_leads_nowhere_says_what_is_accepted(
    line: str, said_what: str, bench: Bench, tmp_path: Path
) -> None:
    said = bench.call("run", bench.study(tmp_path, source=line), "--run", tmp_path / "run")
    assert said.code == 2
    assert said_what in said.err and "Traceback" not in said.all


def test_a_judge_that_is_not_there_lists_those_that_are(bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", bench.study(tmp_path, evaluation="  evaluation: nobody"), "--run", tmp_path / "run")
    assert said.code == 2
    assert "e5-harm-v1" in said.err


# --- dry run ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_everything_and_writes_nothing(bench: Bench, tmp_path: Path) -> None:
    study = bench.study(tmp_path)
    bench.call("run", study, "--run", tmp_path / "run", "--dry-run")  # the index of model digests is written once
    before = snapshot(bench.folder), snapshot(tmp_path)
    said = bench.call("run", study, "--run", tmp_path / "run", "--dry-run")
    assert said.code == 0, said.all
    assert (snapshot(bench.folder), snapshot(tmp_path)) == before
    assert said.out.count("to do") == 13
    assert "Training dpo-sft" in said.out and "Verdicts on base" in said.out
    assert "model calls" in said.out and "minutes" in said.out
    assert "test prompts to base on this machine:" in said.out
    assert "test prompts and completions to e5-harm-v1 on this machine:" in said.out
    assert "Nothing was done." in said.out


def test_a_dry_run_on_a_finished_run_has_nothing_to_do(
    finished: tuple[Path, Said], bench: Bench, tmp_path: Path
) -> None:
    before = snapshot(finished[0])
    said = bench.call("run", bench.study(tmp_path), "--run", finished[0], "--dry-run")
    assert said.code == 0
    assert "to do" not in said.out and "In all: 0 model calls" in said.out
    assert snapshot(finished[0]) == before


def test_an_estimate_above_the_budget_is_refused_before_anything(bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", bench.study(tmp_path), "--run", tmp_path / "r", "--set", "budget.max_minutes=0.001")
    assert said.code == 2
    assert "budget.max_minutes" in said.err


# --- conditions -------------------------------------------------------------------------------------------------------


def test_fail_if_exits_3_with_a_sentence(finished: tuple[Path, Said], bench: Bench) -> None:
    said = bench.call("report", finished[0], "--fail-if", "harmful_rate[language=hi].n >= 1")
    assert said.code == 3
    assert (
        "harmful_rate of dpo-sft in hi (share of all prompts): n is 1, so 'harmful_rate[language=hi].n >= 1' holds"
        in said.err
    )


def test_fail_if_that_does_not_hold_exits_0(finished: tuple[Path, Said], bench: Bench) -> None:
    assert bench.call("report", finished[0], "--fail-if", "harmful_rate.n > 1000").code == 0


def test_a_figure_without_the_field_counts_as_held(finished: tuple[Path, Said], bench: Bench) -> None:
    said = bench.call("report", finished[0], "--fail-if", "harmful_change.high > 1")
    assert said.code == 3
    assert "too few clusters" in said.err and "cannot be ruled out" in said.err


def test_a_condition_is_read_before_anything_is_done(bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", bench.study(tmp_path), "--run", tmp_path / "run", "--fail-if", "harmful > 1")
    assert said.code == 2
    assert "not understood" in said.err
    assert not (tmp_path / "run").exists()


def test_run_checks_conditions_on_a_finished_run(copied: Path, bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", bench.study(tmp_path), "--run", copied, "--fail-if", "harmful_rate[set=redteam].n > 0")
    assert said.code == 3


# --- existing checkpoints ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    folder = tmp_path_factory.mktemp("compare")
    rows = [{"text": f"Say something kind about number {n}.", "language": "en"} for n in range(6)]
    rows += [{"text": f"قل شيئا لطيفا عن الرقم {n}.", "language": "ar"} for n in range(6)]
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = bench.call(
        "evaluate",
        *("--baseline", bench.model, "--model", f"after={bench.other}", "--prompts", folder / "own.jsonl"),
        *("--benign", "none", "--general", "none", "--run", folder / "run", *SHARED),
    )
    assert said.code == 0, said.all
    return folder / "run", said


def test_two_checkpoints_get_the_same_page(compared: tuple[Path, Said]) -> None:
    run, said = compared
    document = results(run)
    assert document["models"] == ["one", "after"], "named by --model NAME=SOURCE, else by the folder"
    assert document["baseline"] == "one"
    assert [entry["code"] for entry in document["languages"]] == ["ar", "en"]
    primary = document["headline"]["primary"]
    assert (primary["model"], primary["n"], primary["clusters"]) == ("after", 12, 12)
    assert primary["low"] is not None and primary["high"] is not None
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Judge only: no person has read these completions" in page
    assert "العربية" in page
    assert not (run / "models").exists(), "nothing was trained"
    assert {e["model"] for e in manifest(run)["test"]["evaluations"]} == {"one", "after"}
    assert "The page:" in said.out


def test_a_shared_judge_made_no_pairs_where_nothing_was_trained(compared: tuple[Path, Said]) -> None:
    assert "shared judge" not in [w["kind"] for w in results(compared[0])["headline"]["warnings"]]


def test_two_models_of_one_name_are_refused(bench: Bench, tmp_path: Path) -> None:
    said = bench.call("evaluate", "--baseline", bench.model, "--model", bench.model, "--run", tmp_path / "r")
    assert said.code == 2
    assert "two models are called 'one'" in said.err and "NAME=" in said.err


def test_a_missing_prompt_file_is_refused(bench: Bench, tmp_path: Path) -> None:
    said = bench.call("evaluate", "--baseline", bench.model, "--model", bench.other, "--prompts", "gone.jsonl")
    assert said.code == 2
    assert "--prompts gone.jsonl: no such file" in said.err


# --- samples ----------------------------------------------------------------------------------------------------------


def test_texts_appear_in_samples_html_only_and_only_when_asked_for(copied: Path, bench: Bench) -> None:
    assert bench.call("report", copied).code == 0
    assert not (copied / "samples.html").exists()
    said = bench.call("report", copied, "--samples")
    assert said.code == 0, said.all
    assert "harmful text" in said.out
    pages = {name: (copied / name).read_text(encoding="utf-8") for name in ("samples.html", "report.html")}
    pieces = fragments(texts_of(copied)["completions"])
    ascii_pieces = {piece for piece in pieces if piece.isascii() and piece.isprintable()}
    assert [piece for piece in ascii_pieces if piece in pages["samples.html"]]
    assert not [piece for piece in pieces if piece in pages["report.html"]]
    assert not [piece for piece in pieces if piece in said.all]


# --- the small commands -----------------------------------------------------------------------------------------------


def test_init_writes_every_default_and_replaces_nothing(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    assert bench.call("init", file).code == 0
    assert load(file) == Study()
    before = file.read_bytes()
    said = bench.call("init", file)
    assert said.code == 2 and "--force" in said.err
    assert file.read_bytes() == before
    assert bench.call("init", file, "--force").code == 0


def test_init_makes_the_folder_of_a_new_study(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "study.yaml"
    assert bench.call("init", file).code == 0
    assert load(file) == Study()


def test_models_list_shows_licence_and_size(bench: Bench) -> None:
    said = bench.call("models", "list")
    assert said.code == 0
    assert "gemma-3-270m" in said.out and "smollm2-135m-instruct" in said.out
    assert "Gemma" in said.out and "MB" in said.out


def test_judge_list_shows_the_cards(bench: Bench) -> None:
    said = bench.call("judge", "list")
    assert said.code == 0, said.all
    assert "e5-harm-v1" in said.out


def test_version_and_help(bench: Bench) -> None:
    from alignprism import __version__

    assert bench.call("--version").out.strip() == f"alignprism {__version__}"
    assert "quickstart" in bench.call("--help").out


def test_an_unknown_size_lists_the_sizes(bench: Bench) -> None:
    said = bench.call("quickstart", "--size", "huge")
    assert said.code == 2
    assert "quickstart, smoke, study" in said.err


@pytest.mark.slow
def test_the_command_works_as_a_process_of_its_own(bench: Bench, finished: tuple[Path, Said]) -> None:
    process = bench.start("report", finished[0], "--fail-if", "harmful_rate.n > 0")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, out + err
    assert "holds" in err and "written" in out
