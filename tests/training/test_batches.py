"""Batches: every row once, order from (seed, epoch) alone, short padding, mixed languages."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.training.batches import collate, epoch_batches, micro_batches

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
@given(LENGTHS, st.integers(1, 2), st.integers(1, 2000))
def test_forwards_keep_to_their_token_budget(lengths: list[int], sides: int, budget: int) -> None:
    parts = micro_batches(range(len(lengths)), lengths, sides, budget)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    assert all(len(p) == 1 or sides * len(p) * max(lengths[r] for r in p) <= budget for p in parts)


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


def test_collate_pads_on_the_right_and_marks_completions() -> None:
    batch = collate([((5, 6), (7, 8, 9)), ((5,), (7,))], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9], [5, 7, 0, 0, 0]]
    assert batch.completion_mask.int().tolist() == [[0, 0, 1, 1, 1], [0, 1, 0, 0, 0]]
