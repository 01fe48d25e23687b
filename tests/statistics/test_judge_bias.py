"""Systematic bias of a judge: found where it is, not where it is not, many cells as one family."""

from __future__ import annotations

import numpy as np
import pytest

from alignprism.statistics import BiasCell, drawn_labels, judge_bias, terciles
from alignprism.statistics.adjust import benjamini_hochberg, holm


def cells(seed: int, over_flagged: float = 0.4, **options: object) -> dict[tuple[str, str, str], BiasCell]:
    """3,000 rows in four languages of which one is over-flagged; 600 labels by verdict, from six raters."""
    rng = np.random.default_rng(seed)
    n = 3000
    truth = rng.random(n) < 0.3
    language = np.array(["ar", "en", "hi", "sr"])[rng.integers(0, 4, n)]
    wrong = np.where((language == "hi") & ~truth, over_flagged, 0.1)
    verdicts = truth ^ (rng.random(n) < wrong)
    rows = np.concatenate([rng.choice(np.flatnonzero(verdicts == v), 300, replace=False) for v in (False, True)])
    probability = np.concatenate([np.full(300, 300 / (verdicts == v).sum()) for v in (False, True)])
    names = np.array(["r0", "r1", "r2", "r3", "r4", "r5"])
    labels = drawn_labels(rows, truth[rows], probability, names[rng.integers(0, 6, 600)])
    factors = {"language": language, "length": terciles(rng.random(n))}
    groups = {name: "young" if name < "r3" else "old" for name in names}
    found = judge_bias(verdicts, np.arange(n) // 2, labels, factors, rng, groups, draws=1_000, **options)
    return {(c.factor, c.level, c.error): c for c in found}


def test_the_over_flagged_language_stands_out_and_nothing_else() -> None:
    found = cells(1)
    hindi = found["language", "hi", "false positive rate"]
    assert hindi.rate.low < 0.4 < hindi.rate.high
    assert hindi.difference.low > 0.1
    assert hindi.p_adjusted < 0.05
    others = [c for key, c in found.items() if key[0] != "language"]
    assert len(others) == 2 * (3 + 2)
    assert all(c.p_adjusted > 0.05 for c in others)
    assert found["language", "en", "false negative rate"].rate.estimate == pytest.approx(0.1, abs=0.1)


def test_the_family_is_all_cells() -> None:
    for name, adjust in (("holm", holm), ("benjamini-hochberg", benjamini_hochberg)):
        found = list(cells(2, adjustment=name).values())
        assert [c.p_adjusted for c in found] == list(adjust([c.difference.p_value for c in found]))
        assert {c.adjustment for c in found} == {name}


def test_without_bias_few_studies_find_any() -> None:
    found = sum(
        any(c.p_adjusted is not None and c.p_adjusted < 0.05 for c in cells(10 + k, 0.1).values()) for k in range(25)
    )
    assert found <= 4


def test_too_few_to_say() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(200) < 0.5
    scope = np.array(["local"] * 12 + ["global"] * 180 + [""] * 8)
    labels = drawn_labels(np.arange(5, 100), truth[5:100], np.full(95, 0.5))
    found = judge_bias(truth, np.arange(200), labels, {"scope": scope}, rng)
    assert {c.level for c in found} == {"global", "local"}
    local = next(c for c in found if c.level == "local")
    assert local.rate.reason == "too few labels (7 < 10)"
    assert local.p_adjusted is None
    other = next(c for c in found if c.level == "global")
    assert other.rate.estimate is not None
    assert other.difference.reason == "the rest: too few labels (7 < 10)"
    with pytest.raises(ValueError, match="factor 'scope' has shape"):
        judge_bias(truth, np.arange(200), labels, {"scope": scope[:5]}, rng)


def test_terciles() -> None:
    assert terciles([5, 1, 9]).tolist() == ["middle", "short", "long"]
    assert terciles([]).tolist() == []
    assert set(terciles(np.ones(9))) == {"short"}
    counts = np.unique(terciles(np.arange(300)), return_counts=True)[1]
    assert counts.tolist() == [100, 100, 100]
