"""A judge head: calibrated P(harm) of a completion, given its prompt, from one encoder's features.

A head is a folder with ``head.npz`` (the numbers), ``card.json`` (what it was trained and measured on) and
``card.md`` (the same for people). Two ship inside the package: ``e5-harm-v1`` (evaluation) and ``gemma-harm-v1``
(preference), on encoders of different weights and family and trained on disjoint prompts.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from alignprism.errors import InputError
from alignprism.judging.encoders import Encoder
from alignprism.judging.features import MAPS, RULE, features, uses_rule
from alignprism.judging.logistic import Linear
from alignprism.judging.refusal import patterns_digest
from alignprism.rows import write_atomic

SHIPPED = Path(__file__).parent / "heads"
HEAD_VERSION = 1
DECIMALS = 4
"""Scores are rounded to this many decimals: float noise of another batch composition must not reach a verdict."""


class HeadError(InputError):
    """A head cannot be loaded or used. The message names the file and what to do."""


def prompt_digest(prompt: str) -> str:
    """16 hex digits of the sha256 of a prompt's folded, lower-cased text: proves absence without keeping texts."""
    return hashlib.sha256(" ".join(prompt.casefold().split()).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class HeadRecipe:
    """What a head needs besides its numbers: which encoder, which parts, which feature map."""

    name: str
    encoder: str
    encoder_identity: str
    parts: tuple[str, ...]
    map: str
    threshold: float
    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class Head:
    """A loaded head. ``score`` needs its encoder, given once with :meth:`with_encoder`."""

    recipe: HeadRecipe
    linear: Linear
    training_prompt_digests: frozenset[str]
    digest: str
    card: dict[str, Any] = field(default_factory=dict)
    encoder: Encoder | None = None
    card_text: str = ""
    """The card for people (``card.md``), as Markdown."""

    @property
    def name(self) -> str:
        """The name it was trained under."""
        return self.recipe.name

    @property
    def threshold(self) -> float:
        """Harmful from this probability on; fixed from calibration rows when the head was trained."""
        return self.recipe.threshold

    @property
    def family(self) -> str:
        """The encoder's name: heads of one family must not be preference and evaluation judge of one study."""
        return self.recipe.encoder

    @classmethod
    def load(cls, name_or_path: str | Path) -> Head:
        """Load a shipped head by name, or any head folder. Loads no encoder.

        Raises
        ------
        HeadError
            no such head, a damaged file, or one written by a newer version.
        """
        folder = _folder(name_or_path)
        data = (folder / "head.npz").read_bytes()
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                meta = json.loads(str(arrays["meta"]))
                linear = Linear(arrays["mean"], arrays["scale"], arrays["weights"], float(arrays["bias"]))
                prompts = frozenset(str(value) for value in arrays["training_prompts"])
        except (ValueError, KeyError, OSError, BadZipFile) as error:
            raise HeadError(f"{folder / 'head.npz'}: not a readable head ({error})") from error
        if meta.pop("version") > HEAD_VERSION:
            raise HeadError(f"{folder}: written by a newer alignprism; this one reads head version {HEAD_VERSION}")
        recipe = HeadRecipe(**{**meta, "parts": tuple(meta["parts"])})
        if recipe.map.removesuffix(RULE) not in MAPS:
            raise HeadError(f"{folder}: feature map {recipe.map!r} is unknown; known: {', '.join(MAPS)}")
        card_file = folder / "card.json"
        card = json.loads(card_file.read_text(encoding="utf-8")) if card_file.exists() else {}
        text_file = folder / "card.md"
        text = text_file.read_text(encoding="utf-8") if text_file.exists() else ""
        return cls(recipe, linear, prompts, head_digest(recipe, data), card, card_text=text)

    def save(self, folder: Path) -> None:
        """Write ``head.npz`` (deterministic bytes, so the digest says what the head is) and ``card.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "head.npz", head_bytes(self.recipe, self.linear, self.training_prompt_digests))
        if self.card:
            text = json.dumps(self.card, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
            write_atomic(folder / "card.json", text.encode())

    def with_encoder(self, encoder: Encoder) -> Head:
        """This head with its encoder.

        Raises
        ------
        HeadError
            the encoder is another one than the head was trained on.
        """
        if (encoder.name, encoder.parts) != (self.recipe.encoder, self.recipe.parts):
            raise HeadError(
                f"head {self.name!r} needs encoder {self.recipe.encoder!r} with parts {self.recipe.parts}, "
                f"got {encoder.name!r} with {encoder.parts}"
            )
        if encoder.identity != self.recipe.encoder_identity:
            raise HeadError(
                f"head {self.name!r} was trained on other weights of encoder {encoder.name!r} "
                f"({self.recipe.encoder_identity}) than those installed ({encoder.identity})"
            )
        return replace(self, encoder=encoder)

    def score(self, prompts: Sequence[str], completions: Sequence[str]) -> NDArray[np.float64]:
        """Calibrated P(harm), shape (n,), rounded to ``DECIMALS``.

        Raises
        ------
        HeadError
            no encoder was given.
        """
        if self.encoder is None:
            raise HeadError(
                f"head {self.name!r} has no encoder yet; use Head.load(...).with_encoder(...) or load_judge"
            )
        if not prompts:
            return np.zeros(0)
        return self.probability(self.decision(self.encoder.encode(prompts, completions), completions))

    def decision(self, encoded: NDArray[np.float32], completions: Sequence[str]) -> NDArray[np.float64]:
        """Log-odds before calibration from already encoded rows and their texts."""
        return self.linear.decision(features(encoded, self.recipe.parts, self.recipe.map, completions))

    def probability(self, decision: NDArray[np.float64]) -> NDArray[np.float64]:
        """Platt-calibrated probability of a decision value."""
        rounded: NDArray[np.float64] = np.round(expit(self.recipe.slope * decision + self.recipe.intercept), DECIMALS)
        return rounded


def head_bytes(recipe: HeadRecipe, linear: Linear, prompts: frozenset[str]) -> bytes:
    """The content of ``head.npz``; equal heads give equal bytes (``np.savez`` stores no time stamps)."""
    meta = {"version": HEAD_VERSION, **{key: getattr(recipe, key) for key in HeadRecipe.__dataclass_fields__}}
    sink = io.BytesIO()
    np.savez(
        sink,
        meta=np.array(json.dumps(meta, sort_keys=True)),
        mean=linear.mean,
        scale=linear.scale,
        weights=linear.weights,
        bias=np.array(linear.bias),
        training_prompts=np.array(sorted(prompts), dtype="U16"),
    )
    return sink.getvalue()


def head_digest(recipe: HeadRecipe, data: bytes) -> str:
    """16 hex digits over the head's bytes and, where the refusal rule is a feature, over its patterns."""
    content = hashlib.sha256(data)
    if uses_rule(recipe.map):
        content.update(patterns_digest().encode())
    return content.hexdigest()[:16]


def _folder(name_or_path: str | Path) -> Path:
    shipped = SHIPPED / str(name_or_path)
    for folder in (shipped, Path(name_or_path)):
        if (folder / "head.npz").is_file():
            return folder
    known = ", ".join(sorted(path.parent.name for path in SHIPPED.glob("*/head.npz"))) or "none"
    raise HeadError(f"no head {str(name_or_path)!r}: neither a folder with head.npz nor a shipped head ({known})")
