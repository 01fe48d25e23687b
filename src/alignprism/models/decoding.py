"""One visible decoding loop: prompts in, their completions out, with a key-value cache and a batch that stays full.

Faster than ``generate`` where many short answers are wanted: rows leave the batch when they are finished, waiting prompts
take their places, and the output head is computed for the last position only. Works with any causal language model of
transformers; where its cache is not made of plain keys and values, prompts wait for the next batch instead.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignprism.models import rows_cache
from alignprism.models.protocol import Decoding

_NUCLEUS_TRIED = 512
_SHARE_FREE = 8  # rows leave and join when an eighth of the batch is free: each time the whole cache is copied
_STEPS_BETWEEN_CHECKS = 8  # of `over`, which looks at a row's text: what was written too much is cut

Over = Callable[[Sequence[int]], bool]
"""Told the token ids of a row so far, whether it may end (a stop string is there)."""


@dataclass(frozen=True, slots=True)
class Generated:
    """Token ids of one completion, without the token that ended it; ``truncated`` if none did.

    ``log_probs``: of each of `ids`, in nats, under the model itself (temperature 1), when they were asked for.
    """

    ids: list[int]
    truncated: bool
    log_probs: list[float] | None = None


def row_seed(seed: int, rendered_prompt: str, sample: int) -> int:
    """The seed of one completion's random numbers: by content, so that its batch neighbours do not matter."""
    text = f"{seed}\x1f{sample}\x1f{rendered_prompt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@torch.inference_mode()
def decode_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    decoding: Decoding,
    stop: frozenset[int],
    pad_id: int,
    seeds: Sequence[int] = (),
    over: Over | None = None,
    finished: Callable[[int], None] | None = None,
) -> list[Generated]:
    """Complete tokenised prompts of any lengths (left-padded inside), at most ``decoding.batch_size`` at once.

    `seeds` (one per prompt, see `row_seed`) are needed when ``decoding.temperature`` is above 0. A row ends with a `stop`
    token, after ``max_new_tokens``, or some tokens after `over` says so. `finished` is told how many rows have ended.
    """
    work = _Work.of(model, prompts, decoding, stop, pad_id, seeds)
    waiting = list(range(len(prompts)))
    batch: _Batch | None = None
    steps = 0
    while waiting or batch is not None:
        free = decoding.batch_size - (len(batch) if batch is not None else 0)
        if waiting and (batch is None or (free >= _enough(decoding.batch_size) and rows_cache.joinable(batch.cache))):
            newcomers = _prefill(work, waiting[:free])
            del waiting[:free]
            batch = newcomers if batch is None else _join(batch, newcomers)
        else:
            assert batch is not None
            _step(work, batch)
        steps += 1
        if over is not None and steps % _STEPS_BETWEEN_CHECKS == 0:
            _end_those(work, batch, over)
        batch = _without_ended(batch)
        if finished is not None:
            finished(len(prompts) - len(waiting) - (0 if batch is None else int(batch.alive.sum())))
    return work.results()


