"""A study whose judges are models behind a server, and people who check them: the main job from study file to page.

Everything is real but small: two tiny local models and one behind a socket, a rubric judge and a pairwise judge behind the
same socket, sheets that are filled in by a rule that differs from the judge's.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, serving
from tiny_model import STUDY as TINY
from tiny_model import Bench, Said, copy_of, manifest

from alignprism import pipeline
from alignprism.call_check import check_calls
from alignprism.cli.console import console
from alignprism.labels.plan import read_plans
from alignprism.labels.store import labels_file, read_labels
from alignprism.models.store import CallStore
from alignprism.progress import ConsoleReporter
from alignprism.rows import Comparison, Completion, Label, Prompt, Verdict, read_rows, write_rows
from alignprism.study import load

STUDY = """\
name: judged
languages: {{train: [], test: [hi, ar, sr, tl]}}
data: {{translated: null, benign: null}}
models:
  base: {{source: {model}}}
  other: {{source: {other}}}
  served:
    endpoint: {{urls: ["{address}"], model: judge-1, attempts: 2, price: {{input: 1, output: 2}}}}
    family: llama
methods: []
generators: []
judges:
  evaluation:
    kind: rubric
    model: {{endpoint: {{urls: ["{address}"], model: judge-1, attempts: 2, price: {{input: 1, output: 2}}}}, family: llama}}
  pairwise:
    model: {{endpoint: {{urls: ["{address}"], model: judge-1, attempts: 2, price: {{input: 1, output: 2}}}}, family: llama}}
evaluation:
  max_new_tokens: 6
  batch_size: 32
  bootstrap: 200
  primary: {{model: served}}
  translation: {{data: {parallel}, sentences: 12, max_new_tokens: 6}}
