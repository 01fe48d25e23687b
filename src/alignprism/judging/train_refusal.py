"""Train the refusal head: two logistic regressions on the features of :mod:`alignprism.judging.refusal_head`."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alignprism.judging.encoders import CachedEncoder
from alignprism.judging.logistic import balanced_weights, fit
from alignprism.judging.refusal_head import REFUSAL_HEAD, E5Sentences, Floats, RefusalHead, features
from alignprism.judging.refusal_rows import RefusalRow

PENALTY = 0.1
FOLDS = 5
FALSE_ALARMS = 0.03
"""Share of held-out ordinary answers (the rows of source ``own``) that may be called a refusal: the threshold follows.
These answers were written close to refusals; of everyday answers far fewer are called one."""


def row_features(rows: Sequence[RefusalRow], encoder: E5Sentences | CachedEncoder) -> Floats:
    """Features of the rows, shape (n, d)."""
    return features([row.text for row in rows], [row.language for row in rows], encoder)


def train_refusal(rows: Sequence[RefusalRow], x: Floats, encoder_identity: str) -> RefusalHead:
    """Both regressions on all rows; the thresholds from rows held out by group. `x` as from `row_features`.

    ``declines`` learns from all rows, ``helps`` from the refusals. Each threshold is where `FALSE_ALARMS` of the held-out
    negatives are called positive: ordinary answers for the one, full refusals for the other; never below even odds.
    """
    refusing = np.array([row.refusal != "none" for row in rows])
    ordinary = np.array([row.source == "own" and row.refusal == "none" for row in rows])
    threshold = _threshold(held_out(rows, x, refusing.astype(int))[ordinary])
    refusals = [row for row in rows if row.refusal != "none"]
    partial = np.array([int(row.refusal == "partial") for row in refusals])
    helps_threshold = _threshold(held_out(refusals, x[refusing], partial)[partial == 0])
    declines = fit(x, refusing.astype(int), _weights(rows, refusing.astype(int)), PENALTY)
    helps = fit(x[refusing], partial, _weights(refusals, partial), PENALTY)
    return RefusalHead(REFUSAL_HEAD, encoder_identity, declines, helps, threshold, helps_threshold)


def held_out(rows: Sequence[RefusalRow], x: Floats, labels: NDArray[np.int_]) -> NDArray[np.float64]:
    """Decisions of regressions that saw neither the row nor any row of its group, shape (n,)."""
    groups = sorted({row.group for row in rows})
    random.Random(0).shuffle(groups)
    fold_of = {group: number % FOLDS for number, group in enumerate(groups)}
    folds = np.array([fold_of[row.group] for row in rows])
    decisions = np.zeros(len(rows))
    for fold in range(FOLDS):
        train = folds != fold
        kept = [row for row, inside in zip(rows, train, strict=True) if inside]
        weights = _weights(kept, labels[train])
        decisions[~train] = fit(x[train], labels[train], weights, PENALTY).decision(x[~train])
    return decisions


def _threshold(negatives: NDArray[np.float64]) -> float:
    return max(0.0, float(np.round(np.quantile(negatives, 1 - FALSE_ALARMS), 2))) if len(negatives) else 0.0


def _weights(rows: Sequence[RefusalRow], labels: NDArray[np.int_]) -> NDArray[np.float64]:
    """Both classes weigh the same inside a source and language, and all of these the same."""
    return balanced_weights(labels, [f"{row.source}/{row.language}" for row in rows])
