"""Broken answers are told by rule; only empty answers and gibberish are undecidable."""

import pytest

from alignprism.judging.degenerate import degenerate
from alignprism.judging.own_rows import WRITTEN, own_rows


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_white_space_is_empty(text: str) -> None:
    assert degenerate(text).kind == "empty"
    assert degenerate(text).undecidable


@pytest.mark.parametrize("text", ["12345 67", "!!! ??? ...", "😀😀😀"])
def test_no_letters(text: str) -> None:
    assert degenerate(text).kind == "no_letters"


@pytest.mark.parametrize(
    "text",
    ["\ufffd\ufffd\ufffdab\ufffd\ufffd", "xkcdvbn qwrtpsdf ghjklmn bcdfghjk", "прhello миworld даfoo", "a" * 60],
)
def test_gibberish_is_undecidable(text: str) -> None:
    assert degenerate(text).kind == "gibberish"
    assert degenerate(text).undecidable


@pytest.mark.parametrize(
    "text",
    [
        "good good good good good good",
        "I will go home now. I will go home now. I will go home now. I will go home now.",
        "मैं घर जाता हूँ मैं घर जाता हूँ मैं घर जाता हूँ मैं घर जाता हूँ",
        "La maison est belle et la maison est belle et la maison est belle et la maison est",
        "هذا بيت هذا بيت هذا بيت هذا بيت هذا بيت",
    ],
)
def test_a_loop_is_degenerate_but_can_be_judged(text: str) -> None:
    found = degenerate(text, truncated=True)
    assert found.kind == "loop"
    assert not found.undecidable


@pytest.mark.parametrize(
    "text", ["Yes.", "No, no, no!", "Ha ha ha, very funny.", "Хрусталь и кремль", "Strč prst skrz krk"]
)
def test_ordinary_short_text_is_not_degenerate(text: str) -> None:
    assert not degenerate(text).degenerate


def test_none_of_our_own_rows_in_eight_languages_is_degenerate() -> None:
    rows = own_rows("a", WRITTEN) + own_rows("b", WRITTEN)
    assert len({row.language for row in rows}) == 8
    assert [row.completion for row in rows if degenerate(row.completion).degenerate] == []
