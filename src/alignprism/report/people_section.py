"""The section on people: rates and changes three ways, the judge against people, people among themselves."""

from __future__ import annotations

from collections.abc import Sequence

from alignprism.report.figures import ABSENT, reason_of
from alignprism.report.parts import Folded, Part, Remark, Section
from alignprism.report.results import Results
from alignprism.report.tables import Builder, Cell, count, from_records, head, tongue_cell
from alignprism.rows import Figure

WAYS: tuple[tuple[str, str], ...] = (
    ("judge alone", "none"),
    ("people alone", "human only"),
    ("corrected", "corrected"),
    ("PPI++", "PPI++"),
    ("Rogan-Gladen", "Rogan-Gladen"),
)
SUCH = ("corrected, such raters", "such raters")
POOLED: tuple[tuple[str, str], ...] = (
    ("sensitivity", "judge_sensitivity_pooled"),
    ("specificity", "judge_specificity_pooled"),
)
QUALITY: tuple[tuple[str, str], ...] = (
    ("sensitivity", "judge_sensitivity"),
    ("specificity", "judge_specificity"),
    ("bias (points)", "judge_bias"),
    ("agreement", "judge_agreement"),
    ("kappa", "judge_kappa"),
    ("alpha", "judge_alpha"),
    ("AC1", "judge_ac1"),
    ("calibration error", "judge_calibration_error"),
)
RATERS: tuple[tuple[str, str], ...] = (
    ("agreement", "rater_agreement"),
    ("alpha", "rater_alpha"),
    ("AC1", "rater_ac1"),
)


def people(results: Results) -> Section | None:
    """Everything that rests on people's labels; None where nobody has labelled."""
    if not any(figure.n_labels for figure in results.figures.all):
        return None
    parts: list[Part] = []
    if whose := next((f.estimand.split(", ", 1)[-1] for f in results.figures.all if f.n_labels), ""):
        parts.append(Remark(f"Figures of people's labels are {whose}: the truth as far as these people tell it."))
    # People label what one model wrote: with several training seeds that is a single cell.
    models, others = (*results.models, *results.single_seeds), (*results.others, *results.single_seeds)
    several = any(figure.correction.startswith(SUCH[1]) for figure in results.figures.all)
    ways = (*WAYS, SUCH) if several else WAYS
    rates = _three_ways(results, "harmful_rate", models, "Harmful rate: the judge, people, and both together", ways)
    changes = _three_ways(results, "harmful_change", others, f"Change against {results.baseline}, in points", WAYS[:4])
    relative = _three_ways(
        results,
        "harmful_relative_change",
        others,
        f"Relative change against {results.baseline}, pooled over languages",
        WAYS[:3],
        by_language=False,
    )
    parts += [table for table in (rates, changes, relative) if table is not None]
    parts += [*_quality(results), *_raters(results), *_bias(results)]
    plans = [plan for plan in results.raw.get("label_plans") or () if isinstance(plan, dict)]
    if plans:
        parts.append(from_records("Label plans", plans))
    lead = (
        "A few completions were drawn by chance within the judge's verdicts and labelled by people who saw neither model nor "
        "verdict. The corrected figure takes the judge's verdicts on all and what people say of the drawn ones."
    )
    return Section("people", "Checked by people", lead, tuple(parts))


def _places(results: Results) -> list[tuple[Cell, str | None]]:
    return [(head("all languages"), None), *((tongue_cell(tongue), tongue.code) for tongue in results.tongues)]


def _three_ways(
    results: Results,
    metric: str,
    models: Sequence[str],
    caption: str,
    ways: Sequence[tuple[str, str]] = WAYS,
    *,
    by_language: bool = True,
) -> Part | None:
    """One row per model and language that people labelled, one column per way."""
    builder = Builder(caption, ["language", "model", *(heading for heading, _ in ways), "labels"])
    for model in models:
        for heading, code in _places(results)[: None if by_language else 1]:
            found = [_find(results, metric, model, code, way) for _, way in ways]
            labels = max((figure.n_labels for figure in found), default=0)
            if any(reason_of(figure) != ABSENT for figure in found[1:]):
                builder.add(heading, Cell(model), *(builder.cell(figure) for figure in found), count(labels))
    return builder.table() if builder.rows else None


