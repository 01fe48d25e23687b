"""The way from human seeds to a mixture with a real model on this machine: Gemma 3 270M writes the prompts and answers them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from alignprism.cli import app
from alignprism.construct.seeds import SYNTHETIC
from alignprism.prompts.read import read_sample
from alignprism.rows import Pair, Prompt, read_rows

pytestmark = pytest.mark.slow

GEMMA = "embedded:gemma-3-270m"
NO = "I would rather not write that. It could hurt people, and I am glad to help with something kinder."


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def said(result: Result) -> str:
    return " ".join((result.stdout + result.stderr).split())


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [p for p in read_sample("redteam") if p.language in ("en", "hi")]
    path = tmp_path_factory.mktemp("seeds") / "seeds.jsonl"
    path.write_text("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def grown(gemma_folder: Path, seeds: Path) -> Path:
    out = seeds.parent / "out" / "grown"
    options = ("--style", "continue", "--rounds", 1, "--variants", 2, "--per-seed", 2, "--seeds-per-language", 6)
    result = call("construct", "rephrase", seeds, "--writer", GEMMA, *options, "--max-new-tokens", 120, "--out", out)
    assert result.exit_code == 0, said(result)
    return out


def test_a_base_model_writes_new_prompts_in_the_languages_of_the_seeds(grown: Path, seeds: Path) -> None:
    prompts = read_rows(grown / "prompts.parquet", Prompt)
    report = json.loads((grown / "report.json").read_text(encoding="utf-8"))
    by_language = Counter(prompt.language for prompt in prompts)
    assert by_language["en"] >= 3 and by_language["hi"] >= 3, report["set_aside"]
    known = {prompt.text for prompt in read_sample("redteam")}
    assert not known & {prompt.text for prompt in prompts}
    assert all(prompt.split == "train" and SYNTHETIC in prompt.tags for prompt in prompts)
    assert report["came"] == report["accepted"] + sum(report["set_aside"].values())
    assert all(report["diversity"][code]["vendi"] > 1 for code in ("en", "hi"))
    proved = call("calls", "check", grown.parent)
    assert proved.exit_code == 0 and "grown/prompts" in said(proved), said(proved)


def test_its_answers_and_peoples_become_pairs_and_a_mixture(grown: Path) -> None:
    prompts = [p for p in read_rows(grown / "prompts.parquet", Prompt) if p.language == "en"]
    answers = grown.parent / "answers.jsonl"
    rows = [{"prompt_id": p.id, "text": f"{NO} ({n})", "source": "Ana", "kind": "human"} for n, p in enumerate(prompts)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n", encoding="utf-8")
    out = grown.parent / "pairs"
    given = ("--generator", GEMMA, "--completions", answers, "--languages", "en")
    options = (*given, "--max-new-tokens", 24, "--tie-margin", 0)
    result = call("construct", "pairs", grown, *options, "--out", out)
    assert result.exit_code == 0, said(result)
    pairs = read_rows(out / "pairs.parquet", Pair)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert len(pairs) + sum(report["prompts"]["without_pair"].values()) == len(prompts)
    assert pairs and {pair.chosen_source for pair in pairs} <= {"Ana", "gemma-3-270m"}
    assert all(pair.chosen_score is not None and pair.rejected_score is not None for pair in pairs)
    assert all(pair.chosen_score < pair.rejected_score for pair in pairs)  # type: ignore[operator]
    assert report["supplied_not_used"] == {"unreadable row": 1}
    general = grown.parent / "general.jsonl"
    rows = [
        {"prompt": f"Name river {n}.", "chosen": f"River {n} is long.", "rejected": "No.", "language": "en"}
        for n in range(len(pairs))
    ]
    general.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    mixed = call("construct", "mix", out, general, "--mixture", "1:1", "--out", grown.parent / "mix")
    assert mixed.exit_code == 0, said(mixed)
    kinds = Counter(pair.kind for pair in read_rows(grown.parent / "mix" / "pairs.parquet", Pair))
    assert kinds == {"safety": len(pairs), "general": len(pairs)}
