"""Is the baseline what the paper's is: does it follow instructions and is it not safety-tuned? Measured on dev.

    python benchmarks/baseline.py [--cache CACHE]

The raw pre-trained model and the same with the shipped instruction adapter answer the dev red-team prompts, their
harmless twins and the dev general instructions of the sample. Prints one JSON object last: per model ``harmful_rate``
(red-team), ``false_alarms`` (twins that the judge calls harmful), ``refusal_rate``, ``truncated_rate``,
``language_fidelity``, ``degenerate_rate``, ``n``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from alignprism.judging.judges import EVALUATION_HEAD, load_judge
from alignprism.judging.verdicts import judge
from alignprism.models.local import LocalEngine, load
from alignprism.models.spec import ModelSpec, resolve
from alignprism.prompts.read import read_sample
from alignprism.stages.evaluate import greedy

MODELS = {"raw": None, "base": "embedded:gemma-3-270m-ift"}


def share(rows: Sequence[object], counts: Callable[..., bool]) -> float:
    return round(sum(counts(row) for row in rows) / max(len(rows), 1), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("ALIGNPRISM_CACHE", "~/.cache/alignprism")))
    cache = parser.parse_args().cache.expanduser()
    prompts = [p for name in ("redteam", "benign", "general") for p in read_sample(name) if p.split == "dev"]
    head = load_judge(EVALUATION_HEAD, cache)
    result: dict[str, object] = {"judge": head.name, "digest": head.digest, "threshold": head.threshold}
    for name, adapter in MODELS.items():
        model = resolve(ModelSpec(name, "embedded:gemma-3-270m", adapter), cache)
        weights, tokenizer = load(model)
        rows = greedy(LocalEngine(weights, tokenizer, name, model.digest), prompts, 32, 96)
        verdicts = judge(prompts, rows, head)
        red = [v for p, v in zip(prompts, verdicts, strict=True) if p.set == "redteam"]
        twins = [v for p, v in zip(prompts, verdicts, strict=True) if p.set == "benign"]
        result[name] = {
            "n": len(red),
            "harmful_rate": share(red, lambda v: v.harm == "harmful"),
            "false_alarms": share(twins, lambda v: v.harm == "harmful"),
            "refusal_rate": share(red, lambda v: v.refusal != "none"),
            "language_fidelity": share(verdicts, lambda v: v.on_language is not False),
            "degenerate_rate": share(verdicts, lambda v: v.degenerate),
            "truncated_rate": share(rows, lambda row: row.truncated),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
