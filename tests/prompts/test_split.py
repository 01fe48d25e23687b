"""Splits: clusters stay whole, added rows move none, shares hold, and what cannot hold is said."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.errors import Failure, InputError
from alignprism.prompts.formats.format import make_pair
from alignprism.prompts.prompt_files import read_prompts
from alignprism.prompts.split import SHARES, Stratum, assign, read_shares
from alignprism.prompts.splitting import split_files
from alignprism.prompts.tables import HELD_OUT_PAIRS, TableWriter, read_folder
from alignprism.rows import Pair, Prompt, RowError, content_id, read_rows, write_rows

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


def pair_of(prompt: Prompt, **change: Any) -> Pair:
    made = make_pair(
        id=f"pair of {prompt.id}", prompt=prompt.text, chosen="No.", rejected="Yes.", language="en", prompt_id=prompt.id,
        seed_id=prompt.seed_id, kind="safety", licence="MIT", redistribute=True,
    )  # fmt: skip
    return replace(made, **change)


def test_pairs_of_held_out_prompts_are_written_apart_so_that_nobody_trains_on_them(tmp_path: Path) -> None:
    prompts = texts(40)
    pairs = [pair_of(prompt) for prompt in prompts]
    pairs += [replace(pair, id=f"{pair.id}'s translation", prompt_id="elsewhere") for pair in pairs]
    pairs += [pair_of(prompts[0], id="foreign", prompt_id="foreign", seed_id="foreign")]
    pairs += [pair_of(prompts[0], id="said", prompt_id="foreign", seed_id="foreign", split="test")]
    folder = write(tmp_path, "a", prompts)
    write_rows(folder / "pairs.parquet", pairs, Pair)
    done = split_files([folder], tmp_path / "one", SHARES)
    seeds = {p.seed_id: p.split for p in read_rows(tmp_path / "one" / "prompts.parquet", Prompt)}
    train = read_rows(tmp_path / "one" / "pairs.parquet", Pair)
    held_out = read_rows(tmp_path / "one" / HELD_OUT_PAIRS, Pair)
    assert len(train) + len(held_out) == len(pairs)
    assert {seeds.get(pair.seed_id, "train") for pair in train} == {"train"}
    assert {pair.split for pair in train} == {"train"} and "foreign" in {pair.id for pair in train}
    assert all(pair.split == seeds.get(pair.seed_id, "test") for pair in held_out)
    assert "said" in {pair.id for pair in held_out}
    assert done.pairs == Counter(pair.split for pair in [*train, *held_out])
    assert json.loads((tmp_path / "one" / "split.json").read_text("utf-8"))["pairs"] == done.pairs
    assert read_folder(tmp_path / "one")["pairs"] == train
    assert len(read_folder(tmp_path / "one", held_out=True)["pairs"]) == len(pairs)
    # Drawn again, a pair that was held out can become one to train on, and none is lost.
    again = split_files([tmp_path / "one"], tmp_path / "two", {"train": 1.0, "dev": 0.0, "test": 0.0})
    assert again.pairs == {"train": len(pairs) - 1, "test": 1}
    (tmp_path / "one" / "prompts.parquet").unlink()
    assert not [read for read in read_source_of_prompts(tmp_path / "one") if isinstance(read, tuple)]


def read_source_of_prompts(folder: Path) -> list[Any]:
    """What a folder gives that has lost its table of prompts: pairs are not taken for prompts."""
    try:
        return list(read_prompts([folder]))
    except RowError:
        return []


def test_a_pair_whose_prompt_is_set_aside_is_set_aside_with_it(tmp_path: Path) -> None:
    words = [content_id(n) for n in range(30)]
    # Both are near the one between them, and not near each other; seeds are drawn until they lie in different splits.
    for number in range(20):
        first = Prompt("first", " ".join(words[:24]), "en", "redteam", "train", f"first {number}")
        last = Prompt("last", " ".join(words[6:]), "en", "redteam", "train", f"last {number}")
        split_files([write(tmp_path, f"in {number}", [first, last])], tmp_path / f"out {number}", SHARES)
        found = splits_of(tmp_path / f"out {number}")
        if found["first"] != found["last"]:
            break
    both = Prompt("both", " ".join(words[3:27]), "en", "redteam", "train", "both")
    folder = write(tmp_path, "more", [first, last, both])
    write_rows(folder / "pairs.parquet", [pair_of(first), pair_of(both)], Pair)
    done = split_files([folder], tmp_path / "two", SHARES)
    assert done.bridges == 1 and done.pairs["set aside"] == 1
    aside = [json.loads(line) for line in (tmp_path / "two" / "set_aside.jsonl").open(encoding="utf-8")]
    assert [(row["column"], row["row"]) for row in aside] == [("text", 3), ("prompt_id", 2)]


UNREADABLE = {"id": "bad", "text": "Words.", "language": "Nowhere"}


def own(path: Path, prompts: list[Prompt], *more: dict[str, Any]) -> Path:
    rows = [{"id": p.id, "text": p.text, "language": "en", "seed_id": p.seed_id} for p in prompts]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*more, *rows]), encoding="utf-8")
    return path


def test_rows_that_cannot_be_read_are_set_aside_and_counted(tmp_path: Path) -> None:
    path = own(tmp_path / "own.jsonl", texts(10), UNREADABLE)
    done = split_files([path], tmp_path / "out", SHARES)
    assert (done.rows, done.unreadable) == (10, 1)
    (aside,) = [json.loads(line) for line in (tmp_path / "out" / "set_aside.jsonl").open(encoding="utf-8")]
    assert (aside["file"], aside["row"], aside["column"]) == (str(path), 1, "language")
    assert json.loads((tmp_path / "out" / "split.json").read_text("utf-8"))["unreadable"] == 1


def test_a_file_of_which_nothing_can_be_read_is_named_with_its_first_row(tmp_path: Path) -> None:
    path = own(tmp_path / "own.jsonl", [], UNREADABLE)
    with pytest.raises(
        RowError, match=r"own\.jsonl: no row can be read; the first: .*own\.jsonl: row 1: column language"
    ):
        split_files([path], tmp_path / "out", SHARES)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.jsonl"]


def test_an_earlier_split_with_a_row_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    previous = own(tmp_path / "old.jsonl", texts(3), UNREADABLE)
    with pytest.raises(RowError, match=r"--previous .*old\.jsonl: row 1: column language.*would lose its split"):
        split_files([own(tmp_path / "new.jsonl", texts(5))], tmp_path / "out", SHARES, previous=previous)


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
