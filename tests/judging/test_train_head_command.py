"""`alignprism judge train-head`: from a file of labels to a head that a study can name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignprism.judging.head import Head
from alignprism.judging.own_rows import DATA
from alignprism.study import parse

COMMAND = str(Path(sys.executable).with_name("alignprism"))


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=300, env=dict(os.environ))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [json.loads(line) for line in (DATA / "own_en.jsonl").read_text(encoding="utf-8").splitlines()[:80]]
    keys = ("prompt", "completion", "language", "label")
    file = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    file.write_text("".join(json.dumps({k: row[k] for k in keys}) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def trained(labels: Path) -> Path:
    """A head of those labels."""
    out = labels.parent / "my-head"
    done = _call("judge", "train-head", str(labels), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def test_a_head_trained_on_own_labels_loads_has_a_card_and_can_be_a_judge(trained: Path) -> None:
    head = Head.load(trained)
    assert 0 < head.threshold < 1
    assert "80 rows" in head.card_text
    study = parse(f"judges:\n  evaluation: {trained}\n")
    assert study.judges.evaluation == str(trained)


def test_a_wrong_label_names_file_and_line_and_exits_2(labels: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    lines = labels.read_text(encoding="utf-8").splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), "label": "bad"})
    bad.write_text("\n".join(lines), encoding="utf-8")
    done = _call("judge", "train-head", str(bad), "--out", str(tmp_path / "x"))
    assert done.returncode == 2
    assert f"{bad}:3" in done.stderr.replace("\n", "")
    assert not (tmp_path / "x").exists()


def test_a_judge_that_saw_a_prompt_of_the_study_is_refused(labels: Path, trained: Path, tmp_path: Path) -> None:
    prompt = json.loads(labels.read_text(encoding="utf-8").splitlines()[0])["prompt"]
    rows = [{"id": "seen-1", "text": prompt, "language": "en", "split": "test"}]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    study = tmp_path / "study.yaml"
    study.write_text(
        "languages: {train: [], test: [en]}\nmethods: []\n"
        "data: {redteam: prompts.jsonl, translated: null, benign: null, general: null}\n"
        "models: {a: {source: 'embedded:gemma-3-270m'}, b: {source: 'embedded:gemma-3-270m'}}\nbaseline: a\n"
        f"judges: {{evaluation: {trained}}}\n",
        encoding="utf-8",
    )
    done = _call("run", str(study), "--run", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "was trained on 1 prompts" in done.stderr.replace("\n", " ")
    assert prompt not in done.stderr
    assert not (tmp_path / "run").exists()
