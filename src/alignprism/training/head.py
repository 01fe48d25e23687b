"""Log-probabilities of target tokens from hidden states, without ever holding the full logits.

The output head of a 262k vocabulary is most of a small model and its logits are most of the memory, so the head runs on
completion positions only and in chunks. With a frozen head one more thing helps: the gradient of a token's
log-probability with respect to its hidden state is known up to one scalar already in the forward pass,

    d log p(y) / d h  =  s W^T [ (onehot(y) - p) * (1 - (v / c)^2) ],    v = c tanh(s (W h + b) / c),

so the forward keeps that vector (one hidden state per token) instead of logits, and the backward is a product with that
scalar: two matrix products per chunk in all, nothing recomputed, nothing of vocabulary size kept.

A LoRA adapter on the head adds a low-rank term to the logits, W h + b + U l with l = s A h; it is never merged into W.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_MIXED_PRODUCTS = ("cuda", "xpu")
"""Devices that multiply half-precision matrices into float32: a bfloat16 logit between 16 and 32 is off by up to 0.06."""
_UPCAST_ROWS = 8192


class Buffers:
    """Memory for logits that is used again and again, on a CPU.

    Fresh memory of this size comes from the system page by page, which there takes as long as the product that fills it.
    On other devices torch's own allocator keeps what was freed.
    """

    def __init__(self) -> None:
        self._free: list[Tensor] = []

    def take(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """Uninitialised float32 memory of shape (rows, columns)."""
        while self._free:
            found = self._free.pop()
            if found.shape == (rows, columns):
                return found
        return torch.empty(rows, columns, dtype=torch.float32, device=device)

    def give(self, buffer: Tensor) -> None:
        """Hand memory back; its holder must not use it any more."""
        if buffer.device.type == "cpu":
            self._free.append(buffer)


@dataclass(frozen=True, slots=True)
class HeadForm:
    """What happens to the head's output: ``scale`` multiplies it (Cohere), ``cap`` is the tanh soft cap (Gemma 2)."""

    scale: float = 1.0
    cap: float | None = None
    chunk_bytes: int = 128 * 2**20
    keep_bytes: int = 512 * 2**20
    buffers: Buffers = field(default_factory=Buffers, compare=False)

    def chunk_rows(self, vocabulary: int) -> int:
        """Rows of one chunk of logits."""
        return max(1, self.chunk_bytes // (4 * vocabulary))

    def kept_rows(self, vocabulary: int) -> int:
        """Completion tokens of one forward up to which a trainable head runs once, because its gradients are kept."""
        return self.keep_bytes // (4 * vocabulary)


def completion_log_probs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    form: HeadForm,
    low: Tensor | None = None,
    up: Tensor | None = None,
) -> Tensor:
    """Log-probability of each target.

    Parameters
    ----------
    hidden : (n, h) float tensor, the state that predicts the target
    weight : (v, h) head; bias : (v,) or None
    targets : (n,) int64
    low : (n, r) and up : (v, r), a low-rank term of the logits, or None

    Returns
    -------
    (n,) float32 tensor, in nats.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        result: Tensor = _CompletionLogProbs.apply(hidden, weight, bias, targets, form, low, up)  # type: ignore[no-untyped-call]
    return result


class _CompletionLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        form: HeadForm,
        low: Tensor | None,
        up: Tensor | None,
    ) -> Tensor:
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        trainable_head = need_weight or need_bias or any(ctx.needs_input_grad[5:])
        frozen_head = need_hidden and not trainable_head
        keep = trainable_head and hidden.shape[0] <= form.kept_rows(weight.shape[0])
        log_probs = hidden.new_empty(hidden.shape[0], dtype=torch.float32)
        slopes = torch.empty_like(hidden) if frozen_head else None
        kept: list[tuple[Tensor, Tensor]] = []
        for part in _chunks(hidden.shape[0], form.chunk_rows(weight.shape[0])):
            head = _Head(weight, bias, form, None if low is None else low[part], up)
            buffer = head.buffer(hidden)
            log_probs[part], gradient = _chunk(
                hidden[part], targets[part], head, buffer, with_gradient=frozen_head or keep
            )
            if keep and gradient is not None:
                kept.append((buffer, gradient))
                continue
            if slopes is not None and gradient is not None:
                slopes[part] = (gradient.to(weight.dtype) @ weight).to(hidden.dtype)
            form.buffers.give(buffer)
        ctx.form, ctx.kept = form, kept
        rest = () if frozen_head else (hidden, weight, bias, targets, low, up)
        ctx.save_for_backward(slopes, *rest)
        return log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        slopes, *rest = ctx.saved_tensors
        if slopes is not None:
            return (slopes * outer[:, None].to(slopes.dtype), None, None, None, None, None, None)
        hidden, weight, bias, targets, low, up = rest
        wanted = (*ctx.needs_input_grad[:3], *ctx.needs_input_grad[5:])
        d_hidden = torch.empty_like(hidden) if wanted[0] else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if wanted[2] else None
        d_low = torch.empty_like(low) if wanted[3] else None
        d_up = torch.zeros_like(up, dtype=torch.float32) if wanted[4] else None
        for number, part in enumerate(_chunks(hidden.shape[0], ctx.form.chunk_rows(weight.shape[0]))):
            if ctx.kept:
                (buffer, gradient), ctx.kept[number] = ctx.kept[number], None
            else:
                head = _Head(weight, bias, ctx.form, None if low is None else low[part], up)
                buffer = head.buffer(hidden)
                gradient = _chunk(hidden[part], targets[part], head, buffer, with_gradient=True)[1]
            gradient.mul_(outer[part, None])
            if d_hidden is not None:
                d_hidden[part] = (gradient.to(weight.dtype) @ weight).to(hidden.dtype)
            if d_weight is not None:
                d_weight.addmm_(gradient.T, hidden[part].float())
            if d_bias is not None:
                d_bias += gradient.sum(0)
            if d_low is not None:
                d_low[part] = (gradient.to(up.dtype) @ up).to(low.dtype)
            if d_up is not None:
                d_up.addmm_(gradient.T, low[part].float())
            ctx.form.buffers.give(buffer)
        return (
            d_hidden,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            None,
            None,
            d_low,
            None if d_up is None else d_up.to(up.dtype),
        )


@dataclass(frozen=True, slots=True)
class _Head:
    """The head as one chunk of rows sees it."""

    weight: Tensor
    bias: Tensor | None
    form: HeadForm
    low: Tensor | None
    up: Tensor | None

    def buffer(self, hidden: Tensor) -> Tensor:
        """Memory for one chunk's logits."""
        vocabulary = self.weight.shape[0]
        return self.form.buffers.take(self.form.chunk_rows(vocabulary), vocabulary, hidden.device)

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """The head's output (m, v) before scale and cap, float32, written to `out`."""
        if self.weight.dtype == torch.float32:
            torch.mm(hidden.float(), self.weight.T, out=out)
        elif hidden.device.type in _MIXED_PRODUCTS:
            torch.mm(hidden.to(self.weight.dtype), self.weight.T, out_dtype=torch.float32, out=out)
        else:
            rounded = hidden.to(self.weight.dtype).float()
            for part in _chunks(len(self.weight), _UPCAST_ROWS):
                out[:, part] = rounded @ self.weight[part].float().T
        if self.low is not None and self.up is not None:
            out += (self.low.to(self.up.dtype) @ self.up.T).float()
        if self.bias is not None:
            out += self.bias
        return out


