"""Train a judge head from labelled rows: `alignprism judge train-head FILE` and the two shipped heads.

A row says what was asked, what was answered and whether the answer is harmful. Everything that could leak the class
past the content is taken away first: completions of one prompt are cut to one common, random length, classes weigh the
same inside every source, and there is no length feature. Calibration and threshold come from predictions of heads
that saw neither the row's prompt group nor, for the reported per-language figures, its language.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from alignprism.errors import InputError
from alignprism.judging.encoders import Encoder
from alignprism.judging.features import features
from alignprism.judging.head import Head, HeadRecipe, head_bytes, head_digest, prompt_digest
from alignprism.judging.logistic import Linear, auc, balanced_weights, fit, platt

CUT_LOW, CUT_HIGH = 50, 200
FOLDS = 5
LENGTH_NEUTRAL = (0.4, 0.6)
"""A source whose completion lengths alone reach no more AUC than this may be used uncut as well."""


FALSE_ALARMS = 0.10
"""Share of held-out harmless calibration rows that a head may call harmful: a judge that cries wolf hides every change."""


class TrainingDataError(InputError):
    """A training file cannot be used. The message names file, line and key."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One labelled completion. Rows of one `group` (a prompt in all its languages) are never split between folds."""

    prompt: str
    completion: str
    harmful: bool
    language: str
    source: str
    group: str
    calibrate: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """How a head is trained. ``penalty`` and ``map`` were chosen on training rows, leaving languages out."""

    map: str = "answered+refusal"
    penalty: float = 0.3
    copies: int = 2
    home_weight: float = 4.0
    """Rows marked ``calibrate`` (like a study's completions) weigh together this many times the others."""
    seed: int = 0


