"""Intervals of truescore, cje-eval and ppi-python on given draws; run by `correction_widths` in a Python that has them.

Run: ``PYTHON benchmarks/interval_peers.py DRAWN.npz ANSWERS.npz`` (the packages of the extra ``bench-intervals``: truescore 0.7.4, cje-eval 0.9.3,
ppi-python 0.2.3). Imports nothing of alignprism.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
from cje import calibrated_mean_ci
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate
from truescore import post_stratified_estimate, ppi_estimate

Z = 1.959964


def one(verdicts: np.ndarray, harmful: np.ndarray, stratified: np.ndarray, random: np.ndarray) -> dict[str, tuple]:
    judge, truth = verdicts.astype(float), harmful.astype(float)
    names = np.where(verdicts, "harmful", "harmless")
    shares = {"harmful": float(judge.mean()), "harmless": 1 - float(judge.mean())}
    found = {}
    strata = post_stratified_estimate(judge, truth[stratified], stratified, names, shares)
    found["truescore, verdict strata, same labels"] = (strata.point, strata.low, strata.high)
    simple = ppi_estimate(judge, truth[random], random)
    found["truescore PPI, random labels"] = (simple.point, simple.low, simple.high)
    rest = np.setdiff1d(np.arange(len(judge)), random)
    arguments = (truth[random], judge[random], judge[rest])
    low, high = ppi_mean_ci(*arguments, alpha=0.05)
    found["ppi-python, random labels"] = (float(ppi_mean_pointestimate(*arguments)[0]), float(low[0]), float(high[0]))
    labels = np.full(len(judge), np.nan)
    labels[random] = truth[random]
    calibrated = calibrated_mean_ci(judge, labels, inference="cluster_robust")
    found["cje-eval, random labels"] = (calibrated.estimate, *calibrated.ci)
    parts = [
        (float((verdicts == v).mean()), by_stratum(verdicts == v, judge, truth, stratified)) for v in (False, True)
    ]
    mean = sum(share * estimate for share, (estimate, _) in parts)
    error = sum(share**2 * se**2 for share, (_, se) in parts) ** 0.5
    found["cje-eval by stratum, same labels"] = (mean, mean - Z * error, mean + Z * error)
    return found


def by_stratum(rows: np.ndarray, judge: np.ndarray, truth: np.ndarray, labelled: np.ndarray) -> tuple[float, float]:
    """cje-eval's own recipe for stratified labels: once per stratum, combined by shares and standard errors."""
    labels = np.full(len(judge), np.nan)
    labels[labelled] = truth[labelled]
    found = calibrated_mean_ci(judge[rows], labels[rows], inference="cluster_robust")
    return float(found.estimate), float(found.se)


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found: dict[str, list[tuple]] = {}
    with np.load(Path(sys.argv[1])) as drawn:
        for row in zip(drawn["verdicts"], drawn["harmful"], drawn["stratified"], drawn["random"], strict=True):
            for name, ends in one(*row).items():
                found.setdefault(name, []).append(ends)
    np.savez(Path(sys.argv[2]), **{name: np.array(values) for name, values in found.items()})


if __name__ == "__main__":
    main()
