"""Calls of an endpoint: rate, durability and memory, against Inspect AI in the same run.

    python benchmarks/calls.py [--parts throughput inspect kill memory generate] [--inspect-python PATH]

The endpoint is a process of its own on the loopback interface that answers after 50 ms (`tests/models/loopback.py`) and notes
each request in a log before the answer leaves. Ours asks 20,000 short prompts over 64 connections, and an answer counts when
it is in the store (synchronous, group commit). Inspect AI asks 2,000 of the same prompts over 64 connections of the same
endpoint, without display; it needs an environment of its own:

    python -m venv inspect && inspect/bin/pip install inspect-ai==0.3.285 openai      (the extra `bench` names them)
    python benchmarks/calls.py --inspect-python inspect/bin/python

``kill``: a run of 5,000 calls is killed (SIGKILL) at 50 random moments and started again each time. ``lost``: answers that
were handed out and are not stored, or rows without one at the end; ``doubled``: answers that were stored at a kill and were
asked for again later. ``memory``: 200,000 rows from a generator; the peak is that of the asking process. Nothing is
downloaded. The last line is one JSON object; a part that was not run has null.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "models"))

import loopback

from alignprism.models.endpoint import EndpointEngine
from alignprism.models.protocol import Answer, Decoding, Request
from alignprism.models.settings import EndpointSettings
from alignprism.models.store import CallStore

PARTS = ("throughput", "inspect", "kill", "memory", "generate")
ASKER = Path(loopback.__file__).with_name("asker.py")
CONNECTIONS = 64
SHORT = Decoding(max_new_tokens=8)

INSPECT = """
import json, sys, time
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.solver import generate
url, calls, logs = sys.argv[1], int(sys.argv[2]), sys.argv[3]
model = get_model("openai-api/loopback/tiny", base_url=url, api_key="none", config=GenerateConfig(max_connections=64))
task = Task(dataset=MemoryDataset([Sample(input=f"prompt number {n}") for n in range(calls)]), solver=generate())
began = time.monotonic()
log = eval(task, model=model, display="none", log_dir=logs, max_samples=256, temperature=0.0, max_tokens=8)[0]
seconds = time.monotonic() - began
assert log.status == "success", log.error
print(json.dumps({"seconds": seconds, "samples": log.results.completed_samples}))
"""


def settings_of(url: str) -> EndpointSettings:
    return EndpointSettings(urls=[url], model="tiny", connections=CONNECTIONS)


def ask(url: str, store_path: Path, calls: int) -> float:
    """Seconds from opening the store to its closing, with all answers in hand."""
    began = time.monotonic()
    requests = (Request(f"p{n}", f"prompt number {n}") for n in range(calls))
    with CallStore(store_path) as store, EndpointEngine(settings_of(url), "m", store=store) as engine:
        answered = sum(isinstance(outcome, Answer) for outcome in engine.complete(requests, SHORT))
    assert answered == calls, f"{calls - answered} calls got no answer"
    return time.monotonic() - began


def throughput(calls: int, folder: Path) -> dict[str, Any]:
    with loopback.running("--delay", "0.05") as url:
        cpu = time.process_time()
        seconds = ask(url, folder / "calls.sqlite", calls)
        cpu = time.process_time() - cpu
        stored = ask(url, folder / "calls.sqlite", calls)
    size = (folder / "calls.sqlite").stat().st_size
    return {
        "calls_per_second": round(calls / seconds, 1),
        "stored_20k_seconds": round(stored * 20_000 / calls, 3),
        "cpu_ms_per_call": round(1000 * cpu / calls, 3),
        "store_bytes_per_call": round(size / calls),
    }


def inspect_rate(python: str, calls: int, folder: Path) -> float:
    script = folder / "inspect_side.py"
    script.write_text(INSPECT)
    with loopback.running("--delay", "0.05") as url:
        command = [python, str(script), url, str(calls), str(folder / "logs")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Inspect AI failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["samples"] == calls
    return float(calls / found["seconds"])


def kills(calls: int, times: int, folder: Path) -> dict[str, int]:
    """Kill a run again and again, let the last one finish, and count."""
    store_path, acknowledged, log = folder / "calls.sqlite", folder / "acknowledged", folder / "log"
    acknowledged.touch()
    draw, lost, doubled = random.Random(0), 0, 0
    settled: dict[str, int] = {}
    with loopback.running("--log", str(log), "--delay", "0.05") as url:
        command = [sys.executable, str(ASKER), url, str(store_path), str(acknowledged), str(calls), "64"]
        for turn in range(times + 1):
            process = subprocess.Popen(command)
            if turn < times:
                _wait_for(log, process)
                time.sleep(draw.uniform(0.0, 2.0 * calls / 1000.0 / times))
                process.send_signal(signal.SIGKILL)
            process.wait()
            asked = Counter(line.split()[0] for line in log.read_text().splitlines())
            keys = [line.split()[0] for line in acknowledged.read_text().splitlines() if len(line) > 65]
            with CallStore(store_path) as store:
                lost += len(set(keys) - set(store.get_many(keys)))
                held = [c.text for c in store.get_many([key for key, *_ in store.index()]).values()]
            doubled += sum(asked[name] > count for name, count in settled.items())
            names = [text.removeprefix("answer to ") for text in held]
            settled = {name: asked[name] for name in names}
    lost += calls - len(settled)
    return {"lost": lost, "doubled": doubled, "kills": times, "asked": sum(asked.values()), "calls": calls}


def _wait_for(log: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the process has begun to ask (or is done)."""
    before = log.stat().st_size
    while process.poll() is None and log.stat().st_size == before:
        time.sleep(0.001)


def memory(calls: int, folder: Path) -> dict[str, Any]:
    """A process of its own, so that its peak is that of this many rows."""
    with loopback.running("--delay", "0.05") as url:
        command = [sys.executable, __file__, "--ask", url, str(folder / "calls.sqlite"), str(calls)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def generate_ratio() -> float:
    """The local engine against transformers' generate; the measurement is that of benchmarks/decoding.py."""
    command = [sys.executable, str(Path(__file__).with_name("decoding.py")), "--no-parts"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1])["generate_ratio"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--inspect-calls", type=int, default=2_000)
    parser.add_argument("--inspect-python", help="Python of an environment with inspect-ai==0.3.285 and openai")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--ask", nargs=3, metavar=("URL", "STORE", "CALLS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        url, store, calls = options.ask
        seconds = ask(url, Path(store), int(calls))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rows": int(calls), "calls_per_second": int(calls) / seconds, "peak_mb": round(peak)}))
        return
    result: dict[str, Any] = dict.fromkeys(
        ("calls_per_second", "inspect_ratio", "stored_20k_seconds", "kill", "generate_ratio", "memory")
    )
    result["machine"] = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as place:
        for part in options.parts:
            folder = Path(place) / part
            folder.mkdir()
            print(f"{part} ...", file=sys.stderr, flush=True)
            if part == "throughput":
                result |= throughput(options.calls, folder)
            elif part == "inspect" and options.inspect_python:
                rate = inspect_rate(options.inspect_python, options.inspect_calls, folder)
                result["inspect_calls_per_second"] = round(rate, 1)
                if result["calls_per_second"]:
                    result["inspect_ratio"] = round(result["calls_per_second"] / rate, 2)
            elif part == "kill":
                result["kill"] = kills(5_000, options.kills, folder)
            elif part == "memory":
                result["memory"] = memory(options.rows, folder)
            elif part == "generate":
                result["generate_ratio"] = generate_ratio()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
