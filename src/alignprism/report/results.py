"""What the page is made from: results.json, read once into typed parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from babel import Locale, UnknownLocaleError

from alignprism.errors import Failure
from alignprism.report.figures import Figures, Tongue, figure_from
from alignprism.report.visible import visible_tree
from alignprism.rows import Figure

RESULTS_SCHEMA = 1
_LOCALE_ALIASES = {"tl": "fil"}


class ReportError(Failure):
    """The page cannot be made; the message names the file and what to do."""


def own_name(code: str, name: str) -> str:
    """The language's name in itself (CLDR), empty where unknown or the same as the English one."""
    try:
        own = Locale.parse(_LOCALE_ALIASES.get(code, code)).get_language_name()
    except (UnknownLocaleError, ValueError):
        return ""
    return "" if own is None or own.lower() in name.lower() else str(own)


@dataclass(frozen=True)
class Results:
    """results.json with its parts at hand; every string has its invisible characters made visible.

    ``models`` are what the page compares: with several training seeds a method stands once, pooled over them, and its
    single seeds are ``single_seeds``.
    """

    raw: Mapping[str, Any]
    title: str
    baseline: str
    models: tuple[str, ...]
    single_seeds: tuple[str, ...]
    tongues: tuple[Tongue, ...]
    figures: Figures
    primary: Figure

    @property
    def others(self) -> tuple[str, ...]:
        """The models that are compared with the baseline."""
        return tuple(model for model in self.models if model != self.baseline)

    @property
    def headline(self) -> Mapping[str, Any]:
        """The headline part; empty where there is none."""
        return self.part("headline")

    def part(self, name: str) -> Mapping[str, Any]:
        """A top-level mapping of results.json; empty where it is missing or null."""
        value = self.raw.get(name)
        return value if isinstance(value, dict) else {}

    def head_figure(self, name: str) -> Figure:
        """A figure of the headline, or one that says that it is absent."""
        return figure_from(self.headline.get(name), name, self.primary.model)


def read_results(record: Mapping[str, Any]) -> Results:
    """Take results.json apart.

    Raises
    ------
    ReportError
        a newer schema, or a part that must be there is missing.
    """
    schema = record.get("schema")
    if not isinstance(schema, int) or schema > RESULTS_SCHEMA:
        raise ReportError(f"results of schema {schema!r}; this alignprism reads {RESULTS_SCHEMA}: update it")
    missing = [key for key in ("title", "baseline", "models", "languages", "figures") if key not in record]
    if missing:
        raise ReportError(f"the results lack {', '.join(missing)}; run the study again to write them anew")
    raw: dict[str, Any] = visible_tree(record)
    tongues = tuple(
        Tongue(
            str(entry["code"]),
            str(entry["name"]),
            own_name(str(entry["code"]), str(entry["name"])),
            "rtl" if entry.get("direction") == "rtl" else "ltr",
            bool(entry.get("trained")),
        )
        for entry in raw["languages"]
    )
    baseline = str(raw["baseline"])
    models = tuple(dict.fromkeys([baseline, *map(str, raw["models"])]))
    singles = _single_seeds(raw.get("study") or {}, models)
    models = tuple(model for model in models if model not in singles)
    primary = figure_from((raw.get("headline") or {}).get("primary"), "harmful_change")
    return Results(raw, str(raw["title"]), baseline, models, singles, tongues, Figures(raw["figures"]), primary)


def _single_seeds(study: Mapping[str, Any], models: tuple[str, ...]) -> tuple[str, ...]:
    """The cells whose method is there pooled over its training seeds."""
    seeds = (study.get("training") or {}).get("seeds") or ()
    pooled = [method for method in study.get("methods") or () if method in models]
    cells = {f"{method}-seed{seed}" for method in pooled for seed in seeds}
    return tuple(model for model in models if model in cells)
