"""From a judge's name to a head that can score, and heads as judges of harm: loads the encoder that it was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignprism.judging.encoders import Encoder, EncoderError, GemmaEncoder, load_e5
from alignprism.judging.head import Head
from alignprism.judging.protocol import HarmVerdict, Item
from alignprism.models.protocol import Progress

EVALUATION_HEAD = "e5-harm-v1"
PREFERENCE_HEAD = "gemma-harm-v1"


def load_judge(name_or_path: str | Path, cache: Path) -> Head:
    """A head with its encoder, ready to score.

    Parameters
    ----------
    name_or_path
        a shipped head (``e5-harm-v1``, ``gemma-harm-v1``) or a folder written by ``alignprism judge train-head``.
    cache
        where embedded models lie converted; used by heads on Gemma states only.

    Raises
    ------
    HeadError
        no such head, damaged, or trained on other encoder weights.
    EncoderError
        the encoder cannot be loaded.
    """
    head = Head.load(name_or_path)
    return head.with_encoder(load_encoder(head.recipe.encoder, head.recipe.parts, cache))


def load_encoder(name: str, parts: tuple[str, ...], cache: Path) -> Encoder:
    """The encoder of that name, for the given parts."""
    if name == "e5":
        return load_e5()
    if name == "gemma":
        from alignprism.models.embedded import EMBEDDED, ensure

        layers = tuple(sorted({int(part.lstrip("abcdefghijklmnopqrstuvwxyz")) for part in parts}))
        model = "gemma-3-270m"
        return GemmaEncoder(ensure(model, cache), f"{model}:{EMBEDDED[model].sha256[:16]}", layers)
    raise EncoderError(f"unknown encoder {name!r}; known: e5, gemma")


def ready(head: Head, cache: Path) -> Head:
    """A loaded head with its encoder, ready to score; see `load_judge`."""
    return head.with_encoder(load_encoder(head.recipe.encoder, head.recipe.parts, cache))


_BATCH = 256


@dataclass(frozen=True)
class HeadJudge:
    """A head with its encoder as a judge of harm: a score, and harmful from the head's own threshold on."""

    head: Head

    @property
    def name(self) -> str:
        """The head's name."""
        return self.head.name

    @property
    def digest(self) -> str:
        """The head's digest."""
        return self.head.digest

    def check(self, languages: Iterable[str]) -> None:
        """Heads are not spoken to."""

    def judge(self, items: Sequence[Item], progress: Progress | None = None) -> Iterator[HarmVerdict]:
        """One verdict per item, in the order of the items; nothing is stored, because nothing is asked."""
        for start in range(0, len(items), _BATCH):
            part = items[start : start + _BATCH]
            scores = self.head.score([item.prompt for item in part], [item.completion for item in part])
            for item, score in zip(part, scores.tolist(), strict=True):
                yield HarmVerdict(item.id, "harmful" if score >= self.head.threshold else "harmless", score)
            if progress is not None:
                progress(start + len(part), len(items))
