"""What the commands that ask judges share: their options, the dry run, and opening a judge beside its call store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignprism.cli.console import cache_folder, console, quiet_libraries
from alignprism.errors import InputError
from alignprism.models.tally import Tally
from alignprism.progress import ConsoleReporter

if TYPE_CHECKING:
    from alignprism.judging.protocol import HarmJudge, Item
    from alignprism.judging.settings import JudgeSettings
    from alignprism.models.settings import ModelSettings
    from alignprism.rows import Prompt

JudgeOption = Annotated[
    str,
    typer.Option("--judge", help="A shipped head (see `judge list`), a head's folder, or a judge file (judge.yaml)."),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", help="NAME=THEIRS: what the file calls a column, as completion=response. May be repeated."
    ),
]
NotesOption = Annotated[
    Path | None,
    typer.Option(
        "--notes", help="For a judge with notes: a prompts file with the column explanation (train split used)."
    ),
]
RemoteOption = Annotated[
    list[str] | None,
    typer.Option("--allow-remote", help="A host that texts may be sent to. May be repeated; this machine always may."),
]
CostOption = Annotated[
    float | None, typer.Option("--max-cost", help="Dollars that all calls together may cost, earlier ones included.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say how many calls, at what cost, and which text goes where; ask nothing.")
]


@dataclass(frozen=True)
class Asking:
    """How a judge may be asked: the options of one command."""

    judge: str
    store: Path
    notes: Path | None = None
    allow_remote: Sequence[str] = ()
    max_cost: float | None = None
    reporter: ConsoleReporter = field(default_factory=lambda: ConsoleReporter(console))
    tally: Tally = field(default_factory=Tally)

    def progress(self, title: str, total: int) -> Callable[[int, int], None]:
        """A bar that also shows what the judge's endpoints did besides answering."""
        return self.reporter.progress(title, total, lambda: self.tally)

    def settings(self) -> JudgeSettings:
        """The judge's settings, checked as far as that goes without its models."""
        from alignprism.judging.judge_file import judge_settings
        from alignprism.judging.open import check_settings, needs_notes

        settings = judge_settings(self.judge)
        check_settings(settings)
        if needs_notes(settings) and self.notes is None:
            raise InputError(f"{self.judge}: the judge is shown notes; --notes FILE names the prompts that have them")
        return settings

    def notes_rows(self) -> list[Prompt]:
        """The prompts whose explanations are notes."""
        from alignprism.prompts.read import read_file

        return read_file(self.notes, "redteam") if self.notes is not None else []


@contextmanager
def opened(asking: Asking) -> Iterator[HarmJudge]:
    """The judge, ready to be asked. API keys are read from the environment variables that the settings name."""
    from alignprism.judging.open import open_judge
    from alignprism.models.cost import Budget
    from alignprism.models.store import CallStore

    settings = asking.settings()
    quiet_libraries()
    with CallStore(asking.store) as store:
        cap = None if asking.max_cost is None else Budget(asking.max_cost, store.spent())
        with open_judge(
            settings,
            store=store,
            cache=cache_folder(),
            keys=api_keys(settings),
            allow_remote=asking.allow_remote,
            notes_rows=asking.notes_rows(),
            cap=cap,
            say=asking.reporter.say,
            tally=asking.tally,
        ) as judge:
            try:
                yield judge
            finally:
                asking.reporter.close()


def models_of(settings: JudgeSettings) -> list[ModelSettings]:
    """Every model that a judge asks."""
    from alignprism.judging.settings import EnsembleSettings, GuardSettings, RubricSettings

    if isinstance(settings, EnsembleSettings):
        return [model for member in settings.members for model in models_of(member)]
    if isinstance(settings, RubricSettings):
        return [settings.model, *([settings.translator] if settings.translator is not None else [])]
    return [settings.model] if isinstance(settings, GuardSettings) else []


def api_keys(settings: JudgeSettings) -> Mapping[str, str]:
    """The values of the environment variables that the judge's endpoints name; those that are set."""
    names = {model.endpoint.api_key_env for model in models_of(settings) if model.endpoint is not None}
    return {name: os.environ[name] for name in names if name and name in os.environ}


def say_plan(asking: Asking, items: Sequence[Item], left_out: int) -> None:
    """What judging these items would do: calls, cost, and where texts go."""
    from alignprism.judging.planning import planned_calls
    from alignprism.models.engines import is_this_machine

    say = asking.reporter.say
    say(f"{len(items)} answers to judge; {left_out} are failures, empty or gibberish and are not sent")
    for row in planned_calls(asking.settings(), items, asking.notes_rows()):
        if row.calls is None:
            say(f"{row.judge}: on this machine, no model calls")
            continue
        say(f"{row.judge}: {row.what} by {row.model}: {row.calls}")
        remote = [host for host in row.hosts if not is_this_machine(host)]
        where = ", ".join(remote) if remote else "this machine only"
        missing = [host for host in remote if host.lower() not in {name.lower() for name in asking.allow_remote}]
        say(
            f"    prompts and answers go to: {where}"
            + (f" (not allowed yet: --allow-remote {missing[0]})" if missing else "")
        )
    say("Answers that are in the call store already are not asked for again. Nothing was asked.")


def columns_of(assignments: Sequence[str] | None) -> dict[str, str]:
    """``NAME=THEIRS`` as a mapping."""
    found = {}
    for assignment in assignments or []:
        name, separator, theirs = assignment.partition("=")
        if not separator or not name or not theirs:
            raise InputError(f"--column {assignment}: write it as NAME=THEIRS, as completion=response")
        found[name] = theirs
    return found


def show_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns under each other, one line a row however narrow the terminal: lines that break cannot be compared."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        console.print(text.rstrip(), markup=False, highlight=False)
