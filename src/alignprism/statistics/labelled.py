"""What people said of the rows a judge has judged: only labels that were drawn by chance, one share per row.

Every label carries the probability with which its row was drawn; its reciprocal is the row's weight (Horvitz and
Thompson 1952). Gold, repeated and contested labels were not drawn by chance and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from alignprism.statistics.clusters import Floats, as_bools, as_floats, same_length

Indices = npt.NDArray[np.intp]

VERDICTS = ("harmless", "harmful", "undecidable")


@dataclass(frozen=True, slots=True)
class DrawnLabels:
    """The drawn labels of one set of rows; made by `drawn_labels`.

    ``rows`` (m,): the labelled rows, ascending, each once. ``harmful`` (m,): the share of a row's raters who called it
    harmful. ``weights`` (m,): one over the inclusion probability. ``answer_rows`` (k,), ``answers`` (k,) and
    ``answer_raters`` (k,): the single answers, by position in ``rows`` and in ``rater_names``. ``left_out`` counts the
    labels of other kinds.
    """

    rows: Indices
    harmful: Floats
    weights: Floats
    answer_rows: Indices
    answers: Floats
    answer_raters: Indices
    rater_names: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def raters(self) -> int:
        """How many people gave these answers."""
        return len(self.rater_names)


def drawn_labels(
    rows: npt.ArrayLike,
    harmful: npt.ArrayLike,
    inclusion_probabilities: npt.ArrayLike,
    raters: npt.ArrayLike | None = None,
    kinds: npt.ArrayLike | None = None,
) -> DrawnLabels:
    """Answers, one per element, gathered by the row they are about.

    ``rows`` (k,): number of the row among all judged rows, from 0. ``harmful`` (k,): true or false; a rater's
    "undecidable" is for the caller to count as one or the other, and to show both. ``raters`` (k,): any names; without
    them every answer is one rater's. ``kinds`` (k,): only ``drawn`` answers are kept. The same answer of one rater
    about one row twice counts once.

    Raises:
        ValueError: lengths differ, a probability outside (0, 1], a row drawn with two probabilities, or two
            different answers of one rater about one row.
    """
    row = np.asarray(rows, dtype=np.intp)
    said = as_bools(harmful, "harmful")
    probability = as_floats(inclusion_probabilities, "inclusion_probabilities")
    who = np.zeros(len(row), dtype=np.intp) if raters is None else np.asarray(raters)
    kind = np.full(len(row), "drawn") if kinds is None else np.asarray(kinds)
    same_length(rows=row, harmful=said, inclusion_probabilities=probability, raters=who, kinds=kind)
    drawn = kind == "drawn"
    names, counts = np.unique(kind[~drawn], return_counts=True)
    left_out = MappingProxyType({str(name): int(count) for name, count in zip(names, counts, strict=True)})
    row, said, probability, who = row[drawn], said[drawn], probability[drawn], who[drawn]
    _check_probabilities(row, probability)
    names, rater = np.unique(who, return_inverse=True)
    rater_names = tuple(str(name) for name in names)
    row, said, probability, rater = _once(row, said, probability, rater.reshape(-1))
    labelled, first, place = np.unique(row, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    answers = said.astype(np.float64)
    per_row = np.bincount(place, minlength=len(labelled))
    share = np.bincount(place, weights=answers, minlength=len(labelled)) / np.maximum(per_row, 1)
    weights = 1 / probability[first]
    return DrawnLabels(labelled, share, weights, place, answers, rater, rater_names, left_out)


def as_verdicts(verdicts: npt.ArrayLike, name: str = "verdicts") -> npt.NDArray[np.int8]:
    """Verdicts as codes into `VERDICTS`; takes those words, or true and false for harmful and harmless.

    Raises:
        ValueError: not one-dimensional, or another word.
    """
    array = np.asarray(verdicts)
    if array.dtype.kind not in "UO":
        return as_bools(array, name).astype(np.int8)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not {array.ndim}")
    codes = np.full(len(array), -1, dtype=np.int8)
    for code, word in enumerate(VERDICTS):
        codes[array == word] = code
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(f"{name} must be {', '.join(VERDICTS)}: row {row} is {str(array[row])!r}")
    return codes


def check_rows(labels: DrawnLabels, count: int) -> None:
    """Raises ValueError when a label is about a row that does not exist."""
    if len(labels) and (labels.rows[0] < 0 or labels.rows[-1] >= count):
        wrong = labels.rows[0] if labels.rows[0] < 0 else labels.rows[-1]
        raise ValueError(f"a label is about row {int(wrong)}, but there are {count} judged rows, numbered from 0")


def _check_probabilities(row: Indices, probability: Floats) -> None:
    wrong = np.flatnonzero((probability <= 0) | (probability > 1))
    if len(wrong):
        raise ValueError(
            f"inclusion probability of row {int(row[wrong[0]])} is {probability[wrong[0]]}: it must be above 0, at most 1"
        )
    order = np.argsort(row, kind="stable")
    same = row[order][1:] == row[order][:-1]
    differs = np.abs(np.diff(probability[order])) > 1e-9
    if (same & differs).any():
        at = order[int(np.flatnonzero(same & differs)[0])]
        raise ValueError(f"row {int(row[at])} has two inclusion probabilities: a row is drawn with one")


def _once(
    row: Indices, said: npt.NDArray[np.bool_], probability: Floats, rater: Indices
) -> tuple[Indices, npt.NDArray[np.bool_], Floats, Indices]:
    """Each (row, rater) once, in a fixed order, so that the order of the file changes nothing."""
    order = np.lexsort((said, rater, row))
    row, said, probability, rater = row[order], said[order], probability[order], rater[order]
    again = np.zeros(len(row), dtype=np.bool_)
    again[1:] = (row[1:] == row[:-1]) & (rater[1:] == rater[:-1])
    contrary = np.flatnonzero(again[1:] & (said[1:] != said[:-1]))
    if len(contrary):
        raise ValueError(
            f"one rater gave two different answers about row {int(row[contrary[0]])}: "
            "mark it as repeated or contested, or keep one"
        )
    keep = ~again
    return row[keep], said[keep], probability[keep], rater[keep]
