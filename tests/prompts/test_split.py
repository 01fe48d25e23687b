"""Splits: clusters stay whole, added rows move none, shares hold, and what cannot hold is said."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.errors import Failure, InputError
from alignprism.prompts.prompt_files import read_prompts
from alignprism.prompts.split import SHARES, Stratum, assign, read_shares
from alignprism.prompts.splitting import split_files
from alignprism.prompts.tables import TableWriter
from alignprism.rows import Prompt, RowError

SEEDS = st.lists(st.integers(0, 40).map(lambda n: f"s{n}"), min_size=1, max_size=60)
LINKS = st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=15)


def strata(count: int) -> list[list[Stratum]]:
    return [[("en" if n % 2 else "hi", "local" if n % 3 else "global", "profanity")] for n in range(count)]


@settings(deadline=None)
@given(SEEDS, LINKS, st.booleans(), st.integers(0, 3))
def test_seeds_and_linked_rows_lie_in_one_split(
    seeds: list[str], links: list[tuple[int, int]], exact: bool, number: int
) -> None:
    links = [(a % len(seeds), b % len(seeds)) for a, b in links]
    assigned = assign(seeds, strata(len(seeds)), links, number=number, exact=exact)
    splits = assigned.splits
    aside = [row for row, split in enumerate(splits) if split is None]
    assert aside == assigned.bridges
    assert not (exact and aside)  # with exact shares clusters are joined whole
    for a, b in links:
        assert splits[a] == splits[b] or None in (splits[a], splits[b])
    kept = [(seed, split) for seed, split in zip(seeds, splits, strict=True) if split]
    assert len(set(kept)) == len({seed for seed, _ in kept})


@settings(deadline=None)
@given(SEEDS, SEEDS, LINKS, st.integers(0, 3))
def test_seeds_added_behind_move_no_row_before_whatever_they_join(
    old: list[str], new: list[str], links: list[tuple[int, int]], number: int
) -> None:
    new = [f"new {seed}" for seed in new]
    count = len(old) + len(new)
    links = [(a % count, b % count) for a, b in links]
    among_old = [(a, b) for a, b in links if max(a, b) < len(old)]
    before = assign(old, strata(len(old)), among_old, number=number).splits
    after = assign([*old, *new], strata(count), links, number=number).splits
    assert after[: len(old)] == before


def test_a_row_that_would_join_two_splits_is_set_aside_and_its_translations_are_not() -> None:
    apart = [f"s{n}" for n in range(20)]
    alone = assign(apart, strata(20), []).splits
    one, other = 0, next(n for n in range(20) if alone[n] != alone[0])
    assigned = assign([*apart, "new", "new"], strata(22), [(one, 20), (other, 20)])
    assert assigned.bridges == [20]
    assert assigned.splits[21] in (alone[one], alone[other])
    assert assigned.splits[:20] == alone


@settings(deadline=None)
@given(SEEDS, SEEDS, LINKS, st.booleans(), st.randoms(use_true_random=False))
def test_with_a_previous_split_rows_may_be_added_anywhere(
    old: list[str], new: list[str], links: list[tuple[int, int]], exact: bool, rng: random.Random
) -> None:
    first = assign(old, strata(len(old)), [], exact=exact).splits
    order = list(range(len(old) + len(new)))
    rng.shuffle(order)
    seeds = [([*old, *new])[n] for n in order]
    previous = {place: first[n] for place, n in enumerate(order) if n < len(old)}
    links = [(a % len(seeds), b % len(seeds)) for a, b in links]
    assigned = assign(seeds, strata(len(seeds)), links, previous=previous)  # type: ignore[arg-type]
    assert all(assigned.splits[place] == split for place, split in previous.items())
    aside = set(assigned.bridges)
    assert aside.isdisjoint(previous)
    assert {n for n, split in enumerate(assigned.splits) if split is None} == aside
    for a, b in [*links]:
        if assigned.splits[a] and assigned.splits[b] and assigned.splits[a] != assigned.splits[b]:
            assert a in previous or b in previous  # only what lay apart before still does
            assert assigned.kept_leaks


def test_another_number_draws_another_split_and_the_same_number_the_same() -> None:
    seeds = [f"s{n}" for n in range(200)]
    one, again, other = (assign(seeds, strata(200), [], number=n).splits for n in (1, 1, 2))
    assert one == again
    assert sum(a != b for a, b in zip(one, other, strict=True)) > 60


def test_shares_hold_in_every_stratum_nearly_by_hash_and_exactly_when_asked() -> None:
    count = 2400
    seeds, own = [f"s{n}" for n in range(count)], strata(count)
    for exact, allowed in ((False, 0.08), (True, 0.005)):
        splits = assign(seeds, own, [], exact=exact).splits
        cells: dict[Any, Counter[Any]] = {}
        for split, (stratum,) in zip(splits, own, strict=True):
            cells.setdefault(stratum, Counter())[split] += 1
        assert len(cells) == 4
        for counts in cells.values():
            for split, share in SHARES.items():
                assert abs(counts[split] / counts.total() - share) < allowed


def test_a_new_row_between_two_splits_is_set_aside() -> None:
    assigned = assign(["a", "b", "c"], strata(3), [(0, 2), (1, 2)], previous={0: "train", 1: "test"})
    assert (assigned.splits, assigned.bridges) == (["train", "test", None], [2])


@pytest.mark.parametrize(
    "written", ["train=0.5", "train=0.5,dev=0.6", "train=1,val=0", "train=x,test=1", "train=2,test=-1"]
)
def test_shares_that_are_none_are_refused(written: str) -> None:
    with pytest.raises(InputError, match="--shares"):
        read_shares(written)


def test_a_share_of_nothing_gets_nothing() -> None:
    splits = assign([f"s{n}" for n in range(500)], strata(500), [], read_shares("train=0.2,test=0.8")).splits
    assert set(splits) == {"train", "test"}


def write(tmp_path: Path, name: str, prompts: list[Prompt]) -> Path:
    (tmp_path / name).mkdir()
    with TableWriter(tmp_path / name / "prompts.parquet", Prompt) as table:
        for row in prompts:
            table.write(row)
    return tmp_path / name


def splits_of(folder: Path) -> dict[str, str]:
    return {read[2].id: read[2].split for read in read_prompts([folder]) if isinstance(read, tuple)}


def texts(count: int, start: int = 0) -> list[Prompt]:
    return [
        Prompt(f"p{n}", " ".join(f"{w}{n * 7919 % 10007}" for w in ("alpha", "beta", "gamma", "delta")), "en", "redteam", "train", f"s{n}")
        for n in range(start, start + count)
    ]  # fmt: skip


def test_files_are_split_with_near_duplicates_together_and_stay_when_rows_are_added(tmp_path: Path) -> None:
    old = texts(60)
    doubles = [Prompt(f"d{n}", old[n].text + " ok", "en", "redteam", "train", f"ds{n}") for n in range(0, 60, 3)]
    first = split_files([write(tmp_path, "a", [*old, *doubles])], tmp_path / "first", SHARES)
    found = splits_of(tmp_path / "first")
    assert all(found[f"d{n}"] == found[f"p{n}"] for n in range(0, 60, 3))
    assert (first.rows, first.clusters, first.bridges) == (80, 60, 0)
    more = write(tmp_path, "b", [*old, *doubles, *texts(8, 100)])
    split_files([more], tmp_path / "second", SHARES)
    assert found.items() <= splits_of(tmp_path / "second").items()
    shuffled = write(tmp_path, "c", [*texts(8, 100), *doubles[::-1], *old[::-1]])
    split_files([shuffled], tmp_path / "third", SHARES, previous=tmp_path / "first")
    assert found.items() <= splits_of(tmp_path / "third").items()


def test_an_earlier_split_that_leaks_is_refused_with_both_rows_named(tmp_path: Path) -> None:
    (one,) = texts(1)
    rows = [one, Prompt("q", one.text, "en", "redteam", "test", "other")]
    folder = write(tmp_path, "a", rows)
    with pytest.raises(Failure, match="'p0' and 'q' are near-duplicates in different splits"):
        split_files([folder], tmp_path / "out", SHARES, previous=folder)
    with pytest.raises(RowError, match="exists"):
        split_files([folder], folder, SHARES)


def test_real_prompts_have_no_near_duplicate_across_splits_and_stay_with_ten_percent_more(
    shared_data: Path, tmp_path: Path, importing: Any
) -> None:
    prompts = importing(shared_data / "multijail", "multijail").tables["prompts"]
    prompts = [p for p in prompts if p.language in ("en", "it", "sw", "ar")]
    few = [p for p in prompts if int(p.seed_id.partition("-")[2]) < 280]
    added = [p for p in prompts if int(p.seed_id.partition("-")[2]) >= 280]
    split_files([write(tmp_path, "few", few)], tmp_path / "one", SHARES)
    split_files([write(tmp_path, "all", [*few, *added])], tmp_path / "two", SHARES)
    assert splits_of(tmp_path / "one").items() <= splits_of(tmp_path / "two").items()
