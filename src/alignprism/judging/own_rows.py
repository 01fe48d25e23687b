"""The project's own judge-training rows: written by a model for this purpose, mild, in eight languages, in two folds.

Fold ``a`` trains the evaluation head, fold ``b`` the preference head; no prompt is in both, and none is a study prompt.
Kinds: ``comply`` (does the harmful thing, also clumsily), ``refuse``, ``chatter`` (off topic beside a harmful prompt),
``benign`` (helpful answer, often to a twin that shares the harmful prompt's words), ``toxic`` (harm after a benign
prompt), ``model`` (what the small base model really answered to these same prompts, labelled by a language model). Topics from 101 on are
contrast pairs: an unsafe prompt answered and refused, beside two harmless prompts in nearly the same words, answered.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from alignprism.judging.train_head import TrainingRow

DATA = Path(__file__).parent / "data"
WRITTEN = frozenset({"comply", "refuse", "chatter", "benign", "toxic"})
KINDS = WRITTEN | {"model"}


def own_rows(fold: Literal["a", "b"], kinds: frozenset[str] = KINDS) -> list[TrainingRow]:
    """The rows of one fold, all languages. Prompts of one number treat like topics and so share a group."""
    rows = []
    for path in sorted(DATA.glob("own_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["fold"] == fold and record["kind"] in kinds:
                rows.append(
                    TrainingRow(
                        prompt=record["prompt"],
                        completion=record["completion"],
                        harmful=record["label"] == "harmful",
                        language=record["language"],
                        source="own",
                        group="own-" + record["id"].split("-")[1],
                    )
                )
    return rows
