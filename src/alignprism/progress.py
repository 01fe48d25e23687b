"""What a run says while it works: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 20.0
_RATE_SECONDS = 30.0


class Rate:
    """Things done per second over the last half minute. Times are in seconds of any one clock."""

    def __init__(self, now: float) -> None:
        self._seen: deque[tuple[float, int]] = deque([(now, 0)])

    def add(self, now: float, done: int) -> None:
        """So many are done now."""
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _RATE_SECONDS:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """The rate; 0.0 before anything is known."""
        (first, before), (last, done) = self._seen[0], self._seen[-1]
        return (done - before) / (last - first) if last > first else 0.0

    def words(self, done: int, total: int) -> str:
        """Rate and time left: ``52/s, 3 min left``."""
        rate = self.per_second
        if rate <= 0.0:
            return ""
        speed = f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        return f"{speed}, {_span((total - done) / rate)} left" if total > done else speed


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class ConsoleReporter:
    """Reports to a console: a live bar for the work in hand when it is a terminal, else a line every 20 seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Progress | None = None
        self._task: TaskID | None = None

    def say(self, text: str) -> None:
        """One line of text, never interpreted as markup."""
        self.console.print(text, markup=False, highlight=False)

    def stage(self, number: int, total: int, title: str, done: bool) -> None:
        """A stage begins, or is already done."""
        self.close()
        self.say(f"[{number}/{total}] {title}" + (": done before, kept" if done else ""))

    def progress(
        self, title: str, total: int, detail: Callable[[], object] | None = None
    ) -> Callable[[int, int], None]:
        """A bar; the function returned is called with (done, total).

        Rate and time left are shown; `detail` gives what else there is to say, such as an engine's tally (failures, cost).
        """
        self.close()
        rate = Rate(time.monotonic())
        if not self.console.is_terminal:
            return self._lines(title, rate, detail)
        self._live = Progress(
            TextColumn("      {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self.console,
            transient=True,
        )
        self._task = self._live.add_task(title, total=total, detail="")
        self._live.start()

        def advance(done: int, total: int) -> None:
            if self._live is None or self._task is None:
                return
            rate.add(time.monotonic(), done)
            words = _listed(rate.words(done, done), "" if detail is None else str(detail()))
            self._live.update(self._task, completed=done, total=total, detail=words)
            if done >= total:
                self.close()

        return advance

    def _lines(self, title: str, rate: Rate, detail: Callable[[], object] | None) -> Callable[[int, int], None]:
        last = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            rate.add(now, done)
            if now - last >= _LINE_SECONDS:
                last = now
                words = _listed(rate.words(done, total), "" if detail is None else str(detail()))
                self.say(f"      {title}: {done} of {total}" + (f", {words}" if words else ""))

        return advance

    def close(self) -> None:
        """Take the bar away."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _listed(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
