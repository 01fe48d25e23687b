"""What an engine has done so far, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alignprism.models.protocol import Failed, Outcome

Say = Callable[[str], None]
"""Shows one line to people."""


@dataclass(slots=True)
class Tally:
    """Counts of one engine since it was opened. ``stored``: answers that were there and cost nothing now."""

    done: int = 0
    failed: int = 0
    stored: int = 0
    dollars: float = 0.0
    retries: int = 0

    def count(self, outcome: Outcome) -> None:
        """One more outcome was handed out."""
        self.done += 1
        self.failed += isinstance(outcome, Failed)

    def __str__(self) -> str:
        """Failures and cost, those that there are: ``12 failed, $0.34``."""
        parts = [f"{self.stored} stored"] if self.stored else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.retries} tried again"] if self.retries else []
        parts += [f"${self.dollars:,.2f}"] if self.dollars else []
        return ", ".join(parts)
