"""Length of chosen and rejected answers: what a model would learn of length alone, and pairs without that difference.

DPO rewards whatever sets the sides apart, length included (Park et al. 2024, arXiv 2403.19159). Lengths are characters.
Pure.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alignprism.rows import Pair, content_id


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of `n` pairs in characters. ``difference`` is the mean of chosen - rejected.

    ``standardised``: that mean by the standard deviation of the differences; None with fewer than two pairs or where all
    differ by the same. ``chosen_longer``: share of pairs, those of equal length counted half. Means are None without
    pairs.
    """

    n: int
    chosen: float | None
    rejected: float | None
    difference: float | None
    standardised: float | None
    chosen_longer: float | None


def lengths_of(pairs: Sequence[Pair]) -> Lengths:
    """The balance of some pairs."""
    if not pairs:
        return Lengths(0, None, None, None, None, None)
    n = len(pairs)
    differences = [difference(pair) for pair in pairs]
    mean = sum(differences) / n
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1)) if n > 1 else 0.0
    longer = sum(1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in differences) / n
    return Lengths(
        n,
        sum(len(pair.chosen) for pair in pairs) / n,
        sum(len(pair.rejected) for pair in pairs) / n,
        mean,
        mean / spread if spread > 0 else None,
        longer,
    )


def difference(pair: Pair) -> int:
    """By how many characters the chosen answer is longer."""
    return len(pair.chosen) - len(pair.rejected)


def balance(pairs: Sequence[Pair]) -> dict[str, dict[str, dict[str, Any]]]:
    """`Lengths` by kind and language, rounded; ``all`` stands for every language of the kind."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, own in _groups(pairs, lambda pair: pair.kind).items():
        groups = {"all": own, **_groups(own, lambda pair: pair.language)}
        found[kind] = {
            code: {name: _rounded(value) for name, value in asdict(lengths_of(group)).items()}
            for code, group in groups.items()
        }
    return found


def _rounded(value: float | None) -> float | None:
    return round(value, 3) if isinstance(value, float) else value


def _groups(pairs: Sequence[Pair], name: Callable[[Pair], str]) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        found[name(pair)].append(pair)
    return {key: found[key] for key in sorted(found)}


def match_lengths(pairs: Sequence[Pair], tolerance: float, seed: int) -> list[Pair]:
    """The pairs, in their order, without those that make one side longer, for each kind and language by itself.

    Within `tolerance`: the mean difference is at most this share of the mean length of an answer. Until then the pair
    goes whose loss brings the mean difference nearest to zero; pairs alike in that by seeded hash. A language where one
    side is the longer one in every pair ends with none.
    """
    kept: set[str] = set()
    for group in _groups(pairs, lambda pair: f"{pair.kind} {pair.language}").values():
        shuffled = sorted(group, key=lambda pair: content_id("length", seed, pair.id))
        lengths = [(len(pair.chosen), len(pair.rejected)) for pair in shuffled]
        kept |= {shuffled[place].id for place in matched(lengths, tolerance)}
    return [pair for pair in pairs if pair.id in kept]


def within(lengths: Sequence[tuple[int, int]], tolerance: float) -> bool:
    """Is the mean difference at most `tolerance` times the mean length of an answer?"""
    return abs(sum(a - b for a, b in lengths)) <= tolerance * sum(a + b for a, b in lengths) / 2


def matched(lengths: Sequence[tuple[int, int]], tolerance: float) -> list[int]:
    """Places of the (chosen, rejected) lengths that stay; see `match_lengths`."""
    differences = sorted((a - b, place) for place, (a, b) in enumerate(lengths))
    surplus, total = sum(a - b for a, b in lengths), sum(a + b for a, b in lengths)
    while differences and abs(surplus) > tolerance * total / 2:
        # Two neighbours in the sorted list are the only ones that can be nearest to the sum.
        right = bisect.bisect_left(differences, (surplus, -1))
        nearby = [place for place in (right - 1, right) if 0 <= place < len(differences)]
        # Of two equally near the more unequal pair goes, whichever side is the longer one.
        change, place = differences.pop(
            min(nearby, key=lambda near: (abs(differences[near][0] - surplus), -abs(differences[near][0])))
        )
        surplus -= change
        total -= sum(lengths[place])
    return sorted(place for _, place in differences)
