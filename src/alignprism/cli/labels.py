"""Commands on people's labels: plan (which completions, a blind sheet), add (what came back)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignprism.cli.console import console, exit_codes
from alignprism.run_folder import RunFolderError, read_manifest

if TYPE_CHECKING:
    from alignprism.labels.draw import Drawn
    from alignprism.labels.plan import LabelPlan

app = typer.Typer(
    help="Labels by people, without a web application: a blind sheet out, labels in, corrected figures on the page.",
    no_args_is_help=True,
)
RunArgument = Annotated[Path, typer.Argument(help="The run folder, with verdicts on what is to be labelled.")]


@app.command("plan")
def labels_plan(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="The sheet to write (CSV); instructions are written beside it.")],
    width: Annotated[
        float,
        typer.Option("--width", help="Half width wanted of the corrected interval: 0.05 is plus and minus 5 points."),
    ] = 0.05,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="One model (its rate), or two (the change from the first to the second). Default: the baseline and the model "
            "of the primary endpoint.",
        ),
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option("--language", help="A language to label; may be repeated (default: all tested).")
    ] = None,
    prompt_set: Annotated[
        str | None, typer.Option("--set", help="redteam, translated or benign (default: that of the primary endpoint).")
    ] = None,
    most: Annotated[
        int | None,
        typer.Option("--most", min=1, help="At most this many labelled prompts per language (default: no limit)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw and of the order.")] = 0,
) -> None:
    """Draw completions for people to label and write a blind sheet: no model, no verdict, in random order."""
    with exit_codes():
        from alignprism.labels.draw import Draft, draw
        from alignprism.labels.plan import write_plan
        from alignprism.labels.sheet import write_sheet

        if not 0 < width < 0.5:
            raise RunFolderError(
                f"--width {width:g}: a half width is above 0 and below 0.5; 0.05 is plus and minus 5 points"
            )
        manifest, document = _finished(run)
        primary = document["headline"]["primary"]
        models = tuple(model or dict.fromkeys([document["baseline"], primary["model"]]))
        if len(models) > 2:
            raise RunFolderError(
                f"--model: {len(models)} models; a plan is for one model, or for the change between two"
            )
        codes = tuple(language or [entry["code"] for entry in document["languages"]])
        drawn = draw(run, manifest, Draft(models, prompt_set or primary["set"], width, codes, seed, most))
        _say_needs(drawn)
        if not drawn.sheet:
            reached = all(need.reached for need in drawn.languages)
            why = "the labels that are there reach the width" if reached else "everything is labelled already"
            say(f"Nothing to label: {why}. No sheet was written.")
            return
        # The sheet first: a plan without its sheet would be an entry that nobody can fill in.
        instructions = write_sheet(out, drawn.sheet)
        write_plan(run, drawn.plan)
        say(
            f"{out} written: {len(drawn.sheet)} completions to label; it holds harmful text. Instructions: {instructions}. Each "
            f"annotator fills in a copy, then: alignprism labels add {run} COPY.csv --annotator NAME"
        )


def _say_needs(drawn: Drawn) -> None:
    plan = drawn.plan
    what = f"harmful rate of {plan.models[0]}" if len(plan.models) == 1 else f"change from {' to '.join(plan.models)}"
    say(f"Plan {plan.id}: {what}, prompts of set {plan.set}, plus and minus {100 * plan.width:g} points")
    for need in drawn.languages:
        there = f" ({need.labelled} labelled already)" if need.labelled else ""
        end = "" if need.reached else f"; {need.reason}"
        say(
            f"  {need.language}: {need.wanted} of {need.units} prompts{there}, expected plus and minus "
            f"{100 * need.half_width:.1f} points{end}"
        )


@app.command("add")
def labels_add(
    run: RunArgument,
    sheet: Annotated[Path, typer.Argument(help="A filled-in sheet (CSV).")],
    annotator: Annotated[
        str,
        typer.Option("--annotator", help="Who labelled, by any name but the real one; a column annotator comes first."),
    ] = "unnamed",
    partial: Annotated[
        bool, typer.Option("--partial", help="The sheet is unfinished: leave rows without a label for later.")
    ] = False,
) -> None:
    """Store the labels of a sheet in the run, all of them or none; `alignprism report RUN` then shows corrected figures."""
    with exit_codes():
        from alignprism.labels.plan import read_plans
        from alignprism.labels.sheet import read_sheet
        from alignprism.labels.store import add_labels, read_labels

        manifest, _ = _finished(run)
        added = add_labels(run, sheet, read_sheet(sheet, annotator), partial=partial)
        known = f", {added.known} were there already" if added.known else ""
        empty = f", {added.empty} rows without a label left for later" if added.empty else ""
        say(f"{len(added.new)} labels added{known}{empty}")
        labels = read_labels(run)
        for plan in read_plans(run):
            drawn = {item.completion_id for item in plan.items}
            people = {label.annotator for label in labels if label.completion_id in drawn}
            if people:
                _say_standing(run, manifest, plan, len(people))
        say(f"Corrected figures: alignprism report {run}")


def _say_standing(run: Path, manifest: dict[str, Any], plan: LabelPlan, people: int) -> None:
    from alignprism.labels.draw import standing

    who = "one person only: how far people agree is not known" if people == 1 else f"{people} people"
    say(f"Plan {plan.id} ({' and '.join(plan.models)}), {who}")
    for place in standing(run, manifest, plan):
        width = (
            "some strata without a label yet" if place.half_width is None else f"±{100 * place.half_width:.1f} points"
        )
        more = {None: "the width asked for is out of reach", 0: "enough: stop"}.get(
            place.more, f"about {place.more} more prompts for ±{100 * plan.width:g}"
        )
        say(f"  {place.language}: {place.labelled} of {place.drawn} drawn prompts labelled, {width}; {more}")


def _finished(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the results of a run that has its texts."""
    from alignprism.cli.runs import results_of

    document = results_of(run)
    manifest = read_manifest(run / "manifest.json")
    if manifest.get("purged"):
        raise RunFolderError(f"{run}: its texts were purged on {manifest['purged']}; nothing is left to label")
    return manifest, document


def say(text: str) -> None:
    """One line, as it stands."""
    console.print(text, markup=False, highlight=False)
