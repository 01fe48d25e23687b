"""Commands that do what a study says: quickstart, init, run, evaluate."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from alignprism.cli.console import cache_folder, console, exit_codes, quiet_libraries
from alignprism.cli.runs import FailIf, check, results_of
from alignprism.conditions import parse_condition
from alignprism.progress import ConsoleReporter
from alignprism.study import SAMPLE, Study, StudyError, dump, load, parse

RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder (default: runs/NAME of the study).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one value of the study: key.subkey=value. May be repeated.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be done, how long, how many model calls, which text goes where."),
]


def quickstart(
    size: Annotated[str, typer.Option("--size", help="smoke (minutes), quickstart, or study (hours).")] = "quickstart",
    run: RunOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
    fail_if: FailIf = None,
) -> None:
    """Train and evaluate a real small model on the sample data, and write the page."""
    with exit_codes():
        study = parse(_shipped_study(size), f"{size}.yaml", set_ or [])
        _run(study, run or Path("runs") / study.name, dry_run, fail_if)


def init(
    file: Annotated[Path, typer.Argument(help="Where to write the study file.")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a study file with every key, its default and its meaning."""
    with exit_codes():
        if file.exists() and not force:
            raise StudyError(f"{file} exists; name another file, or use --force to replace it")
        file.write_text(dump(Study()), encoding="utf-8")
        console.print(f"{file} written. Edit it, then: alignprism run {file}", highlight=False)


def run(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    run: RunOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
    fail_if: FailIf = None,
) -> None:
    """Do what a study says: make pairs, train, evaluate, write the page. Run again to go on or to redo what changed."""
    with exit_codes():
        loaded = load(study, set_ or [])
        _run(loaded, run or Path("runs") / loaded.name, dry_run, fail_if)


def evaluate(
    baseline: Annotated[str, typer.Option("--baseline", help="[NAME=]SOURCE of the model to compare with.")],
    model: Annotated[list[str], typer.Option("--model", help="[NAME=]SOURCE of a model to compare. May be repeated.")],
    prompts: Annotated[str, typer.Option("--prompts", help="Red-team prompts: a file, or `sample`.")] = SAMPLE,
    benign: Annotated[str, typer.Option("--benign", help="Harmless prompts: a file, `sample` or `none`.")] = SAMPLE,
    general: Annotated[str, typer.Option("--general", help="Ordinary prompts: a file, `sample` or `none`.")] = SAMPLE,
    run: RunOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
    fail_if: FailIf = None,
) -> None:
    """Compare existing checkpoints on prompts: the same page, nothing is trained."""
    with exit_codes():
        study = _evaluation_study(baseline, model, prompts, benign, general, set_ or [])
        _run(study, run or Path("runs") / study.name, dry_run, fail_if)


def _evaluation_study(
    baseline: str, models: list[str], prompts: str, benign: str, general: str, overrides: list[str]
) -> Study:
    from alignprism.prompts.read import read_file, read_sample

    sources: dict[str, dict[str, str]] = {}
    for text in (baseline, *models):
        name, separator, source = text.partition("=")
        if not separator:
            name, source = _short_name(text), text
        if name in sources:
            raise StudyError(f"--model {text}: two models are called {name!r}; write NAME={source} to name one")
        sources[name] = {"source": source}
    for option, file in (("--prompts", prompts), ("--benign", benign), ("--general", general)):
        if file not in (SAMPLE, "none") and not Path(file).is_file():
            raise StudyError(f"{option} {file}: no such file; accepted: a .jsonl, .csv or .parquet file, or `sample`")
    rows = read_sample("redteam") if prompts == SAMPLE else read_file(Path(prompts), "redteam", "test")
    study = {
        "name": "evaluate",
        "languages": {"train": [], "test": sorted({row.language for row in rows if row.split == "test"})},
        "data": {
            "redteam": _data(prompts),
            "translated": SAMPLE if prompts == SAMPLE else None,
            "benign": _data(benign),
            "general": _data(general),
        },
        "models": sources,
        "baseline": next(iter(sources)),
        "methods": [],
        "generators": [],
    }
    return parse(json.dumps(study), "evaluate", overrides)


