"""What a run says while it works: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 20.0


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

    def progress(self, title: str, total: int) -> Callable[[int, int], None]:
        """A bar; the function returned is called with (done, total)."""
        self.close()
        if not self.console.is_terminal:
            return self._lines(title)
        self._live = Progress(
            TextColumn("      {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task = self._live.add_task(title, total=total)
        self._live.start()
        return self._advance

    def _advance(self, done: int, total: int) -> None:
        if self._live is None or self._task is None:
            return
        self._live.update(self._task, completed=done, total=total)
        if done >= total:
            self.close()

    def _lines(self, title: str) -> Callable[[int, int], None]:
        last = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _LINE_SECONDS:
                last = time.monotonic()
                self.say(f"      {title}: {done} of {total}")

        return advance

    def close(self) -> None:
        """Take the bar away."""
        if self._live is not None:
            self._live.stop()
            self._live = None
