"""A run that was killed ends with the same bits as one that was not."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import run_tiny
from safetensors.torch import load_file

from alignprism.training.curve import read_curve, read_lines

SCRIPT = Path(run_tiny.__file__)
SOURCE = Path(__file__).parents[2] / "src"


def _run(out: Path, method: str, rank: int, kill_at: int | None = None) -> int:
    out.mkdir(exist_ok=True)
    command = [sys.executable, str(SCRIPT), str(out), method, str(rank), *([str(kill_at)] if kill_at else [])]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, env=environment, check=False, capture_output=True, timeout=120).returncode


@pytest.mark.parametrize(("method", "rank", "kills"), [("dpo-ift", 4, (5,)), ("sft-random", 0, (7,))])
def test_sigkill_and_resume_gives_the_same_bits(tmp_path: Path, method: str, rank: int, kills: tuple[int, ...]) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    run_tiny.main(whole, method, rank, kill_at=-1)
    for kill_at in kills:
        assert _run(killed, method, rank, kill_at) == -signal.SIGKILL
        assert not (killed / "run" / "training.json").exists()
    assert _run(killed, method, rank) == 0

    name = "adapter/adapter_model.safetensors" if rank else "model/model.safetensors"
    found, expected = load_file(killed / "run" / name), load_file(whole / "run" / name)
    assert found.keys() == expected.keys() and all(found[key].equal(expected[key]) for key in expected)
    found_rows, expected_rows = (
        [dataclasses.replace(row, seconds=0.0) for row in read_curve(folder / "run")] for folder in (killed, whole)
    )
    assert found_rows == expected_rows and [row.step for row in found_rows] == list(range(1, 10))
    evaluations = read_lines(whole / "run" / "evaluations.jsonl")
    assert [row["step"] for row in evaluations] == [0, 4, 6, 9]
    assert read_lines(killed / "run" / "evaluations.jsonl") == evaluations
    assert (killed / "asked.txt").read_text().split() == ["0", "4", "6", "9"], "an evaluation was repeated"
    assert not (killed / "run" / "checkpoint.pt").exists()