def _chunks(rows: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _chunk(
    hidden: Tensor, targets: Tensor, head: _Head, buffer: Tensor, *, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities ``(m,)`` and, on request, their gradients with respect to the head's output ``(m, v)``.

    Works in `buffer`, which the gradients may lie in, because at this size every copy costs as much as a whole layer.
    """
    form, logits = head.form, head.logits(hidden, buffer[: len(hidden)])
    if form.scale != 1.0:
        logits *= form.scale
    if form.cap is not None:
        logits.div_(form.cap).tanh_().mul_(form.cap)
    slope = 1 - (logits / form.cap) ** 2 if form.cap is not None and with_gradient else None
    index = targets[:, None]
    chosen, top = logits.gather(-1, index), logits.amax(-1, keepdim=True)
    # One fused pass, several times as fast as subtracting, exp and sum; the largest probability is 1 / that sum. In place
    # on a CPU only, where each row is read before it is written; the kernels of other devices promise nothing of the kind.
    probabilities = torch.softmax(logits, -1, out=logits if logits.device.type == "cpu" else None)
    log_probs = (chosen - top + probabilities.amax(-1, keepdim=True).log()).squeeze(-1)
    if not with_gradient:
        return log_probs, None
    gradient = probabilities.neg_()
    gradient.scatter_add_(-1, index, torch.ones_like(index, dtype=gradient.dtype))
    if slope is not None:
        gradient *= slope
    if form.scale != 1.0:
        gradient *= form.scale
    return log_probs, gradient
