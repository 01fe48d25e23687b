"""Numbers and outcomes in plain words. Nothing is computed: what results.json says is rounded and put in sentences."""

from __future__ import annotations

from alignprism.report.figures import reason_of
from alignprism.rows import Figure

NBSP = "\u00a0"
_MINUS = "−"
_FINE = 300  # with at least this many prompts a tenth of a point carries meaning

_POINTS = frozenset({"position_bias", "judge_bias", "judge_error_difference", "over_optimisation_gap"})
_COEFFICIENTS = ("_kappa", "_alpha", "_ac1")

JUDGE_ONLY = "Judge only: no person has read these completions; this demonstrates the tool"


def _sign(text: str, value: float) -> str:
    if value == 0 or not text.strip("0."):
        return text
    return f"{_MINUS if value < 0 else '+'}{text}"


def percent(share: float, n: int = 0) -> str:
    """A share in [0, 1] as ``54 %``; never rounds something to nothing (``< 1 %``) or to everything."""
    value = 100 * share
    decimals = 1 if n >= _FINE else 0
    smallest = 10.0**-decimals
    text = f"{value:.{decimals}f}"
    if 0 < value < smallest / 2:
        return f"<{NBSP}{smallest:g}{NBSP}%"
    if 100 - smallest / 2 <= value < 100:
        return f">{NBSP}{100 - smallest:g}{NBSP}%"
    return f"{text}{NBSP}%"


def points(share: float, n: int = 0) -> str:
    """A change of a share in [-1, 1] as signed percentage points without the word: ``−32``; small ones keep a tenth."""
    value = 100 * share
    decimals = 1 if n >= _FINE or 0 < abs(value) < 1 else 0
    if 0 < abs(value) < 0.05:
        return f"{_MINUS if value < 0 else '+'}<{NBSP}0.1"
    return _sign(f"{abs(value):.{decimals}f}", value)


def relative(share: float) -> str:
    """A relative change as signed percent: ``−60 %``."""
    value = 100 * share
    return _sign(f"{abs(value):.0f}", value) + f"{NBSP}%"


def nats(value: float, signed: bool = False) -> str:
    """Nats per character with three decimals."""
    return _sign(f"{abs(value):.3f}", value) if signed else f"{value:.3f}"


def value_text(figure: Figure, value: float) -> str:
    """One number of a figure in the unit of its metric."""
    if figure.metric == "nll_per_character":
        return nats(value)
    if figure.metric == "nll_change":
        return nats(value, signed=True)
    if figure.metric == "harmful_relative_change":
        return relative(value)
    if figure.set == "translation":
        return _sign(f"{100 * abs(value):.1f}", value) if figure.baseline else f"{100 * value:.1f}"
    if figure.metric.endswith(_COEFFICIENTS):
        return f"{value:.2f}".replace("-", _MINUS)
    if figure.metric in _POINTS:
        return points(value, figure.n)
    if figure.metric.endswith("_change") and figure.metric != "detectable_change":
        return points(value, figure.n)
    return percent(value, figure.n)


def estimate_text(figure: Figure) -> str:
    """The estimate, or ``not given``."""
    return "not given" if figure.estimate is None else value_text(figure, figure.estimate)


def interval_text(figure: Figure) -> str:
    """``45 to 63 %`` (the 95 % interval), or nothing."""
    if figure.estimate is None or figure.low is None or figure.high is None:
        return ""
    low, high = value_text(figure, figure.low), value_text(figure, figure.high)
    unit = f"{NBSP}%"
    return f"{low.removesuffix(unit)} to {high}" if high.endswith(unit) and NBSP not in low[:-2] else f"{low} to {high}"


def full_text(figure: Figure, unit: str = "") -> str:
    """Estimate, unit, interval, or what is missing with its reason: for running text."""
    if figure.estimate is None:
        return f"not given: {reason_of(figure).removeprefix('not given: ')}"
    start = estimate_text(figure) + (f" {unit}" if unit else "")
    interval = interval_text(figure)
    return f"{start} (95{NBSP}% interval {interval})" if interval else f"{start} (no interval: {reason_of(figure)})"


def _count(figure: Figure) -> int | None:
    """How many of the n, where the rate is a plain count of them."""
    if figure.estimate is None or not figure.n:
        return None
    count = figure.estimate * figure.n
    return round(count) if abs(count - round(count)) < 1e-6 * figure.n else None


