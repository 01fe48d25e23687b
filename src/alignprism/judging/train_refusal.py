"""Train the refusal head: two logistic regressions on the features of :mod:`alignprism.judging.refusal_head`."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alignprism.judging.encoders import CachedEncoder
from alignprism.judging.logistic import Linear, balanced_weights, fit
from alignprism.judging.refusal_head import REFUSAL_HEAD, E5Sentences, Floats, RefusalHead, features
from alignprism.judging.refusal_rows import RefusalRow

PENALTY = 0.1
FOLDS = 5
FALSE_ALARMS = 0.03
"""Share of held-out ordinary answers (the rows of source ``own``) that may be called a refusal: the threshold follows."""


def row_features(rows: Sequence[RefusalRow], encoder: E5Sentences | CachedEncoder) -> Floats:
    """Features of the rows, shape (n, d)."""
    return features([row.text for row in rows], [row.language for row in rows], encoder)


def train_refusal(rows: Sequence[RefusalRow], x: Floats, encoder_identity: str) -> RefusalHead:
    """Both regressions on all rows; the thresholds from rows held out by group. `x` as from `row_features`."""
    labels = np.array([int(row.refusal != "none") for row in rows])
    held = held_out(rows, x)
    ordinary = np.array([row.source == "own" and row.refusal == "none" for row in rows])
    threshold = max(0.0, float(np.round(np.quantile(held[ordinary], 1 - FALSE_ALARMS), 2))) if ordinary.any() else 0.0
    refusing = labels == 1
    helping = np.array([int(row.refusal == "partial") for row in rows])[refusing]
    helps = fit(x[refusing], helping, balanced_weights(helping, ["all"] * len(helping)), PENALTY)
    return RefusalHead(REFUSAL_HEAD, encoder_identity, _fit(rows, x, labels), helps, threshold, 0.0)


def held_out(rows: Sequence[RefusalRow], x: Floats) -> NDArray[np.float64]:
    """Decisions of heads that saw neither the row nor any row of its group, shape (n,)."""
    labels = np.array([int(row.refusal != "none") for row in rows])
    groups = sorted({row.group for row in rows})
    random.Random(0).shuffle(groups)
    fold_of = {group: number % FOLDS for number, group in enumerate(groups)}
    folds = np.array([fold_of[row.group] for row in rows])
    decisions = np.zeros(len(rows))
    for fold in range(FOLDS):
        train = folds != fold
        kept = [row for row, inside in zip(rows, train, strict=True) if inside]
        decisions[~train] = _fit(kept, x[train], labels[train]).decision(x[~train])
    return decisions


def _fit(rows: Sequence[RefusalRow], x: Floats, labels: NDArray[np.int_]) -> Linear:
    """Both classes weigh the same inside a source and language, and all of these the same."""
    return fit(x, labels, balanced_weights(labels, [f"{row.source}/{row.language}" for row in rows]), PENALTY)
