"""Personal data by pattern and check digit, hidden characters by code point; places, never the values."""

from __future__ import annotations

import pytest

from alignprism.prompts.personal import hidden_characters, personal_data


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("Write to jane.doe+x@mail.example.org now", "e-mail address", 10),
        ("Call +49 30 901820 at noon", "telephone number", 6),
        ("Call (030) 901 820 now", "telephone number", 6),
        ("Pay to DE89 3704 0044 0532 0130 00 today", "IBAN", 8),
        ("Card 4111 1111 1111 1111 expires", "payment card number", 6),
        ("It came from 93.184.216.34 again", "IP address", 14),
    ],
)
def test_what_looks_like_personal_data(text: str, kind: str, place: int) -> None:
    assert list(personal_data(text)) == [(kind, place)]


@pytest.mark.parametrize(
    "text",
    [
        "In 2024-01-15 10:30 there were 1,000,000 people",
        "Card 4111 1111 1111 1112 has a wrong check digit",
        "DE89 3704 0044 0532 0130 01 is no IBAN",
        "version 10.0.0.1 and 999.1.1.1",
        "user@host without a domain",
        "3.14159265358979 and 2 + 2 = 4",
        "Zimmer 12, 3. Stock, 1990 bis 1999",
    ],
)
def test_what_does_not(text: str) -> None:
    assert list(personal_data(text)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\u202eb", [("U+202E", 2, True)]),
        ("a\0", [("U+0000", 2, True)]),
        ("x\u200by", [("U+200B", 2, False)]),
        ("plain \u200d word", []),
        ("ab\u200dcd", [("U+200D", 3, False)]),
        ("क\u094d\u200dष", []),
        ("می\u200cخواهم", []),
        ("👩\u200d🚀", []),
        ("line\nbreak\ttab", []),
    ],
)
def test_hidden_characters_but_not_those_of_an_orthography(text: str, found: list[tuple[str, int, bool]]) -> None:
    assert list(hidden_characters(text)) == found
