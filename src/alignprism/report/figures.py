"""The figures of results.json, found by what they are about. A figure that is not there is one with a reason."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignprism.rows import Figure

ABSENT = "not part of these results"
_FIELDS = {f.name for f in dataclasses.fields(Figure)}


def figure_from(record: Mapping[str, Any] | None, metric: str = "", model: str = "") -> Figure:
    """A figure from its dict in results.json; keys of later versions are ignored, None reads as absent."""
    if record is None:
        return Figure(metric, "", model, reason=ABSENT)
    known = {key: value for key, value in record.items() if key in _FIELDS}
    return Figure(**{"metric": metric, "estimand": "", "model": model, **known})


def reason_of(figure: Figure) -> str:
    """Why the figure has no estimate or no interval; empty where it has both."""
    if figure.estimate is not None and figure.low is not None and figure.high is not None:
        return ""
    return figure.reason or "no reason was recorded"


class Figures:
    """All figures of a results file, looked up by metric, model and slice."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.all: tuple[Figure, ...] = tuple(figure_from(record) for record in records)
        self._index: dict[tuple[str | None, ...], list[Figure]] = defaultdict(list)
        for figure in self.all:
            key = (figure.metric, figure.model, figure.language, figure.scope, figure.category, figure.set)
            self._index[key].append(figure)

    def get(
        self,
        metric: str,
        model: str,
        *,
        language: str | None = None,
        scope: str | None = None,
        category: str | None = None,
        set: str = "redteam",
        estimand: str = "",
        correction: str = "none",
    ) -> Figure:
        """The figure of one slice; `estimand` picks among several by a phrase, else the one that bounds nothing.

        `correction` is how it was made good by human labels: by default not at all, which is what the judge says.
        """
        found = self._index.get((metric, model, language, scope, category, set), [])
        found = [figure for figure in found if figure.correction.startswith(correction)]
        if estimand:
            found = [figure for figure in found if estimand in figure.estimand]
        else:
            found = sorted(found, key=lambda figure: "undecidable counted" in figure.estimand)
        return found[0] if found else Figure(metric, estimand, model, set=set, reason=ABSENT)

    def anywhere(self, metric: str, model: str) -> Figure:
        """The first figure of a metric and model in any set, over all languages, as the judge says it."""
        found = [
            f
            for f in self.all
            if f.metric == metric and f.model == model and f.language is None and f.correction.startswith("none")
        ]
        return found[0] if found else Figure(metric, "", model, reason=ABSENT)

    def values(self, name: str, **where: str | None) -> list[str]:
        """The distinct values of a slice field (``category``, ``scope``) in order of appearance."""
        matching = (f for f in self.all if all(getattr(f, key) == value for key, value in where.items()))
        return list(dict.fromkeys(value for f in matching if (value := getattr(f, name)) is not None))


@dataclass(frozen=True, slots=True)
class Tongue:
    """A language of the study as the page names it."""

    code: str
    name: str
    own_name: str
    direction: str
    trained: bool
