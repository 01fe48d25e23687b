"""``--fail-if``: what can be written, which figures it is about, and that a limit that cannot be checked is not kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from alignprism.conditions import ConditionError, held, parse_condition
from alignprism.rows import Figure


def row(metric: str = "harmful_rate", model: str = "dpo-sft", **values: Any) -> dict[str, Any]:
    return asdict(Figure(**{"metric": metric, "estimand": "share", "model": model, "set": "redteam", **values}))


ROWS = [
    row(model="base", estimate=0.6, low=0.5, high=0.7, n=96),
    row(estimate=0.2, low=0.1, high=0.3, n=96),
    row(language="hi", estimate=0.25, low=0.05, high=0.5, n=8),
    row(language="ar", reason="too few", n=3),
    row(scope="local", estimate=0.4, low=0.3, high=0.5, n=32),
    row("over_refusal_rate", set="benign", estimate=0.1, low=0.0, high=0.2, n=48),
]


def sentences(text: str) -> list[str]:
    return held(parse_condition(text), ROWS, "base")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("harmful_rate.estimate > 0.1", True),
        ("harmful_rate.estimate > 0.2", False),
        ("harmful_rate.estimate >= 0.2", True),
        ("harmful_rate.estimate < 0.2", False),
        ("harmful_rate.estimate <= 2e-1", True),
        ("harmful_rate[language=hi].high > 0.10", True),
        ("harmful_rate[language=hi].low > 0.10", False),
        ("  harmful_rate [ language = hi ] . high>0.10 ", True),
        ("harmful_rate[scope=local].high > 0.45", True),
        ("harmful_rate[language=hi, model=dpo-sft].n < 10", True),
        ("over_refusal_rate.high > 0.1", True),
    ],
)
def test_a_condition_compares_the_figure_it_names(text: str, holds: bool) -> None:
    assert bool(sentences(text)) is holds


def test_the_sentence_says_figure_value_and_condition() -> None:
    assert sentences("harmful_rate[language=hi].high > 0.10") == [
        "harmful_rate of dpo-sft in hi: high is 0.5, so 'harmful_rate[language=hi].high > 0.10' holds"
    ]


def test_the_baseline_is_only_meant_when_it_is_named() -> None:
    assert not sentences("harmful_rate.estimate > 0.5")
    assert sentences("harmful_rate[model=base].estimate > 0.5")


@pytest.mark.parametrize("op", [">", "<"])
def test_a_figure_that_is_not_given_counts_as_held(op: str) -> None:
    (sentence,) = sentences(f"harmful_rate[language=ar].high {op} 0.1")
    assert "not given (too few)" in sentence and "cannot be ruled out" in sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("harmful_rate > 0.1", "not understood"),
        ("harmful_rate.high", "not understood"),
        ("harmful_rate.high = 0.1", "not understood"),
        ("harmful_rate.high > ten", "not understood"),
        ("", "not understood"),
        ("harmful_rate.high > 1.2.3", "not a number"),
        ("harmful_rate.height > 0.1", "accepted: estimate, low, high"),
        ("harmful_rate[tongue=hi].high > 0.1", "accepted keys: model"),
        ("harmful_rate[hi].high > 0.1", "accepted keys: model"),
    ],
)
def test_a_condition_that_cannot_be_read_says_what_is_accepted(text: str, said: str) -> None:
    with pytest.raises(ConditionError, match="--fail-if") as caught:
        parse_condition(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["harm_rate.high > 0.1", "harmful_rate[language=xx].high > 0.1"])
def test_a_condition_on_no_figure_lists_the_metrics(text: str) -> None:
    with pytest.raises(ConditionError, match="metrics there: harmful_rate, over_refusal_rate"):
        sentences(text)
