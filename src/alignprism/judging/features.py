"""Named maps from an encoder's parts to the features of a linear head.

The prompt alone is never a feature of its own: a head could then judge prompts instead of completions (the prompt
alone reaches AUC .82 on XSTest). It enters through the completion: as text read together, and as products and
differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Parts = Mapping[str, Floats]


def split_parts(encoded: Floats, parts: tuple[str, ...]) -> dict[str, Floats]:
    """The named parts of an encoded matrix of shape (n, len(parts) * width), each (n, width)."""
    return dict(zip(parts, np.split(encoded, len(parts), axis=1), strict=True))


def _completion(parts: Parts) -> list[Floats]:
    return [parts["completion"]]


def _pair(parts: Parts) -> list[Floats]:
    return [parts["completion"], parts["both"]]


def _shift(parts: Parts) -> list[Floats]:
    return [parts["completion"], parts["both"] - parts["prompt"]]


def _interaction(parts: Parts) -> list[Floats]:
    prompt, completion = parts["prompt"], parts["completion"]
    return [completion, parts["both"] - prompt, completion * prompt * 20.0]


def _distance(parts: Parts) -> list[Floats]:
    prompt, completion = parts["prompt"], parts["completion"]
    return [completion, parts["both"] - prompt, completion * prompt * 20.0, np.abs(completion - prompt)]


def _states(parts: Parts) -> list[Floats]:
    return [values for name, values in parts.items() if not name.startswith("prompt")]


def _means(parts: Parts) -> list[Floats]:
    return [values for name, values in parts.items() if name.startswith("mean")]


def _prompt(parts: Parts) -> list[Floats]:
    return [values for name, values in parts.items() if name.startswith("prompt")]


MAPS: dict[str, Callable[[Parts], list[Floats]]] = {
    "completion": _completion,
    "pair": _pair,
    "shift": _shift,
    "interaction": _interaction,
    "distance": _distance,
    "states": _states,
    "means": _means,
    "prompt-only": _prompt,
}
"""``prompt-only`` exists for the benchmark's trivial baseline and is refused for heads."""


def features(encoded: Floats, parts: tuple[str, ...], name: str) -> Floats:
    """Features of shape (n, d) under the named map.

    Raises
    ------
    ValueError
        no map has that name.
    """
    if name not in MAPS:
        raise ValueError(f"unknown feature map {name!r}; known: {', '.join(MAPS)}")
    return np.concatenate(MAPS[name](split_parts(encoded, parts)), axis=1)
