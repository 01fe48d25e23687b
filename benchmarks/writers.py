"""What the embedded base model writes when it goes on with a list of human prompts (``--style continue``).

    python benchmarks/writers.py [--seeds-per-language 4] [--variants 4] [--template FILE ...]

Runs ``alignprism construct rephrase`` on the sample's seeds, once with the shipped list and once with every template given,
and reads the command's own report. Nothing judges the prompts but the filters: no model that could check them can be had
from a package registry. One JSON object comes last: for every template ``accepted`` of ``written``, ``by_language``, ``set_aside`` by
reason, ``vendi`` (unlike prompts by language), ``seconds``. Texts are never printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alignprism.prompts.read import read_sample

COMMAND = str(Path(sys.executable).with_name("alignprism"))


def rephrase(seeds: Path, out: Path, arguments: argparse.Namespace, template: str | None) -> dict[str, Any]:
    """One run of the command, one round."""
    started = time.monotonic()
    command = [COMMAND, "construct", "rephrase", str(seeds), "--writer", arguments.writer, "--style", "continue"]
    command += ["--out", str(out), "--rounds", "1", "--variants", str(arguments.variants)]
    command += ["--per-seed", str(arguments.variants), "--seeds-per-language", str(arguments.seeds_per_language)]
    command += ["--template", template] if template else []
    subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return {
        "accepted": report["accepted"],
        "written": report["came"],
        "by_language": {code: counts["accepted"] for code, counts in report["by_language"].items()},
        "set_aside": report["set_aside"],
        "vendi": {code: figures["vendi"] for code, figures in report["diversity"].items()},
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writer", default="embedded:gemma-3-270m")
    parser.add_argument("--seeds-per-language", type=int, default=4)
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument(
        "--template", nargs="*", default=[], help="templates of your own, measured beside the shipped one"
    )
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="alignprism-bench-") as folder:
        seeds = Path(folder) / "seeds.jsonl"
        rows = [asdict(prompt) for prompt in read_sample("redteam")]
        seeds.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        for number, template in enumerate([None, *arguments.template]):
            found = rephrase(seeds, Path(folder) / f"out-{number}", arguments, template)
            result[template or "shipped"] = found
    print(json.dumps(result))


if __name__ == "__main__":
    main()
