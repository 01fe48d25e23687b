"""The local engine against transformers' generate: mixed lengths, equal batch size, the same greedy tokens.

    python benchmarks/decoding.py [--data ../shared/data] [--batch 32] [--prompts 256] [--new-tokens 128] [--no-parts]

The instruction-tuned base answers polyrefuse prompts, language by language in turn. ``generate`` takes them in file
order, left-padded, in batches of equal size; our engine gets the same list (`LocalEngine.complete`, without a store).
Both stop at the same tokens. Completions per second count whole runs, tokenising included on both sides.

The parts say where the difference comes from: ``generate`` on the list sorted by length; our loop on the sorted batches,
where finished rows leave but no prompt takes their place; the engine as it is. ``head``: one prefill with the output head
on every position, over one on the last position only (generate spares it as well). Rows whose tokens differ are
looked at one by one: at the first difference, how far apart are the two tokens' logits for the prompt alone, without
batch and padding? Float sums depend on the shape of the batch, so that near-ties can fall either way.

The last line is one JSON object. No prompt or answer is printed.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from alignprism.models import template
from alignprism.models.decoding import Generated, decode_batch, forward_options, left_padded
from alignprism.models.local import LocalEngine, load
from alignprism.models.protocol import Decoding, Request
from alignprism.models.spec import ModelSpec, resolve
from alignprism.models.units import Tick, Unit, Written

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
CACHE = Path(os.environ.get("ALIGNPRISM_CACHE", "~/.cache/alignprism")).expanduser()


def polyrefuse(data: Path, count: int) -> list[str]:
    """Distinct prompts of the published set, one of each language in turn, in file order."""
    columns = []
    for path in sorted((data / "polyrefuse").glob("prompts_*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            columns.append([str(json.loads(line)["prompt"]) for line in itertools.islice(lines, count)])
    if not columns:
        raise SystemExit(f"{data}: no polyrefuse prompts; name the folder with --data")
    return list(dict.fromkeys(text for row in zip(*columns, strict=True) for text in row))[:count]


class Recorded(LocalEngine):
    """The engine, which also keeps the token ids that it wrote to each prompt's ids."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ids: dict[tuple[int, ...], list[int]] = {}
        self._rows: list[list[int]] = []

    def write(self, unit: Unit, decoding: Decoding, tick: Tick | None = None) -> list[Written]:
        self._rows = []
        written = super().write(unit, decoding, tick)
        self.ids.update(zip(unit.prompts, self._rows, strict=True))
        return written

    def _written(self, row: Generated, decoding: Decoding) -> Written:
        self._rows.append(row.ids)
        return super()._written(row, decoding)


def by_generate(engine: LocalEngine, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
    """Batches in the order given; rows up to their stop token."""
    stop, rows = template.stop_ids(engine.tokenizer), []
    for start in range(0, len(prompts), decoding.batch_size):
        tokens, mask = left_padded(prompts[start : start + decoding.batch_size], 0, device=engine.model.device)
        out = engine.model.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(stop),
            pad_token_id=0,
        )
        rows += [row[: _end(row, stop)] for row in out[:, tokens.shape[1] :].tolist()]
    return rows


def _end(row: Sequence[int], stop: frozenset[int]) -> int:
    return next((n for n, token in enumerate(row) if token in stop), len(row))


def by_batches(engine: LocalEngine, prompts: Sequence[Sequence[int]], decoding: Decoding) -> None:
    """Our loop on one batch after the other: finished rows leave, but no prompt takes their place."""
    stop = template.stop_ids(engine.tokenizer)
    for start in range(0, len(prompts), decoding.batch_size):
        batch = prompts[start : start + decoding.batch_size]
        decode_batch(engine.model, batch, decoding=decoding, stop=stop, pad_id=0)


def head_share(engine: LocalEngine, prompts: Sequence[Sequence[int]]) -> float:
    """Seconds of a prefill with the head on every position, over those with the head on the last one."""
    tokens, mask = left_padded(prompts, 0, device=engine.model.device)
    options = forward_options(engine.model)

    @torch.inference_mode()
    def prefill(**kept: int) -> float:
        return timed(lambda: engine.model(input_ids=tokens, attention_mask=mask, use_cache=False, **kept))[1]["seconds"]

    return min(prefill() for _ in range(2)) / min(prefill(**options.last) for _ in range(2))


