"""Tables of figures: what stands in each cell, with footnotes for what is missing and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alignprism.report.figures import ABSENT, Figures, Tongue, reason_of
from alignprism.report.wording import estimate_text, interval_text
from alignprism.rows import Figure


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its text, a quieter second line, a footnote mark, and the language of the text where it has one."""

    text: str
    below: str = ""
    mark: str = ""
    number: bool = False
    head: bool = False
    lang: str = ""
    direction: str = ""
    own: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: ``columns`` are headings; ``notes`` are (mark, reason) for cells that lack something."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[tuple[str, str], ...] = ()


def _mark(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"a{index}"


@dataclass
class Builder:
    """Collects rows of a table and numbers the reasons that its figures give."""

    caption: str
    columns: Sequence[str]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def cell(self, figure: Figure) -> Cell:
        """A figure as a cell: estimate, interval below, or a mark that leads to the reason."""
        reason = reason_of(figure)
        if reason == ABSENT:
            return Cell("–", number=True)
        mark = self.reasons.setdefault(reason, _mark(len(self.reasons))) if reason else ""
        return Cell(estimate_text(figure), interval_text(figure), mark, number=True)

    def add(self, *cells: Cell) -> None:
        """Append one row."""
        self.rows.append(cells)

    def table(self) -> Table:
        """The finished table."""
        notes = tuple((mark, reason) for reason, mark in self.reasons.items())
        return Table(self.caption, tuple(self.columns), tuple(self.rows), notes)


def head(text: str) -> Cell:
    """A row heading."""
    return Cell(text, head=True)


def tongue_cell(tongue: Tongue) -> Cell:
    """A language as a row heading, its own name in its own script and direction beside the English one."""
    return Cell(tongue.name, head=True, own=tongue.own_name, lang=tongue.code, direction=tongue.direction)


def count(value: Any) -> Cell:
    """A plain number."""
    return Cell("–" if value is None else f"{value:,}".replace(",", "\u202f"), number=True)


Slice = Mapping[str, str | None]
_MODELS_SIDE_BY_SIDE = 4


def by_slice(
    figures: Figures,
    caption: str,
    first: str,
    slices: Sequence[tuple[Cell, Slice]],
    models: Sequence[str],
    baseline: str,
) -> tuple[Table, ...]:
    """Harmful rates of every model and changes against the baseline, one row per slice; two tables for many models."""
    others = [model for model in models if model != baseline]
    apart = len(models) > _MODELS_SIDE_BY_SIDE
    changed = f"change against {baseline} in points"
    rates = Builder(caption if apart or not others else f"{caption}, {changed}", [first, "n", *models])
    changes = Builder(f"{caption}: {changed}", [first, "n", *others])
    if not apart:
        rates.columns = [*rates.columns, *(f"change: {model}" for model in others)]
    for heading, where in slices:
        found = [figures.get("harmful_rate", model, **where) for model in models]  # type: ignore[arg-type]
        moved = [figures.get("harmful_change", model, **where) for model in others]  # type: ignore[arg-type]
        n = count(max((figure.n for figure in found), default=0))
        rates.add(heading, n, *(rates.cell(figure) for figure in (found if apart else found + moved)))
        if apart:
            changes.add(heading, n, *(changes.cell(figure) for figure in moved))
    return (rates.table(), changes.table()) if apart else (rates.table(),)


def by_model(figures: Figures, caption: str, models: Sequence[str], metrics: Sequence[tuple[str, str, str]]) -> Table:
    """One row per model; `metrics` are (heading, metric, prompt set)."""
    builder = Builder(caption, ["model", *(heading for heading, _, _ in metrics)])
    for model in models:
        builder.add(head(model), *(builder.cell(figures.get(metric, model, set=name)) for _, metric, name in metrics))
    return builder.table()


def from_records(caption: str, records: Sequence[Mapping[str, Any]]) -> Table:
    """Records as they are; columns are the union of their scalar keys, numbers aligned right."""
    columns = list(dict.fromkeys(k for r in records for k, v in r.items() if not isinstance(v, dict | list)))
    rows = tuple(tuple(_plain(record.get(column)) for column in columns) for record in records)
    return Table(caption, tuple(column.replace("_", " ") for column in columns), rows)


def _plain(value: Any) -> Cell:
    if value is None:
        return Cell("–")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, float):
        return Cell(f"{value:.4g}", number=True)
    return Cell(str(value), number=isinstance(value, int))


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A nested JSON value as (dotted key, text) lines, lists of scalars on one line."""
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in flat(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return [line for index, item in enumerate(value, 1) for line in flat(item, f"{path}.{index}")]
    if isinstance(value, list):
        return [(path, ", ".join(_plain(item).text for item in value) or "none")]
    return [(path, _plain(value).text)]
