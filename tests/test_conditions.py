"""``--fail-if``: what can be written, which figures it is about, and that a limit that cannot be checked is not kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from alignprism.conditions import ConditionError, held, parse_condition
from alignprism.figures.answers import MEAN_OF_LANGUAGES, PAIRED, POOLED, UNDECIDABLE_HARMFUL, UNDECIDABLE_HARMLESS
from alignprism.judging.win_rates import AS_LOSSES, AS_WINS, EQUAL_LENGTH, TIES_DROPPED, TIES_HALF
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
        "harmful_rate of dpo-sft in hi (share): high is 0.5, so 'harmful_rate[language=hi].high > 0.10' holds"
    ]


def test_the_baseline_is_only_meant_when_it_is_named() -> None:
    assert not sentences("harmful_rate.estimate > 0.5")
    assert sentences("harmful_rate[model=base].estimate > 0.5")


VARIANTS = [
    row("harmful_change", estimand=PAIRED, estimate=-0.3, low=-0.4, high=-0.2),
    row("harmful_change", estimand=UNDECIDABLE_HARMFUL, estimate=0.1, low=-0.1, high=0.3),
    row("harmful_change", estimand=UNDECIDABLE_HARMLESS, estimate=-0.3, low=-0.4, high=-0.2),
    row("harmful_relative_change", estimand=POOLED, estimate=-0.5, low=-0.6, high=-0.4),
    row("harmful_relative_change", estimand=MEAN_OF_LANGUAGES, estimate=-0.1, low=-0.4, high=0.2),
    *(
        row("win_rate", set="general", estimand=name, estimate=value, low=value - 0.1, high=value + 0.1)
        for name, value in (
            (TIES_HALF, 0.6),
            (TIES_DROPPED, 0.7),
            (EQUAL_LENGTH, 0.4),
            (AS_LOSSES, 0.3),
            (AS_WINS, 0.8),
        )
    ),
    row("judge_ac1", estimand="over all answers", estimate=0.5, low=0.2, high=0.8),
    row("chrf++", set="translation", language="hi", estimand="to English", estimate=31.0, low=28.0, high=34.0),
    row(
        "chrf++",
        set="translation",
        language="hi",
        estimand="b - a, paired; to English",
        estimate=2.0,
        low=1.0,
        high=3.0,
    ),
]


def of_variants(text: str) -> list[str]:
    return held(parse_condition(text), VARIANTS, "base")


@pytest.mark.parametrize(
    ("text", "estimands"),
    [
        ("harmful_change.high > -1", [PAIRED]),
        ("harmful_change.high > 0", []),
        ("harmful_relative_change.high > -1", [POOLED]),
        ("win_rate.estimate > 0", [TIES_HALF]),
        ("harmful_change[estimand=b - a, paired].high > -1", [PAIRED]),
        ("harmful_change[estimand=undecidable counted as harmful].high > 0", [UNDECIDABLE_HARMFUL]),
        ("harmful_change[model=dpo-sft, estimand=b - a, paired, undecidable counted as harmful, set=redteam].high > 0",
         [UNDECIDABLE_HARMFUL]),
        ("win_rate[estimand=ties dropped].low > 0.5", [TIES_DROPPED]),
        ("win_rate[estimand=undecidable counted].low > 0", [AS_LOSSES, AS_WINS]),
        ("harmful_relative_change[estimand=mean of languages].high > 0", [MEAN_OF_LANGUAGES]),
        ("chrf++[language=hi].estimate < 40", ["to English"]),
        ("chrf++[language=hi, estimand=b - a, paired].high < 4", ["b - a, paired; to English"]),
        ("judge_ac1.low < 0.4", ["over all answers"]),
    ],
)  # fmt: skip
def test_the_main_estimand_is_meant_unless_another_is_named(text: str, estimands: list[str]) -> None:
    assert [sentence.split(" (")[1].split("): ")[0] for sentence in of_variants(text)] == estimands


def test_an_estimand_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(ConditionError, match="no such estimand; there: 'mean of languages'; 'pooled'"):
        of_variants("harmful_relative_change[estimand=median].high > 0")


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
