"""What a check found: rows of their own, with evidence that never repeats a prompt's text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO

from alignprism.prompts.tables import TableWriter

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that one check says of one row (``id``), or of a whole language or set (``id`` empty).

    ``other`` is the second row of a pair.
    """

    id: str
    check: str
    severity: Severity
    evidence: str
    language: str = ""
    file: str = ""
    row: int = 0
    other: str = ""


class Findings:
    """Findings on their way to ``findings.parquet`` or ``.jsonl``; counted, and the first of each check kept to show."""

    SHOWN = 5

    def __init__(self, path: Path | None) -> None:
        self.counts: Counter[tuple[str, Severity]] = Counter()
        self.first: dict[str, list[Finding]] = {}
        self.erroneous: set[tuple[str, int]] = set()
        """File and row of every error, for those who want the other rows."""
        self._path = path
        self._table = TableWriter(path, Finding) if path is not None and path.suffix == ".parquet" else None
        self._lines: TextIO | None = None

    def __enter__(self) -> Findings:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._table is not None:
            self._table.__enter__()
        elif self._path is not None:
            self._lines = self._path.open("w", encoding="utf-8")
        return self

    def __exit__(self, *raised: object) -> None:
        if self._table is not None:
            self._table.__exit__(*raised)  # type: ignore[arg-type]
        if self._lines is not None:
            self._lines.close()

    def add(self, finding: Finding) -> None:
        """Take one finding."""
        self.counts[(finding.check, finding.severity)] += 1
        if finding.severity == "error":
            self.erroneous.add((finding.file, finding.row))
        shown = self.first.setdefault(finding.check, [])
        if len(shown) < self.SHOWN:
            shown.append(finding)
        if self._table is not None:
            self._table.write(finding)
        elif self._lines is not None:
            self._lines.write(json.dumps(asdict(finding), ensure_ascii=False) + "\n")

    def total(self, severity: Severity) -> int:
        """How many there are of one severity."""
        return sum(count for (_, found), count in self.counts.items() if found == severity)

    def by_check(self) -> Iterator[tuple[str, Severity, int]]:
        """Check, severity and count; errors first, then by count."""
        ordered = sorted(self.counts.items(), key=lambda item: (SEVERITIES.index(item[0][1]), -item[1]))
        return ((check, severity, count) for (check, severity), count in ordered)
