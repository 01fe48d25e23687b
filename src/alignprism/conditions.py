"""`--fail-if`: a condition on a figure of the results, such as ``harmful_rate[language=hi].high > 0.10``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignprism.errors import InputError

_FORM = re.compile(
    r"\s*(?P<metric>[A-Za-z0-9_+]+)\s*(?:\[(?P<filters>[^\]]*)\])?\s*\.\s*(?P<field>[a-z_]+)\s*(?P<op><=|>=|<|>)\s*"
    r"(?P<value>[-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*"
)
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# Estimands hold commas themselves ("b - a, paired"): one divides filters only where another key follows.
_NEXT_FILTER = re.compile(r",(?=\s*[a-z_]+\s*=)")
_ON_REQUEST = ("undecidable counted", "ties dropped", "at equal length", "mean of languages", "b - a, paired; ")
"""Phrases of estimands that bound a figure or are a second way to make it: not meant where a condition names no estimand."""
FIELDS = ("estimate", "low", "high", "p", "p_adjusted", "n", "clusters")
FILTERS = ("model", "baseline", "language", "scope", "category", "set", "estimand", "family", "judge", "correction")


class ConditionError(InputError):
    """A condition cannot be read or fits no figure; the message says what is accepted."""


@dataclass(frozen=True, slots=True)
class Condition:
    """``metric[key=value,...].field op number``.

    A key that is not named means the whole: language, scope and category empty, set ``redteam`` (for over-refusal
    ``benign``, for refusal, likelihood and win rate ``general``, for translation scores ``translation``), every model but
    the baseline, as the judge says it (``correction=corrected`` and ``correction=human only`` are there once people have
    labelled), and the main estimand: no bounds with undecidable answers counted, win rates with ties as half, relative
    changes of the pooled rate. ``estimand`` is a whole one, or a phrase of those that are meant.
    """

    text: str
    metric: str
    filters: Mapping[str, str]
    field: str
    op: str
    value: float


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises
    ------
    ConditionError
        with the accepted form.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ConditionError(
            f"--fail-if {text!r}: not understood; write metric[key=value,...].field > number, for example "
            "'harmful_rate[language=hi].high > 0.10'"
        )
    filters: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in _NEXT_FILTER.split(match["filters"] or ""))):
        key, separator, value = part.partition("=")
        if not separator or key.strip() not in FILTERS:
            raise ConditionError(f"--fail-if {text!r}: {part!r}; accepted keys: {', '.join(FILTERS)}")
        filters[key.strip()] = value.strip()
    if match["field"] not in FIELDS:
        raise ConditionError(f"--fail-if {text!r}: field {match['field']!r}; accepted: {', '.join(FIELDS)}")
    try:
        value = float(match["value"])
    except ValueError as error:
        raise ConditionError(f"--fail-if {text!r}: {match['value']!r} is not a number") from error
    return Condition(text, match["metric"], filters, match["field"], match["op"], value)


def _default_set(metric: str) -> str:
    if metric.startswith("over_refusal"):
        return "benign"
    if metric.startswith(("chrf", "bleu", "spbleu")):
        return "translation"
    return "general" if metric.startswith(("refusal", "nll", "win_rate")) else "redteam"


def matching(condition: Condition, rows: Sequence[Mapping[str, Any]], baseline: str) -> list[Mapping[str, Any]]:
    """The figures that a condition is about.

    Raises
    ------
    ConditionError
        no figure fits; the message lists the metrics there are.
    """
    filters: dict[str, str | None] = {"language": None, "scope": None, "category": None}
    filters |= {"set": _default_set(condition.metric), **condition.filters}
    wanted = filters.pop("estimand", None)
    found = [
        row
        for row in rows
        if row["metric"] == condition.metric
        and all(row[key] == value for key, value in filters.items())
        and ("model" in filters or row["model"] != baseline)
        and ("correction" in filters or str(row.get("correction", "none")).startswith("none"))
    ]
    meant = _of_estimand(found, wanted)
    if not meant:
        if found:
            listed = "; ".join(sorted({repr(row["estimand"]) for row in found}))
            raise ConditionError(f"--fail-if {condition.text!r}: no such estimand; there: {listed}")
        metrics = ", ".join(sorted({str(row["metric"]) for row in rows}))
        raise ConditionError(f"--fail-if {condition.text!r}: no such figure in the results; metrics there: {metrics}")
    return meant


def _of_estimand(rows: Sequence[Mapping[str, Any]], wanted: str | None) -> list[Mapping[str, Any]]:
    """The rows with an estimand, by its whole text or else by a phrase of it; without one those of a main estimand."""
    if wanted is None:
        return [row for row in rows if not any(phrase in row["estimand"] for phrase in _ON_REQUEST)]
    exact = [row for row in rows if row["estimand"] == wanted]
    return exact or [row for row in rows if wanted in row["estimand"]]


def held(condition: Condition, rows: Sequence[Mapping[str, Any]], baseline: str) -> list[str]:
    """One sentence for each figure for which the condition holds, or which cannot be compared.

    A figure without the field (too few to say) counts as held: a limit that cannot be checked was not kept.
    """
    sentences = []
    for row in matching(condition, rows, baseline):
        where = f" in {row['language']}" if row["language"] else ""
        what = f"{condition.metric} of {row['model']}{where} ({row['estimand']})"
        value = row[condition.field]
        if value is None:
            sentences.append(
                f"{what}: {condition.field} is not given ({row['reason']}), so {condition.text!r} cannot be ruled out"
            )
        elif _OPERATORS[condition.op](float(value), condition.value):
            sentences.append(f"{what}: {condition.field} is {value:.4g}, so {condition.text!r} holds")
    return sentences
