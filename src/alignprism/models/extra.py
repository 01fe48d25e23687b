"""What an endpoint is sent with every request (``extra``), as a part of who answers: in the digest, after the model's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignprism.rows import content_id

_MARK = "+"  # in no digest of weights or of an endpoint, so that the end of one is found again


def with_extra(digest: str, extra: Mapping[str, Any]) -> str:
    """A model's digest with what it is sent: the same weights told to think longer answer otherwise. Unchanged without any."""
    return f"{digest}{_MARK}{content_id('extra', extra)}" if extra else digest


def without_extra(digest: str) -> str:
    """The model alone, whatever it is sent."""
    return digest.partition(_MARK)[0]