def _find(results: Results, metric: str, model: str, code: str | None, way: str) -> Figure:
    """The figure on the set that people labelled."""
    for name in dict.fromkeys(f.set for f in results.figures.all if f.n_labels):
        phrase = "pooled" if metric == "harmful_relative_change" else ""
        found = results.figures.get(metric, model, language=code, set=name, estimand=phrase, correction=way)
        if reason_of(found) != ABSENT:
            return found
    return Figure(metric, "", model, reason=ABSENT)


def _quality(results: Results) -> list[Part]:
    own = [figure for figure in results.figures.all if figure.metric.startswith("judge_")]
    pooled = "The judge's errors by language, drawn towards the mean of languages (secondary)"
    own_pooled = [figure for figure in own if figure.metric in dict(POOLED).values()]
    plain = [figure for figure in own if figure not in own_pooled]
    return [
        *_sliced(results, "The judge against people", QUALITY, plain),
        *_sliced(results, pooled, POOLED, own_pooled),
    ]


def _raters(results: Results) -> list[Part]:
    own = [figure for figure in results.figures.all if figure.metric.startswith("rater_")]
    return _sliced(results, "People among themselves", RATERS, own)


def _bias(results: Results) -> list[Part]:
    """Cells in which the judge errs clearly more or less than elsewhere; all of them folded."""
    rates = {(f.model, f.estimand): f for f in results.figures.all if f.metric == "judge_error_rate"}
    differences = [f for f in results.figures.all if f.metric == "judge_error_difference"]
    shown = [f for f in differences if f.estimate is not None]
    if not differences:
        return []
    if not shown:
        return [Remark("Where the judge errs more: too few labels at every level to say.")]
    builder = Builder(
        "Where the judge errs more (points, against all other answers)",
        ["level", "model", "error", "rate", "difference", "p adjusted", "labels"],
    )
    for figure in sorted(shown, key=lambda f: (f.p_adjusted is None, f.p_adjusted or 0.0)):
        error, _, level = figure.estimand.partition("; ")
        rate = rates.get((figure.model, figure.estimand), Figure("judge_error_rate", "", figure.model, reason=ABSENT))
        p_value = "–" if figure.p_adjusted is None else f"{figure.p_adjusted:.3f}"
        builder.add(
            head(level.replace("_", " ")),
            Cell(figure.model),
            Cell(error),
            builder.cell(rate),
            builder.cell(figure),
            Cell(p_value, number=True),
            count(figure.n_labels),
        )
    clear = sum(f.p_adjusted is not None and f.p_adjusted < 0.05 for f in shown)
    said = f"{clear} of {len(differences)} comparisons of levels are clear after adjustment (Holm, 5 %)."
    return [Remark(f"Where the judge errs more: {said}"), Folded("Where the judge errs more", builder.table())]


def _sliced(results: Results, caption: str, columns: Sequence[tuple[str, str]], own: Sequence[Figure]) -> list[Part]:
    """One row per model, language and scope; a measure that is given nowhere is one sentence instead of a column."""
    given = [
        (heading, metric)
        for heading, metric in columns
        if any(f.metric == metric and f.estimate is not None for f in own)
    ]
    parts: list[Part] = []
    builder = Builder(caption, ["answers", "model", *(heading for heading, _ in given), "labels"])
    tongues = {tongue.code: tongue_cell(tongue) for tongue in results.tongues}
    for model, language, scope in dict.fromkeys((f.model, f.language, f.scope) for f in own) if given else ():
        here = {f.metric: f for f in own if (f.model, f.language, f.scope) == (model, language, scope)}
        heading = tongues.get(language or "", head(language or "all languages")) if scope is None else head(scope)
        cells = [builder.cell(here.get(metric, Figure(metric, "", model, reason=ABSENT))) for _, metric in given]
        builder.add(heading, Cell(model), *cells, count(max(f.n_labels for f in here.values())))
    if builder.rows:
        parts.append(builder.table())
    without: dict[str, list[str]] = {}
    for name, metric in columns:
        reasons = dict.fromkeys(f.reason for f in own if f.metric == metric and f.estimate is None)
        if (name, metric) not in given and reasons:
            without.setdefault("; ".join(reasons), []).append(name)
    parts += [Remark(f"{caption}: {', '.join(names)} not given ({reason}).") for reason, names in without.items()]
    return parts
