"""Batches: every row once, order from (seed, epoch) alone, short padding, mixed languages."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.training.batches import HeadCost, epoch_batches, micro_batches, spread

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 9), st.integers(0, 5), st.integers(0, 3), st.integers(1, 5))
def test_an_epoch_holds_every_row_once(lengths: list[int], size: int, seed: int, epoch: int, pool: int) -> None:
    ids = [f"r{n}" for n in range(len(lengths))]
    batches = epoch_batches(ids, lengths, size, seed, epoch, pool)
    assert sorted(row for batch in batches for row in batch) == list(range(len(ids)))
    assert sum(len(batch) < size for batch in batches) <= 1
    assert batches == epoch_batches(ids, lengths, size, seed, epoch, pool)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 2000), st.integers(0, 200))
def test_forwards_keep_to_their_token_budget(lengths: list[int], budget: int, cost: int) -> None:
    parts = micro_batches(range(len(lengths)), lengths, budget, cost)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    assert all(len(p) == 1 or len(p) * max(lengths[r] for r in p) <= budget for p in parts)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, at_least=st.integers(1, 12))
def test_every_process_gets_a_forward_of_its_own_while_there_are_rows(lengths: list[int], at_least: int) -> None:
    parts = micro_batches(range(len(lengths)), lengths, 200)
    wider = spread(parts, lengths, at_least)
    assert [row for part in wider for row in part] == [row for part in parts for row in part]
    assert all(wider) and len(wider) == max(len(parts), min(at_least, len(lengths)))


def _cost(parts: list[tuple[int, ...]], lengths: list[int], cost: int) -> int:
    return sum(len(p) * max(lengths[r] for r in p) + cost for p in parts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(0, 50))
def test_the_cut_is_the_cheapest_there_is(lengths: list[int], cost: int) -> None:
    ordered = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    cheapest = min(
        _cost([tuple(ordered[a:b]) for a, b in itertools.pairwise([0, *cuts, len(ordered)])], lengths, cost)
        for size in range(len(ordered))
        for cuts in itertools.combinations(range(1, len(ordered)), size)
    )
    assert _cost(micro_batches(range(len(lengths)), lengths, 10**6, cost), lengths, cost) == cheapest


def test_a_head_that_would_run_twice_is_given_fewer_tokens_where_that_is_cheaper() -> None:
    lengths, tokens = [100] * 4, [80] * 4
    dear = HeadCost(kept_tokens=160, again=5.0, tokens=tokens)
    assert [len(p) for p in micro_batches(range(4), lengths, 10**6, 64, dear)] == [2, 2]
    cheap = HeadCost(kept_tokens=160, again=0.05, tokens=tokens)
    assert [len(p) for p in micro_batches(range(4), lengths, 10**6, 64, cheap)] == [4]
    nothing_fits = HeadCost(kept_tokens=10, again=5.0, tokens=tokens)
    assert [len(p) for p in micro_batches(range(4), lengths, 10**6, 64, nothing_fits)] == [4]


def test_the_order_follows_the_rows_not_their_place_in_the_file() -> None:
    ids, lengths = [f"r{n}" for n in range(20)], list(range(20))
    forward = epoch_batches(ids, lengths, 4, 0, 0, 2)
    backward = epoch_batches(ids[::-1], lengths[::-1], 4, 0, 0, 2)
    assert [[ids[r] for r in b] for b in forward] == [[ids[::-1][r] for r in b] for b in backward]
    assert forward != epoch_batches(ids, lengths, 4, 1, 0, 2)
    assert forward != epoch_batches(ids, lengths, 4, 0, 1, 2)


def test_length_buckets_save_padding_and_keep_languages_mixed() -> None:
    draw = random.Random(0)
    languages = [n % 4 for n in range(256)]
    lengths = [draw.randint(10, 40) + 12 * language for language in languages]
    ids = [f"r{n}" for n in range(256)]

    def positions(batches: list[tuple[int, ...]]) -> int:
        return sum(len(b) * max(lengths[r] for r in b) for b in batches)

    sorted_pools = epoch_batches(ids, lengths, 8, 0, 0, 4)
    assert positions(sorted_pools) < 0.9 * positions(epoch_batches(ids, lengths, 8, 0, 0, 1))
    assert sum(len({languages[r] for r in b}) >= 2 for b in sorted_pools) >= 0.9 * len(sorted_pools)
    means = [sum(lengths[r] for r in b) / 8 for b in sorted_pools]
    assert means != sorted(means) and means != sorted(means, reverse=True)
