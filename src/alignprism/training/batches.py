"""Which rows make which batch: a function of (seed, epoch) and the rows alone, so that a resumed run sees the same.

Rows are shuffled by a hash of their ids, so the order in the file does not matter. Pools of a few batches are sorted by
length and cut into batches, and the batches shuffled again: less padding, while every pool mixes the languages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignprism.training.examples import Ids


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right: ``input_ids`` ``(n, t)`` int64 and ``completion_mask`` ``(n, t)`` bool.

    There is no padding mask. A causal model's tokens never see what stands to their right, so right padding cannot
    change them; and a padding mask leaves the padded rows of a sliding-window layer nothing to attend to, which some
    attention kernels answer with NaN that spreads.
    """

    input_ids: Tensor
    completion_mask: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(self.input_ids.to(device), self.completion_mask.to(device))


def epoch_batches(
    ids: Sequence[str], lengths: Sequence[int], batch_size: int, seed: int, epoch: int, pool: int
) -> list[tuple[int, ...]]:
    """Row numbers of every batch of one epoch, in order. Each row occurs once; only one batch may be short."""
    shuffled = sorted(range(len(ids)), key=lambda row: _draw(seed, epoch, ids[row]))
    batches: list[tuple[int, ...]] = []
    for start in range(0, len(shuffled), pool * batch_size):
        members = shuffled[start : start + pool * batch_size]
        if pool > 1:
            members = sorted(members, key=lambda row: (lengths[row], _draw(seed, epoch, ids[row])))
        batches += [tuple(members[at : at + batch_size]) for at in range(0, len(members), batch_size)]
    return sorted(batches, key=lambda batch: _draw(seed, epoch, "batch", *(ids[row] for row in batch)))


def micro_batches(rows: Sequence[int], lengths: Sequence[int], sides: int, token_budget: int) -> list[tuple[int, ...]]:
    """Cut a batch into forwards of at most `token_budget` padded positions (but at least one row), longest first.

    ``lengths`` hold the longest sequence of each row, ``sides`` the number of sequences that one row brings.
    """
    ordered = sorted(rows, key=lambda row: (-lengths[row], row))
    result: list[tuple[int, ...]] = []
    while ordered:
        size = max(1, token_budget // (sides * lengths[ordered[0]]))
        result.append(tuple(ordered[:size]))
        ordered = ordered[size:]
    return result


def collate(sequences: Sequence[tuple[Ids, Ids]], pad_id: int) -> Batch:
    """Pad (prompt, completion) sequences on the right into one batch."""
    width = max(len(prompt) + len(completion) for prompt, completion in sequences)
    input_ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    completion_mask = torch.zeros_like(input_ids, dtype=torch.bool)
    for row, (prompt, completion) in enumerate(sequences):
        end = len(prompt) + len(completion)
        input_ids[row, :end] = torch.tensor(prompt + completion)
        completion_mask[row, len(prompt) : end] = True
    return Batch(input_ids, completion_mask)


def _draw(*parts: object) -> bytes:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
