"""The training curve and the dev evaluations: JSON lines that survive a kill and never repeat a step."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

CURVE_FILE = "curve.jsonl"
EVALUATIONS_FILE = "evaluations.jsonl"
HELD_OUT_FILE = "held_out.jsonl"

FEWEST_ROWS = 10
"""Rows of a language in the last quarter of the steps from which its displacement is told: of fewer it is noise."""


class LanguageFigures(TypedDict, total=False):
    """One language's share of a step, in the curve row's units; SFT has neither rejected side, margin nor accuracy.

    ``reference_chosen_log_prob`` and ``chosen_tokens`` are DPO's alone, and missing from curves of earlier versions.
    """

    rows: int
    tokens: int
    loss: float
    chosen_log_prob: float
    rejected_log_prob: float
    margin: float
    accuracy: float
    reference_chosen_log_prob: float
    chosen_tokens: int


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One optimiser step. Log-probabilities are nats per sequence (means); SFT has only the trained side's.

    ``epoch`` is the share of epochs done after the step; ``loss`` is nats per token for SFT and per pair for DPO;
    ``tokens`` counts completion tokens, ``chosen_tokens`` those of DPO's chosen sides among them, ``positions`` what ran through the transformer, padding included; ``languages``
    holds the step's figures by language; ``seconds`` is wall time and the only field that differs between equal runs.
    """

    step: int
    epoch: float
    loss: float
    chosen_log_prob: float
    rejected_log_prob: float | None
    reference_chosen_log_prob: float | None
    margin: float | None
    accuracy: float | None
    gradient_norm: float
    learning_rate: float
    tokens: int
    positions: int
    languages: dict[str, LanguageFigures]
    seconds: float
    chosen_tokens: int | None = None


def displacement(rows: Sequence[CurveRow]) -> float | None:
    """Chosen sides' log-probability minus the reference's, nats per chosen token, mean of the last quarter of steps.

    Below zero the answers that training prefers have become less likely than before it (likelihood displacement, Razin
    et al. 2024, arXiv 2410.08847). None for SFT.
    """
    fall, tokens = 0.0, 0
    for row in _last_quarter(rows):
        if row.reference_chosen_log_prob is not None and row.chosen_tokens is not None:
            n = sum(figures["rows"] for figures in row.languages.values())
            fall += n * (row.chosen_log_prob - row.reference_chosen_log_prob)
            tokens += row.chosen_tokens
    return fall / tokens if tokens else None


def displacement_by_language(rows: Sequence[CurveRow]) -> dict[str, float]:
    """`displacement` of every language that has at least `FEWEST_ROWS` rows in the last quarter of the steps.

    Empty for SFT, and for curves of earlier versions.
    """
    found: dict[str, list[LanguageFigures]] = defaultdict(list)
    for row in _last_quarter(rows):
        for language, figures in row.languages.items():
            if "reference_chosen_log_prob" in figures and "chosen_tokens" in figures:
                found[language].append(figures)
    falls = {}
    for language, steps in sorted(found.items()):
        tokens = sum(figures["chosen_tokens"] for figures in steps)
        if tokens and sum(figures["rows"] for figures in steps) >= FEWEST_ROWS:
            fall = sum(f["rows"] * (f["chosen_log_prob"] - f["reference_chosen_log_prob"]) for f in steps)
            falls[language] = fall / tokens
    return falls


def _last_quarter(rows: Sequence[CurveRow]) -> Sequence[CurveRow]:
    return rows[-max(1, len(rows) // 4) :]


def read_lines(path: Path) -> list[dict[str, float]]:
    """Whole lines of a JSON-lines file; a torn last line is left out."""
    if not path.exists():
        return []
    data = path.read_bytes()
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def append_line(path: Path, record: dict[str, object]) -> None:
    """Append one record and sync it to disk."""
    with path.open("ab") as handle:
        handle.write((json.dumps(record) + "\n").encode())
        handle.flush()
        os.fsync(handle.fileno())


def rewind(path: Path, last_step: int) -> None:
    """Drop the rows after a step, which a resumed run is about to write again, and any torn line."""
    if not path.exists():
        return
    kept = [row for row in read_lines(path) if row["step"] <= last_step]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    temporary.replace(path)


def read_curve(folder: Path) -> list[CurveRow]:
    """The curve of a run folder, in step order."""
    return [CurveRow(**row) for row in read_lines(folder / CURVE_FILE)]  # type: ignore[arg-type]


def append_row(folder: Path, row: CurveRow) -> None:
    """Append one step to the curve of a run folder."""
    append_line(folder / CURVE_FILE, asdict(row))
