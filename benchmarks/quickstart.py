"""Wall time and peak memory of what a newcomer runs: conversion, quickstart, quickstart again, smoke.

    python benchmarks/quickstart.py [--work FOLDER] [--skip-smoke]

Downloads are not timed (they come first, into a cache of their own). Prints one JSON object last:
``conversion_seconds`` (both embedded models), ``quickstart_minutes`` (its conversion included), ``quickstart_peak_gb``,
``second_seconds``, ``second_ran`` (stages computed again), ``smoke_minutes``, ``load_before`` (1-minute load average).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [str(Path(sys.executable).with_name("alignprism"))]


def timed(arguments: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Seconds, peak resident gigabytes of the process, and what it printed."""
    started = time.monotonic()
    process = subprocess.Popen(
        COMMAND + arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        print(output)
        raise SystemExit(f"alignprism {' '.join(arguments)} ended with status {status}")
    return time.monotonic() - started, usage.ru_maxrss / 1e6, output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="keep the run folders here")
    parser.add_argument("--skip-smoke", action="store_true")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="alignprism-bench-"))
    work.mkdir(parents=True, exist_ok=True)
    cache = work / "cache"
    environment = {**os.environ, "ALIGNPRISM_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    result: dict[str, object] = {"load_before": os.getloadavg()[0], "cores": os.cpu_count()}
    fetch = "from alignprism.models.embedded import EMBEDDED, fetch; from pathlib import Path; import sys; "
    fetch += "[fetch(name, Path(sys.argv[1])) for name in EMBEDDED]"
    subprocess.run([sys.executable, "-c", fetch, str(cache)], check=True, env=environment)
    seconds, _, _ = timed(["models", "fetch"], environment)
    result["conversion_seconds"] = round(seconds, 1)
    shutil.rmtree(cache / "models" / "gemma-3-270m")
    seconds, peak, output = timed(["quickstart", "--run", str(work / "quickstart")], environment)
    print(output)
    result["quickstart_minutes"] = round(seconds / 60, 2)
    result["quickstart_peak_gb"] = round(peak, 2)
    manifest = json.loads((work / "quickstart" / "manifest.json").read_text(encoding="utf-8"))
    result["stages"] = {k: v["seconds"] for k, v in manifest["timing"].items() if isinstance(v, dict)}
    seconds, _, output = timed(["quickstart", "--run", str(work / "quickstart")], environment)
    result["second_seconds"] = round(seconds, 1)
    result["second_says_so"] = "nothing to compute" in output
    if not arguments.skip_smoke:
        seconds, peak, _ = timed(["quickstart", "--size", "smoke", "--run", str(work / "smoke")], environment)
        result["smoke_minutes"] = round(seconds / 60, 2)
        result["smoke_peak_gb"] = round(peak, 2)
    if arguments.work is None:
        shutil.rmtree(work)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
