"""``alignprism construct``: from prompts to preference data, step by step, without a study; and what its commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from alignprism.cli.console import cache_folder, console, quiet_libraries
from alignprism.errors import InputError
from alignprism.models.tally import Tally
from alignprism.progress import ConsoleReporter

if TYPE_CHECKING:
    from alignprism.judging.pairwise import PairwiseJudge
    from alignprism.judging.settings import PairwiseSettings
    from alignprism.models.cost import Budget
    from alignprism.models.protocol import Engine
    from alignprism.models.settings import ModelSettings, Part
    from alignprism.models.store import CallStore

    PartT = TypeVar("PartT", bound=Part)

app = typer.Typer(help="Grow prompts, translate them, and make preference pairs of them.", no_args_is_help=True)

NEW_FOLDER = (
    "A new folder. Answers are kept in calls.sqlite beside it, so that the same command goes on where it stopped."
)
MODEL = "hub id, folder, embedded:NAME, script:FILE, or a model file (model.yaml: what a study writes under models)"

OutOption = Annotated[Path, typer.Option("--out", help=NEW_FOLDER)]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the draws.")]
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


@dataclass
class Asking:
    """How the models of one command are asked: one call store and one cap on cost for all of them.

    Used as ``with Asking(out, ...) as asking: with asking.model("embedded:...") as engine: ...``.
    """

    out: Path
    allow_remote: Sequence[str] = ()
    max_cost: float | None = None
    reporter: ConsoleReporter = field(default_factory=lambda: ConsoleReporter(console))
    tally: Tally = field(default_factory=Tally)
    _store: CallStore | None = None
    _cap: Budget | None = None

    def progress(self, title: str, total: int) -> Callable[[int, int], None]:
        """A bar that also shows what endpoints did besides answering (failures, retries, cost)."""
        return self.reporter.progress(title, total, lambda: self.tally)

    @contextmanager
    def opened(self) -> Iterator[Asking]:
        """Open the call store beside the output folder; at the end bars are taken away.

        Raises
        ------
        InputError
            the output folder exists, or cannot be made: known before anything is paid for.
        """
        from alignprism.models.cost import Budget
        from alignprism.models.store import CallStore

        refuse_output(self.out)
        quiet_libraries()
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with CallStore(self.out.parent / "calls.sqlite") as store:
            self._store = store
            self._cap = None if self.max_cost is None else Budget(self.max_cost, store.spent())
            try:
                yield self
            finally:
                self.reporter.close()
                self._store = None

    @property
    def store(self) -> CallStore:
        """The call store, while it is open."""
        assert self._store is not None, "used outside of opened()"
        return self._store

    @property
    def cap(self) -> Budget | None:
        """What all calls together may cost."""
        return self._cap

    @contextmanager
    def model(self, named: str) -> Iterator[Engine]:
        """An engine by the name of a model or of a model file; see `alignprism.models.model_file`."""
        from alignprism.models.model_file import model_name, model_settings

        settings = model_settings(named)
        with self._opened(settings, model_name(named, settings)) as engine:
            yield engine

    @contextmanager
    def pairwise(self, settings: PairwiseSettings) -> Iterator[PairwiseJudge]:
        """A judge that compares, asked through the same store and cap."""
        from alignprism.judging.open import model_name
        from alignprism.judging.pairwise import PairwiseJudge

        with self._opened(settings.model, model_name(settings.model)) as engine:
            yield PairwiseJudge(engine, settings)

    def _opened(self, settings: ModelSettings, name: str) -> AbstractContextManager[Engine]:
        from alignprism.models.engines import open_engine

        return open_engine(
            settings, name, store=self.store, cache=cache_folder(), allow_remote=self.allow_remote,
            keys=keys_of([settings]), cap=self.cap, say=self.reporter.say, tally=self.tally,
        )  # fmt: skip


def keys_of(models: Sequence[ModelSettings]) -> dict[str, str]:
    """The values of the environment variables that endpoints name; those that are set."""
    names = {model.endpoint.api_key_env for model in models if model.endpoint is not None}
    return {name: os.environ[name] for name in names if name and name in os.environ}


def settings_of(kind: type[PartT], **given: Any) -> PartT:
    """The options that were given as settings; the others keep their defaults.

    Raises
    ------
    InputError
        a value that is not accepted.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from error


def refuse_output(out: Path) -> None:
    """Say so before anything is paid for.

    Raises
    ------
    InputError
        there is something of that name, or a file where a folder above it would be.
    """
    if out.exists():
        raise InputError(f"{out} exists; name a new folder")
    above = next((folder for folder in out.parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"--out {out}: {above} is a file, and nothing can be written below it; name another folder")
    if above is not None and not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"--out {out}: {above} cannot be written to; name another folder")


def destinations(hosts: Sequence[str], allow_remote: Sequence[str]) -> str:
    """Where texts go, for a dry run: this machine, or hosts, with what has to be allowed first."""
    from alignprism.models.engines import is_this_machine

    remote = [host for host in hosts if not is_this_machine(host)]
    allowed = {name.lower() for name in allow_remote}
    missing = [host for host in remote if host.lower() not in allowed]
    return (", ".join(remote) or "this machine only") + (
        f" (not allowed yet: --allow-remote {missing[0]})" if missing else ""
    )


def say(text: str) -> None:
    """One line, as it stands."""
    console.print(text, markup=False, highlight=False)
