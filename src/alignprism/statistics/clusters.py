"""Rows to clusters: totals per cluster, cluster-robust variance, and the cluster bootstrap.

The cluster of every figure is the seed prompt: translations, rephrasings and repeated completions of one seed are not
independent (Miller 2024, arXiv 2411.00640).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_CELLS_AT_ONCE = 4_000_000


def as_bools(values: npt.ArrayLike, name: str) -> Bools:
    """``values`` as a one-dimensional bool array.

    Raises:
        ValueError: not one-dimensional, or something else than true and false (0 and 1 are taken).
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not {array.ndim}")
    if array.size and array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold true and false only")
    return array.astype(np.bool_)


def as_floats(values: npt.ArrayLike, name: str) -> Floats:
    """``values`` as a one-dimensional float array.

    Raises:
        ValueError: not one-dimensional, or a value is NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not {array.ndim}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity at row {int(np.flatnonzero(~np.isfinite(array))[0])}")
    return array


def same_length(**arrays: npt.NDArray[np.generic]) -> None:
    """Raises ValueError unless all arrays have one length."""
    if len({len(array) for array in arrays.values()}) > 1:
        raise ValueError("lengths differ: " + ", ".join(f"{name} {len(array)}" for name, array in arrays.items()))


def cluster_index(clusters: npt.ArrayLike, rows: int) -> tuple[npt.NDArray[np.intp], int]:
    """For each row the number of its cluster (0 to G-1), and G.

    Raises:
        ValueError: not one label per row.
    """
    labels = np.asarray(clusters)
    if labels.shape != (rows,):
        raise ValueError(f"clusters has shape {labels.shape}, expected one label for each of {rows} rows")
    if rows == 0:
        return np.zeros(0, dtype=np.intp), 0
    distinct, index = np.unique(labels, return_inverse=True)
    return index.reshape(-1), len(distinct)


def totals(index: npt.NDArray[np.intp], count: int, *columns: npt.NDArray[np.generic]) -> Floats:
    """Sums of each column by cluster: shape (clusters, columns)."""
    return np.column_stack(
        [np.bincount(index, weights=column.astype(np.float64), minlength=count) for column in columns]
    )


def linearised_variance(influence: Floats) -> float:
    """CR1 variance G/(G-1) * sum of u_g**2, ``influence`` u_g being a cluster's linearised share in the estimate,
    summing to 0.

    The factor is that of Stata and of Inspect's ``std.py``; for a mean of equally large clusters it is the usual
    variance of the mean of cluster means. Shape of ``influence``: (G,), G at least 2.
    """
    groups = len(influence)
    return float(groups / (groups - 1) * np.square(influence).sum())


def bootstrap_totals(cluster_totals: Floats, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Column totals over G clusters drawn with replacement, in blocks of shape (block, columns), ``resamples`` rows
    in all.

    Clusters with equal totals are exchangeable, so how often each *kind* is drawn is multinomial: counts of yes and
    no have few kinds, and a million rows in 100,000 clusters cost no more than a hundred. The kinds are sorted, so
    neither the order of rows nor the names of clusters changes a figure.
    """
    kinds, counts = np.unique(cluster_totals, axis=0, return_counts=True)
    groups = len(cluster_totals)
    # The shares sum to 1 only up to rounding, and numpy gives the last kind what is left: that is what rounding took.
    shares = counts / groups
    block = max(1, _CELLS_AT_ONCE // len(kinds))
    for start in range(0, resamples, block):
        yield rng.multinomial(groups, shares, size=min(block, resamples - start)) @ kinds
