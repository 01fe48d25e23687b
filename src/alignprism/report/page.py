"""report.html: one file without script or outside loads, made from results.json alone; it holds no harmful text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from alignprism.report.results import ReportError, Results, read_results
from alignprism.report.sections import BUILDERS, adjusted, missing
from alignprism.report.tables import Table, flat, from_records
from alignprism.report.wording import (
    GLOSSARY,
    JUDGE_ONLY,
    NBSP,
    corrected_outcome,
    full_text,
    outcome,
    percent,
    significance,
)
from alignprism.rows import Figure, write_atomic

__all__ = ["ReportError", "render_report", "write_report"]

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


@cache
def environment() -> Environment:
    """The Jinja2 environment of the report's templates: everything is escaped."""
    return Environment(
        loader=PackageLoader("alignprism.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    """The lines under the outcome: how many, how sure, what else it could be."""
    primary = results.primary
    detectable = results.head_figure("detectable_change")
    judge = primary.judge or next((str(j.get("name", "")) for j in results.raw.get("judges") or ()), "")
    facts = [
        ("Test prompts", f"n = {primary.n} in {primary.clusters} clusters (seed prompts), {primary.set}"),
        ("Interval", primary.interval or "none"),
        ("Relative change", full_text(results.head_figure("relative"))),
        (
            "With every undecidable counted as harmful",
            full_text(results.head_figure("undecidable_as_harmful"), "points"),
        ),
        (
            "Smallest change detectable (80 % power)",
            _detectable(detectable.estimate, detectable.n, full_text(detectable)),
        ),
        ("Judge", f"{judge or 'not named'}; {_correction(primary, results.headline)}"),
        (
            "False alarms: harmless twins whose answer by the baseline this judge calls harmful",
            full_text(results.head_figure("false_alarms")),
        ),
        ("Win rate", full_text(results.head_figure("win_rate"))),
    ]
    if (gap := results.head_figure("over_optimisation")).estimate is not None:
        facts.append(("Preference judge sees more improvement by", full_text(gap, "points")))
    if primary.p is not None:
        facts.insert(2, ("p value (no change)", f"{primary.p:.3f}" if primary.p >= 0.001 else "below 0.001"))
    if primary.train_seeds > 1:
        facts.insert(1, ("Training seeds", str(primary.train_seeds)))
    people = _people_facts(results)
    if people:
        # What follows is what the judge says; beside people's figures that has to be said.
        facts = [(f"{term}, judge alone" if term in _OF_THE_JUDGE else term, text) for term, text in facts]
    return [*people, *facts]


_OF_THE_JUDGE = (
    "Interval",
    "Relative change",
    "p value (no change)",
    "With every undecidable counted as harmful",
)


def _people_facts(results: Results) -> list[tuple[str, str]]:
    """The change as people alone and the judge alone see it, beside the corrected one."""
    if not results.headline.get("corrected"):
        read = not results.headline.get("judge_only", True)
        return [("People's labels", "not of this change; see Checked by people")] if read else []
    corrected, people = results.head_figure("corrected"), results.head_figure("human_only")
    return [
        ("Corrected by people's labels", full_text(corrected, "points")),
        ("People alone", full_text(people, "points")),
        ("Judge alone", full_text(results.primary, "points")),
        ("Labelled prompts", f"{corrected.n_labels}, {corrected.estimand.split(', ', 2)[-1] or 'by these people'}"),
    ]


def _correction(primary: Figure, headline: Mapping[str, Any]) -> str:
    if (headline.get("corrected") or {}).get("estimate") is not None:
        return "corrected by people's labels above, not corrected where it stands alone"
    if primary.correction.startswith("none"):
        return f"not corrected for its errors ({primary.correction.removeprefix('none').lstrip(': ') or 'by choice'})"
    return f"corrected by {primary.correction} from {primary.n_labels} human labels"


def _detectable(change: float | None, n: int, text: str) -> str:
    return text if change is None else f"{percent(abs(change), n).removesuffix(f'{NBSP}%')} points"


def _judges(results: Results) -> list[dict[str, Any]]:
    cards = []
    for judge in results.raw.get("judges") or ():
        card = judge.get("card") if isinstance(judge.get("card"), dict) else {}
        cards.append(
            {
                "role": str(judge.get("role", "judge")),
                "name": str(judge.get("name", "")),
                "digest": str(judge.get("digest", "")),
                "text": str(judge.get("card_text") or ""),
                "tables": _auc_tables(card),
                "lines": flat(card),
            }
        )
    return cards


def _auc_tables(card: Mapping[str, Any], path: str = "") -> list[Table]:
    """Every mapping under a key that names AUC, as a table of language against value."""
    tables: list[Table] = []
    for key, value in card.items():
        here = f"{path} {key}".strip().replace("_", " ")
        if not isinstance(value, dict):
            continue
        inner = [item for item in value.values() if isinstance(item, dict)]
        if inner and len(inner) == len(value) and all(any("auc" in k.lower() for k in item) for item in inner):
            tables.append(from_records(here, [{"language or set": k, **item} for k, item in value.items()]))
        elif "auc" in here.lower() and value and not inner:
            tables.append(
                from_records(here.replace("auc", "AUC"), [{"language or set": k, "AUC": v} for k, v in value.items()])
            )
        else:
            tables += _auc_tables(value, here)
    return tables


def _records(mapping: Mapping[str, Any], first: str, single: str = "value") -> Table | None:
    """A mapping of name to record (or to one value, named `single`) as a table; None where there is nothing."""
    if not mapping:
        return None
    rows = []
    for name, entry in mapping.items():
        fields = entry if isinstance(entry, dict) else {single: entry}
        nested = {key: _line(value) if isinstance(value, dict | list) else value for key, value in fields.items()}
        rows.append({first: name, **{f"{key} (recorded)" if key == first else key: v for key, v in nested.items()}})
    return from_records(f"{first}s".capitalize(), rows)


def _line(value: Any) -> str:
    return "; ".join(f"{key}: {text}" if key else text for key, text in flat(value))


def _provenance(results: Results) -> dict[str, Any]:
    source = results.part("provenance")
    test = source.get("test") or {}
    known = ("models", "judges", "test", "stages")
    stages = _records(source.get("stages") or {}, "stage", "key")
    evaluations = [e for e in test.get("evaluations") or () if isinstance(e, dict)]
    return {
        "models": _records(source.get("models") or {}, "model"),
        "judges": _records(source.get("judges") or {}, "judge"),
        "hash": test.get("hash") or "not recorded",
        "evaluated": len(evaluations),
        "evaluations": from_records("Evaluations on the test prompts", evaluations) if evaluations else None,
        "stages": stages,
        "calls": _calls(results),
        "families": _families(results),
        "timing": _records({k: v for k, v in results.part("timing").items() if isinstance(v, dict)}, "stage"),
        "sets": _records(results.part("prompt_sets"), "prompt set"),
        "lines": flat({key: value for key, value in source.items() if key not in known}),
        "study": flat(results.part("study")),
    }


def _calls(results: Results) -> Table | None:
    """What was asked of each model for each purpose: answers, failures by reason, tokens, dollars."""
    rows = [row for row in results.raw.get("calls") or () if isinstance(row, dict)]
    return from_records("Model calls", rows) if rows else None


def _families(results: Results) -> Table | None:
    rows = [row for row in results.raw.get("families") or () if isinstance(row, dict)]
    return from_records("Families of the models that generate, are compared, or judge", rows) if rows else None


def _set_aside(results: Results) -> Table | None:
    entries = [entry for entry in results.raw.get("set_aside") or () if isinstance(entry, dict)]
    return from_records("Prompts set aside", entries) if entries else None


def render_report(results: Mapping[str, Any]) -> str:
    """The whole page as HTML, from the content of results.json.

    Raises
    ------
    ReportError
        the results are of a newer schema or lack what the page cannot do without.
    """
    read = read_results(results)
    sections = [section for build in BUILDERS if (section := build(read)) is not None]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            csp=CSP,
            title=read.title,
            created=str(read.raw.get("created") or read.part("timing").get("created") or ""),
            version=str(read.raw.get("alignprism", "")),
            outcome=outcome(read.primary, read.head_figure("baseline_rate"), read.head_figure("model_rate")),
            corrected=corrected_outcome(read.head_figure("corrected")),
            significance=significance(_told(read)),
            facts=_facts(read),
            warnings=[w for w in read.headline.get("warnings") or () if isinstance(w, dict)],
            judge_only=JUDGE_ONLY if read.headline.get("judge_only", True) else "",
            sections=sections,
            tested=adjusted(read),
            missing=missing(read),
            judges=_judges(read),
            provenance=_provenance(read),
            set_aside=_set_aside(read),
            glossary=GLOSSARY,
        )
    )


def _told(results: Results) -> Figure:
    """The figure whose interval the first box speaks about: the corrected one where people's labels give it."""
    corrected = results.head_figure("corrected")
    return results.primary if corrected.estimate is None else corrected


def write_report(run: Path) -> Path:
    """Write ``run/report.html`` from ``run/results.json`` and nothing else, whole or not at all; returns its path.

    Raises
    ------
    ReportError
        results.json is missing, damaged, or of a newer schema.
    """
    source = run / "results.json"
    try:
        results = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReportError(f"{source}: is not there; `alignprism run` writes it when a study ends") from error
    except ValueError as error:
        raise ReportError(f"{source}: damaged ({error}); run the study again to write it anew") from error
    if not isinstance(results, dict):
        raise ReportError(f"{source}: holds no results; run the study again to write it anew")
    try:
        page = render_report(results)
    except ReportError as error:
        raise ReportError(f"{source}: {error}") from error
    target = run / "report.html"
    write_atomic(target, page.encode("utf-8"))
    return target
