"""Union-find: what belongs together, through whatever chain of pairs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def joined(size: int, pairs: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """For each of `size` things the smallest number in its cluster (Tarjan 1975, with path halving)."""
    parent = list(range(size))

    def root(thing: int) -> int:
        while parent[thing] != thing:
            parent[thing] = parent[parent[thing]]
            thing = parent[thing]
        return thing

    for one, other in pairs:
        a, b = root(one), root(other)
        if a != b:
            parent[max(a, b)] = min(a, b)
    return np.fromiter((root(thing) for thing in range(size)), np.int64, size)