def _data(value: str) -> str | None:
    if value == "none":
        return None
    return value if value == SAMPLE else str(Path(value).resolve())


def _short_name(source: str) -> str:
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in source.rstrip("/").split("/")[-1].split(":")[-1])
    return name.strip("-") or "model"


def _shipped_study(size: str) -> str:
    folder = resources.files("alignprism") / "studies"
    sizes = sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
    if size not in sizes:
        raise StudyError(f"--size {size}: accepted: {', '.join(sizes)}")
    return (folder / f"{size}.yaml").read_text(encoding="utf-8")


def _run(study: Study, folder: Path, dry_run: bool, fail_if: list[str] | None) -> None:
    quiet_libraries()
    from alignprism import pipeline

    conditions = [parse_condition(text) for text in fail_if or []]
    reporter = ConsoleReporter(console)
    cache = cache_folder()
    try:
        layout = pipeline.plan(study, folder, cache, reporter, dry_run=dry_run)
        todo = pipeline.pending(layout)
        if dry_run:
            _say_plan(layout, todo)
            return
        limit, minutes = study.budget.max_minutes, pipeline.estimate_minutes(todo)
        if limit is not None and minutes > limit:
            raise StudyError(
                f"budget.max_minutes: {limit:g}, but the estimate is {minutes:.0f}; raise it or ask for less"
            )
        if not todo:
            reporter.say(f"{folder}: everything was done before; nothing to compute")
        outcome = pipeline.execute(layout, cache, reporter)
    finally:
        reporter.close()
    if todo and not outcome.ran:
        reporter.say(f"{folder}: nothing to compute")
    _say_outcome(folder)
    check(folder, conditions)


def _say_plan(layout: Any, todo: list[Any]) -> None:
    from alignprism.pipeline import estimate_minutes

    waiting = {stage.name for stage in todo}
    console.print(f"Study {layout.study.name}, run folder {layout.run.path}", highlight=False)
    for stage in layout.stages:
        mark = "to do" if stage.name in waiting else "done "
        minutes = f"about {max(stage.seconds / 60, 0.1):.1f} min" if stage.name in waiting else ""
        calls = f"{stage.calls} model calls" if stage.calls and stage.name in waiting else ""
        console.print(f"  {mark}  {stage.title:<46} {calls:<18} {minutes}", highlight=False)
    hosts = ", ".join(layout.study.allow_remote) or "none"
    console.print("Text goes:", highlight=False)
    for stage in todo:
        if stage.text:
            console.print(f"  {stage.text}", highlight=False, markup=False)
    console.print(
        f"No text leaves this machine. Hosts under allow_remote: {hosts} (no stage asks one).", highlight=False
    )
    for line in layout.fetches:
        console.print(f"To fetch first: {line}", highlight=False, markup=False)
    console.print(
        f"In all: {sum(stage.calls for stage in todo)} model calls, about {estimate_minutes(todo):.0f} minutes on two cores "
        "without a GPU. Nothing was done.",
        highlight=False,
    )


def _say_outcome(folder: Path) -> None:
    from alignprism.report.results import read_results
    from alignprism.report.wording import outcome, significance

    document = results_of(folder)
    read = read_results(document)
    sentence = outcome(read.primary, read.head_figure("baseline_rate"), read.head_figure("model_rate"))
    console.print()
    console.print(f"{sentence} {significance(read.primary)}", markup=False, highlight=False)
    for warning in document["headline"]["warnings"]:
        console.print(f"Note, {warning['kind']}: {warning['text']}", markup=False, highlight=False)
    console.print(f"The page: {folder / 'report.html'}", markup=False, highlight=False)
