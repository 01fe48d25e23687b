"""The mixture: exact counts, even over languages, no pair twice, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignprism.construct.mix import MixtureError, mix, mixed_counts
from alignprism.rows import Pair


def pairs(kind: Literal["safety", "general"], **languages: int) -> list[Pair]:
    return [
        Pair(
            f"{kind}-{code}-{n}",
            "p",
            "c",
            "r",
            "p",
            "s",
            code,
            kind,
            None,
            (),
            "",
            "",
            0.0,
            1.0,
            "j",
            "",
            True,
            "chosen",
        )
        for code, count in languages.items()
        for n in range(count)
    ]


SAFETY, GENERAL = pairs("safety", en=20, hi=20, fr=20), pairs("general", en=60, hi=60, fr=60)


@pytest.mark.parametrize(("mixture", "safety"), [(0.15, 7), (0.5, 24), (0.0, 0), (1.0, 48)])
def test_counts_are_exact(mixture: float, safety: int) -> None:
    assert mixed_counts(48, mixture) == (safety, 48 - safety)
    mixed = mix(SAFETY, GENERAL, 48, mixture, seed=0)
    assert Counter(p.kind for p in mixed) == Counter({"safety": safety, "general": 48 - safety})
    assert len({p.id for p in mixed}) == 48


def test_each_side_is_even_over_its_languages() -> None:
    mixed = mix(SAFETY, GENERAL, 48, 0.5, seed=0)
    for kind in ("safety", "general"):
        assert Counter(p.language for p in mixed if p.kind == kind) == {"en": 8, "hi": 8, "fr": 8}


def test_a_small_language_gives_all_it_has_and_the_others_share_the_rest() -> None:
    mixed = mix(pairs("safety", en=20, tl=2, hi=20), [], 12, 1.0, seed=0)
    assert Counter(p.language for p in mixed) == {"en": 5, "hi": 5, "tl": 2}


def test_the_same_seed_gives_the_same_pairs_whatever_the_order_and_another_seed_others() -> None:
    first = mix(SAFETY, GENERAL, 48, 0.5, seed=3)
    assert mix(SAFETY[::-1], GENERAL[::-1], 48, 0.5, seed=3) == first
    assert mix(SAFETY, GENERAL, 48, 0.5, seed=4) != first


def test_kinds_and_languages_are_shuffled_together() -> None:
    kinds = [p.kind for p in mix(SAFETY, GENERAL, 48, 0.5, seed=0)]
    assert sum(a != b for a, b in pairwise(kinds)) > 10


@pytest.mark.parametrize(
    ("safety", "general", "short"), [(10, 180, "safety side is short"), (60, 10, "general side is short")]
)
def test_the_short_side_is_named_with_what_would_fit(safety: int, general: int, short: str) -> None:
    with pytest.raises(MixtureError, match=short) as caught:
        mix(SAFETY[:safety], GENERAL[:general], 48, 0.5, seed=0)
    assert "needs 24" in str(caught.value)
    assert "only 10 were made" in str(caught.value)
    assert "at most 20" in str(caught.value)
    assert len(mix(SAFETY[:safety], GENERAL[:general], 20, 0.5, seed=0)) == 20


@given(st.integers(0, 60), st.integers(0, 180), st.integers(2, 100), st.floats(0, 1), st.integers(0, 5))
def test_any_mixture_is_exact_and_without_replacement_or_an_error(
    safety: int, general: int, total: int, mixture: float, seed: int
) -> None:
    wanted = mixed_counts(total, mixture)
    try:
        mixed = mix(SAFETY[:safety], GENERAL[:general], total, mixture, seed)
    except MixtureError:
        assert wanted[0] > safety or wanted[1] > general
        return
    assert (sum(p.kind == "safety" for p in mixed), sum(p.kind == "general" for p in mixed)) == wanted
    assert len({p.id for p in mixed}) == total
