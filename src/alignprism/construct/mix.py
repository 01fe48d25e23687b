"""Mixing safety and general pairs in a chosen ratio, evenly over languages, without replacement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from alignprism.errors import InputError
from alignprism.rows import Pair, content_id


class MixtureError(InputError):
    """There are too few pairs of one kind for the mixture; the message names the short side."""


def mixed_counts(total: int, mixture: float) -> tuple[int, int]:
    """Number of safety and of general pairs: `mixture` is the share of safety pairs."""
    safety = round(total * mixture)
    return safety, total - safety


def mix(safety: Sequence[Pair], general: Sequence[Pair], total: int, mixture: float, seed: int) -> list[Pair]:
    """`total` pairs of which the share `mixture` is safety pairs.

    Each side is drawn evenly over its languages (round-robin, seeded) without replacement; the result is shuffled by
    the seed.

    Raises
    ------
    MixtureError
        one side has fewer pairs than the mixture asks for.
    """
    wanted = mixed_counts(total, mixture)
    sides = (("safety", safety, wanted[0]), ("general", general, wanted[1]))
    for name, pairs, count in sides:
        if len(pairs) < count:
            fits = int(len(pairs) / (mixture if name == "safety" else 1 - mixture))
            raise MixtureError(
                f"mixture {mixture:g} of {total} pairs needs {count} {name} pairs, but only {len(pairs)} were made: "
                f"the {name} side is short. Set pairs.total to at most {fits}, change mixture, or sample more"
            )
    taken = [pair for _, pairs, count in sides for pair in _evenly(pairs, count, seed)]
    return sorted(taken, key=lambda pair: content_id("mix", seed, pair.id))


def _evenly(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """`count` pairs, as even over languages as their numbers allow; the order within a language is by seeded hash."""
    queues: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: content_id("draw", seed, pair.id)):
        queues[pair.language].append(pair)
    order = sorted(queues, key=lambda code: content_id("language", seed, code))
    drawn: list[Pair] = []
    depth = 0
    while len(drawn) < count:
        drawn += [queues[code][depth] for code in order if depth < len(queues[code])]
        depth += 1
    return drawn[:count]
