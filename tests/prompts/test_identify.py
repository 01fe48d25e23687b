"""Languages and scripts: what a set is labelled with is found in its texts."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from pathlib import Path

import pytest

from alignprism.prompts.identify import identify, own_script, same_language, script_share, share_in

EIGHT = ("en", "hi", "fr", "es", "ar", "ru", "sr", "tl")


def test_at_least_95_of_100_real_questions_are_identified_in_each_language(shared_data: Path) -> None:
    right: dict[str, list[bool]] = defaultdict(list)
    with gzip.open(shared_data / "multiq" / "MultiQ_16_languages.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if len(row["prompt"]) >= 20 and row["language"] in EIGHT:
                right[row["language"]].append(identify(row["prompt"]).code == row["language"])
    shares = {code: sum(found) / len(found) for code, found in right.items()}
    assert set(shares) == set(EIGHT)
    assert min(shares.values()) >= 0.95, shares


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Gde se nalazi najbliža apoteka u ovom gradu?", "sr"),
        ("Где се налази најближа апотека у овом граду?", "sr"),
        ("Saan po ba ang pinakamalapit na botika dito?", "tl"),
        ("Где находится ближайшая аптека в этом городе?", "ru"),
    ],
)
def test_serbian_in_both_scripts_and_tagalog(text: str, code: str) -> None:
    assert identify(text).code == code


def test_a_short_text_is_not_guessed() -> None:
    assert identify("OK, oui").code == ""


def test_varieties_of_one_language_are_one() -> None:
    assert [same_language(c) for c in ("hr", "bs", "sr-Latn", "fil", "pt-BR", "zh_Hans")] == [
        "sr",
        "sr",
        "sr",
        "tl",
        "pt",
        "zh",
    ]


@pytest.mark.parametrize(
    ("text", "language", "share"),
    [
        ("नमस्ते", "hi", 1.0),
        ("namaste", "hi", 0.0),
        ("здраво", "sr", 1.0),
        ("zdravo", "sr", 1.0),
        ("12 !", "hi", None),
        ("こんにちは世界", "ja", 1.0),
    ],
)
def test_the_share_of_letters_in_a_script_of_the_language(text: str, language: str, share: float | None) -> None:
    assert script_share(text, language) == share


@pytest.mark.parametrize(
    ("text", "script", "inside"),
    [
        ("Napiši pismo", "Latn", True),
        ("Напиши писмо", "Latn", False),
        ("请告诉我这个国家的历史", "Hans", True),
        ("请告诉我这个国家的历史", "Hant", False),
        ("請告訴我這個國家的歷史", "Hant", True),
        ("請告訴我這個國家的歷史", "Hans", False),
        ("你好", "Hans", True),
        ("你好", "Hant", True),
        ("Tell me", "Hant", False),
    ],
)
def test_letters_of_one_script(text: str, script: str, inside: bool) -> None:
    share = share_in(text, script)
    assert share is not None and (share >= 0.5) is inside


def test_what_has_no_letters_or_an_unknown_script_has_no_share() -> None:
    assert share_in("123 !", "Latn") is None and share_in("abc", "Runr") is None


def test_scripts_in_which_a_language_is_identified() -> None:
    assert own_script("sr", "Latn") and own_script("zh", "Hant") and own_script("hi", "Deva")
    assert not own_script("hi", "Latn") and not own_script("uz", "Cyrl") and not own_script("hi", "Runr")
