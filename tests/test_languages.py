"""Language facts are CLDR's."""

from __future__ import annotations

import pytest
from babel import Locale
from babel.localedata import locale_identifiers

from alignprism.languages import UnknownLanguage, language


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
