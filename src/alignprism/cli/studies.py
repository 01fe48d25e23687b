"""Commands that do what a study says: quickstart, init, run, evaluate."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignprism.cli.console import cache_folder, console, exit_codes, quiet_libraries
from alignprism.cli.runs import FailIf, check, results_of
from alignprism.conditions import parse_condition
from alignprism.progress import ConsoleReporter
from alignprism.study import SAMPLE, Study, StudyError, dump, load, parse
from alignprism.study.remote import all_models, remote_hosts

if TYPE_CHECKING:  # what they import takes seconds
    from alignprism.layout import Plan, Stage
    from alignprism.models.cost import Estimate

RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder (default: runs/NAME of the study).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one value of the study: key.subkey=value. May be repeated.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be done, how long, how many model calls, which text goes where."),
]


LESS_MEMORY = (
    "Training takes less with a lower training.micro_batch_tokens and with training.gradient_checkpointing: true, which change "
    "no result, answering and judging with a lower evaluation.batch_size: in the study, or by --set KEY=VALUE."
)
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Ask again what got no answer before; what was answered is kept.")
]


def quickstart(
    size: Annotated[str, typer.Option("--size", help="smoke (minutes), quickstart, or study (hours).")] = "quickstart",
    run: RunOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
    fail_if: FailIf = None,
) -> None:
    """Train and evaluate a real small model on the sample data, and write the page."""
    with exit_codes(LESS_MEMORY):
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
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dump(Study()), encoding="utf-8")
        console.print(f"{file} written. Edit it, then: alignprism run {file}", highlight=False)


def run(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    run: RunOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
    retry_failed: RetryFailed = False,
    fail_if: FailIf = None,
) -> None:
    """Do what a study says: make pairs, train, evaluate, write the page. Run again to go on or to redo what changed."""
    with exit_codes(LESS_MEMORY):
        loaded = load(study, set_ or [])
        _run(loaded, run or Path("runs") / loaded.name, dry_run, fail_if, retry_failed)


def evaluate(
    baseline: Annotated[str, typer.Option("--baseline", help="[NAME=]SOURCE of the model to compare with.")],
    model: Annotated[list[str], typer.Option("--model", help="[NAME=]SOURCE of a model to compare. May be repeated.")],
    prompts: Annotated[str, typer.Option("--prompts", help="Red-team prompts: a file, or `sample`.")] = SAMPLE,
    benign: Annotated[str, typer.Option("--benign", help="Harmless prompts: a file, `sample` or `none`.")] = SAMPLE,
    general: Annotated[str, typer.Option("--general", help="Ordinary prompts: a file, `sample` or `none`.")] = SAMPLE,
    run: RunOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
    retry_failed: RetryFailed = False,
    fail_if: FailIf = None,
) -> None:
    """Compare existing checkpoints on prompts: the same page, nothing is trained."""
    with exit_codes(LESS_MEMORY):
        study = _evaluation_study(baseline, model, prompts, benign, general, set_ or [])
        _run(study, run or Path("runs") / study.name, dry_run, fail_if, retry_failed)


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


def _run(study: Study, folder: Path, dry_run: bool, fail_if: list[str] | None, retry_failed: bool = False) -> None:
    quiet_libraries()
    from alignprism.processes import refuse_several

    refuse_several("a study")
    from alignprism import pipeline

    conditions = [parse_condition(text) for text in fail_if or []]
    reporter = ConsoleReporter(console)
    cache = cache_folder()
    try:
        layout = pipeline.plan(study, folder, cache, reporter, keys=endpoint_keys(study), dry_run=dry_run)
        todo = pipeline.pending(layout)
        if dry_run:
            _say_plan(layout, todo)
            return
        _check_budget(study, pipeline.estimate_minutes(todo), pipeline.estimate_cost(todo), pipeline.spent(layout))
        if not todo and not retry_failed:
            reporter.say(f"{folder}: everything was done before; nothing to compute")
        outcome = pipeline.execute(layout, reporter, retry_failed=retry_failed)
    finally:
        reporter.close()
    if todo and not outcome.ran:
        reporter.say(f"{folder}: nothing to compute")
    _say_outcome(folder)
    check(folder, conditions)


def endpoint_keys(study: Study) -> dict[str, str]:
    """The secrets that the study's endpoints name, as far as the environment has them."""
    endpoints = [model.endpoint for _, model in all_models(study) if model.endpoint is not None]
    names = {endpoint.api_key_env for endpoint in endpoints if endpoint.api_key_env}
    return {name: os.environ[name] for name in names if name in os.environ}


