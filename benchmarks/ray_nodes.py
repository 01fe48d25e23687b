"""Completions over a Ray cluster of two local nodes, one of which is killed midway: all rows done, none twice.

    python benchmarks/ray_nodes.py [--rows 192] [--model embedded:gemma-3-270m]

Both nodes load the model and answer until a third of the rows has come back; then the second node's processes get
SIGKILL. Every answer goes through the call store; `doubled` counts answers that were stored or handed out more than once,
`missing` requests without an outcome, `failed` those with a failure instead of an answer, and `asked_again` what a second
run of the same list asked the cluster (it must find everything stored). `recovered_seconds` is the longest wait for a next
outcome after the kill. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.cluster_utils import Cluster

from alignprism.models.protocol import Answer, Decoding, Request
from alignprism.models.ray_engine import open_ray
from alignprism.models.spec import ModelSpec, resolve
from alignprism.models.store import Call, CallStore, Purpose

SAMPLE = Path(__file__).resolve().parent.parent / "src" / "alignprism" / "sample" / "general"
CACHE = Path(os.environ.get("ALIGNPRISM_CACHE", "~/.cache/alignprism")).expanduser()


class CountedStore(CallStore):
    """The store, which also counts how often each answer was written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.written: Counter[str] = Counter()

    def put_many(self, calls: Iterable[Call], purposes: Iterable[Purpose] = ()) -> None:
        rows = list(calls)
        super().put_many(rows, purposes)
        self.written.update(row.key for row in rows)


def requests(count: int) -> list[Request]:
    """The sample's general instructions, each with a number in front, so that all differ."""
    texts = [
        str(json.loads(line)["prompt"])
        for path in sorted(SAMPLE.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    return [Request(f"r{n}", f"{n + 1}. {texts[n % len(texts)]}") for n in range(count)]


def measure(model: str, adapter: str | None, rows: int, new_tokens: int, batch: int) -> dict[str, Any]:
    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    second = cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    asked, decoding = requests(rows), Decoding(max_new_tokens=new_tokens, batch_size=batch)
    seen: Counter[str] = Counter()
    failed, killed_at, waits = 0, None, [0.0]
    resolved = resolve(ModelSpec("m", model, adapter), CACHE)
    with (
        tempfile.TemporaryDirectory() as folder,
        CountedStore(Path(folder) / "calls.sqlite") as store,
        open_ray(resolved, store=store, say=print) as engine,
    ):
        warm = 0
        while engine.workers < 2:  # both nodes take part
            list(engine.complete([Request("w", f"warming up {warm}")], Decoding(max_new_tokens=1)))
            warm += 1
        store.written.clear()
        began = last = time.perf_counter()
        for outcome in engine.complete(asked, decoding):
            now = time.perf_counter()
            if killed_at is not None:
                waits.append(now - last)
            last = now
            seen[outcome.request_id] += 1
            failed += not isinstance(outcome, Answer)
            if killed_at is None and len(seen) >= rows // 3:
                killed_at = len(seen)
                cluster.remove_node(second, allow_graceful=False)
        seconds = time.perf_counter() - began
        doubled = sum(n - 1 for n in seen.values()) + sum(n - 1 for n in store.written.values())
        before = sum(store.written.values())
        list(engine.complete(asked, decoding))
        again = sum(store.written.values()) - before
        lost = engine.lost_workers
    ray.shutdown()
    cluster.shutdown()
    return {
        "rows": rows,
        "doubled": doubled,
        "missing": len({request.id for request in asked} - set(seen)),
        "failed": failed,
        "killed_at": killed_at,
        "asked_again": again,
        "lost_workers": lost,
        "recovered_seconds": round(max(waits), 2),
        "seconds": round(seconds, 1),
        "model": model,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:gemma-3-270m")
    parser.add_argument("--adapter", default="embedded:gemma-3-270m-ift")
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    print(
        json.dumps(
            measure(arguments.model, arguments.adapter or None, arguments.rows, arguments.new_tokens, arguments.batch)
        )
    )


if __name__ == "__main__":
    main()
