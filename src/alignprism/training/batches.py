"""Which rows make which batch: a function of (seed, epoch) and the rows alone, so that a resumed run sees the same.

Rows are shuffled by a hash of their ids, so the order in the file does not matter. Pools of a few batches are sorted by
length and cut into batches, and the batches shuffled again: less padding, while every pool mixes the languages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

FORWARD_COST = 64
"""What starting a forward costs, in positions: below it, saving padding by one more forward does not pay."""


def epoch_batches(
    ids: Sequence[str], lengths: Sequence[int], batch_size: int, seed: int, epoch: int, pool: int
) -> list[tuple[int, ...]]:
    """Row numbers of every batch of one epoch, in order. Each row occurs once; only one batch may be short."""
    shuffled = sorted(range(len(ids)), key=lambda row: _draw(seed, epoch, ids[row]))
    batches: list[tuple[int, ...]] = []
    for start in range(0, len(shuffled), pool * batch_size):
        members = shuffled[start : start + pool * batch_size]
        if pool > 1:
            members = sorted(members, key=lambda row: (lengths[row], _draw(seed, epoch, ids[row])))
        batches += [tuple(members[at : at + batch_size]) for at in range(0, len(members), batch_size)]
    return sorted(batches, key=lambda batch: _draw(seed, epoch, "batch", *(ids[row] for row in batch)))


def micro_batches(
    rows: Sequence[int], lengths: Sequence[int], token_budget: int, forward_cost: int = FORWARD_COST
) -> list[tuple[int, ...]]:
    """Cut a batch into forwards of at most `token_budget` padded positions (but at least one row), longest first.

    ``lengths`` hold what one row takes. Of all cuts of the rows in order of length the cheapest is taken: padded
    positions, plus `forward_cost` positions for every forward (what starting one costs).
    """
    ordered = sorted(rows, key=lambda row: (-lengths[row], row))
    # best[k] is the cost of the first k rows and where their last forward starts.
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(ordered) + 1):
        choices = []
        for start in range(end - 1, -1, -1):
            positions = (end - start) * lengths[ordered[start]]
            if positions > token_budget and end - start > 1:
                break
            choices.append((best[start][0] + positions + forward_cost, start))
        best.append(min(choices))
    cuts, end = [], len(ordered)
    while end:
        start = best[end][1]
        cuts.append(tuple(ordered[start:end]))
        end = start
    return cuts[::-1]


def _draw(*parts: object) -> bytes:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
