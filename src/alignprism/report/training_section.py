"""The section on training: checkpoints on dev, curves, pairs made and dropped, what the length limit did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignprism.report import charts
from alignprism.report.construction_parts import construction
from alignprism.report.parts import Folded, Pair, Part, Remark, Section, drawing
from alignprism.report.results import Results
from alignprism.report.tables import from_records
from alignprism.training.curve import FEWEST_ROWS


def _series(curves_by_model: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return [
        {"model": model, "step": row["step"], "value": row[key]}
        for model, rows in curves_by_model.items()
        for row in rows or ()
        if isinstance(row.get(key), int | float)
    ]


_CURVES: tuple[tuple[str, str, str, bool], ...] = (
    ("loss", "Training loss", "Loss at each optimiser step: nats per token for SFT, per pair for DPO.", False),
    (
        "accuracy",
        "Preference accuracy in training",
        "Share of pairs whose chosen side has the higher reward (DPO).",
        True,
    ),
    ("margin", "Reward margin in training", "Reward of the chosen less the rejected side (DPO).", False),
    (
        "chosen_log_prob",
        "Log-probability of the trained side",
        "Mean of the chosen sides (SFT: of the side trained on), nats per answer. A fall in DPO means that the preferred "
        "answers, too, become less likely (likelihood displacement).",
        False,
    ),
)
_AGAINST = "chosen against reference, nats per chosen token"
_AXES = {"chosen_log_prob": "log-probability"}
_DEV = (("harmful_rate", "harmful"), ("over_refusal_rate", "over-refusal"), ("language_fidelity", "language fidelity"))


def training(results: Results) -> Section | None:
    """Pairs made, dropped and used; training curves; checkpoints on dev."""
    parts: list[Part] = []
    dev = [
        {"model": model, "step": row["step"], "measure": words, "value": row[key], "n": row.get("n")}
        for model, rows in results.part("dev").items()
        for row in rows or ()
        for key, words in _DEV
        if isinstance(row.get(key), int | float)
    ]
    if dev:
        parts.append(
            drawing(
                "Checkpoints on dev, side by side",
                "Harmful rate, over-refusal and language fidelity of each training's checkpoints on dev prompts. "
                "No step was chosen by these: held-out pairs choose it where training.held_out_share is set, else it is the last. They "
                "are here for your choice of settings, so that it need not look at test prompts. No intervals: dev sets are small.",
                charts.checkpoints(dev),
                ("model", "step", "measure", "value", "n"),
                dev,
            )
        )
        parts += _dev_lengths(results)
    drawn = []
    for key, title, description, share in _CURVES:
        if series := _series(results.part("curves"), key):
            chart = charts.curves(series, _AXES.get(key, key), share)
            drawn.append(drawing(title, description, chart, ("model", "step", "value"), series))
    parts += drawn[:1]
    if len(results.part("curves")) <= 2 and len(drawn) > 2:
        parts.append(Pair(tuple(drawn[1:])))
    else:
        parts += drawn[1:]
    parts += _endings(results.part("training"))
    parts += _by_language(results.part("curves"), results.part("training"))
    parts += construction(results)
    lengths = [{"rows of": name, **report} for name, report in _reports(results.part("truncation"))]
    if lengths:
        title = "What the length limit did, by language: to all pairs, then to what is left for each training"
        parts.append(Folded(title, from_records("Tokens and the length limit", [_ordered(row) for row in lengths])))
    lead = "How the models were made. Nothing here is evidence about test prompts."
    return Section("training", "Training", lead, tuple(parts)) if parts else None


def _dev_lengths(results: Results) -> list[Part]:
    """Say where checkpoints answered under another limit of length than the test: a change of it trains nothing again."""
    limit = (results.part("study").get("evaluation") or {}).get("max_new_tokens")
    other = [
        f"{name} at most {' or '.join(map(str, end['dev_max_new_tokens']))}"
        for name, end in results.part("training").items()
        if end and set(end.get("dev_max_new_tokens") or ()) - {limit}
    ]
    if not other:
        return []
    return [Remark(f"Tokens of an answer on dev: {'; '.join(other)}; on the test prompts at most {limit}.")]


def _endings(trainings: Mapping[str, Any]) -> list[Part]:
    """How each training ended, with its warnings."""
    rows = [
        {
            "training": name,
            "steps": f"{end['steps']} of {end['planned_steps']}",
            "weights of step": end["kept_step"],
            _AGAINST: end["displacement"],
            **_pairs_of(end),
            **({"computed in": end["precision"]} if "precision" in end else {}),
            "pairs in shared rows": "yes" if end["unshared"] is None else f"no: {end['unshared']}",
            "warnings": "; ".join(end["warnings"]) or "none",
        }
        for name, end in trainings.items()
        if end
    ]
    return [from_records("How each training ended", rows)] if rows else []


def _pairs_of(end: Mapping[str, Any]) -> dict[str, Any]:
    """What a training learned and only scored; a run of an earlier version does not say the share."""
    found = {"pairs learned": end.get("rows"), "pairs only scored": end.get("held_out_rows")}
    if (share := end.get("safety_share")) is not None:
        found["share of safety in the learned"] = share
    return found


def _by_language(curves: Mapping[str, Any], trainings: Mapping[str, Any]) -> list[Part]:
    """Means over the last quarter of the steps, by training and language, and how the chosen sides stand to the reference.

    Of displacement a result of an earlier version has nothing by language, and a language with few rows has none.
    """
    rows: list[dict[str, Any]] = []
    for name, steps in curves.items():
        last = [row["languages"] for row in (steps or ())[-max(1, len(steps or ()) // 4) :] if row.get("languages")]
        for language in sorted({code for languages in last for code in languages}):
            found = [languages[language] for languages in last if language in languages]
            n = sum(figures["rows"] for figures in found)
            record: dict[str, Any] = {"training": name, "language": language, "rows": n}
            for key in ("loss", "chosen_log_prob", "rejected_log_prob", "margin", "accuracy"):
                if all(key in figures for figures in found):
                    record[key] = sum(figures["rows"] * figures[key] for figures in found) / n
            falls = (trainings.get(name) or {}).get("displacement_by_language")
            if falls:
                record[_AGAINST] = falls.get(language)
            rows.append(record)
    if not rows:
        return []
    title = "Curves by language, over the last quarter of the steps"
    if any(_AGAINST in row for row in rows):
        title += f" (chosen against reference: of languages with {FEWEST_ROWS} rows there or more)"
    return [Folded(title, from_records("Means over the last quarter of the steps", rows))]


_FIRST = ("rows of", "language", "rows", "kept", "over_limit", "cut", "empty", "identical")


def _ordered(report: Mapping[str, Any]) -> dict[str, Any]:
    """Counts first, in the order in which they are read; files keep keys by the alphabet."""
    return {name: report[name] for name in _FIRST if name in report} | dict(report)


def _reports(truncation: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Truncation reports are per set of rows a list of records, or a mapping of language to record."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, report in truncation.items():
        entries = report.items() if isinstance(report, dict) else enumerate(report or ())
        for language, entry in entries:
            if isinstance(entry, dict):
                found.append((name, entry if "language" in entry else {"language": language, **entry}))
            else:
                found.append((name, {str(language): entry}))
    return found
