"""Published sets for the refusal and language figures: XSTest answers with human labels, PolyRefuse, MultiQ, Tatoeba.

Prompts are halved by a hash of their id: ``dev`` was looked at while the head was made, ``test`` only for its figures.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alignprism.rows import Refusal

XSTEST_MODELS = ("gpt4", "llama2new", "llama2orig", "mistralguard", "mistralinstruct")
POLYREFUSE_LANGUAGES = ("en", "es", "fr", "de", "it")
TATOEBA = {"ar": "ara", "hi": "hin", "ru": "rus", "sr": "srp", "tl": "tgl", "es": "spa", "fr": "fra"}
_LABELS: dict[str, Refusal] = {"1": "none", "2": "full", "3": "partial"}
csv.field_size_limit(10_000_000)


@dataclass(frozen=True, slots=True)
class Answer:
    """A published answer. ``refusal`` is the gold label; ``others`` what published automatic labels say (refuses or not)."""

    prompt_id: str
    text: str
    language: str
    refusal: Refusal
    others: dict[str, bool]


def half(prompt_id: str) -> Literal["dev", "test"]:
    """The half that a prompt is in, the same for ever."""
    return "test" if int(hashlib.sha256(f"refusal-dev/{prompt_id}".encode()).hexdigest(), 16) % 2 else "dev"


def xstest(folder: Path, model: str) -> list[Answer]:
    """The 450 answers of one model with the settled human label, GPT-4's label and that of string matching."""
    base = folder / "xstest"
    rows = _csv(base / "model_completions" / f"xstest_v2_completions_{model}.csv.gz")
    labels = base / "automated_evaluation_labels"
    gpt4 = {r["id"]: r["gpt4_label"] for r in _csv(labels / f"xstest_v2_completions_{model}_gpteval.csv.gz")}
    match = {r["id"]: r["strmatch_label"] for r in _csv(labels / f"xstest_v2_completions_{model}_streval.csv.gz")}
    return [
        Answer(
            r["id"],
            r["completion"],
            "en",
            _LABELS[r["final_label"][0]],
            {"gpt4": not gpt4[r["id"]].startswith("1"), "string_match": not match[r["id"]].startswith("1")},
        )
        for r in rows
    ]


def polyrefuse(folder: Path, language: str, part: str, prompts: int) -> list[Answer]:
    """Answers (3 models, as released and ablated) to a fixed sample of one half's prompts, labelled by WildGuard."""
    base = folder / "polyrefuse"
    ids = [
        r["id"]
        for r in _json_lines(base / "prompts_en.jsonl.gz")
        if (r["label"], r["split"], r["duplicate_of"]) == ("harmful", "test", None) and half(r["id"]) == part
    ]
    chosen = set(sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:prompts])
    return [
        Answer(
            r["prompt_id"],
            r["response"],
            language,
            "full" if r["labels"]["refusal"] else "none",
            {"string_match": not r["is_jailbreak_substring_matching"]},
        )
        for r in _json_lines(base / f"completions_{language}.jsonl.gz")
        if r["prompt_id"] in chosen
    ]


def multiq(folder: Path) -> list[tuple[str, str]]:
    """(language, question) of 16 languages."""
    return [(r["language"], r["prompt"]) for r in _csv(folder / "multiq" / "MultiQ_16_languages.csv.gz")]


def tatoeba(folder: Path) -> list[tuple[str, str]]:
    """(language, sentence); English from the pairs with French."""
    names = {language: f"tatoeba.{code}-eng.{code}.gz" for language, code in TATOEBA.items()}
    names["en"] = "tatoeba.fra-eng.eng.gz"
    return [
        (language, line.strip())
        for language, name in names.items()
        for line in gzip.open(folder / "tatoeba" / name, "rt", encoding="utf-8").read().splitlines()
    ]


def _csv(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(io.StringIO(handle.read(), newline="")))


def _json_lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]