budget: {{max_cost: 5}}
"""
NAMES = ("base", "other", "served")


def share(*parts: str) -> float:
    """A number of 0 to 1 made of texts, always the same."""
    return int(hashlib.sha256("|".join(parts).encode()).hexdigest()[:8], 16) / 16**8


def say(text: str) -> str | None:
    """All three roles of the server, told apart by what they are asked."""
    if "Preferred: Answer (A)" in text:
        return f"Comparison: one is longer\nPreferred: {'Answer (A)' if share(text) < 0.4 else 'Answer (B)'}"
    if "Verdict: harmful, harmless or undecidable" in text:
        number = share(text.split("ANSWER", 1)[-1])
        verdict = "harmful" if number < 0.4 else "harmless"
        return "no verdict here" if number > 0.97 else f"Reason: it does this\nVerdict: {verdict}\nCategory: none"
    if share("down", text) < 0.04:
        return None  # a request that the server refuses, every time
    return f"{text[:30]} and a friendly word about the garden number {int(1000 * share(text))}."


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with serving(say) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judged")


def write_study(folder: Path, bench: Bench, address: str, change: Callable[[str], str] = lambda text: text) -> Path:
    parallel = folder / "parallel.jsonl"
    rows = [
        {"id": f"{code}{n}", "language": code, "text": text.format(n), "english": f"The house number {n} is red."}
        for code, text in (
            ("hi", "घर संख्या {} लाल है।"),
            ("ar", "البيت رقم {} أحمر."),
            ("sr", "Kuća broj {} je crvena."),
            ("tl", "Pula ang bahay bilang {}."),
        )
        for n in range(12)
    ]
    parallel.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    text = STUDY.format(model=bench.model, other=bench.other, address=address, parallel=parallel)
    file = folder / "study.yaml"
    file.write_text(change(text), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def said_by_run(bench: Bench, server: JudgeServer, folder: Path) -> Said:
    said = bench.call("run", write_study(folder, bench, server.address), "--run", folder / "run")
    assert said.code == 0, said.all
    return said


@pytest.fixture(scope="module")
def run(said_by_run: Said, folder: Path) -> Path:
    return folder / "run"


def document(run: Path) -> dict[str, Any]:
    text = (run / "results.json").read_text(encoding="utf-8")
    assert "NaN" not in text and "Infinity" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def served_calls(run: Path) -> dict[str, set[str]]:
    """Keys of the server's answers (``answered``) and of all failures (``failed``) in a run's call store."""
    with CallStore(run / "calls.sqlite") as store:
        rows = list(store.index())
    return {
        "answered": {key for key, status, _, _, served, _ in rows if status == "answered" and served},
        "failed": {key for key, status, *_ in rows if status == "failed"},
    }


def figures(run: Path, metric: str, model: str, correction: str = "none", **where: Any) -> list[dict[str, Any]]:
    wanted = {"language": None, "scope": None, "category": None, **where}
    return [
        row
        for row in document(run)["figures"]
        if row["metric"] == metric
        and row["model"] == model
        and row["correction"].startswith(correction)
        and all(row[key] == value for key, value in wanted.items())
    ]


# --- the run ----------------------------------------------------------------------------------------------------------


def test_models_and_judges_behind_a_server_are_one_job(run: Path, bench: Bench) -> None:
    found = manifest(run)
    for name in NAMES:
        verdicts = read_rows(run / "stages" / f"judge-{name}" / "verdicts.parquet", Verdict)
        assert {v.judge for v in verdicts} == {"judge-1 (rubric)"}
        assert {v.harm for v in verdicts} >= {"harmful", "harmless"}
    assert set(found["judges"]) == {"evaluation", "pairwise"}
    assert found["models"]["served"]["asked_for"] == "judge-1"
    comparisons = read_rows(run / "stages" / "compare-other" / "comparisons.parquet", Comparison)
    assert {row.order for row in comparisons} == {"ab", "ba"}


def test_a_failed_call_is_undecidable_with_its_reason_counted_and_shown(run: Path) -> None:
    completions = read_rows(run / "stages" / "complete-served" / "completions.parquet", Completion)
    failed = {row.id: row for row in completions if row.failure}
    assert failed and all(row.text == "" for row in failed.values())
    verdicts = {v.completion_id: v for v in read_rows(run / "stages" / "judge-served" / "verdicts.parquet", Verdict)}
    for row in failed.values():
        assert verdicts[row.id].harm == "undecidable"
        assert "refused request" in verdicts[row.id].reason
    [rate] = figures(run, "no_answer_rate", "served", set="redteam")
    prompts = [row for row in completions if row.prompt_id in _red(run)]
    assert rate["estimate"] == pytest.approx(sum(1 for row in prompts if row.failure) / len(prompts))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "refused request:" in page and "Model calls" in page
    if rate["estimate"]:
        assert "calls got no answer; they are counted as undecidable" in page


def _red(run: Path) -> set[str]:
    rows = read_rows(run / "stages" / "prompts" / "prompts.parquet", Prompt)
    return {row.id for row in rows if row.set == "redteam"}


def test_win_rates_in_both_conventions_flips_and_strengths_are_given(run: Path) -> None:
    rates = [row for row in figures(run, "win_rate", "other", set="general")]
    assert {row["estimand"].split(", ", 2)[-1] for row in rates} >= {
        "ties half",
        "ties dropped",
        "ties half, at equal length",
    }
    assert figures(run, "flip_rate", "other", set="general", language="hi")
    assert {row["model"] for row in document(run)["figures"] if row["metric"] == "strength"} == set(NAMES)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Preferred answers" in page and "Bradley-Terry" in page


def test_translation_is_a_task_of_every_model_with_a_reason_where_a_score_is_not_given(run: Path) -> None:
    for name in NAMES:
        [chrf, *_] = figures(run, "chrf++", name, set="translation", language="hi")
        assert chrf["estimate"] is not None
        [spbleu, *_] = figures(run, "spbleu", name, set="translation", language="ar")
        assert spbleu["estimate"] is None and "evaluation.spm_model" in spbleu["reason"]
    assert "Translation" in (run / "report.html").read_text(encoding="utf-8")


def test_kin_judges_are_said_in_the_first_box(run: Path) -> None:
    kinds = {warning["kind"]: warning["text"] for warning in document(run)["headline"]["warnings"]}
    assert "both of family llama" in kinds["kin judges"]
    assert {row["family"] for row in document(run)["families"] if row["name"] == "served"} == {"llama"}


def test_calls_tokens_and_dollars_are_on_the_page(run: Path) -> None:
    calls = {(row["for"], row["model"]): row for row in document(run)["calls"]}
    served = calls["completion", "served"]
    assert served["dollars"] > 0 and served["prompt tokens"] > 0
    assert served["failed"].startswith("refused request")
    assert calls["judge", "judge-1"]["answered"] > 50


def test_every_call_was_made_exactly_once(run: Path, bench: Bench) -> None:
    found = check_calls(run)
    assert {part.place.split("/")[0] for part in found.parts} >= {"complete-served", "judge-served", "compare-other"}
    for part in found.parts:
        assert part.rows and not part.missing and not part.doubled, part
        assert part.done + len(part.failed) == part.rows
    # Only what the server refused every time is left, and the command says so with its exit code.
    assert {part.by for part in found.parts if part.failed} == {"served"}
    said = bench.call("calls", "check", run)
    assert said.code == 1 and "refused request" in said.out
    assert not sum(found.unused.values())


def test_failures_and_cost_are_said_stage_by_stage(said_by_run: Said) -> None:
    after = said_by_run.out.split("Completions of served", 1)[1].split("Verdicts on served", 1)
    assert re.search(r"\d+ failed, \$\d+\.\d\d", after[0]), said_by_run.out
    assert re.search(r"^ +\$\d+\.\d\d$", after[1], re.MULTILINE), "the judge's calls cost, and none failed"


@pytest.mark.slow
def test_sigkill_loses_no_answer_that_was_paid_for(
    run: Path, bench: Bench, server: JudgeServer, folder: Path, tmp_path: Path
) -> None:
    path, study = tmp_path / "run", write_study(tmp_path, bench, server.address)
    begun = len(server.shown)
    for part in range(1, 5):
        process = bench.start("run", study, "--run", path)
        end = time.monotonic() + 120
        while len(server.shown) < begun + part * 60 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        process.kill()
        out, err = process.communicate()
        assert process.returncode < 0, out + err  # killed, and not ended by itself
    kept, asked = served_calls(path), len(server.shown)
    assert 0 < len(kept["answered"]) < len(served_calls(run)["answered"])
    said = bench.call("run", study, "--run", path)
    assert said.code == 0, said.all
    found = served_calls(path)
    assert found == served_calls(run), "nothing is lost, and nothing is there twice"
    new = len(found["answered"] - kept["answered"])
    assert len(server.shown) - asked <= new + len(found["failed"]), "no stored answer was asked for again"
    assert document(path)["figures"] == document(run)["figures"]


def test_a_second_run_asks_nothing(run: Path, bench: Bench, server: JudgeServer, folder: Path) -> None:
    before = len(server.shown)
    said = bench.call("run", write_study(folder, bench, server.address), "--run", run)
    assert said.code == 0, said.all
    assert "nothing to compute" in said.out
    assert len(server.shown) == before


def test_a_lost_stage_is_made_again_from_the_call_store(
    run: Path, bench: Bench, server: JudgeServer, folder: Path, tmp_path: Path
) -> None:
    copy = copy_of(run, tmp_path / "run")
    good = (copy / "stages" / "judge-other" / "verdicts.parquet").read_bytes()
    shutil.rmtree(copy / "stages" / "judge-other")
    before = len(server.shown)
    said = bench.call("run", write_study(folder, bench, server.address), "--run", copy)
    assert said.code == 0, said.all
    assert len(server.shown) == before, "stored replies are not asked for again"
    assert (copy / "stages" / "judge-other" / "verdicts.parquet").read_bytes() == good


def test_failed_calls_are_asked_again_only_when_that_is_wanted(
    run: Path, bench: Bench, server: JudgeServer, folder: Path, tmp_path: Path
) -> None:
    copy = copy_of(run, tmp_path / "run")
    before = len(server.shown)
    server.say = lambda text: say(text) or "A friendly word about the garden."
    try:
        said = bench.call("run", write_study(folder, bench, server.address), "--run", copy, "--retry-failed")
    finally:
        server.say = say
    assert said.code == 0, said.all
    assert "complete:served: calls that got no answer are asked again" in said.out
    rows = read_rows(copy / "stages" / "complete-served" / "completions.parquet", Completion)
    assert not [row for row in rows if row.failure]
    failed = 7 + 1 + 4  # those calls, the verdict on the new answer, and comparisons of it
    assert 0 < len(server.shown) - before <= failed
    assert bench.call("calls", "check", copy).code == 0


def test_a_judge_that_never_answers_readably_is_said_and_makes_nothing_harmless(
    run: Path, bench: Bench, server: JudgeServer, folder: Path, tmp_path: Path
) -> None:
    copy = copy_of(run, tmp_path / "run")
    server.say = lambda text: "I would rather talk about the weather."
    try:
        study = write_study(folder, bench, server.address)
        said = bench.call("run", study, "--run", copy, "--set", "judges.evaluation.max_new_tokens=99")
    finally:
        server.say = say
    assert said.code == 0, said.all
    [rate] = figures(copy, "undecidable_rate", "served", set="redteam")
    assert rate["estimate"] == 1
    [usable] = figures(copy, "safe_usable_rate", "served", set="redteam")
    assert usable["estimate"] == 0
    assert "the judge gave no readable verdict on" in (copy / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("asked", "changed", "stage"),
    [
        ("Verdict: harmful, harmless or undecidable", "judges.evaluation.max_new_tokens=98", "judge-other"),
        ("Preferred: Answer (A)", "judges.pairwise.max_new_tokens=98", "compare-other"),
    ],
)
def test_a_judge_that_is_down_stops_the_run_and_the_same_command_goes_on(
    run: Path, bench: Bench, server: JudgeServer, folder: Path, tmp_path: Path, asked: str, changed: str, stage: str
) -> None:
    copy = copy_of(run, tmp_path / "run")
    command = ("run", write_study(folder, bench, server.address), "--run", copy, "--set", changed)
    server.say = lambda text: None if asked in text else say(text)
    try:
        stopped = bench.call(*command)
    finally:
        server.say = say
    assert stopped.code == 1 and "judgements got all its answers" in stopped.err
    assert "refused request" in stopped.err and "Traceback" not in stopped.all
    assert bench.call(*command).code == 0
    kind = Verdict if stage.startswith("judge") else Comparison
    rows = read_rows(next((copy / "stages" / stage).glob("*s.parquet")), kind)
    assert rows and not [row for row in rows if row.reason.startswith("no reply")]


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(bench: Bench, file: Path, run: Path, *more: str) -> Said:
    said = bench.call("run", file, "--run", run, *more)
    assert said.code in (1, 2), said.all
    assert "Traceback" not in said.all
    return said


def test_text_goes_to_no_host_that_is_not_listed_and_the_dry_run_says_where_it_would(
    bench: Bench, folder: Path, tmp_path: Path
) -> None:
    file = write_study(folder, bench, "http://judge.example/v1")
    said = refused(bench, file, tmp_path / "run")
    assert (
        said.code == 2 and "allow_remote: text would go to judge.example (models.served, judges.evaluation" in said.err
    )
    dry = bench.call("run", file, "--run", tmp_path / "run", "--dry-run")
    assert dry.code == 0, dry.all
    assert "test prompts to served at judge.example:" in dry.out
    assert "test prompts and completions to judge-1 at judge.example:" in dry.out
    assert "NOT under allow_remote" in dry.out and "at most $" in dry.out
    assert not (tmp_path / "run").exists(), "a dry run writes nothing"


def test_a_budget_is_held_before_and_during_a_run(
    bench: Bench, server: JudgeServer, folder: Path, tmp_path: Path
) -> None:
    file = write_study(folder, bench, server.address)
    said = refused(bench, file, tmp_path / "run", "--set", "budget.max_cost=0.0001")
    assert "budget.max_cost: 0.0001 dollars, but the calls may cost up to" in said.err


def test_what_a_run_has_cost_counts_against_its_cap(
    run: Path, bench: Bench, server: JudgeServer, folder: Path, tmp_path: Path
) -> None:
    copy = copy_of(run, tmp_path / "run")
    study = load(write_study(folder, bench, server.address), ["judges.evaluation.max_new_tokens=97"])
    layout = pipeline.plan(study, copy, bench.cache, ConsoleReporter(console))
    cost, spent = pipeline.estimate_cost(pipeline.pending(layout)), pipeline.spent(layout)
    assert cost > 0 and spent > 0
    more = ("--set", "judges.evaluation.max_new_tokens=97", "--set", f"budget.max_cost={cost + spent / 2}")
    said = refused(bench, folder / "study.yaml", copy, *more)
    assert said.code == 2 and "that the run has cost" in said.err


def test_a_judge_without_a_template_in_a_language_is_told_before_anything_is_paid_for(
    bench: Bench, server: JudgeServer, folder: Path, tmp_path: Path
) -> None:
    before = len(server.shown)
    file = write_study(
        folder,
        bench,
        server.address,
        lambda text: text.replace("kind: rubric", "kind: rubric\n    prompt_language: target").replace(
            "[hi, ar, sr, tl]", "[de]"
        ),
    )
    rows = [{"text": "Sag etwas Freundliches", "language": "de", "split": "test"}]
    (folder / "de.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = refused(
        bench, file, tmp_path / "run", "--set", "data.redteam=de.jsonl", "--set", "evaluation.translation.data=null"
    )
    assert said.code == 2 and "no template in de" in said.err
    assert len(server.shown) == before


def test_one_model_in_two_roles_is_refused(bench: Bench, server: JudgeServer, folder: Path, tmp_path: Path) -> None:
    served = f"{{endpoint: {{urls: ['{server.address}'], model: judge-1}}}}"
    rubric = f"{{kind: rubric, model: {served}}}"
    text = TINY.replace("per_language: 1", "per_language: 2").replace("methods:", f"  served: {served}\nmethods:")
    text = text.replace("allow_shared_judge: true", "generators: [base, served]").replace("{model}", str(bench.model))
    for preference, evaluation, told in (
        (
            rubric.replace("rubric", "rubric, max_new_tokens: 99"),
            rubric,
            "the preference judge and the evaluation judge",
        ),
        (rubric, "e5-harm-v1", "a generator and the preference judge"),
    ):
        changed = text.replace("preference: e5-harm-v1", f"preference: {preference}")
        changed = changed.replace("evaluation: e5-harm-v1", f"evaluation: {evaluation}")
        if "preference judge and" in told:
            changed = changed.replace("[base, served]", "[base]")
        (tmp_path / "study.yaml").write_text(changed, encoding="utf-8")
        said = refused(bench, tmp_path / "study.yaml", tmp_path / "run")
        assert said.code == 2 and f"one and the same model is {told}" in said.err, said.err


def test_a_server_that_is_down_is_told_before_anything_is_computed(bench: Bench, folder: Path, tmp_path: Path) -> None:
    said = refused(bench, write_study(folder, bench, "http://127.0.0.1:9/v1"), tmp_path / "run")
    assert said.code == 1 and "cannot be reached" in said.err
    assert not (tmp_path / "run" / "stages").exists()


# --- people -----------------------------------------------------------------------------------------------------------


def fill(sheet: Path, to: Path, rule: Callable[[dict[str, str]], str]) -> Path:
    rows = list(csv.DictReader(io.StringIO(sheet.read_text(encoding="utf-8-sig"), newline="")))
    for row in rows:
        row["label"] = rule(row)
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    to.write_text(sink.getvalue(), encoding="utf-8-sig")
    return to


def human(row: dict[str, str]) -> str:
    """People find less harm than the judge."""
    return "harmful" if share("person", row["completion"]) < 0.2 else "harmless"


@pytest.fixture(scope="module")
def labelled(run: Path, bench: Bench, folder: Path) -> tuple[Path, Path]:
    """A copy of the run with a plan, its sheet filled in by one person and added, and the page made again."""
    copy = copy_of(run, folder / "labelled")
    said = bench.call("labels", "plan", copy, "--width", "0.1", "--most", "17", "--out", folder / "sheet.csv")
    assert said.code == 0, said.all
    added = bench.call(
        "labels", "add", copy, fill(folder / "sheet.csv", folder / "one.csv", human), "--annotator", "ines"
    )
    assert added.code == 0, added.all
    assert "one person only" in added.out
    said = bench.call("report", copy)
    assert said.code == 0, said.all
    assert "Figures made anew" in said.out
    return copy, folder / "sheet.csv"


def test_the_sheet_is_blind_and_the_plan_is_not(labelled: tuple[Path, Path]) -> None:
    run, sheet = labelled
    text = sheet.read_text(encoding="utf-8-sig")
    for word in ("served", "base", "other", "judge-1", "redteam"):
        assert f",{word}," not in text
    [plan] = read_plans(run)
    assert plan.models == ("base", "served") and plan.languages == ("hi", "ar", "sr", "tl")
    drawn = {item.prompt_id for item in plan.items}
    assert all(sum(item.prompt_id == prompt for item in plan.items) == 2 for prompt in drawn), "both completions"
    assert all(0 < item.probability <= 1 for item in plan.items)
    assert len(read_labels(run)) == len(plan.items)


def test_the_page_shows_judge_people_and_corrected_and_drops_judge_only(labelled: tuple[Path, Path]) -> None:
    run, _ = labelled
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Judge only: no person has read" not in page
    assert "Corrected by people" in page and "Checked by people" in page
    assert "according to this 1 rater" in page
    head = document(run)["headline"]
    assert head["judge_only"] is False
    assert head["corrected"]["correction"] == "corrected" and head["corrected"]["n_labels"] > 0
    for correction in ("human only", "corrected", "PPI++"):
        [row] = figures(run, "harmful_change", "served", correction, set="redteam")
        assert row["estimate"] is not None, row
    for correction in ("human only", "corrected", "PPI++", "Rogan-Gladen"):
        assert figures(run, "harmful_rate", "served", correction, set="redteam")
        assert figures(run, "harmful_rate", "base", correction, set="redteam", language="hi")
    [judge] = [r for r in figures(run, "harmful_rate", "served", set="redteam")]
    assert judge["correction"] == "none: judge only"


def test_corrected_rates_are_nearer_to_what_people_would_say_of_all(labelled: tuple[Path, Path]) -> None:
    run, _ = labelled
    red = _red(run)
    completions = read_rows(run / "stages" / "complete-served" / "completions.parquet", Completion)
    mine = [row for row in completions if row.prompt_id in red and not row.failure]
    truth = sum(human({"completion": row.text}) == "harmful" for row in mine) / len(mine)
    [judge] = figures(run, "harmful_rate", "served", set="redteam")
    [corrected] = figures(run, "harmful_rate", "served", "corrected", set="redteam")
    assert corrected["low"] <= truth <= corrected["high"]
    assert abs(corrected["estimate"] - truth) < abs(judge["estimate"] - truth)


def test_the_judge_is_measured_against_people_by_language_and_scope(labelled: tuple[Path, Path]) -> None:
    run, _ = labelled
    for where in ({}, {"language": "ar"}, {"scope": "local"}):
        for metric in ("judge_sensitivity", "judge_specificity", "judge_bias", "judge_kappa", "judge_ac1"):
            [row] = figures(run, metric, "served", set="redteam", **where)
            assert row["estimate"] is not None or row["reason"]
            assert row["n_labels"] > 0
    for code in ("hi", "ar", "sr", "tl"):
        [own] = figures(run, "judge_specificity", "served", set="redteam", language=code)
        [pooled] = figures(run, "judge_specificity_pooled", "served", "partially pooled", language=code)
        assert pooled["estimate"] is not None
        if own["low"] is not None:
            assert pooled["high"] - pooled["low"] < own["high"] - own["low"], "languages lend each other strength"
    [alpha] = figures(run, "rater_alpha", "served", set="redteam")
    assert alpha["reason"] == "labels from one rater only"
    cells = {row["estimand"] for row in figures(run, "judge_error_difference", "served", set="redteam")}
    assert {"false positive rate; language: tl", "false negative rate; scope: local"} <= cells
    assert any("; length: short" in cell for cell in cells)


def test_a_second_person_gives_agreement(
    labelled: tuple[Path, Path], bench: Bench, folder: Path, tmp_path: Path
) -> None:
    run, sheet = labelled
    copy = copy_of(run, tmp_path / "run")
    second = fill(sheet, tmp_path / "two.csv", lambda row: human(row) if share(row["item"]) < 0.9 else "harmful")
    assert bench.call("labels", "add", copy, second, "--annotator", "omar").code == 0
    assert bench.call("report", copy).code == 0
    [alpha] = figures(copy, "rater_alpha", "served", set="redteam")
    assert alpha["estimate"] is not None
    assert "these 2 raters" in (copy / "report.html").read_text(encoding="utf-8")


def test_four_people_also_speak_for_people_like_them(labelled: tuple[Path, Path], bench: Bench, tmp_path: Path) -> None:
    run, sheet = labelled
    assert not figures(run, "harmful_rate", "served", "such raters"), "one person says nothing of others"
    copy = copy_of(run, tmp_path / "run")
    for name, stricter in (("omar", 0.1), ("ana", 0.3), ("li", 0.5)):

        def own(row: dict[str, str], name: str = name, stricter: float = stricter) -> str:
            return "harmful" if share(name, row["item"]) < stricter else human(row)

        sheet_of = fill(sheet, tmp_path / f"{name}.csv", own)
        assert bench.call("labels", "add", copy, sheet_of, "--annotator", name).code == 0
    assert bench.call("report", copy).code == 0
    [these] = figures(copy, "harmful_rate", "served", "corrected", set="redteam")
    [such] = figures(copy, "harmful_rate", "served", "such raters", set="redteam")
    assert such["high"] - such["low"] > these["high"] - these["low"], "people differ, and that is counted"
    assert "raters such as these 4" in such["estimand"] and "such as" not in these["estimand"]
    assert "corrected, such raters" in (copy / "report.html").read_text(encoding="utf-8")


def test_labels_that_are_there_count_when_more_are_planned(
    labelled: tuple[Path, Path], bench: Bench, tmp_path: Path
) -> None:
    run, _ = labelled
    copy = copy_of(run, tmp_path / "run")
    said = bench.call("labels", "plan", copy, "--width", "0.1", "--out", tmp_path / "more.csv")
    assert said.code == 0, said.all
    assert "labelled already" in said.out


def test_sheets_that_come_back_one_language_at_a_time(run: Path, bench: Bench, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path / "run")
    sheet = tmp_path / "sheet.csv"
    assert bench.call("labels", "plan", copy, "--width", "0.1", "--most", "17", "--out", sheet).code == 0
    for code, missing in (("hi", "ar, sr, tl"), ("ar", "sr, tl")):
        own = fill(
            sheet, tmp_path / f"{code}.csv", lambda row, code=code: human(row) if row["language"] == code else ""
        )  # type: ignore[misc]
        assert bench.call("labels", "add", copy, own, "--partial").code == 0
        assert bench.call("report", copy).code == 0
        for way in ("human only", "corrected", "PPI++"):
            [whole] = figures(copy, "harmful_change", "served", way, set="redteam")
            assert whole["estimate"] is None and whole["reason"] == f"no labels yet in {missing}"
        [one] = figures(copy, "harmful_change", "served", "corrected", set="redteam", language=code)
        assert one["estimate"] is not None
        page = (copy / "report.html").read_text(encoding="utf-8")
        assert "Judge only: no person has read" not in page and "Corrected by people's labels of" not in page
        assert f"no labels yet in {missing}" in page, "the page says why"


def test_a_copied_run_tops_up_one_language_and_keeps_the_figures_of_all(
    labelled: tuple[Path, Path], bench: Bench, folder: Path, tmp_path: Path
) -> None:
    copy, sheet = copy_of(labelled[0], tmp_path / "run"), tmp_path / "more.csv"
    before = document(copy)["figures"]
    sizes = document(copy)["prompt_sets"]["redteam"]["by_language"]
    code = max(sizes, key=lambda name: sizes[name])
    parallel = folder / "parallel.jsonl"
    parallel.rename(folder / "elsewhere.jsonl")  # as on a machine that the prompt files were not copied to
    try:
        said = bench.call("labels", "plan", copy, "--language", code, "--width", "0.01", "--out", sheet)
        assert said.code == 0 and sheet.is_file(), said.all
        for step in ("planned", "added"):
            if step == "added":
                assert bench.call("labels", "add", copy, fill(sheet, sheet, human), "--annotator", "ines").code == 0
            said = bench.call("report", copy)
            assert said.code == 0, said.all
            assert "Figures made anew" in said.out
            assert (
                "parallel.jsonl is not here: the figures of the translation task stay as they were"
                in said.out.replace("\n", "")
            )
    finally:
        (folder / "elsewhere.jsonl").rename(parallel)
    after = document(copy)["figures"]
    for kept in (
        lambda row: row["set"] == "translation",
        lambda row: row["correction"] == "corrected" and row["language"] != code,
    ):
        assert [row for row in after if kept(row)] == [row for row in before if kept(row)] != []
    [topped] = figures(copy, "harmful_change", "served", "corrected", set="redteam", language=code)
    [earlier] = figures(labelled[0], "harmful_change", "served", "corrected", set="redteam", language=code)
    assert topped["n_labels"] > earlier["n_labels"]
    assert "Corrected by people" in (copy / "report.html").read_text(encoding="utf-8")


def test_wrong_input_of_the_commands_on_labels_is_named(
    labelled: tuple[Path, Path], bench: Bench, tmp_path: Path
) -> None:
    run, sheet = labelled
    before = (run / "labels" / "labels.parquet").read_bytes()
    cases = [
        (("plan", run, "--width", "2", "--out", tmp_path / "a.csv"), "--width 2"),
        (("plan", run, "--model", "nobody", "--out", tmp_path / "a.csv"), "no verdicts on 'nobody'"),
        (("plan", run, "--language", "fr", "--out", tmp_path / "a.csv"), "in fr"),
        (("plan", run, "--model", "other", "--out", sheet), "exists; name another file"),
        (("add", run, sheet), "row 2: column label: empty"),
        (("add", run, tmp_path / "none.csv"), "no such file"),
        (("add", tmp_path, sheet), "no manifest.json"),
    ]
    for arguments, told in cases:
        said = bench.call("labels", *arguments)
        assert said.code == 2, (arguments, said.all)
        assert told in said.err, said.err
    assert (run / "labels" / "labels.parquet").read_bytes() == before


def test_a_condition_can_be_put_on_the_corrected_figure(labelled: tuple[Path, Path], bench: Bench) -> None:
    run, _ = labelled
    said = bench.call("report", run, "--fail-if", "harmful_rate[model=served,correction=corrected].high > 0.001")
    assert said.code == 3, said.all


def test_purging_takes_the_notes_of_annotators_too(labelled: tuple[Path, Path], bench: Bench, tmp_path: Path) -> None:
    copy = copy_of(labelled[0], tmp_path / "run")
    write_rows(labels_file(copy), [replace(label, note="it says so") for label in read_labels(copy)], Label)
    assert bench.call("purge", copy).code == 0
    assert all(label.note.startswith("sha256:") for label in read_labels(copy))
    said = bench.call("labels", "plan", copy, "--out", tmp_path / "a.csv")
    assert said.code == 2 and "purged" in said.err
