"""From a head's name to a judge that can score: the head with its encoder loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alignprism.judging.encoders import Encoder, GemmaEncoder, load_e5
from alignprism.judging.head import Head, HeadError
from alignprism.models.embedded import EMBEDDED, ensure

GEMMA = "gemma-3-270m"
GEMMA_IDENTITY = f"{GEMMA}:{EMBEDDED[GEMMA].sha256[:16]}"
"""Named by the checked weights file, not by the converted folder: the conversion is a function of it."""


def load_encoder(name: str, cache: Path, report: Callable[[str], None], layers: tuple[int, ...] = (9,)) -> Encoder:
    """The encoder ``e5`` or ``gemma`` (fetched into the cache when it is missing).

    Raises
    ------
    HeadError
        no such encoder.
    EncoderError, EmbeddedError
        it cannot be loaded or fetched.
    """
    if name == "e5":
        return load_e5()
    if name == "gemma":
        return GemmaEncoder(ensure(GEMMA, cache, report), GEMMA_IDENTITY, layers)
    raise HeadError(f"encoder {name!r} is unknown; accepted: e5, gemma")


def ready(head: Head, cache: Path, report: Callable[[str], None]) -> Head:
    """A head that can score: with the encoder that it was trained on."""
    recipe = head.recipe
    _, _, layers = recipe.encoder_identity.partition(":layers=")
    wanted = tuple(int(layer) for layer in layers.split(",")) if layers else (9,)
    return head.with_encoder(load_encoder(recipe.encoder, cache, report, wanted))
