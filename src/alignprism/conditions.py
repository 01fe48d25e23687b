"""`--fail-if`: a condition on a figure of the results, such as ``harmful_rate[language=hi].high > 0.10``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignprism.errors import InputError

_FORM = re.compile(
    r"\s*(?P<metric>[a-z_]+)\s*(?:\[(?P<filters>[^\]]*)\])?\s*\.\s*(?P<field>[a-z_]+)\s*(?P<op><=|>=|<|>)\s*"
    r"(?P<value>[-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*"
)
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FIELDS = ("estimate", "low", "high", "p", "p_adjusted", "n", "clusters")
FILTERS = ("model", "baseline", "language", "scope", "category", "set", "estimand", "family", "judge", "correction")


class ConditionError(InputError):
    """A condition cannot be read or fits no figure; the message says what is accepted."""


@dataclass(frozen=True, slots=True)
class Condition:
    """``metric[key=value,...].field op number``.

    A key that is not named means the whole: language, scope and category empty, set ``redteam`` (for over-refusal
    ``benign``, for refusal, likelihood and win rate ``general``), every model but the baseline, as the judge says it
    (``correction=corrected`` and ``correction=human only`` are there once people have labelled).
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
    for part in filter(None, (p.strip() for p in (match["filters"] or "").split(","))):
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
    found = [
        row
        for row in rows
        if row["metric"] == condition.metric
        and all(row[key] == value for key, value in filters.items())
        and ("model" in filters or row["model"] != baseline)
        and ("correction" in filters or str(row.get("correction", "none")).startswith("none"))
    ]
    if not found:
        metrics = ", ".join(sorted({str(row["metric"]) for row in rows}))
        raise ConditionError(f"--fail-if {condition.text!r}: no such figure in the results; metrics there: {metrics}")
    return found


def held(condition: Condition, rows: Sequence[Mapping[str, Any]], baseline: str) -> list[str]:
    """One sentence for each figure for which the condition holds, or which cannot be compared.

    A figure without the field (too few to say) counts as held: a limit that cannot be checked was not kept.
    """
    sentences = []
    for row in matching(condition, rows, baseline):
        what = f"{condition.metric} of {row['model']}" + (f" in {row['language']}" if row["language"] else "")
        value = row[condition.field]
        if value is None:
            sentences.append(
                f"{what}: {condition.field} is not given ({row['reason']}), so {condition.text!r} cannot be ruled out"
            )
        elif _OPERATORS[condition.op](float(value), condition.value):
            sentences.append(f"{what}: {condition.field} is {value:.4g}, so {condition.text!r} holds")
    return sentences
