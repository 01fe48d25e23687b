"""Adjusted p-values equal statsmodels'; cells without a p-value keep none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from alignprism.statistics import benjamini_hochberg, holm


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_as_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert benjamini_hochberg(p_values) == pytest.approx(multipletests(p_values, method="fdr_bh")[1])


def test_cells_without_a_p_value_are_not_counted() -> None:
    assert holm([0.01, None, 0.04]) == (0.02, None, 0.04)
    assert benjamini_hochberg([None, None]) == (None, None)
    assert holm([]) == ()


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_no_p_value_at_all_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="number 1"):
        holm([0.5, bad])
