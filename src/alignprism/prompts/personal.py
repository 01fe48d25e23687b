"""Patterns of personal data and hidden characters: where they are, never what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{2,63})+")
_PHONE = re.compile(
    r"(?<![\w.,])(?<!\d )(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,12}"
    r"|\(0?\d{2,4}\)[ .-]?\d{2,4}(?:[ .-]?\d{2,4}){1,3}|0\d{2,4}[ -/]\d{3,4}(?:[ -]?\d{2,4}){1,2})(?![\w])"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(r"(?<![\d.,])\d(?:[ -]?\d){12,18}(?![\d.,]\d)")
_IP = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_DIGITS = re.compile(r"\d[\d .()/+-]{5,}\d")

_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u200b-\u200d\u202a-\u202e\u2060\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_GRAVE = re.compile("[\x00\u202d\u202e\U000e0000-\U000e007f]")
# Joiners belong to the orthography of Indic and Arabic scripts and to emoji, and to nothing between these letters.
_PLAIN_LETTER = re.compile("[A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u052f]")


def personal_data(text: str) -> Iterator[tuple[str, int]]:
    """Kind and place (first character is 1) of what looks like personal data."""
    if "@" in text:
        yield from (("e-mail address", m.start() + 1) for m in _EMAIL.finditer(text))
    if _DIGITS.search(text) is None:
        return
    taken: list[tuple[int, int]] = []
    for kind, pattern, valid in (
        ("IBAN", _IBAN, _valid_iban),
        ("payment card number", _CARD, _valid_card),
        ("IP address", _IP, _valid_ip),
        ("telephone number", _PHONE, _valid_phone),
    ):
        for match in pattern.finditer(text):
            if valid(match.group()) and not any(a < match.end() and match.start() < b for a, b in taken):
                taken.append(match.span())
                yield kind, match.start() + 1


def _digits(found: str) -> str:
    return "".join(c for c in found if c.isdigit())


def _valid_phone(found: str) -> bool:
    return 8 <= len(_digits(found)) <= 15


def _valid_card(found: str) -> bool:
    """Luhn's check digit (ISO/IEC 7812)."""
    digits = [int(d) for d in _digits(found)][::-1]
    doubled = (sum(divmod(2 * d, 10)) for d in digits[1::2])
    return len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _valid_iban(found: str) -> bool:
    """ISO 13616: the number moved behind, letters as 10 to 35, is 1 modulo 97."""
    plain = found.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _valid_ip(found: str) -> bool:
    parts = [int(part) for part in found.split(".")]
    return all(part <= 255 for part in parts) and parts[0] not in (0, 10, 127)


def hidden_characters(text: str) -> Iterator[tuple[str, int, bool]]:
    """Code point, place and gravity (direction overrides, NUL, tag characters) of characters that nobody sees."""
    for match in _HIDDEN.finditer(text):
        character, place = match.group(), match.start()
        if character in "\u200c\u200d":
            around = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
            if not all(_PLAIN_LETTER.fullmatch(c) for c in around):
                continue
        yield f"U+{ord(character):04X}", place + 1, _GRAVE.fullmatch(character) is not None
