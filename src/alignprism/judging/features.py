"""Named maps from an encoder's parts, and the refusal rule, to the features of a linear head.

``answered``, the shipped e5 head's map, holds the completion, both texts read together, and the prompt, but the prompt
only where the completion does not refuse: what was asked says how harmful an answer is, and nothing about a refusal.
``distance`` gives the prompt through the completion only, as products and differences. ``together`` is ``answered``
without the rule.

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


def _together(parts: Parts, refuses: Floats) -> list[Floats]:
    return [parts["completion"], parts["both"], parts["prompt"]]


def _answered(parts: Parts, refuses: Floats) -> list[Floats]:
    return [parts["completion"], parts["both"], parts["prompt"] * (1.0 - refuses)]


def _shift(parts: Parts, refuses: Floats) -> list[Floats]:
    return [parts["completion"], parts["both"] - parts["prompt"]]


def _distance(parts: Parts, refuses: Floats) -> list[Floats]:
    prompt, completion = parts["prompt"], parts["completion"]
    return [completion, parts["both"] - prompt, completion * prompt * 20.0, np.abs(completion - prompt)]


def _states(parts: Parts, refuses: Floats) -> list[Floats]:
    return [values for name, values in parts.items() if not name.startswith("prompt")]


def _prompt(parts: Parts, refuses: Floats) -> list[Floats]:
    return [values for name, values in parts.items() if name.startswith("prompt")]


MAPS: dict[str, Callable[[Parts, Floats], list[Floats]]] = {
    "answered": _answered,
    "together": _together,
    "shift": _shift,
    "distance": _distance,
    "states": _states,
    "prompt-only": _prompt,
}
"""From the parts and the refusal rule's answer, shape (n, 1), to columns. ``states`` is for decoder states, the others
are for e5; ``prompt-only`` exists for the benchmark's trivial baseline."""

RULE = "+refusal"
RULE_COLUMNS = 64


def uses_rule(name: str) -> bool:
    """Whether a map's features depend on the refusal rule (and so on its patterns)."""
    return name.endswith(RULE) or name == "answered"


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
    refuses = np.array([refusal(clean(text), "") != "none" for text in completions], np.float32).reshape(-1, 1)
    columns = MAPS[base](split_parts(encoded, parts), refuses)
    if name.endswith(RULE):
        columns = [*columns, np.repeat(refuses, RULE_COLUMNS, axis=1)]
    return np.concatenate(columns, axis=1)
