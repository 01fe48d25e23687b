"""A text in pieces that a translation model can read: it was trained on sentences, not on pages."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 400
"""Characters of a piece; a longer line is cut where a sentence ends."""

_SENTENCE_END = re.compile(r"(?<=[.!?।؟…])\s+|(?<=[。！？])")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text; what is not to be translated (white space, lines without letters, code) stays as it is."""

    text: str
    translate: bool


def pieces_of(text: str, longest: int = LONGEST) -> list[Piece]:
    """The pieces, which together are the text: lines, long ones in sentences. Lines between code fences stay as they are.

    A sentence that is longer than `longest` is one piece: cut in the middle it would be no sentence.
    """
    pieces: list[Piece] = []
    code = False
    for line in re.split(r"(\n)", text):
        fence = line.lstrip().startswith("```")
        code = code != fence
        if code or fence or not any(character.isalpha() for character in line):
            pieces.append(Piece(line, translate=False))
            continue
        inner = line.strip()
        start = line.index(inner)
        pieces.append(Piece(line[:start], translate=False))
        pieces += _sentences(inner, longest)
        pieces.append(Piece(line[start + len(inner) :], translate=False))
    return [piece for piece in pieces if piece.text]


def _sentences(line: str, longest: int) -> list[Piece]:
    """A line in pieces of whole sentences, each as long as it may be; what is between two pieces is white space."""
    ends = [match.span() for match in _SENTENCE_END.finditer(line)]
    pieces: list[Piece] = []
    start = 0
    for number, (end, after) in enumerate(ends):
        following = ends[number + 1][0] if number + 1 < len(ends) else len(line)
        if following - start > longest and end > start:
            pieces += [Piece(line[start:end], translate=True), Piece(line[end:after], translate=False)]
            start = after
    return [*pieces, Piece(line[start:], translate=True)]
