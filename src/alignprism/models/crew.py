"""Workers over a Ray cluster: each loads something heavy once, and every batch of work gets exactly one result.

Plain actors and not Ray Data (2.60), whose guarantees do not suffice. It retries a batch without end: one that kills its
worker was tried 13 times in a minute, until it was stopped. The batches of a node that dies wait for a worker's restart,
which needs a free place elsewhere (12 seconds where this takes 2). Its pool of actors ends with every execution, so that
each call would load the model again, and its input is a data set, not a stream that is read as work is done.

Here a batch is lost with its worker at once and goes to another one, a worker is replaced where the cluster has room, and
a batch that cost `TRIES` workers is given up as `Lost`. Results are handed out on the driver, one writer for all.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from alignprism.errors import Failure, InputError
from alignprism.models.settings import RaySettings

Held = TypeVar("Held")
Batch = TypeVar("Batch")
Result = TypeVar("Result")
Row = TypeVar("Row")

TRIES = 3  # workers that one batch may cost before it is given up
_QUEUED = 2  # batches at a worker: one in work and one that waits, so that no worker waits for the driver
_LOOK_SECONDS = 1.0


class ClusterError(Failure):
    """The cluster has no worker that could go on. The message says what to do; finished work is kept."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A batch that has no result: every worker that took it was lost."""

    detail: str


def ray_module() -> Any:
    """The package ``ray``.

    Raises
    ------
    InputError
        it is not installed.
    """
    # Read when the first process of a cluster starts: nothing is reported to anyone.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"engine: ray needs the package ray, which is not installed ({error}); install the extra: "
            "pip install 'alignprism[ray]', or use engine: local"
        ) from error
    return ray


@dataclass(slots=True)
class _Task(Generic[Batch]):
    """A batch at a worker."""

    batch: Batch
    tries: int
    worker: int


@dataclass(slots=True)
class _Member:
    """A worker: its actor, what tells that it is ready (None: it is), and its tasks, the oldest first."""

    actor: Any
    starting: Any
    tasks: deque[Any] = field(default_factory=deque)


