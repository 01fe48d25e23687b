"""Sides of the training benchmark in processes of their own, which can take turns.

The machine's own speed changes within minutes: two sides that run one after the other are measured at two speeds of the
machine, two that take turns of a few steps at nearly the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from trl_side import Side

Figures = dict[str, Any]


def run(name: str, side: Side) -> Figures:
    """One side in a process of its own."""
    return in_turns({name: side})[name]


def in_turns(sides: Mapping[str, Side]) -> dict[str, Figures]:
    """Sides in processes of their own, of which only one works at a time: each goes on when the one before said ``turn``."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    command = [sys.executable, str(Path(__file__).with_name("trl_side.py"))]
    result: dict[str, Figures] = {}
    with contextlib.ExitStack() as stack:
        running: dict[str, tuple[subprocess.Popen[str], IO[str]]] = {}
        waiting = dict(sides)
        while waiting or running:
            for name in sides:
                if name in waiting:
                    errors = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
                    process = stack.enter_context(
                        subprocess.Popen(
                            command,
                            stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE,
                            stderr=errors,
                            text=True,
                            env=environment,
                        )
                    )
                    stack.callback(process.kill)
                    running[name] = process, errors
                    _tell(process, json.dumps(vars(waiting.pop(name))))
                elif name in running:
                    _tell(running[name][0], "go on")
                if name in running:
                    last = _work(name, *running[name])
                    if last is not None:
                        result[name] = last
                        del running[name]
    return result


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _work(name: str, process: subprocess.Popen[str], errors: IO[str]) -> Figures | None:
    """Wait until the side gives its turn away (None) or ends with its figures."""
    assert process.stdout is not None
    line = ""
    for line in process.stdout:
        if line == "turn\n":
            return None
    if process.wait() != 0:
        errors.seek(0)
        raise SystemExit(f"{name} ended with status {process.returncode}:\n{errors.read()[-3000:]}")
    figures: Figures = json.loads(line)
    told = {key: figures[key] for key in ("tokens_per_cpu_second", "cpu_seconds", "peak_mb") if key in figures}
    print(name, {key: round(value, 2) for key, value in told.items()} or figures, flush=True)
    return figures


def interleaved(case: str, sides: Mapping[str, Side], repeat: int, *, together: bool = False) -> dict[str, Figures]:
    """Every side `repeat` times, one after the other or `together` in turns of some steps; medians of the numbers,
    everything else from the first time.
    """
    runs: dict[str, list[Figures]] = {name: [] for name in sides}
    for _ in range(repeat):
        named = {f"{case} {name}": side for name, side in sides.items()}
        found = in_turns(named) if together else {name: run(name, side) for name, side in named.items()}
        for name, figures in zip(sides, (found[name] for name in named), strict=True):
            runs[name].append(figures)
    return {name: _medians(found) for name, found in runs.items()}


def _medians(runs: Sequence[Figures]) -> Figures:
    first = runs[0]
    numbers = [key for key, value in first.items() if isinstance(value, float)]
    return first | {key: statistics.median(found[key] for found in runs) for key in numbers}
