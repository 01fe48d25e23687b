"""How varied the new prompts are: coverage of cells, Vendi score, distance to their seeds, seeds without a child.

Vendi score (Friedman & Dieng 2023, arXiv 2210.02410, definition 3.1): the exponential of the entropy of the eigenvalues of
K / n, where K holds the similarities; the number of prompts that are wholly different from each other, from 1 to n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alignprism.construct.cells import Cell
from alignprism.prompts.lexical import grams, jaccard, normalise
from alignprism.prompts.meaning import Floats
from alignprism.rows import Prompt

NOT_EMBEDDED = "not measured: embed is false"
NOTHING = "not measured: nothing was accepted"
_QUANTILES = (0.1, 0.5, 0.9)


def vendi(vectors: Floats) -> float:
    """Vendi score of unit vectors, shape (n, d), under the cosine kernel; in [1, n].

    The eigenvalues of K / n are the squared singular values of the vectors over the root of n, so that K is never made.

    Raises
    ------
    ValueError
        no vectors.
    """
    if not len(vectors):
        raise ValueError("the Vendi score of nothing is not defined")
    values = np.linalg.svd(np.asarray(vectors, np.float64) / np.sqrt(len(vectors)), compute_uv=False) ** 2
    values = values[values > 1e-12]
    values = values / values.sum()
    return float(np.exp(-(values * np.log(values)).sum()))


def distances(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Mean, deciles at both ends and median, rounded to four decimals."""
    found = {f"q{round(100 * q)}": round(float(np.quantile(values, q)), 4) for q in _QUANTILES}
    return {"mean": round(float(values.mean()), 4), **found}


def coverage(quota: Mapping[Cell, int], taken: Mapping[Cell, int], seeds: Mapping[Cell, int]) -> list[dict[str, Any]]:
    """A row for each cell: its seeds, what it wanted and what it has."""
    return [
        {
            "language": cell[0],
            "scope": cell[1],
            "category": cell[2],
            "seeds": seeds.get(cell, 0),
            "quota": wanted,
            "accepted": taken.get(cell, 0),
        }
        for cell, wanted in quota.items()
    ]


def measured(
    seeds: Sequence[Prompt],
    made: Sequence[tuple[Prompt, Prompt]],
    seed_vectors: Floats | None,
    made_vectors: Floats | None,
) -> dict[str, Any]:
    """Figures by language: ``made`` holds every new prompt with its seed, ``made_vectors`` has their rows."""
    places = {seed.id: place for place, seed in enumerate(seeds)}
    result: dict[str, Any] = {}
    for code in sorted({seed.language for seed in seeds}):
        own = [place for place, seed in enumerate(seeds) if seed.language == code]
        rows = [n for n, (prompt, _) in enumerate(made) if prompt.language == code]
        reason = NOTHING if not rows else NOT_EMBEDDED if made_vectors is None or seed_vectors is None else ""
        figures: dict[str, Any] = {"accepted": len(rows), "seeds": len(own), "reason": reason}
        figures |= {"vendi": None, "vendi_seeds": None, "cosine_distance": None, "letter_distance": None}
        if rows:
            letters = [_letter_distance(*made[n]) for n in rows]
            figures["letter_distance"] = distances(np.array(letters))
        if rows and made_vectors is not None and seed_vectors is not None:
            figures["vendi"] = round(vendi(made_vectors[rows]), 3)
            figures["vendi_seeds"] = round(vendi(seed_vectors[own]), 3)
            theirs = seed_vectors[[places[made[n][1].id] for n in rows]]
            cosines = (made_vectors[rows].astype(np.float64) * theirs).sum(axis=1)
            figures["cosine_distance"] = distances(1.0 - cosines)
        result[code] = figures
    return result


def _letter_distance(prompt: Prompt, seed: Prompt) -> float:
    """1 less the Jaccard similarity of character 5-grams."""
    return 1.0 - jaccard(grams(normalise(prompt.text)), grams(normalise(seed.text)))
