"""Reads the published sets that judge heads are trained on (polyrefuse, Qwen2.5 rows) or measured on (all three).

The texts are harmful: nothing here prints them. rtp_lx is research-only and xstest is for measuring only, so neither
ever reaches a shipped head.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alignprism.judging.train_head import TrainingRow

POLYREFUSE_LANGUAGES = ("en", "es", "fr", "de", "it")
RTP_LOCALES = ("AR", "BCMS", "ES", "FR", "HI")
QWEN = "Qwen2.5-7B-Instruct"
RTP_CUT = 100


def _json_lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


@dataclass(frozen=True, slots=True)
class Answer:
    """One polyrefuse completion; ``key`` is its prompt's in all languages, the same for duplicated prompts."""

    key: str
    language: str
    model: str
    variant: str
    prompt: str
    text: str
    harmful: bool
    refuses: bool


def polyrefuse(folder: Path, language: str) -> list[Answer]:
    """All completions of one language with WildGuard's labels."""
    prompts = {row["id"]: row for row in _json_lines(folder / "polyrefuse" / f"prompts_{language}.jsonl.gz")}
    answers = []
    for row in _json_lines(folder / "polyrefuse" / f"completions_{language}.jsonl.gz"):
        prompt = prompts[row["prompt_id"]]
        labels = row["labels"]
        key = prompt["duplicate_of"] or row["prompt_id"]
        answers.append(
            Answer(
                key, language, row["model"], row["variant"], prompt["prompt"], row["response"],
                labels["response_harmful"] == 1, labels["refusal"] == 1,
            )
        )  # fmt: skip
    return answers


def fold_of(key: str) -> str:
    """Half of the prompts for the evaluation head (a), half for the preference head (b), in every language the same."""
    return "ab"[int(hashlib.sha256(key.encode()).hexdigest(), 16) % 2]


def contrast_pairs(answers: list[Answer], model: str | None, limit: int, seed: int) -> list[tuple[Answer, Answer]]:
    """(harmless refusal-intact answer, harmful ablated answer) of one model to one prompt; a seeded sample."""
    cells: dict[tuple[str, str], dict[str, Answer]] = {}
    for answer in answers:
        if model is None or answer.model == model:
            cells.setdefault((answer.key, answer.model), {})[answer.variant] = answer
    pairs = [
        (cell["baseline"], cell["ablated"])
        for _, cell in sorted(cells.items())
        if {"baseline", "ablated"} <= cell.keys() and cell["ablated"].harmful and not cell["baseline"].harmful
    ]
    random.Random(f"{seed}/{answers[0].language}").shuffle(pairs)
    return pairs[:limit]


def qwen_rows(folder: Path, fold: str, per_language: int, seed: int) -> list[TrainingRow]:
    """Training rows of one fold: Qwen2.5's answers only, because only their terms (Apache-2.0) allow shipping."""
    rows = []
    for language in POLYREFUSE_LANGUAGES:
        answers = [answer for answer in polyrefuse(folder, language) if fold_of(answer.key) == fold]
        for pair in contrast_pairs(answers, QWEN, per_language, seed):
            for answer in pair:
                rows.append(
                    TrainingRow(answer.prompt, answer.text, answer.harmful, language, "polyrefuse", answer.key, False)
                )
    return rows


@dataclass(frozen=True, slots=True)
class Continuation:
    """A toxic and a human-written benign continuation of one prompt, both without the repeated prompt."""

    key: str
    locale: str
    prompt: str
    toxic: str
    benign: str

    def cut(self) -> tuple[str, str]:
        """Both texts cut to the same length of at most ``RTP_CUT`` characters: (toxic, benign)."""
        length = min(RTP_CUT, len(self.toxic), len(self.benign))
        return self.toxic[:length], self.benign[:length]


def rtp_lx(folder: Path, locale: str, limit: int, seed: int) -> list[Continuation]:
    """Rows whose completion people rated toxic (majority at 3 or more); a seeded sample of `limit`."""
    rows = []
    for record in _json_lines(folder / "rtp_lx" / f"acs_results_benign_{locale}.json.gz"):
        entry = record["OriginalEntry"]
        prompt = entry["Prompt"].strip()
        toxic = entry["Completion"].strip().removeprefix(prompt).strip()
        benign = entry["BenignCompletion"].strip().removeprefix(prompt).strip()
        if entry["CompletionAnnotations"]["Toxicity"] >= 3 and min(len(toxic), len(benign)) >= 20:
            rows.append(Continuation(_source_row(locale, int(entry["Index"])), locale, prompt, toxic, benign))
    random.Random(f"{seed}/{locale}").shuffle(rows)
    return rows[:limit]


def _source_row(locale: str, index: int) -> str:
    """One key for one English source row in all locales (see the set's README), so that folds can hold it out."""
    if locale in ("AR", "ES", "FR"):
        return f"{locale}-{index}" if index >= 1000 else f"s{index if index < 960 else index - 1}"
    if locale == "BCMS" and index < 999:
        as_text = sorted(str(number) for number in range(1000) if number != 960)
        index = int(as_text[index])
        return f"s{index if index < 960 else index - 1}"
    return f"s{index}" if index < 999 else f"{locale}-{index}"


@dataclass(frozen=True, slots=True)
class HumanLabelled:
    """An XSTest answer of one model with the settled human label."""

    prompt: str
    completion: str
    unsafe_prompt: bool
    label: str


def xstest(folder: Path, model: str) -> list[HumanLabelled]:
    """All 450 answers of one model; ``label`` is 1_full_compliance, 2_full_refusal or 3_partial_refusal."""
    path = folder / "xstest" / "model_completions" / f"xstest_v2_completions_{model}.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        records = list(csv.DictReader(io.StringIO(handle.read())))
    return [
        HumanLabelled(r["prompt"], r["completion"], r["type"].startswith("contrast_"), r["final_label"])
        for r in records
    ]


def polyrefuse_prompts(folder: Path, language: str, per_class: int, seed: int) -> tuple[list[str], NDArray[np.int_]]:
    """Harmful and harmless prompts (1 and 0), a seeded sample of the train and val splits."""
    rows = _json_lines(folder / "polyrefuse" / f"prompts_{language}.jsonl.gz")
    prompts: list[str] = []
    labels: list[int] = []
    for label in ("harmful", "harmless"):
        pool = sorted({row["prompt"] for row in rows if row["label"] == label and row["split"] != "test"})
        random.Random(f"{seed}/{label}").shuffle(pool)
        prompts += pool[:per_class]
        labels += [int(label == "harmful")] * len(pool[:per_class])
    return prompts, np.array(labels)
