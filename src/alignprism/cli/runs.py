"""Commands on a run folder: report, purge, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from alignprism.cli.console import CONDITION_HELD, cache_folder, console, errors, exit_codes
from alignprism.conditions import held, parse_condition
from alignprism.progress import ConsoleReporter
from alignprism.run_folder import RunFolderError, read_manifest, refuse_unfinished

FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        help="Exit 3 if a figure fits, such as 'harmful_rate[language=hi].high > 0.10'. Bounds and variants are tested where "
        "the condition names them, as in 'harmful_change[estimand=undecidable counted as harmful].high > 0'.",
    ),
]


def results_of(folder: Path) -> dict[str, Any]:
    """The results of a run folder, which must be a finished one.

    Raises
    ------
    RunFolderError
        no run folder, no results yet, damaged ones, or those of a run that was begun again and did not end.
    """
    path = folder / "results.json"
    manifest = read_manifest(folder / "manifest.json")
    if path.is_file():
        refuse_unfinished(folder, manifest)
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{folder}: no results.json yet; let the run finish first") from error
    except ValueError as error:
        raise RunFolderError(f"{path}: damaged ({error}); run the study again, the stage is made again") from error
    return document


def check(folder: Path, conditions: list[Any]) -> None:
    """Stop with exit code 3, and a sentence each, when conditions hold."""
    if not conditions:
        return
    document = results_of(folder)
    sentences = [s for c in conditions for s in held(c, document["figures"], document["baseline"])]
    for sentence in sentences:
        errors.print(sentence, markup=False, highlight=False)
    if sentences:
        raise typer.Exit(CONDITION_HELD)


def report(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    samples: Annotated[
        bool, typer.Option("--samples", help="Also write samples.html: prompts and completions, behind a warning.")
    ] = False,
    fail_if: FailIf = None,
) -> None:
    """Write report.html again, with corrected figures where labels were added; with --samples also the page of texts."""
    with exit_codes():
        from alignprism.pipeline import refresh
        from alignprism.report.page import write_report
        from alignprism.samples import write_run_samples

        conditions = [parse_condition(text) for text in fail_if or []]
        results_of(run)
        reporter = ConsoleReporter(console)
        if refresh(run, cache_folder(), reporter):
            console.print("Figures made anew with the labels and plans that were added", highlight=False)
        console.print(f"{write_report(run)} written", highlight=False)
        if samples:
            console.print(
                f"{write_run_samples(run)} written; it shows harmful text, keep it to yourself", highlight=False
            )
        check(run, conditions)


def purge(run: Annotated[Path, typer.Argument(help="The run folder.")]) -> None:
    """Remove every prompt and completion text from a run; hashes, figures and models stay."""
    with exit_codes():
        from alignprism.purge import purge_run

        removed = purge_run(run, lambda text: console.print(text, markup=False, highlight=False))
        console.print(f"{run}: {removed} texts removed; hashes, figures and the page stay", highlight=False)


def export(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    cell: Annotated[str, typer.Argument(help="The trained model, such as dpo-sft.")],
    to: Annotated[Path, typer.Argument(help="New folder for the model.")],
) -> None:
    """Write a trained model as a plain transformers folder (adapter merged). Research-only models are refused."""
    with exit_codes():
        from alignprism.export import export_cell

        export_cell(run, cell, to, cache_folder(), lambda text: console.print(text, highlight=False))
        console.print(f"{to} written", highlight=False)
