"""Errors measured elsewhere: refused, unless equal errors are shown; pooled ones stay beside the language's own."""

from __future__ import annotations

import numpy as np
import pytest

from alignprism.statistics import (
    Calibration,
    JudgeErrors,
    equal_errors,
    mean_over_samples,
    partially_pooled,
    rate_from_calibration,
    rates_of_random_samples,
    rogan_gladen,
)
from alignprism.statistics.repeated_samples import rates_of_samples

CALLED = np.arange(400) < 120


def measured(model: str, sensitivity: float = 0.9, rows: float = 700, language: str = "hi") -> Calibration:
    return Calibration("judge", model, language, JudgeErrors(sensitivity, 0.92, rows, rows))


def test_the_same_model_and_language_is_corrected() -> None:
    found = rate_from_calibration(CALLED, np.arange(400), measured("base"), "judge", "base", "hi")
    assert found == rogan_gladen(CALLED, np.arange(400), measured("base").errors)


def test_another_language_is_always_refused() -> None:
    equal = equal_errors(measured("base"), measured("tuned"))
    found = rate_from_calibration(CALLED, np.arange(400), measured("base"), "judge", "tuned", "ar", equal)
    assert found.estimate is None
    assert found.reason.startswith("errors measured in hi do not correct ar")


def test_another_model_is_refused_until_equal_errors_are_shown_for_these_two() -> None:
    base, tuned = measured("base"), measured("tuned", 0.905)
    arguments = (CALLED, np.arange(400), base, "judge", "tuned", "hi")
    assert "equal errors are not shown" in rate_from_calibration(*arguments).reason
    shown = equal_errors(base, tuned)
    assert shown.shown, shown.reason
    assert rate_from_calibration(*arguments, shown).estimate is not None
    others = equal_errors(base, measured("third"))
    assert "equal errors are not shown" in rate_from_calibration(*arguments, others).reason
    other_judge = rate_from_calibration(CALLED, np.arange(400), base, "another", "base", "hi")
    assert other_judge.reason == "errors of another judge: label answers that this judge has judged"


def test_not_different_is_not_equal() -> None:
    few = equal_errors(measured("base", rows=40), measured("tuned", rows=40))
    assert not few.shown
    assert "sensitivity may differ by -0." in few.reason
    moved = equal_errors(measured("base", 0.85, 2000), measured("tuned", 0.70, 2000))
    assert not moved.shown
    assert moved.sensitivity.estimate == pytest.approx(-0.15)
    refused = rate_from_calibration(CALLED, np.arange(400), measured("base", 0.85, 2000), "judge", "tuned", "hi", moved)
    assert "are not shown to be equal: sensitivity may differ" in refused.reason
    unseen = equal_errors(measured("base"), Calibration("judge", "tuned", "hi", JudgeErrors(None, 0.9, 0, 50)))
    assert "no labelled row is harmful for one of the models" in unseen.reason
    with pytest.raises(ValueError, match="one judge in one language"):
        equal_errors(measured("base"), measured("tuned", language="ar"))


def test_equality_is_declared_wrongly_at_most_as_often_as_promised() -> None:
    """At a true difference of exactly the margin; level .05."""
    rng = np.random.default_rng(1)
    declared = 0
    for _ in range(1_000):
        a, b = rng.binomial(700, 0.9) / 700, rng.binomial(700, 0.85) / 700
        errors = [JudgeErrors(s, 0.95, 700, 100_000) for s in (a, b)]
        declared += equal_errors(*(Calibration("j", m, "hi", e) for m, e in zip("ab", errors, strict=True))).shown
    assert declared / 1_000 <= 0.07


def test_languages_borrow_by_how_alike_they_are_and_the_own_estimate_stays() -> None:
    alike = partially_pooled({"ar": (18, 20), "en": (90, 100), "hi": (26, 30), "sr": (9, 10)})
    apart = partially_pooled({"ar": (8, 20), "en": (98, 100), "hi": (12, 30), "sr": (9, 10)})
    assert alike[0].own_weight < 0.35 < apart[0].own_weight
    for share in (*alike, *apart):
        assert share.raw.low < share.pooled.estimate < share.raw.high
        assert "partially pooled" in share.pooled.interval
    assert alike[3].pooled.high - alike[3].pooled.low < alike[3].raw.high - alike[3].raw.low
    two = partially_pooled({"ar": (8, 20), "en": (98, 100), "xx": (0, 0)})
    assert two[0].pooled.reason == "too few languages to pool (2 < 3)"
    assert two[0].raw.estimate == 0.4
    nothing = partially_pooled({"ar": (8, 20), "en": (98, 100), "hi": (5, 9), "xx": (0, 0)})[3]
    assert nothing.pooled.reason == "no labelled rows"
    with pytest.raises(ValueError, match="ar: 30 hits of 20 rows"):
        partially_pooled({"ar": (30, 20)})


def test_pooled_intervals_cover_when_languages_differ_little() -> None:
    rng, hits, count = np.random.default_rng(2), 0, 0
    for _ in range(150):
        shares = 1 / (1 + np.exp(-(1.7 + 0.3 * rng.normal(size=6))))
        found = partially_pooled({str(k): (float(rng.binomial(30, s)), 30.0) for k, s in enumerate(shares)})
        hits += sum(f.pooled.low <= s <= f.pooled.high for f, s in zip(found, shares, strict=True))
        count += 6
    assert 0.92 <= hits / count <= 0.99


def test_sem_over_samples_is_that_of_table_3() -> None:
    found = mean_over_samples([0.30, 0.31, 0.32])
    assert (found.mean, found.sem, found.samples) == (pytest.approx(0.31), pytest.approx(0.01 / np.sqrt(3)), 3)
    assert "Table 3" in found.name
    assert mean_over_samples([]).reason == "no samples"
    assert mean_over_samples([0.3]).reason == "one sample has no standard error"
    outcomes = np.arange(100) < 30
    assert rates_of_random_samples(outcomes, 100, np.random.default_rng(0)).tolist() == [0.3] * 10
    assert rates_of_samples([True, False, True, True], ["a", "a", "b", "b"]).tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="between 1 and 100 rows"):
        rates_of_random_samples(outcomes, 0, np.random.default_rng(0))