@torch.inference_mode()
def logit_gap(engine: LocalEngine, prompt: Sequence[int], ours: Sequence[int], theirs: Sequence[int]) -> float:
    """How far apart the two next tokens' logits are where the rows first differ, for this prompt alone."""
    stop = min(template.stop_ids(engine.tokenizer))
    pairs = itertools.zip_longest(ours, theirs, fillvalue=stop)
    at = next(n for n, (a, b) in enumerate(pairs) if a != b)
    tokens = torch.tensor([[*prompt, *ours[:at]]], device=engine.model.device)
    logits = engine.model(input_ids=tokens, **forward_options(engine.model).last).logits[0, -1].double()
    ends = max(float(logits[token]) for token in template.stop_ids(engine.tokenizer))
    mine = float(logits[ours[at]]) if at < len(ours) else ends
    other = float(logits[theirs[at]]) if at < len(theirs) else ends
    return abs(mine - other)


def timed(work: Callable[[], Any], name: str = "") -> tuple[Any, dict[str, float]]:
    """A result, with its wall and its CPU seconds (which other work on the machine changes less)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    times = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    if name:
        print(f"{name}: {times['seconds']:.1f} s, {times['cpu_seconds']:.1f} CPU s", flush=True)
    return result, times


def measure(
    data: Path = SHARED, *, count: int = 256, batch: int = 32, new_tokens: int = 128, parts: bool = True
) -> dict[str, Any]:
    """The figure and its parts; `generate_ratio` is ours over theirs in completions per second."""
    spec = ModelSpec("base", "embedded:gemma-3-270m", "embedded:gemma-3-270m-ift")
    engine = Recorded(*load(resolve(spec, CACHE)), "base", "benchmark", None)
    texts = polyrefuse(data, count)
    decoding = Decoding(max_new_tokens=new_tokens, batch_size=batch)
    # The weights are mapped, not read, until they are first used: neither side pays for that.
    by_generate(engine, [[2, 3]], Decoding(max_new_tokens=2))

    requests = [Request(str(n), text) for n, text in enumerate(texts)]
    outcomes, ours = timed(lambda: list(engine.complete(requests, decoding)), "ours")
    rows, theirs = timed(
        lambda: by_generate(engine, [template.prompt_ids(engine.tokenizer, text) for text in texts], decoding),
        "generate",
    )
    prompts = [template.prompt_ids(engine.tokenizer, text) for text in texts]
    written = [engine.ids[tuple(prompt)] for prompt in prompts]
    other = [n for n in range(count) if written[n] != rows[n]]
    gaps = [logit_gap(engine, prompts[n], written[n], rows[n]) for n in other]
    result: dict[str, Any] = {
        "prompts": count,
        "prompt_tokens": sum(map(len, prompts)),
        "answer_tokens": sum(map(len, written)),
        "cut_at_limit": sum(outcome.truncated for outcome in outcomes),
        "batch": batch,
        "new_tokens": new_tokens,
        "ours": {"completions_per_second": round(count / ours["seconds"], 3)} | _rounded(ours),
        "generate": {"completions_per_second": round(count / theirs["seconds"], 3)} | _rounded(theirs),
        "generate_ratio": round(theirs["seconds"] / ours["seconds"], 2),
        "generate_ratio_cpu": round(theirs["cpu_seconds"] / ours["cpu_seconds"], 2),
        "same_tokens": round(1 - len(other) / count, 4),
        "differing": {"rows": len(other), "largest_logit_gap": max(gaps, default=0.0), "logit_gaps": sorted(gaps)},
        "threads": torch.get_num_threads(),
        "dtype": str(engine.model.dtype),
        "device": engine.model.device.type,
        "machine": platform.machine(),
    }
    if parts:
        result["parts"] = split(engine, sorted(prompts, key=len), decoding, ours, theirs)
    return result


def split(
    engine: LocalEngine,
    by_length: Sequence[Sequence[int]],
    decoding: Decoding,
    ours: dict[str, float],
    theirs: dict[str, float],
) -> dict[str, float]:
    """How often faster each step makes it, in CPU seconds; their product is the whole ratio (the head aside)."""
    _, sorted_generate = timed(lambda: by_generate(engine, by_length, decoding), "generate, sorted")
    _, leaving = timed(lambda: by_batches(engine, by_length, decoding), "rows leave")
    return {
        "sorting": round(theirs["cpu_seconds"] / sorted_generate["cpu_seconds"], 2),
        "rows_leaving": round(sorted_generate["cpu_seconds"] / leaving["cpu_seconds"], 2),
        "places_refilled": round(leaving["cpu_seconds"] / ours["cpu_seconds"], 2),
        "head_on_every_prefill_position": round(head_share(engine, by_length[: decoding.batch_size]), 2),
    }


def _rounded(times: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-parts", action="store_true", help="only the figure, in half the time")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        json.dumps(
            measure(
                arguments.data,
                count=arguments.prompts,
                batch=arguments.batch,
                new_tokens=arguments.new_tokens,
                parts=not arguments.no_parts,
            )
        )
    )


if __name__ == "__main__":
    main()
