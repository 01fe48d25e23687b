"""Sequences as tensors: one row per sequence, or one row per preference pair whose two completions share the prompt.

A shared row holds prompt, chosen, rejected. The rejected side's positions go on from the prompt, and neither completion
sees the other, so every token has the context and the position that it has alone. Half of the padding and one copy of
the prompt are saved (Wang & Hegde 2024, arXiv 2410.20305).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alignprism.training.examples import Ids

Pair = tuple[Ids, Ids, Ids]
"""Token ids of prompt, chosen and rejected completion."""

PADDING, PROMPT = -1, 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded on the right, and where in them the completion tokens are predicted.

    ``input_ids``, ``positions`` and ``segments`` are (n, t) int64; segments say what a token belongs to: ``PROMPT``, the
    first (1) or the second (2) completion of its row, or ``PADDING``. The other four are (m,) int64, one entry per
    completion token, sequence by sequence: its row, the position in the row whose state predicts it, its id, and the
    number of its sequence. For pairs the chosen sides are the sequences 0..n-1 and the rejected ones n..2n-1.
    """

    input_ids: Tensor
    positions: Tensor
    segments: Tensor
    rows: Tensor
    sources: Tensor
    targets: Tensor
    sequence: Tensor
    sequences: int
    shared: bool
    """Whether some row holds two completions."""

    @property
    def tokens(self) -> Tensor:
        """Completion tokens of each sequence, (sequences,) float32."""
        return torch.bincount(self.sequence, minlength=self.sequences).float()

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        names = ("input_ids", "positions", "segments", "rows", "sources", "targets", "sequence")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def collate(sequences: Sequence[tuple[Ids, Ids]], pad_id: int) -> Batch:
    """One row per (prompt, completion)."""
    return _batch([(prompt, [completion]) for prompt, completion in sequences], pad_id)


def collate_shared(pairs: Sequence[Pair], pad_id: int) -> Batch:
    """One row per pair; same sequences, in the same order, as `collate` of all chosen and then all rejected sides."""
    return _batch([(prompt, [chosen, rejected]) for prompt, chosen, rejected in pairs], pad_id)


def _batch(rows: Sequence[tuple[Ids, list[Ids]]], pad_id: int) -> Batch:
    width = max(len(prompt) + sum(map(len, completions)) for prompt, completions in rows)
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    positions = torch.zeros_like(input_ids)
    segments = torch.full_like(input_ids, PADDING)
    places: list[tuple[int, int, int, int, Ids]] = []
    for number, (prompt, completions) in enumerate(rows):
        input_ids[number, : len(prompt)] = torch.tensor(prompt)
        positions[number, : len(prompt)] = torch.arange(len(prompt))
        segments[number, : len(prompt)] = PROMPT
        start = len(prompt)
        for side, completion in enumerate(completions):
            end = start + len(completion)
            input_ids[number, start:end] = torch.tensor(completion)
            positions[number, start:end] = torch.arange(len(prompt), len(prompt) + len(completion))
            segments[number, start:end] = side + 1
            places.append((side * len(rows) + number, number, len(prompt) - 1, start, completion))
            start = end
    return Batch(input_ids, positions, segments, *_completion_tokens(places), len(places), len(places) > len(rows))


def _completion_tokens(places: list[tuple[int, int, int, int, Ids]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row, source, target and sequence of every completion token; the first one is predicted by the prompt's last."""
    rows: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    sequence: list[int] = []
    for number, row, before, start, completion in sorted(places):
        rows += [row] * len(completion)
        sources += [before, *range(start, start + len(completion) - 1)]
        targets += completion
        sequence += [number] * len(completion)
    return torch.tensor(rows), torch.tensor(sources), torch.tensor(targets), torch.tensor(sequence)


def allowed(segments: Tensor, positions: Tensor, window: int | None) -> Tensor:
    """Which token (dim 1) sees which (dim 2): (n, t, t) bool. Nobody sees forward or into the other completion.

    `window` is that of a sliding-window layer, measured in positions, not in places of the row. Every token sees itself,
    padding included: a row without anything to attend to would be NaN.
    """
    width = segments.shape[1]
    backward = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    keys, queries = segments[:, None, :], segments[:, :, None]
    sees = backward & ((keys == PROMPT) | (keys == queries))
    if window is not None:
        sees &= positions[:, :, None] - positions[:, None, :] < window
    return sees