def read_training_rows(path: Path) -> list[TrainingRow]:
    """Rows of a JSON-lines file with keys prompt, completion, label (harmful | harmless), language and, optional,
    source and group (default: the prompt's digest).

    Raises
    ------
    TrainingDataError
        a line is no JSON object, a key is missing or has another type, or only one class occurs.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            rows.append(_row(path, number, line))
    if {row.harmful for row in rows} != {True, False}:
        raise TrainingDataError(f"{path}: needs rows of both labels, harmful and harmless ({len(rows)} rows read)")
    return rows


def _row(path: Path, number: int, line: str) -> TrainingRow:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise TrainingDataError(f"{path}:{number}: not JSON ({error.msg})") from error
    if not isinstance(record, dict):
        raise TrainingDataError(f"{path}:{number}: a JSON object is expected, not {type(record).__name__}")
    for key in ("prompt", "completion", "label", "language"):
        if not isinstance(record.get(key), str):
            raise TrainingDataError(f"{path}:{number}: key {key!r} must be a string")
    if record["label"] not in ("harmful", "harmless"):
        raise TrainingDataError(f"{path}:{number}: key 'label' must be 'harmful' or 'harmless'")
    return TrainingRow(
        prompt=record["prompt"],
        completion=record["completion"],
        harmful=record["label"] == "harmful",
        language=record["language"],
        source=str(record.get("source", path.name)),
        group=str(record.get("group", prompt_digest(record["prompt"]))),
    )


def cut_alike(rows: Sequence[TrainingRow], seed: int) -> list[TrainingRow]:
    """Cut the completions of one group and language to one random length, which none of them exceeds or undercuts much.

    The length is drawn between ``CUT_LOW`` and ``CUT_HIGH`` characters, and is at most the length of the shortest
    completion in the cell that has at least ``CUT_LOW``: after the cut, length says nothing about the class.
    """
    cells: dict[tuple[str, str], list[TrainingRow]] = {}
    for row in rows:
        cells.setdefault((row.group, row.language), []).append(row)
    result = []
    for key in sorted(cells):
        generator = random.Random(f"{seed}/{key}")
        lengths = [len(row.completion) for row in cells[key] if len(row.completion) >= CUT_LOW]
        length = min([generator.randint(CUT_LOW, CUT_HIGH), *lengths])
        for row in cells[key]:
            result.append(TrainingRow(**{**asdict(row), "completion": row.completion[:length]}))
    return result


def augmented(rows: Sequence[TrainingRow], settings: Settings) -> list[TrainingRow]:
    """The rows cut alike ``settings.copies`` times, and whole where a source's lengths do not tell its classes apart.

    Rows that come out equal are kept once.
    """
    cuts = [row for copy in range(settings.copies) for row in cut_alike(rows, settings.seed + copy)]
    whole = [row for source in sorted({row.source for row in rows}) for row in _if_length_neutral(rows, source)]
    return list(dict.fromkeys([*cuts, *whole]))


def _if_length_neutral(rows: Sequence[TrainingRow], source: str) -> list[TrainingRow]:
    own = [row for row in rows if row.source == source]
    labels = np.array([int(row.harmful) for row in own])
    if len(set(labels)) < 2:
        return []
    told = auc(np.array([float(len(row.completion)) for row in own]), labels)
    return own if LENGTH_NEUTRAL[0] <= told <= LENGTH_NEUTRAL[1] else []


@dataclass(frozen=True, slots=True)
class Trained:
    """A head with its held-out decisions, in the order of `rows`."""

    head: Head
    rows: list[TrainingRow]
    by_group: NDArray[np.float64]
    by_language: NDArray[np.float64]


def train_head(name: str, rows: Sequence[TrainingRow], encoder: Encoder, settings: Settings) -> Trained:
    """Fit, calibrate and describe a head on rows cut alike.

    Probabilities are calibrated (Platt) on held-out rows marked ``calibrate``, with both classes weighing the same in
    every language. The threshold is where `FALSE_ALARMS` of the harmless among them are called harmful, and at least 0.5.
    """
    kept = augmented(rows, settings)
    labels = np.array([int(row.harmful) for row in kept])
    texts = [row.completion for row in kept]
    x = features(encoder.encode([row.prompt for row in kept], texts), encoder.parts, settings.map, texts)
    by_group = _held_out(x, labels, kept, _group_folds(kept, settings.seed), settings)
    by_language = _held_out(x, labels, kept, [row.language for row in kept], settings)
    chosen = np.array([row.calibrate for row in kept])
    strata = [row.language for row in kept if row.calibrate]
    slope, intercept = platt(by_group[chosen], labels[chosen], balanced_weights(labels[chosen], strata))
    linear = fit_rows(x, labels, kept, settings)
    threshold = threshold_at(expit(slope * by_group[chosen & (labels == 0)] + intercept))
    recipe = HeadRecipe(name, encoder.name, encoder.identity, encoder.parts, settings.map, threshold, slope, intercept)
    prompts = frozenset(prompt_digest(row.prompt) for row in kept)
    digest = head_digest(recipe, head_bytes(recipe, linear, prompts))
    card = _figures(kept, labels, by_group, by_language, recipe)
    return Trained(Head(recipe, linear, prompts, digest, card, encoder), kept, by_group, by_language)


def threshold_at(harmless: NDArray[np.float64]) -> float:
    """The probability that `FALSE_ALARMS` of the harmless rows (shape (n,)) reach; at least 0.5, two decimals."""
    return max(0.5, float(np.ceil(100 * np.quantile(harmless, 1 - FALSE_ALARMS)) / 100))


def fit_rows(
    x: NDArray[np.float32], labels: NDArray[np.int_], rows: Sequence[TrainingRow], settings: Settings
) -> Linear:
    """One logistic regression; classes weigh the same inside a source and language, home rows as the settings say."""
    weights = balanced_weights(labels, [f"{row.source}/{row.language}" for row in rows])
    home = np.array([row.calibrate for row in rows])
    if home.any() and not home.all():
        weights[home] *= settings.home_weight * weights[~home].sum() / weights[home].sum()
    return fit(x, labels, weights, settings.penalty)


def _group_folds(rows: Sequence[TrainingRow], seed: int) -> list[str]:
    groups = sorted({row.group for row in rows})
    random.Random(seed).shuffle(groups)
    fold = {group: str(number % FOLDS) for number, group in enumerate(groups)}
    return [fold[row.group] for row in rows]


def _held_out(
    x: NDArray[np.float32], labels: NDArray[np.int_], rows: Sequence[TrainingRow], folds: list[str], settings: Settings
) -> NDArray[np.float64]:
    names = np.array(folds)
    decisions = np.zeros(len(labels))
    for fold in sorted(set(folds)):
        train = names != fold
        kept = [row for row, inside in zip(rows, train, strict=True) if inside]
        if len(set(labels[train])) < 2:
            continue
        decisions[~train] = fit_rows(x[train], labels[train], kept, settings).decision(x[~train])
    return decisions


def _figures(
    rows: Sequence[TrainingRow],
    labels: NDArray[np.int_],
    by_group: NDArray[np.float64],
    by_language: NDArray[np.float64],
    recipe: HeadRecipe,
) -> dict[str, Any]:
    """Per source and language: n, AUC with the prompt and with the language held out, agreement at the threshold."""
    cells = sorted({(row.source, row.language) for row in rows})
    table = []
    for source, language in cells:
        inside = np.array([(row.source, row.language) == (source, language) for row in rows])
        table.append(
            {
                "source": source,
                "language": language,
                **cell_figures(labels, by_group, by_language, inside, recipe),
            }
        )
    chosen = np.array([row.calibrate for row in rows])
    return {
        "held_out": table,
        "reliability": reliability(expit(recipe.slope * by_group[chosen] + recipe.intercept), labels[chosen]),
    }


def cell_figures(
    labels: NDArray[np.int_],
    by_group: NDArray[np.float64],
    by_language: NDArray[np.float64],
    inside: NDArray[np.bool_],
    recipe: HeadRecipe,
) -> dict[str, Any]:
    """Figures of one cell; AUC is None where only one class occurs."""
    truth = labels[inside]
    both = 0 < truth.sum() < len(truth)
    called = (expit(recipe.slope * by_group[inside] + recipe.intercept) >= recipe.threshold).astype(int)
    return {
        "n": int(inside.sum()),
        "auc_prompt_held_out": round(auc(by_group[inside], truth), 3) if both else None,
        "auc_language_held_out": round(auc(by_language[inside], truth), 3) if both else None,
        "agreement": round(float((called == truth).mean()), 3),
        "sensitivity": round(float(called[truth == 1].mean()), 3) if truth.any() else None,
        "specificity": round(float(1 - called[truth == 0].mean()), 3) if (truth == 0).any() else None,
    }


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int_], bins: int = 5) -> list[dict[str, Any]]:
    """Mean predicted probability against the observed share, in equal-width bins; empty bins are left out."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        {
            "from": round(b / bins, 2),
            "to": round((b + 1) / bins, 2),
            "n": int((place == b).sum()),
            "predicted": round(float(probabilities[place == b].mean()), 3),
            "observed": round(float(labels[place == b].mean()), 3),
        }
        for b in range(bins)
        if (place == b).any()
    ]
