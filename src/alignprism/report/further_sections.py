"""Sections on what a run may have beside harm: preferred answers, translation, both judges on the test."""

from __future__ import annotations

from typing import Any

from alignprism.report import charts
from alignprism.report.figures import ABSENT
from alignprism.report.parts import Part, Remark, Section, drawing
from alignprism.report.results import Results
from alignprism.report.tables import Builder, head, tongue_cell
from alignprism.rows import Figure

SET = "general"
_HALF, _DROPPED, _EQUAL = "ties half", "ties dropped", "at equal length"


def _win(results: Results, model: str, phrase: str, code: str | None = None) -> Figure:
    """A win rate without the bounds for undecidable comparisons; the phrase ends the estimand."""
    for figure in results.figures.all:
        same = (figure.metric, figure.model, figure.language, figure.set) == ("win_rate", model, code, SET)
        if same and figure.estimand.endswith(phrase):
            return figure
    return Figure("win_rate", phrase, model, set=SET, reason=ABSENT)


def preferred(results: Results) -> Section | None:
    """Win rates by model and language; None where no pairwise judge was asked."""
    models = [model for model in results.others if _win(results, model, _HALF).estimate is not None]
    if not models:
        return None
    rows: list[dict[str, Any]] = []
    for label, code in [("all languages", None), *((t.name, t.code) for t in results.tongues)]:
        found = [_win(results, model, _HALF, code) for model in models]
        for figure in found:
            bounds = {"estimate": figure.estimate, "low": figure.low, "high": figure.high}
            note = "" if all(f.low is not None for f in found) else f"too few to say (n = {figure.n})"
            rows.append({"group": "", "label": label, "model": figure.model, "n": figure.n, **bounds, "note": note})
    chart = drawing(
        f"Win rate against {results.baseline}",
        f"How often the pairwise judge prefers each model's answer to {results.baseline}'s, ties counted half, with 95 % "
        "intervals where they can be given. At 50 % neither is preferred; further right is better.",
        charts.win_rates(rows, results.models),
        ("label", "model", "n", "estimate", "low", "high", "note"),
        rows,
    )
    table = Builder(
        f"Preferred to {results.baseline}",
        ["model", "ties half", "ties dropped", "at equal length", "ties", "undecidable", "flips", "place (points)"],
    )
    metrics = ("tie_share", "undecidable_comparisons", "flip_rate", "position_bias")
    for model in models:
        cells = [table.cell(_win(results, model, phrase)) for phrase in (_HALF, _DROPPED, _EQUAL)]
        cells += [table.cell(results.figures.get(metric, model, set=SET)) for metric in metrics]
        table.add(head(model), *cells)
    by_language = Builder(
        "By language: win rate (ties half) and flips",
        ["language", *models, *(f"flips: {model}" for model in models)],
    )
    for tongue in results.tongues:
        wins = [by_language.cell(_win(results, model, _HALF, tongue.code)) for model in models]
        flips = [by_language.cell(results.figures.get("flip_rate", m, language=tongue.code, set=SET)) for m in models]
        by_language.add(tongue_cell(tongue), *wins, *flips)
    parts: list[Part] = [chart, table.table(), by_language.table()]
    if strengths := _strengths(results):
        parts.append(strengths)
    lead = (
        "A pairwise judge reads both answers to each ordinary prompt, in both orders; a win counts when both orders say so, "
        "and where the order decides it is a tie and a flip."
    )
    return Section("preferred", "Preferred answers", lead, tuple(parts))


def _strengths(results: Results) -> Part | None:
    found = [f for f in results.figures.all if f.metric == "strength" and f.model != results.baseline]
    if not found:
        return None
    builder = Builder("Bradley-Terry over all models", ["model", f"chance to beat {results.baseline}"])
    for figure in found:
        builder.add(head(figure.model), builder.cell(figure))
    return builder.table()


def over_optimisation(results: Results) -> Section | None:
    """The preference judge's view of the test beside the evaluation judge's; None where it was not asked."""
    figures = results.figures
    models = [m for m in results.models if figures.anywhere("preference_judge_harmful_rate", m).reason != ABSENT]
    if not models:
        return None
    builder = Builder(
        "Both judges on the same answers",
        ["model", "evaluation judge", "preference judge", "change: evaluation", "change: preference", "gap (points)"],
    )
    for model in models:
        cells = [
            figures.get("harmful_rate", model, set=_set(results)),
            figures.anywhere("preference_judge_harmful_rate", model),
            figures.get("harmful_change", model, set=_set(results)),
            figures.anywhere("preference_judge_harmful_change", model),
            figures.anywhere("over_optimisation_gap", model),
        ]
        builder.add(head(model), *(builder.cell(figure) for figure in cells))
    lead = (
        "The preference judge chose the training pairs; the evaluation judge had no part in them. A gap above zero means that "
        "the first sees more improvement than the second: the model learnt to please it."
    )
    return Section("over-optimisation", "Over-optimisation", lead, (builder.table(),))


def _set(results: Results) -> str:
    return results.primary.set


def translation(results: Results) -> Section | None:
    """Translation to and from English, by model and language; None where it was no task."""
    own = [figure for figure in results.figures.all if figure.set == "translation"]
    if not own:
        return None
    parts: list[Part] = []
    for direction, title in (("to English", "To English"), ("from English", "From English")):
        here = [figure for figure in own if direction in figure.estimand]
        columns = [
            (metric, model, changed)
            for changed in (False, True)
            for metric in dict.fromkeys(figure.metric for figure in here)
            for model in (
                (*results.others, *results.single_seeds) if changed else (*results.models, *results.single_seeds)
            )
            if any(_column(figure) == (metric, model, changed) for figure in here)
        ]
        builder = Builder(title, ["language", *(_heading(*column) for column in columns)])
        for tongue in results.tongues:
            found = {_column(figure): figure for figure in here if figure.language == tongue.code}
            if found:
                absent = (found.get(c, Figure(c[0], "", c[1], reason=ABSENT)) for c in columns)
                builder.add(tongue_cell(tongue), *(builder.cell(figure) for figure in absent))
        if builder.rows:
            parts.append(builder.table())
    parts.append(Remark("Corpus scores from 0 to 100; changes are in points, paired sentence by sentence."))
    lead = (
        "A safer model should still do ordinary work in every language: the same sentences, translated by every model."
    )
    return Section("translation", "Translation", lead, tuple(parts))


_SCORES = {"chrf++": "chrF++", "bleu": "BLEU", "spbleu": "spBLEU"}


def _column(figure: Figure) -> tuple[str, str, bool]:
    return figure.metric, figure.model, figure.baseline is not None


def _heading(metric: str, model: str, changed: bool) -> str:
    name = _SCORES.get(metric, metric)
    return f"change in {name}: {model}" if changed else f"{name}: {model}"