def _check_budget(study: Study, minutes: float, cost: float, spent: float) -> None:
    """Refuse what may not fit before anything is asked. What the run has cost counts, as it does while it runs."""
    budget = study.budget
    if budget.max_minutes is not None and minutes > budget.max_minutes:
        raise StudyError(
            f"budget.max_minutes: {budget.max_minutes:g}, but the estimate is {minutes:.0f}; raise it or ask for less"
        )
    if budget.max_cost is not None and cost and spent + cost > budget.max_cost:
        before = f" beside the {spent:.2g} that the run has cost (what is stored is not asked again)" if spent else ""
        raise StudyError(
            f"budget.max_cost: {budget.max_cost:g} dollars, but the calls may cost up to {cost:.2g}{before}; raise it or ask "
            "for less"
        )


def _say_plan(layout: Plan, todo: list[Stage]) -> None:
    waiting = {stage.name for stage in todo}
    say(f"Study {layout.study.name}, run folder {layout.run.path}")
    for stage in layout.stages:
        mark = "to do" if stage.name in waiting else "done "
        minutes = f"about {max(stage.seconds / 60, 0.1):.1f} min" if stage.name in waiting else ""
        calls = f"{stage.calls} model calls" if stage.calls and stage.name in waiting else ""
        say(f"  {mark}  {stage.title:<46} {calls:<18} {minutes}")
    say("Text goes:")
    for text, to, hosts, use in _destinations(todo):
        where = f"at {', '.join(hosts)}" if hosts else "on this machine"
        say(f"  {text} to {to} {where}: {use if hosts else f'{use.calls:,} calls'}")
    _say_hosts(layout.study, todo)
    for line in layout.fetches:
        say(f"To fetch first: {line}")
    total, cost = sum(stage.seconds for stage in todo) / 60, sum(stage.cost for stage in todo)
    dollars = f", at most ${cost:,.2f}" if cost else ""
    say(
        f"In all: {sum(stage.calls for stage in todo)} model calls, about {total:.0f} minutes on two cores without a GPU"
        f"{dollars}. Nothing was done."
    )


def _destinations(todo: list[Stage]) -> list[tuple[str, str, tuple[str, ...], Estimate]]:
    """What goes to whom, over all stages."""
    found: dict[tuple[str, str, tuple[str, ...]], Estimate] = {}
    for sent in (sent for stage in todo for sent in stage.sent):
        key = (sent.text, sent.to, sent.hosts)
        found[key] = found[key] + sent.use if key in found else sent.use
    return [(*key, use) for key, use in found.items()]


def _say_hosts(study: Study, todo: list[Stage]) -> None:
    """Which hosts text leaves this machine for, and whether the study allows it."""
    asked = {host for stage in todo for sent in stage.sent for host in sent.hosts}
    beyond = {host: keys for host, keys in remote_hosts(study).items() if host in asked}
    allowed = {host.lower() for host in study.allow_remote}
    if not beyond:
        say("No text leaves this machine.")
    for host, keys in beyond.items():
        note = "allowed" if host.lower() in allowed else "NOT under allow_remote: the run would be refused"
        say(f"Text leaves this machine for {host} ({', '.join(keys)}): {note}")


def say(text: str) -> None:
    """One line, as it stands."""
    console.print(text, markup=False, highlight=False)


def _say_outcome(folder: Path) -> None:
    from alignprism.report.results import read_results
    from alignprism.report.wording import corrected_outcome, outcome, significance

    document = results_of(folder)
    read = read_results(document)
    sentence = outcome(read.primary, read.head_figure("baseline_rate"), read.head_figure("model_rate"))
    console.print()
    if corrected := corrected_outcome(read.head_figure("corrected")):
        say(f"{corrected} The judge alone:")
    console.print(f"{sentence} {significance(read.primary)}", markup=False, highlight=False)
    for warning in document["headline"]["warnings"]:
        console.print(f"Note, {warning['kind']}: {warning['text']}", markup=False, highlight=False)
    console.print(f"The page: {folder / 'report.html'}", markup=False, highlight=False)
