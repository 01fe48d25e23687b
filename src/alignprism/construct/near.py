"""An index of prompts that grows: is a new text one of them, or nearly? By band keys, so that a look-up stays short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignprism.prompts.identify import same_language
from alignprism.prompts.lexical import (
    BANDS,
    CUT,
    HASHES,
    SLACK,
    Signatures,
    folded,
    grams,
    jaccard,
    normalise,
    signatures,
)
from alignprism.rows import Prompt

_PIECE = 5000  # texts that are hashed at once: memory does not grow with their number


@dataclass(frozen=True, slots=True)
class Near:
    """A prompt of the index, what it is there as, and its Jaccard similarity of character 5-grams; 1.0: the same text."""

    prompt: Prompt
    kind: str
    similarity: float


class NearIndex:
    """Prompts of any number by language; `cut` is the similarity from which two are near-duplicates."""

    def __init__(self, cut: float = CUT) -> None:
        self.cut = cut
        self._prompts: list[tuple[Prompt, str]] = []
        self._texts: list[str] = []
        self._signed: Signatures = np.zeros((256, HASHES), np.uint16)
        self._exact: dict[tuple[str, str], list[int]] = {}
        self._bands: dict[tuple[str, int, int], list[int]] = {}

    def __len__(self) -> int:
        return len(self._prompts)

    def add(self, prompts: Sequence[Prompt], kind: str) -> None:
        """Put prompts in; `kind` is what a finding calls them."""
        for start in range(0, len(prompts), _PIECE):
            self._add(prompts[start : start + _PIECE], kind)

    def _add(self, prompts: Sequence[Prompt], kind: str) -> None:
        texts = [_spelling(prompt) for prompt in prompts]
        signed = signatures(texts)
        while len(self._signed) < len(self._prompts) + len(prompts):
            self._signed = np.concatenate([self._signed, np.zeros_like(self._signed)])
        for prompt, text, signature in zip(prompts, texts, signed, strict=True):
            number, code = len(self._prompts), same_language(prompt.language)
            self._prompts.append((prompt, kind))
            self._texts.append(text)
            self._signed[number] = signature
            self._exact.setdefault((code, text), []).append(number)
            for band in enumerate(_keys(signature)):
                self._bands.setdefault((code, *band), []).append(number)

    def near(self, prompt: Prompt) -> list[Near]:
        """The prompts of its language with the same or nearly the same text, the most similar first."""
        code, text = same_language(prompt.language), _spelling(prompt)
        same = self._exact.get((code, text), [])
        signature = signatures([text])[0]
        others = {n for band in enumerate(_keys(signature)) for n in self._bands.get((code, *band), ())} - set(same)
        similar = [(1.0, number) for number in same]
        if others:
            rows = np.array(sorted(others))
            rows = rows[(self._signed[rows] == signature).mean(axis=1) >= self.cut - SLACK]
            mine = grams(text) if len(rows) else frozenset()
            compared = [(jaccard(mine, grams(self._texts[n])), n) for n in rows.tolist()]
            similar += sorted((pair for pair in compared if pair[0] >= self.cut), key=lambda pair: (-pair[0], pair[1]))
        return [Near(self._prompts[number][0], self._prompts[number][1], similarity) for similarity, number in similar]


def _spelling(prompt: Prompt) -> str:
    return folded(normalise(prompt.text), prompt.language)


def _keys(signature: Signatures) -> list[int]:
    """One key for each band of four minima."""
    keys: list[int] = np.ascontiguousarray(signature).view(np.uint64).tolist()
    assert len(keys) == BANDS
    return keys
