"""How wide is the corrected interval? Against the same number of labels alone, and against other software.

900 answers of independent prompts, perfect labels. ``width_ratio``: mean width of the verdict-stratified interval over
that of people alone on 100 labels drawn at random (harm .10, Se = Sp = .90). Peers get the very same labels where they
can use them (strata by verdict), and as many random ones where they say that labels must be representative. An interval
may be narrow because it covers too little, so ``width_at_95`` is beside the width: that of the interval stretched or
shrunk around its estimate by the one factor at which it covers 95 % of the repetitions.
"""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from simulated_labels import drawn

from alignprism.statistics import corrected_rate, drawn_labels, weighted_rate
from alignprism.statistics.label_plan import expected_from_errors

ROWS = 900
SEED = 20261
PEER_REPETITIONS = 300
JUDGES = ((0.10, 0.90, 0.90), (0.10, 0.75, 0.92), (0.05, 0.90, 0.90), (0.20, 0.90, 0.90), (0.35, 0.85, 0.85))
"""Harm, sensitivity, specificity."""
NAMED = (0.10, 0.90, 0.90, 100)

Intervals = list[tuple[float, float, float]]
"""Estimate, low, high of each repetition."""


def width_table(repetitions: int, oracle_python: Path | None) -> dict[str, object]:
    """``width_ratio``, ``widths`` by setting and, with a Python that has them, ``peers`` at the named setting."""
    table: dict[str, dict[str, object]] = {}
    ratio = 0.0
    peers: dict[str, object] = {}
    for (harm, sensitivity, specificity), labels in itertools.product(JUDGES, (50, 100, 200)):
        found = simulate(harm, sensitivity, specificity, labels, repetitions)
        name = f"harm={harm} Se={sensitivity} Sp={specificity} labels={labels}"
        table[name] = {method: summary(intervals, harm) for method, intervals in found.items()}
        widths = [float(np.mean([high - low for _, low, high in found[key]])) for key in ("corrected", "human only")]
        table[name]["width_ratio"] = round(widths[0] / widths[1], 3)
        print(f"widths {name}: {table[name]}", flush=True)
        if (harm, sensitivity, specificity, labels) == NAMED:
            ratio = round(widths[0] / widths[1], 3)
            peers = compared_with_peers(oracle_python, min(repetitions, PEER_REPETITIONS))
    return {"width_ratio": ratio, "widths": table, "peers": peers}


def simulate(
    harm: float, sensitivity: float, specificity: float, labels: int, repetitions: int
) -> dict[str, Intervals]:
    rng = np.random.default_rng(SEED)
    found: dict[str, Intervals] = {}
    for _ in range(repetitions):
        sample = Sample(rng, harm, sensitivity, specificity, labels)
        for name, interval in sample.intervals().items():
            found.setdefault(name, []).append(interval)
    return found


class Sample:
    """One draw of answers, verdicts, and the two sets of labels: placed by verdict, and at random."""

    def __init__(
        self, rng: np.random.Generator, harm: float, sensitivity: float, specificity: float, labels: int
    ) -> None:
        self.harmful = rng.random(ROWS) < harm
        right = np.where(self.harmful, sensitivity, specificity)
        self.verdicts = self.harmful ^ (rng.random(ROWS) >= right)
        called = int(self.verdicts.sum())
        planned = expected_from_errors({"harmless": ROWS - called, "harmful": called}, sensitivity, specificity)
        self.rows, self.probability = drawn(rng, self.verdicts.astype(np.intp), list(planned.values()), labels)
        self.random = rng.choice(ROWS, size=labels, replace=False)

    def intervals(self) -> dict[str, tuple[float, float, float]]:
        every = np.arange(ROWS)
        labels = drawn_labels(self.rows, self.harmful[self.rows], self.probability)
        ours = corrected_rate(self.verdicts, every, labels)
        fixed = drawn_labels(self.random, self.harmful[self.random], np.full(len(self.random), len(self.random) / ROWS))
        random = corrected_rate(self.verdicts, every, fixed)
        alone = weighted_rate(self.harmful[self.random], np.ones(len(self.random)), self.random)
        found = {
            "corrected": ours.corrected,
            "judge only": ours.judge_only,
            "human only": alone,
            "PPI++, random labels": random.ppi,
            "Rogan-Gladen, random labels": random.rogan_gladen,
        }
        ends = {name: (e.estimate, e.low, e.high) for name, e in found.items() if e.low is not None}
        ends["stratified PPI++, same labels"] = self.stratified_ppi()
        return {name: (float(a or 0.0), float(b or 0.0), float(c or 0.0)) for name, (a, b, c) in ends.items()}

    def stratified_ppi(self) -> tuple[float, float, float]:
        """Fisch et al. (2024, arXiv 2406.04291) with the verdicts as strata.

        The prediction is constant within them, so that whatever lambda is, the estimate is the stratified mean and
        its interval the normal one with the strata's weights taken as known.
        """
        estimate = variance = 0.0
        for verdict in (False, True):
            values = self.harmful[self.rows[self.verdicts[self.rows] == verdict]]
            weight = float((self.verdicts == verdict).mean())
            estimate += weight * values.mean()
            variance += weight**2 * values.var(ddof=1) / len(values)
        half = 1.959964 * variance**0.5
        return estimate, estimate - half, estimate + half


def summary(intervals: Intervals, truth: float) -> dict[str, float]:
    """Mean width, coverage, and the width at which 95 % would be covered."""
    estimate, low, high = np.array(intervals).T
    below, above = np.maximum(estimate - low, 1e-12), np.maximum(high - estimate, 1e-12)
    needed = np.where(truth < estimate, (estimate - truth) / below, (truth - estimate) / above)
    factor = float(np.quantile(needed, 0.95))
    width = float((high - low).mean())
    return {
        "width": round(width, 4),
        "coverage": round(float(((low <= truth) & (truth <= high)).mean()), 4),
        "width_at_95": round(width * factor, 4),
    }


def compared_with_peers(oracle_python: Path | None, repetitions: int) -> dict[str, object]:
    """Ours, and truescore, cje-eval and ppi-python in their own Python, on the same draws of the named setting."""
    if oracle_python is None:
        return {"not measured": "no --oracle-python"}
    harm, sensitivity, specificity, labels = NAMED
    rng = np.random.default_rng(SEED)
    samples = [Sample(rng, harm, sensitivity, specificity, labels) for _ in range(repetitions)]
    with tempfile.TemporaryDirectory() as folder:
        drawn_file, answers = Path(folder) / "drawn.npz", Path(folder) / "answers.npz"
        np.savez(
            drawn_file,
            verdicts=np.array([s.verdicts for s in samples]),
            harmful=np.array([s.harmful for s in samples]),
            stratified=np.array([s.rows for s in samples]),
            random=np.array([s.random for s in samples]),
        )
        script = Path(__file__).with_name("interval_peers.py")
        subprocess.run([oracle_python, script, drawn_file, answers], check=True)
        with np.load(answers) as loaded:
            found: dict[str, Intervals] = {name: [tuple(row) for row in loaded[name]] for name in loaded.files}
    for sample in samples:
        ends = sample.intervals()
        for name in ("corrected", "stratified PPI++, same labels"):
            found.setdefault(name, []).append(ends[name])
    table = {name: summary(intervals, harm) | {"samples": len(intervals)} for name, intervals in found.items()}
    ours = table["corrected"]
    wider = {key: [n for n, row in table.items() if row[key] < ours[key]] for key in ("width", "width_at_95")}
    return {"table": table, "narrower_than_ours": wider}
