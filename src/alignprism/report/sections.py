"""The sections of the page after its first box, each made from results.json by one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from alignprism.report import charts
from alignprism.report.figures import ABSENT, reason_of
from alignprism.report.further_sections import over_optimisation, preferred, translation
from alignprism.report.parts import Folded, Pair, Part, Remark, Section, drawing
from alignprism.report.people_section import people
from alignprism.report.results import Results
from alignprism.report.tables import Builder, Cell, Slice, Table, by_model, by_slice, from_records, head, tongue_cell
from alignprism.report.training_section import training
from alignprism.report.wording import CATEGORY_WORDS, interval_text, value_text
from alignprism.rows import Figure

TOO_FEW = "too few to say"


def _note(found: Sequence[Figure]) -> str:
    """What stands at the right of a label in a chart: nothing, or that there is too little to say how sure it is."""
    given = [figure for figure in found if reason_of(figure) != ABSENT]
    if all(figure.low is not None for figure in given):
        return "" if given else "not evaluated"
    n = max((figure.n for figure in given), default=0)
    return f"{TOO_FEW} (n = {n})"


def _rate_rows(results: Results, slices: Sequence[tuple[str, str, Slice]]) -> list[dict[str, Any]]:
    rows = []
    for group, label, where in slices:
        found = [results.figures.get("harmful_rate", model, **where) for model in results.models]  # type: ignore[arg-type]
        for figure in found:
            bounds = {"estimate": figure.estimate, "low": figure.low, "high": figure.high}
            shared = {"group": group, "label": label, "model": figure.model, "n": figure.n}
            rows.append({**shared, **bounds, "note": _note(found)})
    return rows


_DUMBBELL_COLUMNS = ("group", "label", "model", "n", "estimate", "low", "high", "note")


def languages(results: Results) -> Section:
    """Harmful rate before and after, per language, trained and zero-shot apart."""
    trained = [t for t in results.tongues if t.trained]
    unseen = [t for t in results.tongues if not t.trained]
    groups = [("Trained languages", trained), ("Zero-shot: languages the training never saw", unseen)]
    if not trained:
        groups = [("", unseen)]
    slices = [(group, tongue.name, {"language": tongue.code}) for group, tongues in groups for tongue in tongues]
    chart = charts.dumbbell(_rate_rows(results, slices), results.models, "harmful answers, share of all prompts")
    names = ", ".join(results.others) or "no other model"
    chart_drawing = drawing(
        "Harmful rate by language",
        f"For each language the harmful rate of {results.baseline} and of {names}, with 95 % intervals where they "
        f"can be given; a language without one is marked “{TOO_FEW}”. Further left is better.",
        chart,
        _DUMBBELL_COLUMNS,
        _rate_rows(results, slices),
    )
    pools: list[tuple[Cell, Slice]] = [(head("all languages"), {})]
    if trained and unseen:
        pools += [
            (head("trained, pooled"), {"language": "trained"}),
            (head("zero-shot, pooled"), {"language": "zero-shot"}),
        ]
    rows: list[tuple[Cell, Slice]] = [(tongue_cell(t), {"language": t.code}) for _, part in groups for t in part]
    tables = by_slice(
        results.figures, "Harmful rate by language", "language", [*pools, *rows], results.models, results.baseline
    )
    lead = "Rates are shares of all prompts; changes are in points, paired prompt by prompt."
    return Section("languages", "Language by language", lead, (chart_drawing, *tables))


def _trade_rows(results: Results, x: tuple[str, str], y: tuple[str, str]) -> list[dict[str, Any]]:
    rows = []
    for model in results.models:
        across = results.figures.get(x[0], model, set=x[1])
        upright = results.figures.get(y[0], model, set=y[1])
        horizontal = {"x": across.estimate, "x_low": across.low, "x_high": across.high}
        rows.append({"model": model, **horizontal, "y": upright.estimate, "y_low": upright.low, "y_high": upright.high})
    return rows


_TRADE_COLUMNS = ("model", "x", "x_low", "x_high", "y", "y_low", "y_high")


def usefulness(results: Results) -> Section:
    """Harm against usefulness: safe and usable answers, and over-refusal, beside the harmful rate."""
    safe = _trade_rows(results, ("harmful_rate", "redteam"), ("safe_usable_rate", "redteam"))
    refused = _trade_rows(results, ("harmful_rate", "redteam"), ("over_refusal_rate", "benign"))
    x_title = "harmful answers"
    drawings = [
        drawing(
            "Harmful against safe and usable",
            "Each model by its harmful rate (across) and its safe and usable rate (upwards) on the same red-team "
            "prompts, with 95 % intervals both ways. Up and to the left is better.",
            charts.trade_off(safe, results.models, x_title, "safe and usable answers"),
            _TRADE_COLUMNS,
            safe,
        ),
    ]
    if any(row["y"] is not None for row in refused):
        drawings.append(
            drawing(
                "Harmful against over-refusal",
                "Each model by its harmful rate (across) and the share of harmless twin prompts that it refuses "
                "(upwards), with 95 % intervals both ways. Down and to the left is better.",
                charts.trade_off(refused, results.models, x_title, "harmless prompts refused"),
                _TRADE_COLUMNS,
                refused,
            )
        )
    costs = by_model(
        results.figures,
        "What the change costs in usefulness",
        results.models,
        [
            ("over-refusal (harmless twins)", "over_refusal_rate", "benign"),
            ("change", "over_refusal_change", "benign"),
            ("refusal, ordinary prompts", "refusal_rate", "general"),
            ("change", "refusal_change", "general"),
            ("refusal, red-team prompts", "refusal_rate", "redteam"),
            ("NLL per character (nats)", "nll_per_character", "general"),
            ("change", "nll_change", "general"),
        ],
    )
    language = by_model(
        results.figures,
        "Language fidelity and length",
        results.models,
        [
            ("fidelity, red-team", "language_fidelity", "redteam"),
            ("fidelity, twins", "language_fidelity", "benign"),
            ("fidelity, ordinary", "language_fidelity", "general"),
            ("cut at the cap, red-team", "truncated_rate", "redteam"),
        ],
    )
    lead = "A model that refuses everything, or writes nonsense, is harmless too. These figures tell them apart."
    parts: tuple[Part, ...] = (Pair(tuple(drawings)), costs, language)
    if preferred(results) is None and results.others:
        reason = results.figures.anywhere("win_rate", results.others[0]).reason
        parts = (*parts, Remark(f"Win rate: {reason}."))
    return Section("usefulness", "Harm against usefulness", lead, parts)


def methods(results: Results) -> Section:
    """Models, scopes, categories; the translated set apart."""
    figures, models, baseline = results.figures, results.models, results.baseline
    overview = by_model(
        figures,
        "All red-team prompts, by model",
        models,
        [
            ("harmful", "harmful_rate", "redteam"),
            ("change", "harmful_change", "redteam"),
            ("safe and usable", "safe_usable_rate", "redteam"),
            ("change", "safe_usable_change", "redteam"),
            ("undecidable", "undecidable_rate", "redteam"),
            ("degenerate", "degenerate_rate", "redteam"),
            ("off language", "off_language_rate", "redteam"),
            *_failures(results),
        ],
    )
    bounds = Builder("Change in harmful answers, counted in other ways (points; relative in %)", ["model", *_BOUNDS])
    for model in results.others:
        wanted = [figures.get("harmful_change", model, estimand=phrase) for phrase in ("as harmful", "as harmless")]
        wanted += [figures.get("harmful_relative_change", model, estimand=phrase) for phrase in ("pooled", "mean of")]
        bounds.add(head(model), *(bounds.cell(figure) for figure in wanted))
    scopes = figures.values("scope", set="redteam")
    plain: list[tuple[Cell, Slice]] = [(head(scope), {"scope": scope}) for scope in scopes]
    plain += [
        (head(f"{scope}, {pool} languages"), {"scope": scope, "language": pool})
        for scope in scopes
        for pool in ("trained", "zero-shot")
        if figures.get("harmful_rate", baseline, scope=scope, language=pool).reason != ABSENT
    ]
    categories = figures.values("category", set="redteam")
    words = {category: CATEGORY_WORDS.get(category, category.replace("_", " ")) for category in categories}
    parts: list[Part] = [overview]
    if results.single_seeds:
        singles = by_model(
            figures,
            "Each training seed alone",
            results.single_seeds,
            [
                ("harmful", "harmful_rate", "redteam"),
                ("change", "harmful_change", "redteam"),
                ("safe and usable", "safe_usable_rate", "redteam"),
                ("over-refusal (harmless twins)", "over_refusal_rate", "benign"),
            ],
        )
        parts.append(Folded("Each training seed alone", singles))
    if results.others:
        parts.append(bounds.table())
    if scopes:
        parts.extend(by_slice(figures, "Harmful rate by scope", "scope", plain, models, baseline))
    if categories:
        rows = _rate_rows(results, [("", words[c], {"category": c}) for c in categories])
        description = (
            "For each harm category the harmful rate of every model, with 95 % intervals where they can be given."
        )
        chart = charts.dumbbell(rows, models, "harmful answers, share of the category's prompts")
        parts.append(drawing("Harmful rate by category", description, chart, _DUMBBELL_COLUMNS[1:], rows))
        table_rows: list[tuple[Cell, Slice]] = [(head(words[c]), {"category": c}) for c in categories]
        parts.extend(by_slice(figures, "Harmful rate by category", "category", table_rows, models, baseline))
        parts.append(
            Remark("A prompt can be in several categories, so the categories add up to more than all prompts.")
        )
    lead = "Everything on the test prompts that were written in each language; the translated list stands apart below."
    return Section("models", "Models, scopes, categories", lead, tuple(parts))


def _failures(results: Results) -> list[tuple[str, str, str]]:
    """Columns for calls without an answer, for filtered ones and for repeated samples, where there are any."""
    wanted = (
        ("no answer", "no_answer_rate"),
        ("filtered", "filtered_rate"),
        ("mean over samples", "harmful_rate_over_samples"),
    )
    found = {figure.metric for figure in results.figures.all if figure.estimate}
    return [(heading, metric, "redteam") for heading, metric in wanted if metric in found]


_BOUNDS = (
    "undecidable counted as harmful",
    "undecidable counted as harmless",
    "relative, pooled",
    "relative, mean of languages",
)


def translated(results: Results) -> Section | None:
    """The set of the same English prompts in every language, reported apart as in the paper."""
    if not any(figure.set == "translated" for figure in results.figures.all):
        return None
    rows: list[tuple[Cell, Slice]] = [(head("all languages"), {"set": "translated"})]
    rows += [(tongue_cell(t), {"set": "translated", "language": t.code}) for t in results.tongues]
    tables = by_slice(
        results.figures, "Harmful rate, translated prompts", "language", rows, results.models, results.baseline
    )
    lead = (
        "One English list in every language. Languages can be compared on it, but it asks what English speakers ask; "
        "it enters no figure above."
    )
    return Section("translated", "Translated prompts, set apart", lead, tables)


BUILDERS: tuple[Callable[[Results], Section | None], ...] = (
    people,
    languages,
    usefulness,
    preferred,
    methods,
    translated,
    translation,
    over_optimisation,
    training,
)


def missing(results: Results) -> Table | None:
    """Every reason for a figure or an interval that is not given, with what it concerns: nothing is silently absent."""
    grouped: dict[tuple[str, str], list[Figure]] = {}
    for figure in results.figures.all:
        if reason := reason_of(figure):
            grouped.setdefault((reason, figure.metric), []).append(figure)
    if not grouped:
        return None
    rows = [
        (
            Cell(reason),
            Cell(metric.replace("_", " ")),
            Cell("no figure" if all(f.estimate is None for f in found) else "no interval"),
            Cell(str(len(found)), number=True),
        )
        for (reason, metric), found in grouped.items()
    ]
    return Table(
        "Figures or intervals that are not given", ("reason", "metric", "what is missing", "figures"), tuple(rows)
    )


def adjusted(results: Results) -> Table | None:
    """Changes with their family and p value, adjusted within the family."""
    tested = [
        f for f in results.figures.all if f.p is not None and f.metric.endswith("_change") and f.family != "exploratory"
    ]
    if not tested:
        return None
    rows = [
        {
            "metric": f.metric.replace("_", " "),
            "model": f.model,
            "set": f.set,
            "slice": ", ".join(filter(None, (f.language, f.scope, f.category))) or "all",
            "estimate": "" if f.estimate is None else value_text(f, f.estimate),
            "interval": interval_text(f),
            "p": f.p,
            "p adjusted": f.p_adjusted,
            "family": f.family,
        }
        for f in tested
    ]
    return from_records("Changes tested, primary and secondary", rows)
