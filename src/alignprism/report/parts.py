"""What a section of the page is made of: charts, tables, remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import altair as alt
from markupsafe import Markup

from alignprism.report.svg import draw
from alignprism.report.tables import Cell, Table


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart with its title, its description in words and its data as a table."""

    kind: ClassVar[str] = "drawing"
    title: str
    description: str
    svg: Markup
    data: Table


@dataclass(frozen=True, slots=True)
class Remark:
    """A paragraph between charts and tables."""

    kind: ClassVar[str] = "remark"
    text: str


@dataclass(frozen=True, slots=True)
class Folded:
    """A table that is closed until asked for."""

    kind: ClassVar[str] = "folded"
    summary: str
    table: Table


@dataclass(frozen=True, slots=True)
class Pair:
    """Two charts side by side where the window is wide enough."""

    kind: ClassVar[str] = "pair"
    drawings: tuple[Drawing, ...]


Part = Drawing | Pair | Table | Remark | Folded


@dataclass(frozen=True, slots=True)
class Section:
    """A section: anchor, heading, one sentence that says how to read it, and its parts."""

    anchor: str
    title: str
    lead: str
    parts: tuple[Part, ...]


def drawing(
    title: str, description: str, chart: alt.TopLevelMixin, columns: Sequence[str], rows: Sequence[Any]
) -> Drawing:
    """Draw a chart and set the named columns of its rows as the table beside it."""
    cells = [tuple(Cell(_shown(row[c]), number=not isinstance(row[c], str)) for c in columns) for row in rows]
    data = Table(f"Data of the chart: {title}", tuple(c.replace("_", " ") for c in columns), tuple(cells))
    return Drawing(title, description, draw(chart, f"{title}. {description}"), data)


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
