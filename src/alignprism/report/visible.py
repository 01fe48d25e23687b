"""Make invisible characters visible, so that no name or text can reorder, hide or smuggle what a reader sees.

Bidirectional overrides, zero-width and tag characters become tokens such as ``⟦U+202E⟧`` (CVE-2021-42574;
Unicode TR 36). Joiners that a script needs to be written correctly (Devanagari, Arabic, emoji) stay as they are.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

_JOINERS = frozenset("\u200c\u200d")
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # drawn as nothing, yet not of category Cf
_EMOJI_PARTS = frozenset("\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a text: as it stands, or (``token``) the name of a character that cannot be seen."""

    text: str
    token: bool


def _takes_joiner(before: str) -> bool:
    """Whether a joiner after this character is ordinary writing: Arabic to Sinhala blocks, or an emoji."""
    if before in _EMOJI_PARTS:
        return True
    category = unicodedata.category(before)
    return category == "So" or (category[0] in "LM" and 0x0600 <= ord(before) <= 0x0DFF)


def _hidden(character: str, before: str) -> bool:
    if character in "\n\t":
        return False
    if character in _JOINERS:
        return not (before and _takes_joiner(before))
    if character in _BLANK:
        return True
    code = ord(character)
    if 0xE0100 <= code <= 0xE01EF or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return True
    # Arabic number signs (U+0600 to U+0605, U+06DD, U+08E2) are format characters by category, but are drawn.
    drawn = 0x0600 <= code <= 0x0605 or code in (0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD)
    return unicodedata.category(character) in _HIDDEN_CATEGORIES and not drawn


def segments(text: str) -> list[Segment]:
    """Cut a text into what can be seen and tokens for what cannot; the pieces joined are `visible` of it."""
    text = text.replace("\r\n", "\n")
    found: list[Segment] = []
    start = 0
    for place, character in enumerate(text):
        if _hidden(character, text[place - 1] if place else ""):
            if start < place:
                found.append(Segment(text[start:place], False))
            found.append(Segment(f"⟦U+{ord(character):04X}⟧", True))
            start = place + 1
    if start < len(text):
        found.append(Segment(text[start:], False))
    return found


def visible(text: str) -> str:
    """The text with every invisible control character replaced by its token."""
    return "".join(segment.text for segment in segments(text))


def visible_tree(value: Any) -> Any:
    """`visible` over every string, keys included, of a JSON value."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): visible_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [visible_tree(item) for item in value]
    return value
