"""Which rows make which batch: a function of (seed, epoch) and the rows alone, so that a resumed run sees the same.

Rows are shuffled by a hash of their ids, so the order in the file does not matter. Pools of a few batches are sorted by
length and cut into batches, and the batches shuffled again: less padding, while every pool mixes the languages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class HeadCost:
    """What a trainable head costs: it runs a second time when a forward has more completion tokens than can be kept.

    ``again`` is what that takes for one token, in positions of the layers below the head; ``tokens`` hold the completion
    tokens of each row.
    """

    kept_tokens: int
    again: float
    tokens: Sequence[int] = ()

    def of(self, tokens: int) -> float:
        """Positions that one forward pays for its completion tokens."""
        return self.again * tokens if tokens > self.kept_tokens else 0.0


def micro_batches(
    rows: Sequence[int],
    lengths: Sequence[int],
    token_budget: int,
    forward_cost: int = FORWARD_COST,
    head: HeadCost | None = None,
) -> list[tuple[int, ...]]:
    """Cut a batch into forwards of at most `token_budget` padded positions (but at least one row), longest first.

    ``lengths`` hold what one row takes. Of all cuts of the rows in order of length the cheapest is taken: padded
    positions, plus `forward_cost` positions for every forward (what starting one costs), plus the `head`'s.
    """
    ordered = sorted(rows, key=lambda row: (-lengths[row], row))
    # best[k] is the cost of the first k rows and where their last forward starts.
    best: list[tuple[float, int]] = [(0, 0)]
    for end in range(1, len(ordered) + 1):
        choices = []
        tokens = 0
        for start in range(end - 1, -1, -1):
            positions = (end - start) * lengths[ordered[start]]
            if positions > token_budget and end - start > 1:
                break
            if head is not None:
                tokens += head.tokens[ordered[start]]
            second = 0.0 if head is None else head.of(tokens)
            choices.append((best[start][0] + positions + forward_cost + second, start))
        best.append(min(choices))
    cuts, end = [], len(ordered)
    while end:
        start = best[end][1]
        cuts.append(tuple(ordered[start:end]))
        end = start
    return cuts[::-1]


def spread(parts: Sequence[tuple[int, ...]], lengths: Sequence[int], at_least: int) -> list[tuple[int, ...]]:
    """Forwards cut further until there are `at_least` so many (or one for every row), the largest in two each time.

    A process without a forward of its own would repeat another's, for nothing.
    """
    result = list(parts)
    while len(result) < at_least and any(len(part) > 1 for part in result):
        at = max(range(len(result)), key=lambda n: (len(result[n]) > 1, len(result[n]) * lengths[result[n][0]], -n))
        middle = len(result[at]) // 2
        result[at : at + 1] = [result[at][:middle], result[at][middle:]]
    return result


def _draw(*parts: object) -> bytes:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
