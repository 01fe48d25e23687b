"""The command line: parse, call, print; one file for each group of commands, and ``console`` for what they share."""

from __future__ import annotations

from typing import Annotated

import typer

from alignprism import __version__
from alignprism.cli import (
    calls,
    construct,
    construct_pairs,  # noqa: F401  # its commands join construct.app
    construct_rephrase,  # noqa: F401  # its commands join construct.app
    construct_translate,  # noqa: F401  # its commands join construct.app
    data,
    generate,
    judge,
    judge_check,  # noqa: F401  # its commands join judge.app
    judge_pair,  # noqa: F401  # its commands join judge.app
    judge_references,  # noqa: F401  # its commands join judge.app
    labels,
    merge,
    models,
    runs,
    studies,
    train,
)
from alignprism.cli.console import console

app = typer.Typer(
    name="alignprism",
    help="Make a multilingual language model less harmful in every language it speaks, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    studies.quickstart,
    studies.init,
    studies.run,
    studies.evaluate,
    generate.generate,
    runs.report,
    runs.purge,
    runs.export,
):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(construct.app, name="construct")
app.add_typer(models.app, name="models")
app.add_typer(judge.app, name="judge")
app.add_typer(calls.app, name="calls")
app.add_typer(labels.app, name="labels")
app.add_typer(train.app, name="train")
app.add_typer(merge.app, name="merge")


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
