"""The DPO reference: a named artefact whose log-probabilities are computed once and stored.

One JSON line per sequence, keyed by the hash of reference digest, precision, prompt ids and completion ids. No training
setting is in the key, so a change of learning rate, beta, output folder or row order recomputes nothing, and other
weights or other tokens never hit. Lines are appended batch by batch; a torn last line is dropped and recomputed. Several
runs may share a store at the same time: it is locked while it is read or written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from transformers import PreTrainedModel

from alignprism.training.batches import micro_batches
from alignprism.training.config import TrainingError
from alignprism.training.examples import Example, Ids
from alignprism.training.layout import collate
from alignprism.training.precision import precision_name
from alignprism.training.scorer import Scorer

_BEGINNING = b'{"key": "'
"""How every line of a store begins; a file that begins otherwise is somebody else's, and not cut."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A frozen model, by name and digest, and what it says of every sequence (nats, summed over the completion).

    ``dtype`` is the precision it was computed in, as in `precision.precision_name`.
    """

    name: str
    digest: str
    log_probs: Mapping[str, float]
    dtype: str = "float32"

    def pair(self, example: Example) -> tuple[float, float]:
        """Log-probabilities of the chosen and the rejected side.

        Raises
        ------
        TrainingError
            the reference was not computed for this row.
        """
        keys = [sequence_key(self.digest, self.dtype, *s) for s in _sides(example)]
        missing = [key for key in keys if key not in self.log_probs]
        if missing:
            raise TrainingError(
                f"reference {self.name!r} ({self.digest[:12]}) holds no log-probabilities of row {example.pair_id!r}; "
                "compute it for exactly the rows that are trained on"
            )
        return self.log_probs[keys[0]], self.log_probs[keys[1]]


def store_path(cache: Path, digest: str) -> Path:
    """Where the log-probabilities of one model are kept for all runs: no text, only hashes and numbers."""
    return cache / "reference" / f"{digest[:16]}.jsonl"


def sequence_key(digest: str, dtype: str, prompt: Ids, completion: Ids) -> str:
    """The key of one sequence under one reference: hex sha256."""
    text = json.dumps([digest, dtype, list(prompt), list(completion)], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def compute_reference(
    name: str,
    digest: str,
    model: PreTrainedModel,
    examples: Sequence[Example],
    store: Path,
    *,
    micro_batch_tokens: int = 2048,
    pad_id: int = 0,
    compute: torch.dtype | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Reference:
    """Log-probabilities of every example under `model`, from the store where it has them.

    ``digest`` must identify the weights of `model` (``alignprism.models.identity.weights_digest``). Batches are
    composed from all examples, not from the missing ones, so that an interrupted fill ends with the same figures.
    ``compute`` is the policy's `precision.compute_dtype`. ``report(done, total)`` counts sequences.

    Raises
    ------
    TrainingError
        a log-probability is not finite; the message names the row, and nothing of it is stored.
    """
    dtype = precision_name(model.dtype, compute)
    accelerator = Accelerator()
    # One process reads for all: another run may append meanwhile, and all have to agree on what is left to do.
    stored = broadcast_object_list([read_store(store) if accelerator.is_main_process else None])[0]
    sequences = sorted({s for e in examples for s in _sides(e)}, key=lambda s: sequence_key(digest, dtype, *s))
    keys = [sequence_key(digest, dtype, *s) for s in sequences]
    batches = micro_batches(range(len(sequences)), [len(p) + len(c) for p, c in sequences], micro_batch_tokens)
    todo = [batch for batch in batches if any(keys[row] not in stored for row in batch)]
    if todo:
        scorer = Scorer(model, compute=compute).to(accelerator.device).eval()
        done = len(sequences) - sum(len(batch) for batch in todo)
        for start in range(0, len(todo), accelerator.num_processes):
            mine = todo[start : start + accelerator.num_processes][accelerator.process_index :][:1]
            rows = [scored for batch in mine for scored in _score(scorer, sequences, batch, pad_id)]
            gathered = gather_object(rows) if accelerator.num_processes > 1 else rows
            new = {row: value for row, value in gathered if keys[row] not in stored}
            _check_finite(name, examples, sequences, new)
            if accelerator.is_main_process:
                records = [
                    {"key": keys[row], "log_prob": value, "tokens": len(sequences[row][1])}
                    for row, value in new.items()
                ]
                _append(store, [r | {"reference": name, "digest": digest, "dtype": dtype} for r in records])
            stored |= {keys[row]: value for row, value in new.items()}
            done += len(gathered)
            if report is not None:
                report(done, len(sequences))
    return Reference(name, digest, {key: stored[key] for key in keys}, dtype)


def read_store(store: Path) -> dict[str, float]:
    """Key -> log-probability. A line that was being written when the process died is cut off the file.

    Raises
    ------
    TrainingError
        the file is not a store, or a line before the last is damaged; the file is left as it is.
    """
    if not store.exists():
        return {}
    if not store.is_file():
        raise TrainingError(f"{store}: a folder, not a file of reference log-probabilities; name a file")
    with _locked(store):
        data = store.read_bytes()
        if data and not data.startswith(_BEGINNING[: len(data)]):
            raise TrainingError(
                f"{store}: this file holds something else than reference log-probabilities; name a new file for them"
            )
        whole = data.rfind(b"\n") + 1
        result = _parse(store, data[:whole])
        if whole != len(data):
            with store.open("r+b") as handle:
                handle.truncate(whole)
    return result


def _parse(store: Path, data: bytes) -> dict[str, float]:
    result: dict[str, float] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            record = json.loads(line)
            value = float(record["log_prob"])
            if math.isfinite(value):  # an earlier version stored others too: they are computed again
                result[record["key"]] = value
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{store}, line {number}: damaged; delete the file to compute it again") from error
    return result


def _check_finite(
    name: str,
    examples: Sequence[Example],
    sequences: Sequence[tuple[Ids, Ids]],
    found: Mapping[int, float],
) -> None:
    for row, value in found.items():
        if not math.isfinite(value):
            where = next(e.pair_id for e in examples if sequences[row] in _sides(e))
            raise TrainingError(
                f"row {where!r}: its log-probability under the reference {name!r} is {value}: the model's weights hold NaN "
                "or infinities, or its precision is too narrow for it"
            )


def _sides(example: Example) -> list[tuple[Ids, Ids]]:
    return [(example.prompt_ids, example.chosen_ids), (example.prompt_ids, example.side("rejected"))]


@torch.no_grad()
def _score(
    scorer: Scorer, sequences: Sequence[tuple[Ids, Ids]], batch: Sequence[int], pad_id: int
) -> list[tuple[int, float]]:
    device = scorer.causal.device
    tensors = collate([sequences[row] for row in batch], pad_id).to(device)
    return list(zip(batch, scorer(tensors).sums.tolist(), strict=True))


def _append(store: Path, records: Sequence[Mapping[str, object]]) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    store.parent.mkdir(parents=True, exist_ok=True)
    with _locked(store), store.open("ab") as handle:
        handle.write(lines.encode())
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Hold the store's lock: without it a reader would take another run's half-written line for a dead one's."""
    with store.with_name(f".{store.name}.lock").open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
