"""The mixture: exact counts, the same share in every language, no pair twice, nested, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.construct.mix import (
    SCOPES,
    MixtureError,
    deal,
    equal_scope,
    largest_total,
    mix,
    mixed_counts,
    scope_arms,
)
from alignprism.rows import Pair, Scope
from alignprism.study import StudyError, dump, parse

Counts = dict[str, tuple[int, int]]


def pairs(kind: Literal["safety", "general"], scope: Scope | None = None, **languages: int) -> list[Pair]:
    return [
        Pair(f"{kind}-{scope}-{code}-{n}", "p", "c", "r", "p", "s", code, kind, scope, (), "", "", 0.0, 1.0, "j", "", True, "chosen")
        for code, count in languages.items()
        for n in range(count)
    ]  # fmt: skip


SAFETY, GENERAL = pairs("safety", en=20, hi=20, fr=20), pairs("general", en=60, hi=60, fr=60)


@pytest.mark.parametrize(("mixture", "safety"), [(0.15, 7), (0.5, 24), (0.0, 0), (1.0, 48)])
def test_counts_are_exact(mixture: float, safety: int) -> None:
    assert mixed_counts(48, mixture) == (safety, 48 - safety)
    mixed = mix(SAFETY, GENERAL, 48, mixture, seed=0).pairs
    assert Counter(p.kind for p in mixed) == Counter({"safety": safety, "general": 48 - safety})
    assert len({p.id for p in mixed}) == 48


def test_each_side_is_even_over_its_languages() -> None:
    mixed = mix(SAFETY, GENERAL, 48, 0.5, seed=0).pairs
    for kind in ("safety", "general"):
        assert Counter(p.language for p in mixed if p.kind == kind) == {"en": 8, "hi": 8, "fr": 8}


def test_a_small_language_gives_all_it_has_and_the_others_share_the_rest() -> None:
    mixed = mix(pairs("safety", en=20, tl=2, hi=20), [], 12, 1.0, seed=0).pairs
    assert Counter(p.language for p in mixed) == {"en": 5, "hi": 5, "tl": 2}


def test_the_same_seed_gives_the_same_pairs_whatever_the_order_and_another_seed_others() -> None:
    first = mix(SAFETY, GENERAL, 48, 0.5, seed=3)
    assert mix(SAFETY[::-1], GENERAL[::-1], 48, 0.5, seed=3) == first
    assert mix(SAFETY, GENERAL, 48, 0.5, seed=4) != first


def test_kinds_and_languages_are_shuffled_together() -> None:
    kinds = [p.kind for p in mix(SAFETY, GENERAL, 48, 0.5, seed=0).pairs]
    assert sum(a != b for a, b in pairwise(kinds)) > 10


@pytest.mark.parametrize(
    ("safety", "general", "short", "fits"),
    [(10, 180, "safety side is short", 20), (60, 10, "general side is short", 21)],
)
def test_the_short_side_is_named_with_what_would_fit(safety: int, general: int, short: str, fits: int) -> None:
    with pytest.raises(MixtureError, match=short) as caught:
        mix(SAFETY[:safety], GENERAL[:general], 48, 0.5, seed=0)
    assert "needs 24" in str(caught.value)
    assert "only 10 were made" in str(caught.value)
    assert f"at most {fits}" in str(caught.value)
    assert len(mix(SAFETY[:safety], GENERAL[:general], fits, 0.5, seed=0).pairs) == fits


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 180), st.integers(2, 100), st.floats(0, 1), st.integers(0, 5))
def test_any_mixture_is_exact_and_without_replacement_or_an_error(
    safety: int, general: int, total: int, mixture: float, seed: int
) -> None:
    wanted = mixed_counts(total, mixture)
    try:
        mixed = mix(SAFETY[:safety], GENERAL[:general], total, mixture, seed).pairs
    except MixtureError:
        assert wanted[0] > safety or wanted[1] > general
        return
    assert (sum(p.kind == "safety" for p in mixed), sum(p.kind == "general" for p in mixed)) == wanted
    assert len({p.id for p in mixed}) == total


counts = st.dictionaries(
    st.sampled_from(["en", "hi", "fr", "ar", "tl"]), st.tuples(st.integers(0, 30), st.integers(0, 60))
)


@settings(deadline=None)
@given(counts, st.floats(0, 1), st.integers(0, 3))
def test_the_largest_total_fits_and_one_more_does_not(available: Counts, mixture: float, seed: int) -> None:
    total = largest_total(available, mixture)
    assert len(deal(available, total, mixture, seed)) == total
    with pytest.raises(MixtureError):
        deal(available, total + 1, mixture, seed)


@settings(deadline=None)
@given(counts, st.floats(0, 1), st.integers(0, 3), st.data())
def test_a_smaller_mixture_is_a_part_of_the_larger(
    available: Counts, mixture: float, seed: int, data: st.DataObject
) -> None:
    safety = pairs("safety", None, **{code: n for code, (n, _) in available.items()})
    general = pairs("general", None, **{code: n for code, (_, n) in available.items()})
    large = data.draw(st.integers(0, largest_total(available, mixture)))
    small = data.draw(st.integers(0, large))
    more = [pair.id for pair in mix(safety, general, large, mixture, seed).pairs]
    fewer = [pair.id for pair in mix(safety, general, small, mixture, seed).pairs]
    assert fewer == [name for name in more if name in set(fewer)]


@settings(deadline=None)
@given(st.integers(0, 100), st.floats(0, 1), st.integers(0, 3))
def test_where_nothing_is_short_every_language_has_the_share_and_the_size(
    total: int, mixture: float, seed: int
) -> None:
    dealt = deal(dict.fromkeys(("en", "hi", "fr", "ar"), (100, 100)), total, mixture, seed)
    for kind, count in zip(("safety", "general"), mixed_counts(total, mixture), strict=True):
        own = Counter(code for found, code in dealt if found == kind)
        assert all(abs(own[code] - count / 4) < 1 for code in ("en", "hi", "fr", "ar"))


def test_a_language_short_of_safety_pairs_gets_fewer_general_ones_so_that_its_share_holds() -> None:
    safety, general = pairs("safety", en=50, hi=50, tl=4), pairs("general", en=100, hi=100, tl=100)
    mixed = mix(safety, general, 60, 0.25, seed=0)
    taken = Counter((pair.language, pair.kind) for pair in mixed.pairs)
    assert (taken["tl", "safety"], taken["tl", "general"]) == (4, 13)  # (4 + 13) * .25 rounds to 4
    assert mixed.summary()["share_of_safety"] == pytest.approx({"en": 0.25, "hi": 0.25, "tl": 0.25}, abs=0.03)


def test_shares_differ_only_when_nothing_else_is_left_and_the_summary_says_so() -> None:
    mixed = mix(pairs("safety", en=10), pairs("general", hi=10), 20, 0.5, seed=0)
    assert mixed.summary()["share_of_safety"] == {"en": 1.0, "hi": 0.0}
    assert mixed.summary()["asked"] == {"safety": 10, "general": 10}


def test_taken_and_available_are_counted_by_language_kind_and_scope() -> None:
    safety = [*pairs("safety", "global", en=6, hi=2), *pairs("safety", "local", en=3)]
    mixed = mix(safety, pairs("general", en=9, hi=9), 12, 0.5, seed=1)
    assert {(c.language, c.kind, c.scope): c.available for c in mixed.cells} == {
        ("en", "general", ""): 9, ("en", "safety", "global"): 6, ("en", "safety", "local"): 3,
        ("hi", "general", ""): 9, ("hi", "safety", "global"): 2,
    }  # fmt: skip
    assert sum(c.taken for c in mixed.cells) == len(mixed.pairs) == 12
    assert all(c.taken <= c.available for c in mixed.cells)


def test_only_the_named_languages_are_used() -> None:
    mixed = mix(SAFETY, GENERAL, 20, 0.5, seed=0, languages=("en", "hi"))
    assert {pair.language for pair in mixed.pairs} == {"en", "hi"}
    with pytest.raises(MixtureError, match="no language has any"):
        mix(SAFETY, GENERAL, 20, 0.5, seed=0, languages=("xh",))


def test_global_only_and_local_only_are_of_one_size_in_every_language_with_the_same_general_pairs() -> None:
    safety = [*pairs("safety", "global", en=40, hi=9, fr=20), *pairs("safety", "local", en=8, hi=12, fr=0)]
    arms = scope_arms(safety, GENERAL, 40, 0.25, seed=2)
    cells = {scope: Counter((pair.language, pair.kind) for pair in arm.pairs) for scope, arm in arms.items()}
    assert cells["global"] == cells["local"]
    general = {scope: {p.id for p in arm.pairs if p.kind == "general"} for scope, arm in arms.items()}
    assert general["global"] == general["local"]
    for scope, arm in arms.items():
        assert {pair.scope for pair in arm.pairs if pair.kind == "safety"} == {scope}
    most = scope_arms(safety, GENERAL, None, 1.0, seed=2)
    assert {scope: len(arm.pairs) for scope, arm in most.items()} == {"global": 17, "local": 17}


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3))
def test_each_scope_has_no_more_of_a_language_than_the_other(of_global: int, of_local: int, seed: int) -> None:
    safety = [*pairs("safety", "global", en=of_global), *pairs("safety", "local", en=of_local)]
    for scope in SCOPES:
        even = equal_scope(safety, scope, seed)
        assert len(even) == min(of_global, of_local)
        assert {pair.scope for pair in even} <= {scope}


def test_a_share_is_from_0_to_1() -> None:
    with pytest.raises(MixtureError, match="from 0 to 1"):
        mix(SAFETY, GENERAL, 10, 1.5, seed=0)


@pytest.mark.parametrize(
    ("written", "share"),
    [("0", 0.0), ("0.15", 0.15), ("1", 1.0), ('"1:5"', 1 / 6), ('"3:1"', 0.75), ('" 0 : 2 "', 0.0)],
)
def test_a_study_says_the_mixture_as_a_share_or_as_a_ratio_and_shows_the_share(written: str, share: float) -> None:
    study = parse(f"mixture: {written}\n")
    assert study.mixture == share
    assert parse(dump(study)) == study
    assert f"mixture: {share}  #" in dump(study)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("1:5", 'write it as "1:5"'),
        ('"0:0"', "above 0"),
        ('"1:"', "number"),
        ('"-1:5"', "number"),
        ('"5:1:1"', "number"),
    ],
)
def test_what_is_no_mixture_is_told_with_its_line(written: str, told: str) -> None:
    with pytest.raises(StudyError, match=r"study.yaml:2: mixture: ") as caught:
        parse(f"name: a\nmixture: {written}\n")
    assert told in str(caught.value)


def test_a_ranking_that_compares_needs_a_pairwise_judge() -> None:
    with pytest.raises(StudyError, match=r"study.yaml:2: pairs.ranking: both needs a pairwise judge"):
        parse("pairs:\n  ranking: both\n")
