"""Which other human seeds a writer is shown: near the seed and unlike each other (maximal marginal relevance).

Carbonell & Goldstein 1998: the next example is the one with the highest (1 - d) * similarity to the seed less d * its
highest similarity to those taken. Only seeds of the seed's language and scope; those that share a category come first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from alignprism.prompts.lexical import normalise, signatures
from alignprism.prompts.meaning import Floats
from alignprism.rows import Prompt

Similarities = npt.NDArray[np.float64]


class Examples:
    """The seeds to choose from, with their vectors, shape (n, d); without vectors, texts are compared by their letters.

    Raises
    ------
    ValueError
        a seed of dev or test: nothing held out is ever shown to a writer.
    """

    def __init__(self, seeds: Sequence[Prompt], vectors: Floats | None, diversity: float) -> None:
        held_out = [seed.id for seed in seeds if seed.split != "train"]
        if held_out:
            raise ValueError(f"example {held_out[0]!r} is not of split train")
        self._seeds = list(seeds)
        self._vectors = vectors
        self._signed = signatures([normalise(seed.text) for seed in seeds])
        self._diversity = diversity
        self._groups: dict[tuple[str, str | None], list[int]] = {}
        self._places = {seed.id: place for place, seed in enumerate(seeds)}
        for place, seed in enumerate(seeds):
            self._groups.setdefault((seed.language, seed.scope), []).append(place)

    def of(self, seed: Prompt, count: int, turn: int = 0) -> list[Prompt]:
        """At most `count` examples for a seed; the next `turn` gets the next ones, until all were shown."""
        mine = self._places[seed.id]
        own = set(seed.categories)
        others = [n for n in self._groups[seed.language, seed.scope] if n != mine]
        tiers = [[n for n in others if bool(own & set(self._seeds[n].categories)) is same] for same in (True, False)]
        wanted = min(count * (turn + 1), len(others))
        ordered: list[int] = []
        for tier in tiers:
            ordered += self._marginal(mine, tier, wanted - len(ordered))
        start = count * turn
        shown = ordered[start : start + count] if len(ordered) > start else _wrapped(ordered, start, count)
        return [self._seeds[n] for n in shown]

    def _marginal(self, seed: int, pool: Sequence[int], count: int) -> list[int]:
        if not pool or count <= 0:
            return []
        rows = np.array(pool)
        relevance = self._similarity(seed, rows)
        redundancy = np.full(len(rows), -np.inf)
        taken: list[int] = []
        free = np.ones(len(rows), bool)
        for _ in range(min(count, len(rows))):
            novel = np.zeros(len(rows)) if not taken else redundancy
            gain = np.where(free, (1 - self._diversity) * relevance - self._diversity * novel, -np.inf)
            best = int(gain.argmax())  # of equals the first, which is the first of the file
            taken.append(best)
            free[best] = False
            redundancy = np.maximum(redundancy, self._similarity(int(rows[best]), rows))
        return [pool[place] for place in taken]

    def _similarity(self, one: int, rows: npt.NDArray[np.int64]) -> Similarities:
        if self._vectors is not None:
            return np.asarray(self._vectors[rows] @ self._vectors[one], np.float64)
        return np.asarray((self._signed[rows] == self._signed[one]).mean(axis=1), np.float64)


def _wrapped(ordered: Sequence[int], start: int, count: int) -> list[int]:
    """All were shown: begin again."""
    if not ordered:
        return []
    return [ordered[(start + n) % len(ordered)] for n in range(min(count, len(ordered)))]
