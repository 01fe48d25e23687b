"""Named maps from an encoder's parts, and the refusal rule, to the features of a linear head.

``distance``, the shipped e5 head's map, gives the prompt through the completion only: as text read together, as products
and as differences. ``together`` adds the prompt itself; the prompt alone reaches AUC .80 on XSTest, so a head with it
leans more on the question than on the answer.

A map whose name ends in ``+refusal`` adds what :func:`alignprism.judging.refusal.refusal` says (0 or 1), because the
encoders are poor at telling a long refusal from a long answer. The rule is repeated ``RULE_COLUMNS`` times: with one
column the ridge penalty would let it weigh no more than any of a thousand embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from alignprism.judging.encoders import clean
from alignprism.judging.refusal import refusal

Floats = NDArray[np.float32]
Parts = Mapping[str, Floats]


def split_parts(encoded: Floats, parts: tuple[str, ...]) -> dict[str, Floats]:
    """The named parts of an encoded matrix of shape (n, len(parts) * width), each (n, width)."""
    return dict(zip(parts, np.split(encoded, len(parts), axis=1), strict=True))


def _together(parts: Parts) -> list[Floats]:
    return [parts["completion"], parts["both"], parts["prompt"]]


def _shift(parts: Parts) -> list[Floats]:
    return [parts["completion"], parts["both"] - parts["prompt"]]


def _distance(parts: Parts) -> list[Floats]:
    prompt, completion = parts["prompt"], parts["completion"]
    return [completion, parts["both"] - prompt, completion * prompt * 20.0, np.abs(completion - prompt)]


def _states(parts: Parts) -> list[Floats]:
    return [values for name, values in parts.items() if not name.startswith("prompt")]


def _prompt(parts: Parts) -> list[Floats]:
    return [values for name, values in parts.items() if name.startswith("prompt")]


MAPS: dict[str, Callable[[Parts], list[Floats]]] = {
    "together": _together,
    "shift": _shift,
    "distance": _distance,
    "states": _states,
    "prompt-only": _prompt,
}
"""``together``, ``shift`` and ``distance`` are for e5, ``states`` is for decoder states; ``prompt-only`` exists for the
benchmark's trivial baseline."""

RULE = "+refusal"
RULE_COLUMNS = 64


def features(encoded: Floats, parts: tuple[str, ...], name: str, completions: Sequence[str]) -> Floats:
    """Features of shape (n, d) under the named map; `completions` are the rows' texts, for the rule.

    Raises
    ------
    ValueError
        no map has that name.
    """
    base = name.removesuffix(RULE)
    if base not in MAPS:
        raise ValueError(f"unknown feature map {name!r}; known: {', '.join(MAPS)}, each also with {RULE!r} at the end")
    columns = MAPS[base](split_parts(encoded, parts))
    if name.endswith(RULE):
        refuses = np.array([[refusal(clean(text), "") != "none"] for text in completions], np.float32)
        columns = [*columns, np.repeat(refuses, RULE_COLUMNS, axis=1)]
    return np.concatenate(columns, axis=1)
