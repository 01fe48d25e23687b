"""Language facts are CLDR's."""

from __future__ import annotations

import pytest
from babel import Locale
from babel.localedata import locale_identifiers

from alignprism.languages import UnknownLanguage, find_language, language


@pytest.mark.parametrize(
    ("code", "name", "scripts", "direction"),
    [
        ("en", "English", ("Latn",), "ltr"),
        ("hi", "Hindi", ("Deva",), "ltr"),
        ("fr", "French", ("Latn",), "ltr"),
        ("es", "Spanish", ("Latn",), "ltr"),
        ("ar", "Arabic", ("Arab",), "rtl"),
        ("ru", "Russian", ("Cyrl",), "ltr"),
        ("sr", "Serbian", ("Cyrl", "Latn"), "ltr"),
        ("tl", "Filipino (Tagalog)", ("Latn",), "ltr"),
    ],
)
def test_the_eight_languages_of_the_sample(code: str, name: str, scripts: tuple[str, ...], direction: str) -> None:
    found = language(code)
    assert (found.code, found.name, found.scripts, found.direction) == (code, name, scripts, direction)


def test_filipino_and_tagalog_are_one_language() -> None:
    assert language("fil") is language("tl") or language("fil") == language("tl")


@pytest.mark.parametrize("code", sorted({i for i in locale_identifiers() if "_" not in i and i != "root"}))
def test_direction_and_name_agree_with_cldr_for_every_language_it_describes(code: str) -> None:
    found = language(code)
    assert found.direction == Locale.parse(code).text_direction
    assert found.name
    assert all(len(script) == 4 for script in found.scripts)


@pytest.mark.parametrize("code", ["", "xx", "english", "EN", "en-US", "zz", "e", "12", "हि", "None"])
def test_what_is_no_language_is_refused_with_an_example(code: str) -> None:
    with pytest.raises(UnknownLanguage, match="such as 'hi'"):
        language(code)


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("hi", "hi"),
        ("hin", "hi"),
        ("Hindi", "hi"),
        ("arb", "ar"),
        ("pt-BR", "pt"),
        ("zh_Hans", "zh"),
        ("Filipino", "tl"),
    ],
)
def test_any_label_that_data_sets_use_finds_its_language(label: str, code: str) -> None:
    assert find_language(label).code == code


def test_a_label_of_no_language_says_what_is_accepted() -> None:
    with pytest.raises(UnknownLanguage, match="'Klingonese' is no language known to CLDR; use a BCP-47 code"):
        find_language("Klingonese")


def test_a_text_in_the_place_of_a_label_is_not_shown() -> None:
    with pytest.raises(UnknownLanguage, match=r"^a text of 60 characters is no language"):
        find_language("secret " * 8 + "text")