class Crew(Generic[Held]):
    """Workers that each hold what `load` returns. A context manager; workers start when they are first needed.

    `load` runs on the workers, is told the device ("cuda" where they have a GPU, else "cpu"), and must be picklable; what it
    raises is raised here. Without a cluster one is started on this machine, and ended with the crew.

    Raises
    ------
    InputError
        the package is not installed, or the cluster does not answer.
    """

    def __init__(
        self,
        load: Callable[[str], Held],
        settings: RaySettings | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._load = load
        self._settings = settings or RaySettings()
        self._say = say
        self._ray = ray_module()
        self._members: dict[int, _Member] = {}
        self._numbers = 0
        self._wanted = 0
        self._connected = False
        self._quiet_since = time.monotonic()
        self._failed_starts = 0
        self.lost_workers = 0

    # --- asking ------------------------------------------------------------------------------------------------------

    def each(
        self,
        work: Callable[[Held, Batch], Result],
        batches: Iterable[Batch],
        done: Callable[[Batch], bool] = lambda _: False,
    ) -> Iterator[tuple[Batch, Result | Lost | None]]:
        """Every batch with its result, as they are finished. `batches` is read as workers have room.

        `work` is called with what a worker holds and the batch. An exception in it is a mistake, not a lost worker, and is
        raised here. A batch that is `done` is handed through with None; while there are no others, no worker starts.
        """
        source = iter(batches)
        again: deque[tuple[Batch, int]] = deque()
        tasks: dict[Any, _Task[Batch]] = {}
        exhausted = False
        try:
            while not exhausted or again or tasks:
                if not exhausted and not again:
                    for batch in source:
                        if not done(batch):
                            again.append((batch, 0))
                            break
                        yield batch, None
                    else:
                        exhausted = True
                if again and (worker := self._free()) is not None:
                    self._send(work, *again.popleft(), worker, tasks)
                    continue
                for reference in self._finished(tasks):
                    yield from self._result(reference, tasks, again)
        finally:
            for reference, task in tasks.items():
                self._ray.cancel(reference)
                self._members[task.worker].tasks.remove(reference)

    def ordered(
        self, work: Callable[[Held, list[Row]], Sequence[Result]], rows: Sequence[Row], chunk: int
    ) -> list[Result]:
        """One result per row, in their order; `work` gets up to `chunk` rows at once.

        Raises
        ------
        ClusterError
            a chunk was lost with every worker that took it.
        """
        starts = range(0, len(rows), chunk)
        found: dict[int, Sequence[Result]] = {}
        batches = ((start, list(rows[start : start + chunk])) for start in starts)
        for (start, _), result in self.each(partial(_on_rows, work), batches):
            if isinstance(result, Lost):
                raise ClusterError(f"rows {start} to {min(start + chunk, len(rows)) - 1}: {result.detail}")
            assert result is not None
            found[start] = result
        return [one for start in starts for one in found[start]]

    def _send(self, work: Any, batch: Batch, tries: int, worker: int, tasks: dict[Any, _Task[Batch]]) -> None:
        member = self._members[worker]
        reference = member.actor.work.remote(work, batch)
        member.tasks.append(reference)
        tasks[reference] = _Task(batch, tries, worker)

    def _result(
        self, reference: Any, tasks: dict[Any, _Task[Batch]], again: deque[tuple[Batch, int]]
    ) -> Iterator[tuple[Batch, Any]]:
        task = tasks[reference]
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:  # the process, its node or the result's place is gone
            yield from self._lost(task.worker, error, tasks, again)
            return
        del tasks[reference]
        self._members[task.worker].tasks.remove(reference)
        yield task.batch, result

    def _lost(
        self, worker: int, error: Exception, tasks: dict[Any, _Task[Batch]], again: deque[tuple[Batch, int]]
    ) -> Iterator[tuple[Batch, Lost]]:
        """A worker is gone: its batches go to others. Only the one that was in work may have been the cause."""
        member = self._dismiss(worker)
        self.lost_workers += 1
        self._say(f"Ray: a worker was lost ({_first_line(error)}); its work goes to others")
        for place, reference in enumerate(member.tasks):
            task = tasks.pop(reference)
            tries = task.tries + (place == 0)
            if tries >= TRIES:
                yield task.batch, Lost(f"{tries} workers were lost with it; the last said: {_first_line(error)}")
            else:
                again.append((task.batch, tries))

    # --- workers -----------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """How many workers have loaded what they hold."""
        return sum(member.starting is None for member in self._members.values())

    @property
    def device(self) -> str:
        """Where the workers compute: "cuda" or "cpu". Connects, and starts no worker."""
        return "cuda" if self._share[1] else "cpu"

    @cached_property
    def _share(self) -> tuple[float, float]:
        """CPUs and GPUs of each worker; the same for those that replace others, whatever nodes there are by then."""
        if not self._ray.is_initialized():
            self._connect()
        settings, resources = self._settings, [node["Resources"] for node in self._nodes()]
        gpus = settings.gpus if settings.gpus is not None else float(any(node.get("GPU") for node in resources))
        if settings.cpus is not None:
            return settings.cpus, gpus
        workers_a_node = max((node.get("GPU", 0.0) for node in resources), default=0.0) / gpus if gpus else 1.0
        least = min((node["CPU"] for node in resources if node.get("CPU")), default=1.0)
        return max(1.0, least // max(1.0, workers_a_node)), gpus

    def _nodes(self) -> list[Any]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _start(self) -> None:
        if self._wanted:
            return
        _, gpus = self._share
        held = int(sum(node["Resources"].get("GPU", 0.0) for node in self._nodes()) / gpus) if gpus else 0
        self._wanted = self._settings.workers or held or len(self._nodes())
        names = ", ".join(sorted({str(node["NodeManagerHostname"]) for node in self._nodes()}))
        self._say(f"Ray: {self._wanted} workers ({self.device}) over {len(self._nodes())} nodes ({names})")
        for _ in range(self._wanted):
            self._hire()
        self._quiet_since = time.monotonic()

    def _connect(self) -> None:
        """To the cluster that is named, or that Ray itself finds, or else to a new one that this machine alone can reach."""
        ray, address = self._ray, self._settings.address
        try:
            if address != "local":
                ray.init(address=address or "auto", log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            if address is not None:
                raise InputError(f"the Ray cluster {address} does not answer: {_first_line(error)}") from error
        if not ray.is_initialized():
            ray.init(address="local", log_to_driver=False, include_dashboard=False, _node_ip_address="127.0.0.1")
        self._connected = True

    def _hire(self) -> None:
        cpus, gpus = self._share
        # A lost worker is replaced here, where its work is sent elsewhere too; Ray must not do it a second time.
        remote = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)(_Worker)
        actor = remote.remote(self._load, "cuda" if gpus else "cpu")
        self._members[self._numbers] = _Member(actor, actor.ready.remote())
        self._numbers += 1

    def _free(self) -> int | None:
        """The ready worker with the least to do, if one has room."""
        self._start()
        ready = [(len(m.tasks), n) for n, m in self._members.items() if m.starting is None and len(m.tasks) < _QUEUED]
        return min(ready)[1] if ready else None

    def _finished(self, tasks: dict[Any, Any]) -> list[Any]:
        """References of work that has ended; notices meanwhile who is ready and who did not come up."""
        starting = {member.starting: number for number, member in self._members.items() if member.starting is not None}
        waited = [*tasks, *starting]
        done = self._ray.wait(waited, num_returns=1, timeout=_LOOK_SECONDS)[0] if waited else []
        for reference in done:
            if reference in starting:
                self._came_up(starting[reference])
        if any(member.starting is None for member in self._members.values()):
            self._quiet_since = time.monotonic()
        elif time.monotonic() - self._quiet_since > self._settings.patience_seconds:
            raise ClusterError(
                f"no worker came up in {self._settings.patience_seconds:.0f} seconds; see `ray status` for what the cluster has "
                "free. Finished work is kept; run again when there is room"
            )
        return [reference for reference in done if reference in tasks]

    def _came_up(self, number: int) -> None:
        member = self._members[number]
        try:
            self._ray.get(member.starting)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error  # what is loaded cannot be loaded: no other worker could
        except self._ray.exceptions.RayError as error:
            self._dismiss(number)
            self._failed_starts += 1
            if self._failed_starts >= TRIES * self._wanted:
                raise ClusterError(
                    f"{self._failed_starts} workers died while they started; the last said: {_first_line(error)}"
                ) from error
        else:
            member.starting = None
            self._failed_starts = 0

    def _dismiss(self, number: int) -> _Member:
        """Take a worker off the list and have a new one started; what it may still say is not heard."""
        member = self._members.pop(number)
        self._ray.kill(member.actor, no_restart=True)
        self._hire()
        return member

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the workers' places back."""
        for member in self._members.values():
            self._ray.kill(member.actor, no_restart=True)
        self._members.clear()
        self._wanted = 0
        if self._connected:
            self._ray.shutdown()
            self._connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """One process of the cluster and what it holds."""

    def __init__(self, load: Callable[[str], Any], device: str) -> None:
        self._load, self._device = load, device

    def ready(self) -> bool:
        self._held = self._load(self._device)
        return True

    def work(self, work: Callable[[Any, Any], Any], batch: Any) -> Any:
        return work(self._held, batch)


def _on_rows(
    work: Callable[[Held, list[Row]], Sequence[Result]], held: Held, batch: tuple[int, list[Row]]
) -> Sequence[Result]:
    return work(held, batch[1])


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