def outcome(primary: Figure, baseline: Figure, model: Figure) -> str:
    """The outcome in one plain sentence; without a figure, that and why."""
    name, base = primary.model or model.model, primary.baseline or baseline.model or "the baseline"
    if primary.estimate is None:
        return f"No outcome can be given for {name} against {base}: {reason_of(primary)}."
    change = f"{points(primary.estimate, primary.n)} points"
    interval = interval_text(primary)
    tail = f"(95{NBSP}% interval {interval})" if interval else f"(no interval: {reason_of(primary)})"
    if baseline.estimate is None or model.estimate is None:
        return f"Harmful answers of {name} against {base}: {change} {tail}."
    before, after = _count(baseline), _count(model)
    if before is None or after is None or baseline.n != model.n:
        rates = percent(model.estimate, model.n), percent(baseline.estimate, baseline.n)
        return f"{name} gave harmful answers to {rates[0]} of the test prompts, {base} to {rates[1]}: {change} {tail}."
    return f"{name} gave harmful answers to {after} of {model.n} test prompts, {base} to {before}: {change} {tail}."


def corrected_outcome(corrected: Figure) -> str:
    """The corrected change in one sentence; empty where people have not labelled, or not enough."""
    if corrected.estimate is None:
        return ""
    interval = interval_text(corrected)
    tail = f"(95{NBSP}% interval {interval})" if interval else f"(no interval: {reason_of(corrected)})"
    base = corrected.baseline or "the baseline"
    return (
        f"Corrected by people's labels of {corrected.n_labels} prompts, harmful answers of {corrected.model} changed by "
        f"{points(corrected.estimate, corrected.n)} points against {base} {tail}."
    )


def significance(primary: Figure) -> str:
    """What the interval of the primary endpoint allows to say, and no more."""
    seen = "as this judge sees it" if primary.correction.startswith("none") else "as these people see it"
    if primary.estimate is None:
        return ""
    if primary.low is None or primary.high is None:
        return "Without an interval this figure shows no change: it describes these prompts only."
    if primary.low <= 0 <= primary.high:
        return "The interval includes zero: no change shown."
    if primary.high < 0:
        return f"The whole interval lies below zero: fewer harmful answers than the baseline, {seen}."
    return f"The whole interval lies above zero: more harmful answers than the baseline, {seen}."


CATEGORY_WORDS: dict[str, str] = {
    "bullying_harassment": "bullying, harassment",
    "discrimination_injustice": "discrimination, injustice",
    "graphic_material": "graphic material",
    "representation_allocation_qos": "unequal representation or service",
    "hate_speech": "hate speech",
    "non_consensual_sexual": "non-consensual sexual content",
    "profanity": "profanity",
    "self_harm": "self-harm",
    "violence_threats_incitement": "violence, threats, incitement",
}
"""The Aya categories in words; others are shown as they are named."""

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("harmful rate", "Share of all red-team prompts whose completion the judge calls harmful, in whatever language."),
    ("safe and usable", "Share whose completion is harmless, in the language of the prompt, and not degenerate."),
    ("undecidable", "Empty or gibberish completions, or a judge reply that cannot be read; never counted as harmless."),
    ("degenerate", "Text that repeats itself or breaks down; it helps nobody, harmful or not."),
    ("off language", "The completion is not in the language of its prompt. This never decides harm."),
    ("over-refusal", "Share of harmless twins of red-team prompts (they look alike) that the model refuses."),
    ("language fidelity", "Share of completions written in the language of their prompt."),
    ("global, local", "Harm understood everywhere, or harm that needs one culture's knowledge to see."),
    ("trained, zero-shot", "Languages with training pairs, and languages the training never saw."),
    ("cluster", "All prompts derived from one human (seed) prompt; intervals are taken over clusters, not rows."),
    ("95 % interval", "The range of values that the data do not speak against; the method is named with each figure."),
    ("points", "Percentage points: from 54 % to 22 % is −32 points."),
    ("smallest detectable change", "A smaller true change would be missed more often than one time in five."),
    ("NLL per character", "How surprised the model is by good reference answers, in nats; lower is better."),
    ("win rate", "How often a pairwise judge prefers the model's answer to the baseline's."),
    ("set apart: translated", "One English list in every language; easier to compare, less true to each culture."),
    ("preference, evaluation judge", "One chooses the training pairs, the other, of another family, scores the test."),
    (
        "corrected",
        "The judge's rate made good by people's labels of a few answers drawn by chance; unbiased, but wider.",
    ),
    ("flip", "The pairwise judge preferred the other answer when the two changed places; counted as a tie."),
    ("over-optimisation", "Gain that the judge of the training pairs sees and the independent judge does not."),
    ("no answer", "A call that failed after all retries; never read as an answer, counted as undecidable."),
    ("primary, secondary, exploratory", "The one endpoint of the study; then those named before; then the rest."),
)
