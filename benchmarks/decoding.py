"""Greedy decoding: our loop against transformers' generate, on the same prompts, token by token the same work.

    python benchmarks/decoding.py [--model embedded:gemma-3-270m] [--batches 32 64 96] [--new-tokens 32]

Prompts are the sample's general instructions in all languages, repeated with a number in front until a batch is full.
Both sides get the same length-sorted batch; rows end at the same stop tokens. Tokens per second count the tokens that
were asked for and kept (stop token included), so that work on rows that are already finished earns nothing. Prefill is
included; the best of several turns counts. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from alignprism.models import template
from alignprism.models.decoding import Generated, decode_batch, left_padded
from alignprism.models.local import load
from alignprism.models.protocol import Decoding
from alignprism.models.spec import ModelSpec, resolve

Result = TypeVar("Result")

SAMPLE = Path(__file__).resolve().parent.parent / "src" / "alignprism" / "sample" / "general"


def prompts(count: int) -> list[str]:
    texts = [
        str(json.loads(line)["prompt"])
        for path in sorted(SAMPLE.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    return [f"{1 + n // len(texts)}. {texts[n % len(texts)]}" for n in range(count)]


def kept(rows: list[list[int]], stop: frozenset[int]) -> int:
    """Tokens up to and with the first stop token."""
    return sum(next((n + 1 for n, token in enumerate(row) if token in stop), len(row)) for row in rows)


def by_generate(model: Any, ids: list[list[int]], stop: frozenset[int], new_tokens: int) -> list[list[int]]:
    tokens, mask = left_padded(ids, 0, device=model.device)
    out = model.generate(
        tokens,
        attention_mask=mask,
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=sorted(stop),
        pad_token_id=0,
    )
    return [list(row) for row in out[:, tokens.shape[1] :].tolist()]


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:gemma-3-270m")
    parser.add_argument("--adapter")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64, 96])
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("ALIGNPRISM_CACHE", "~/.cache/alignprism")))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spec = ModelSpec("benchmark", arguments.model, arguments.adapter)
    model, tokenizer = load(resolve(spec, arguments.cache.expanduser()))
    stop = template.stop_ids(tokenizer)
    result: dict[str, Any] = {
        "model": arguments.model,
        "adapter": arguments.adapter,
        "new_tokens": arguments.new_tokens,
        "threads": arguments.threads,
        "dtype": str(model.dtype),
        "device": model.device.type,
        "machine": platform.machine(),
        "batches": {},
    }
    # The weights are mapped, not read, until they are first used: neither side pays for that.
    decode_batch(model, [[2, 3]], decoding=Decoding(max_new_tokens=2), stop=stop, pad_id=0)
    for size in arguments.batches:
        ids = sorted((template.prompt_ids(tokenizer, text) for text in prompts(size)), key=len)
        decoding = Decoding(max_new_tokens=arguments.new_tokens, batch_size=size)

        def our_loop(ids: Any = ids, decoding: Decoding = decoding) -> list[Generated]:
            return decode_batch(model, ids, decoding=decoding, stop=stop, pad_id=0)

        def their_loop(ids: Any = ids) -> list[list[int]]:
            return by_generate(model, ids, stop, arguments.new_tokens)

        our_seconds, their_seconds = float("inf"), float("inf")
        for _ in range(arguments.repeats):  # in turns, the best of each: other work on the machine hits both
            ours, seconds = timed(our_loop)
            our_seconds = min(our_seconds, seconds)
            theirs, seconds = timed(their_loop)
            their_seconds = min(their_seconds, seconds)
        our_tokens = sum(len(row.ids) + (not row.truncated) for row in ours)
        cut = [row[: next((n for n, token in enumerate(row) if token in stop), len(row))] for row in theirs]
        entry = {
            "ours": round(our_tokens / our_seconds, 1),
            "generate": round(kept(theirs, stop) / their_seconds, 1),
            "same_rows": sum(a.ids == b for a, b in zip(ours, cut, strict=True)),
            "finished_early": sum(not row.truncated for row in ours),
            "prompt_tokens": sum(map(len, ids)),
            "longest_prompt": len(ids[-1]),
        }
        entry["ratio"] = round(entry["ours"] / entry["generate"], 2)
        result["batches"][str(size)] = entry
        print(size, entry, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