def _enough(rows: int) -> int:
    return max(1, rows // _SHARE_FREE)


# --- the work and the batch ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Work:
    """What stays the same during a decoding, and what has been written: ``[prompts, steps + 1]``, the last column waste."""

    model: Any
    prompts: Sequence[Sequence[int]]
    decoding: Decoding
    options: ForwardOptions
    stop: frozenset[int]
    stop_ids: Tensor
    pad_id: int
    uniform: Tensor | None
    written: Tensor
    lengths: Tensor
    log_probs: Tensor | None

    @classmethod
    def of(
        cls,
        model: Any,
        prompts: Sequence[Sequence[int]],
        decoding: Decoding,
        stop: frozenset[int],
        pad_id: int,
        seeds: Sequence[int],
    ) -> _Work:
        device, shape = model.device, (len(prompts), decoding.max_new_tokens + 1)
        return cls(
            model=model,
            prompts=prompts,
            decoding=decoding,
            options=forward_options(model),
            stop=stop,
            stop_ids=torch.tensor(sorted(stop), dtype=torch.long, device=device),
            pad_id=pad_id,
            uniform=_uniform(seeds, decoding).to(device) if decoding.temperature > 0.0 else None,
            written=torch.zeros(shape, dtype=torch.long, device=device),
            lengths=torch.zeros(len(prompts), dtype=torch.long, device=device),
            log_probs=torch.zeros(shape, device=device) if decoding.log_probs else None,
        )

    def results(self) -> list[Generated]:
        """Every prompt's completion, in the order of the prompts."""
        scores = self.log_probs.tolist() if self.log_probs is not None else [None] * len(self.prompts)
        return [
            self._result(row[:length], score)
            for row, length, score in zip(self.written.tolist(), self.lengths.tolist(), scores, strict=True)
        ]

    def _result(self, ids: list[int], scores: list[float] | None) -> Generated:
        ended = bool(ids) and ids[-1] in self.stop
        kept = ids[:-1] if ended else ids
        return Generated(kept, truncated=not ended, log_probs=None if scores is None else scores[: len(kept)])


@dataclass(slots=True)
class _Batch:
    """The rows being decoded; every tensor has one entry (or row) per row of the batch.

    ``mask`` ``[rows, width]``: which columns of the cache hold the row's own tokens, all at the right. ``rows``: the
    prompt's number. ``token``: chosen last and not in the cache yet; ``position``: where it will stand.
    """

    cache: Any
    mask: Tensor
    rows: Tensor
    position: Tensor
    token: Tensor = field(default_factory=lambda: torch.empty(0))
    alive: Tensor = field(default_factory=lambda: torch.empty(0))

    def __len__(self) -> int:
        return int(self.rows.shape[0])


def _prefill(work: _Work, numbers: Sequence[int]) -> _Batch:
    """Run some prompts through the model and choose their first tokens."""
    device = work.model.device
    ids, mask = left_padded([work.prompts[n] for n in numbers], work.pad_id, device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = _forward(work, ids, mask, positions, None)
    batch = _Batch(out.past_key_values, mask, torch.tensor(numbers, device=device), positions[:, -1] + 1)
    batch.alive = torch.ones(len(numbers), dtype=torch.bool, device=device)
    _write(work, batch, out.logits[:, -1])
    return batch


def _step(work: _Work, batch: _Batch) -> None:
    """One more token for every row."""
    batch.mask = torch.cat([batch.mask, batch.mask.new_ones(len(batch), 1)], dim=1)
    out = _forward(work, batch.token.unsqueeze(1), batch.mask, batch.position.unsqueeze(1), batch.cache)
    batch.position = batch.position + 1
    _write(work, batch, out.logits[:, -1])


def _forward(work: _Work, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Any:
    places = {"position_ids": positions} if "position_ids" in work.options.accepted else {}
    return work.model(
        input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **places, **work.options.last
    )


def _write(work: _Work, batch: _Batch, logits: Tensor) -> None:
    """Choose each row's next token and note it; rows that have ended write into the last column, which nobody reads."""
    steps = work.decoding.max_new_tokens
    lengths = work.lengths[batch.rows]
    draws = None if work.uniform is None else work.uniform[batch.rows, lengths.clamp(max=steps - 1)]
    chosen = _choose(logits, work.decoding, draws)
    column = torch.where(batch.alive, lengths, steps)
    work.written[batch.rows, column] = chosen
    if work.log_probs is not None:
        raw = logits.float()
        work.log_probs[batch.rows, column] = raw.gather(1, chosen.unsqueeze(1)).squeeze(1) - raw.logsumexp(dim=1)
    lengths = lengths + batch.alive
    work.lengths[batch.rows] = lengths
    batch.token = chosen
    batch.alive = batch.alive & ~torch.isin(chosen, work.stop_ids) & (lengths < steps)


def _end_those(work: _Work, batch: _Batch, over: Over) -> None:
    """End the rows whose text says so."""
    lengths = work.lengths[batch.rows].tolist()
    ids = work.written[batch.rows].tolist()
    alive = [was and not over(row[:n]) for was, row, n in zip(batch.alive.tolist(), ids, lengths, strict=True)]
    batch.alive = torch.tensor(alive, device=batch.alive.device)


def _without_ended(batch: _Batch) -> _Batch | None:
    """The batch without its ended rows, once they are worth a copy of the cache; None when no row is left."""
    ended = len(batch) - int(batch.alive.sum())
    if ended == len(batch):
        return None
    if ended < _enough(len(batch)):
        return batch
    keep = batch.alive.nonzero().squeeze(1)
    batch.cache.batch_select_indices(keep)
    kept = _Batch(batch.cache, *(t[keep] for t in (batch.mask, batch.rows, batch.position, batch.token, batch.alive)))
    unused = int((kept.mask.sum(1).amax() - kept.mask.shape[1]).neg())
    if unused and rows_cache.joinable(kept.cache):
        rows_cache.drop_left(kept.cache, unused, kept.mask.shape[1])
        kept.mask = kept.mask[:, unused:]
    return kept


def _join(batch: _Batch, new: _Batch) -> _Batch:
    """Both as one batch; the narrower one is padded on the left."""
    width = max(batch.mask.shape[1], new.mask.shape[1])
    mask = torch.cat([_padded(batch.mask, width), _padded(new.mask, width)])
    rows_cache.join(batch.cache, new.cache, width)
    pairs = zip(
        (batch.rows, batch.position, batch.token, batch.alive),
        (new.rows, new.position, new.token, new.alive),
        strict=True,
    )
    return _Batch(batch.cache, mask, *(torch.cat(pair) for pair in pairs))


def _padded(mask: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(mask, (width - mask.shape[1], 0))


def left_padded(
    rows: Sequence[Sequence[int]], pad_id: int, *, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Token ids and their attention mask, both ``[rows, width]``."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], dtype=torch.long)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], dtype=torch.long)
    return ids.to(device), mask.to(device)


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """What a model's forward method takes: parameter names, and the argument that limits the output head."""

    accepted: frozenset[str]
    keep: str | None

    @property
    def last(self) -> dict[str, int]:
        """Arguments that compute the head for the last position only, where the model can."""
        return self.keeping(1)

    def keeping(self, positions: int) -> dict[str, int]:
        """Arguments that compute the head for the last `positions` only, where the model can."""
        return {} if self.keep is None else {self.keep: positions}


def forward_options(model: Any) -> ForwardOptions:
    """Read what the model's forward accepts; architectures differ."""
    accepted = frozenset(inspect.signature(model.forward).parameters)
    keep = next((name for name in ("logits_to_keep", "num_logits_to_keep") if name in accepted), None)
    return ForwardOptions(accepted, keep)


def _uniform(seeds: Sequence[int], decoding: Decoding) -> Tensor:
    """Random numbers in [0, 1), ``[rows, steps]``: each row's own stream."""
    rows: list[NDArray[np.float64]] = [np.random.default_rng(seed).random(decoding.max_new_tokens) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def _choose(logits: Tensor, decoding: Decoding, draws: Tensor | None) -> Tensor:
    """Next token per row: the likeliest, or one drawn by inverting the cumulative distribution at `draws`."""
    if draws is None:
        return logits.argmax(dim=-1)
    scaled = logits.float() / decoding.temperature
    if decoding.top_p >= 1.0:
        cumulative = scaled.softmax(dim=-1).double().cumsum(dim=-1)
        return _invert(cumulative, draws * cumulative[:, -1])
    # Sorting a quarter of a million logits is slow; the nucleus is nearly always among the few hundred best.
    log_total = scaled.logsumexp(dim=-1, keepdim=True)
    tried = min(_NUCLEUS_TRIED, scaled.shape[-1])
    while True:
        best, order = scaled.topk(tried, dim=-1)
        cumulative = (best - log_total).double().exp().cumsum(dim=-1)
        if tried == scaled.shape[-1] or bool((cumulative[:, -1] >= decoding.top_p).all()):
            break
        tried = min(tried * 8, scaled.shape[-1])
    # The nucleus is the smallest set that reaches top_p (Holtzman et al. 2020, section 3.1).
    size = (cumulative < decoding.top_p).sum(dim=-1, keepdim=True).clamp(max=tried - 1)
    mass = cumulative.gather(1, size).squeeze(1)
    return order.gather(1, _invert(cumulative, draws * mass).unsqueeze(1)).squeeze(1)


def _invert(cumulative: Tensor, targets: Tensor) -> Tensor:
    found = torch.searchsorted(cumulative, targets.unsqueeze(1), right=True).squeeze(1)
    return found.clamp(max=cumulative.shape[1] - 1)
