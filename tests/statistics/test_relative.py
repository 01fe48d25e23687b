"""Relative change: named aggregation, not given on a small base, and intervals that stay possible."""

from __future__ import annotations

import numpy as np
import pytest

from alignprism.statistics import relative_change


def shares(before: int, after: int, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n) < before, np.arange(n) < after


def change(a: np.ndarray, b: np.ndarray, **options: object) -> object:
    return relative_change(a, b, np.arange(len(a)), np.random.default_rng(0), **options)


def test_halving_is_minus_a_half() -> None:
    found = change(*shares(40, 20))
    assert found.estimate == pytest.approx(-0.5)
    assert -1 <= found.low < -0.5 < found.high < -0.2
    assert "bootstrap" in found.interval


def test_fewer_than_ten_in_the_base_are_not_divided_by() -> None:
    found = change(*shares(9, 2))
    assert (found.estimate, found.low) == (None, None)
    assert found.reason == "too few in the base to divide by (base 9; needs 10)"


def test_pooled_and_mean_of_groups_differ_when_groups_do() -> None:
    a = np.concatenate([np.arange(100) < 80, np.arange(100) < 20])
    b = np.concatenate([np.arange(100) < 40, np.arange(100) < 20])
    languages = np.repeat(["en", "hi"], 100)
    assert change(a, b).estimate == pytest.approx(-0.4)
    mean = change(a, b, groups=languages, aggregation="mean of groups")
    assert mean.estimate == pytest.approx(-0.25)
    assert mean.low < -0.25 < mean.high


def test_a_mean_of_groups_names_the_group_that_is_too_small() -> None:
    a, b = shares(50, 20)
    languages = np.where(np.arange(100) < 45, "en", "hi")
    found = change(a, b, groups=languages, aggregation="mean of groups")
    assert found.reason == "too few in the base to divide by (hi 5; needs 10)"
    with pytest.raises(ValueError, match="needs groups"):
        change(a, b, aggregation="mean of groups")


def test_a_harm_that_vanished_is_not_certain_to_have_vanished() -> None:
    found = change(*shares(40, 0))
    assert (found.estimate, found.low) == (-1.0, -1.0)
    assert -0.95 < found.high < -0.5


def test_few_clusters_use_the_log_ratio_and_fewer_none() -> None:
    a, b = shares(14, 8, 20)
    assert "log ratio" in change(a, b).interval
    rows = np.repeat(np.arange(9), 5)
    found = relative_change(np.ones(45, bool), rows % 2 == 0, rows, np.random.default_rng(0))
    assert (found.low, found.reason) == (None, "too few clusters (9 < 10)")
    assert found.estimate is not None


def test_a_base_true_in_too_few_clusters_has_no_interval() -> None:
    rows = np.repeat(np.arange(40), 5)
    found = relative_change(rows < 3, rows < 1, rows, np.random.default_rng(0))
    assert found.estimate == pytest.approx(-2 / 3)
    assert found.reason == "the base is true in too few clusters (3 < 5)"


def test_no_difference_anywhere_says_so() -> None:
    a, _ = shares(40, 0)
    found = change(a, a)
    assert (found.estimate, found.low, found.reason) == (0.0, None, "no variation between clusters")
    assert change(a[:0], a[:0]).reason == "no rows"
