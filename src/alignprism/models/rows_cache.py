"""Rows that join and leave a key-value cache of transformers while it is in use.

Keys and values are ``[rows, heads, columns, size]``, with every row's tokens at the right. A layer with a sliding window
keeps the last ``window - 1`` columns and counts all that there were (`cumulative_length`), so that the masks fit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


def joinable(cache: Any) -> bool:
    """Whether every layer is one of the two kinds that are understood here (not: recurrent, quantised, static ones)."""
    layers = getattr(cache, "layers", [])
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def join(cache: Any, other: Any, width: int) -> None:
    """Put the rows of `other` below those of `cache`, both padded on the left to `width` columns."""
    for layer, new in zip(cache.layers, other.layers, strict=True):
        if not layer.is_initialized:  # a layer that uses another one's keys has none of its own
            continue
        columns = _kept(layer, width)
        layer.keys = torch.cat([_padded(layer.keys, columns), _padded(new.keys, columns)])
        layer.values = torch.cat([_padded(layer.values, columns), _padded(new.values, columns)])
        _count(layer, width)


def drop_left(cache: Any, columns: int, width: int) -> None:
    """Forget the first of `width` columns, in which no row has a token."""
    for layer in cache.layers:
        if not layer.is_initialized:
            continue
        kept = _kept(layer, width - columns)
        layer.keys = layer.keys[:, :, -kept:]
        layer.values = layer.values[:, :, -kept:]
        _count(layer, width - columns)


def _kept(layer: Any, width: int) -> int:
    return min(width, layer.sliding_window - 1) if isinstance(layer, DynamicSlidingWindowLayer) else width


def _count(layer: Any, width: int) -> None:
    if isinstance(layer, DynamicSlidingWindowLayer):
        layer.cumulative_length = width


def _padded(states: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, 0, columns - states.shape[2], 0))
