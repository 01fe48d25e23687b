"""Two gloo processes train what one does: DDP by accelerate, FSDP2 by torch, reference store and resume included."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from alignprism.training.checks import check_strategy
from alignprism.training.config import TrainingError
from alignprism.training.curve import HELD_OUT_FILE, CurveRow, read_curve, read_lines

SCRIPT = Path(__file__).with_name("run_distributed.py")
SECONDS = 120


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(out: Path, strategy: str, world: int, method: str, rank: int, kill_at: int = -1) -> list[int]:
    out.mkdir(exist_ok=True)
    port = _free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), *map(str, (out, strategy, number, world, port, kill_at, method, rank))],
            cwd=SCRIPT.parent,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(world)
    ]
    codes = []
    for process in processes:
        _, said = process.communicate(timeout=SECONDS)
        codes.append(process.returncode)
        assert process.returncode in (0, -9) or kill_at > 0, said[-3000:]
    return codes


def _curve(out: Path) -> list[CurveRow]:
    return read_curve(out / "run")


def _assert_equal_curves(found: list[CurveRow], expected: list[CurveRow]) -> None:
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=1e-5)
        assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-4)
        assert a.tokens == b.tokens and a.positions <= b.positions, (
            "cut for two processes, a batch needs no more padding"
        )
        assert a.chosen_log_prob == pytest.approx(b.chosen_log_prob, abs=1e-3)


@pytest.mark.parametrize(
    ("strategy", "method", "rank"), [("ddp", "dpo-ift", 4), ("fsdp2", "dpo-ift", 0), ("fsdp2", "sft-preferred", 4)]
)
def test_two_processes_train_what_one_does(tmp_path: Path, strategy: str, method: str, rank: int) -> None:
    assert _run(tmp_path / "one", "ddp", 1, method, rank) == [0]
    assert _run(tmp_path / "two", strategy, 2, method, rank) == [0, 0]
    _assert_equal_curves(_curve(tmp_path / "two"), _curve(tmp_path / "one"))
    held = [read_lines(tmp_path / name / "run" / HELD_OUT_FILE) for name in ("one", "two")]
    assert [row["loss"] for row in held[0]] == pytest.approx([row["loss"] for row in held[1]], abs=1e-5)
    for number in range(2):
        seen = json.loads((tmp_path / "two" / f"seen-{number}.json").read_text())
        assert seen["world"] == 2
        if strategy == "fsdp2":
            assert seen["sharded"] > 0 and seen["local"] < 0.6 * seen["whole"]
    file = "adapter/adapter_model.safetensors" if rank else "model/model.safetensors"
    one, two = (load_file(tmp_path / name / "run" / file) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(two[name].shape == one[name].shape for name in one)
    # Adam turns rounding into steps where a gradient is nearly zero, so single weights may differ and their mean may not.
    assert all((two[name] - one[name]).abs().mean() < 1e-4 for name in one)
    if method.startswith("dpo"):
        lines = (tmp_path / "two" / "ref.jsonl").read_text().splitlines()
        assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 28, "a sequence was scored twice"


@pytest.mark.parametrize(("strategy", "rank"), [("ddp", 4), ("fsdp2", 0)])
def test_two_killed_processes_go_on_to_the_same_curve(tmp_path: Path, strategy: str, rank: int) -> None:
    _run(tmp_path / "whole", strategy, 2, "dpo-ift", rank)
    codes = _run(tmp_path / "killed", strategy, 2, "dpo-ift", rank, kill_at=3)
    assert -9 in codes
    _run(tmp_path / "killed", strategy, 2, "dpo-ift", rank)
    whole, resumed = _curve(tmp_path / "whole"), _curve(tmp_path / "killed")
    assert [row.loss for row in resumed] == [row.loss for row in whole]


def test_a_strategy_that_is_not_in_force_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    accelerator = Accelerator()
    check_strategy(accelerator)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match="ACCELERATE_USE_FSDP asks for FSDP"):
        check_strategy(accelerator)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(TrainingError, match="DeepSpeed is not supported"):
        check_strategy(accelerator)
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    older = SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=1))
    with pytest.raises(TrainingError, match="FSDP version 1 is in force"):
        check_strategy(SimpleNamespace(distributed_type=DistributedType.FSDP, state=older, num_processes=1))  # type: ignore[arg-type]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="2 processes were launched"):
        check_strategy(accelerator)
