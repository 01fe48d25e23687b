"""L2-regularised logistic regression with row weights, and Platt's calibration: scipy only, no state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Linear:
    """``(x - mean) / scale @ weights + bias``; all vectors have the width of x."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: float

    def decision(self, x: Floats) -> NDArray[np.float64]:
        """Log-odds before calibration, shape (n,)."""
        standard = (np.asarray(x, np.float64) - self.mean) / self.scale
        decisions: NDArray[np.float64] = standard @ self.weights.astype(np.float64) + self.bias
        return decisions


def balanced_weights(labels: NDArray[np.int_], strata: list[str]) -> NDArray[np.float64]:
    """Weights with mean 1 under which, inside every stratum, both classes weigh the same, and all strata do.

    A stratum with one class only keeps weight 1 for its rows.
    """
    weights = np.ones(len(labels))
    names = np.array(strata)
    for stratum in sorted(set(strata)):
        inside = names == stratum
        for label in (0, 1):
            cell = inside & (labels == label)
            if cell.any() and cell.sum() < inside.sum():
                weights[cell] = 0.5 * inside.sum() / cell.sum()
    scaled: NDArray[np.float64] = weights / weights.mean()
    return scaled


def fit(x: Floats, labels: NDArray[np.int_], weights: NDArray[np.float64], penalty: float) -> Linear:
    """Minimise mean weighted log-loss + penalty / 2 * |w|^2 / d over standardised features, by L-BFGS.

    `x` is (n, d), `labels` 0 or 1. The penalty is per feature, so that it means the same for maps of any width.
    """
    mean, scale = x.mean(0), x.std(0) + 1e-6
    standard = ((x - mean) / scale).astype(np.float64)
    signs = np.where(labels == 1, 1.0, -1.0)
    share = weights / weights.sum()
    width = standard.shape[1]

    def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = signs * (standard @ theta[:-1] + theta[-1])
        loss = share @ np.logaddexp(0.0, -margin) + 0.5 * penalty * width * theta[:-1] @ theta[:-1] / 1000.0
        pull = -share * signs * expit(-margin)
        gradient = np.append(standard.T @ pull + penalty * width * theta[:-1] / 1000.0, pull.sum())
        return float(loss), gradient

    found = minimize(objective, np.zeros(width + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return Linear(
        mean.astype(np.float32), scale.astype(np.float32), found.x[:-1].astype(np.float32), float(found.x[-1])
    )


def platt(
    decisions: NDArray[np.float64], labels: NDArray[np.int_], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Slope and intercept of P(harm) = expit(slope * decision + intercept), with Platt's smoothed targets (1999)."""
    positive, negative = int((labels == 1).sum()), int((labels == 0).sum())
    targets = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    share = weights / weights.sum()

    def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = theta[0] * decisions + theta[1]
        loss = share @ (np.logaddexp(0.0, logit) - targets * logit)
        pull = share * (expit(logit) - targets)
        return float(loss), np.array([pull @ decisions, pull.sum()])

    found = minimize(objective, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B")
    return float(found.x[0]), float(found.x[1])


def auc(scores: Floats, labels: NDArray[np.int_]) -> float:
    """Area under the ROC curve (Mann-Whitney, ties count half); both classes must occur.

    Raises
    ------
    ValueError
        only one class is there.
    """
    from scipy.stats import rankdata

    positive = int((labels == 1).sum())
    negative = len(labels) - positive
    if not positive or not negative:
        raise ValueError("AUC needs both classes")
    ranks = rankdata(scores)
    return float((ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))
