"""``alignprism construct``: from prompts to preference data, step by step, without a study; and what its commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignprism.cli.console import cache_folder, console, quiet_libraries
from alignprism.models.tally import Tally
from alignprism.progress import ConsoleReporter

if TYPE_CHECKING:
    from alignprism.models.cost import Budget
    from alignprism.models.protocol import Engine
    from alignprism.models.settings import ModelSettings
    from alignprism.models.store import CallStore

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
        """Open the call store beside the output folder; at the end bars are taken away."""
        from alignprism.models.cost import Budget
        from alignprism.models.store import CallStore

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
        from alignprism.models.engines import open_engine
        from alignprism.models.model_file import model_name, model_settings

        settings = model_settings(named)
        with open_engine(
            settings,
            model_name(named, settings),
            store=self.store,
            cache=cache_folder(),
            allow_remote=self.allow_remote,
            keys=keys_of([settings]),
            cap=self.cap,
            say=self.reporter.say,
            tally=self.tally,
        ) as engine:
            yield engine


def keys_of(models: Sequence[ModelSettings]) -> dict[str, str]:
    """The values of the environment variables that endpoints name; those that are set."""
    names = {model.endpoint.api_key_env for model in models if model.endpoint is not None}
    return {name: os.environ[name] for name in names if name and name in os.environ}
