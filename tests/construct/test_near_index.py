"""The index of known prompts: what is the same text to a reader is found, whatever its spelling."""

from __future__ import annotations

import pytest

from alignprism.construct.near import NearIndex
from alignprism.rows import Prompt


@pytest.mark.parametrize(
    ("known", "new", "language"),
    [
        ("Како да напишем писмо комшији?", "Kako da napišem pismo komšiji?", "sr"),
        ("Kako da napišem pismo komšiji?", "Како да напишем писмо комшији?", "sr"),
        ("كَيْفَ أَكْتُبُ رِسَالَةً إلى جاري؟", "كيف أكتب رسـالة إلى جاري؟", "ar"),
    ],
)
def test_another_script_or_other_vowel_marks_are_the_same_text(known: str, new: str, language: str) -> None:
    index = NearIndex()
    index.add([Prompt("held", known, language, "redteam", "test", "s")], "test")
    found = index.near(Prompt("new", new, language, "redteam", "train", "t"))
    assert [(near.prompt.id, near.similarity) for near in found] == [("held", 1.0)]
