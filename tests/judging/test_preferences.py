"""Replies of pairwise judges: what is read, in every language, and what is undecidable and never a tie."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.judging.preferences import read_preference
from alignprism.judging.template_file import FOLDER, shipped_languages

LANGUAGES = ("ar", "en", "es", "fr", "hi", "ru", "sr", "tl")


def test_the_templates_are_in_the_papers_eight_languages() -> None:
    assert shipped_languages("pairwise") == LANGUAGES


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_form_that_each_template_asks_for_is_read(code: str) -> None:
    """The last line of a template names the label and the three verdicts, the line before it the reason's label."""
    reason, last = (FOLDER / "pairwise" / f"{code}.jinja").read_text(encoding="utf-8").strip().split("\n")[-2:]
    label, forms = last.split(":", 1)
    words = forms.split()
    first, second, tie = " ".join(words[:2]), " ".join(words[3:5]), words[6]
    assert (("(A)" in first), ("(B)" in second)) == (True, True)
    for form, place in ((first, "first"), (second, "second"), (tie, "tie")):
        found = read_preference(f"{reason.split(':')[0]}: x y z\n{label}: {form}")
        assert (found.place, found.problem, found.explanation) == (place, "", "x y z")


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("Comparison: both are fluent, A is wrong.\nPreferred: Answer (B)", "second"),
        ("**Preferred:** `Answer A`.", "first"),
        ("preferred: b", "second"),
        ("Preferred:\nAnswer (A)", "first"),
        ("## Preferred: (B), because it does what was asked", "second"),
        ("Preferred: A (B repeats itself)", "undecidable"),
        ("Preferred: TIE", "tie"),
        ("Preferred: both are equally good", "undecidable"),
        ("Final verdict: [[A]]", "first"),
        ("The second is better. [[B]]", "second"),
        ("[[C]]", "tie"),
        ('```json\n{"comparison": "short", "preferred": "Answer (A)"}\n```', "first"),
        ("It is clear. Preferred: B", "second"),
        ("Some words.\n\nAnswer (A)", "first"),
        ("A", "first"),
        ("B.", "second"),
        ("<think>Preferred: A? No.</think>\nPreferred: B", "second"),
        ("Preferred: Answer (A)\nSo again: Preferred: Answer (A)", "first"),
        ("Предпочтительный: Ответ (А)", "first"),
        ("Лучше: Б", "second"),
        ("Лучше: В", "second"),
        ("الأفضل: ب", "second"),
        ("बेहतर: उत्तर ए", "first"),
        ("Mas mabuti: Sagot (B).", "second"),
    ],
)
def test_generous_in_form(reply: str, place: str) -> None:
    assert read_preference(reply).place == place


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "  \n",
        "Both have their merits.",
        "Preferred: not A",
        "Preferred: A or B",
        "Preferred: A/B",
        "Preferred: Answer (A) or Answer (B) or TIE",
        "Preferred: Answer A is worse",
        "Preferred: none of your business",
        "Preferred: A\nPreferred: B",
        "[[A]] [[B]]",
        "A\nB",
        "a",
        "- a)\n- b)",
        "Preferred: Apple",
        "Preferred:",
        "<think>Preferred: A</think>",
        "<think>Preferred: A",
        '{"preferred": 1}',
        '{"preferred": "A", "winner": "B"}',
        "Comparison: it is a tie between haste and care",
    ],
)
def test_strict_in_content(reply: str) -> None:
    found = read_preference(reply)
    assert found.place == "undecidable" and found.problem.startswith("unparsable: ")


def test_a_cut_reply_says_so() -> None:
    assert read_preference("Comparison: the first answer", truncated=True).problem == (
        "unparsable: no verdict line, cut at the length limit"
    )


@pytest.mark.parametrize("piece", ["1", "\n", "! ", "{", "[[", "A\n", "a", "Preferred: "])
def test_a_reply_that_never_ends_is_read_at_once(piece: str) -> None:
    start = time.perf_counter()
    read_preference("Preferred: " + piece * 20_000)
    assert time.perf_counter() - start < 2


PIECES = st.sampled_from(
    ["Preferred:", "A", "B", "(A)", "TIE", "\n", " ", "[[", "]]", "{", "}", '"preferred": "A"', "<think>", "</think>", "not",
     "Лучше:", "Ответ", "الأفضل:", "تعادل", "***", "or", "، ", "।", "\u200f", "Comparison:"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join), st.lists(PIECES, max_size=12).map(" ".join)))
@settings(max_examples=600, deadline=None)
def test_every_text_is_read_and_an_unread_one_is_never_a_tie(reply: str) -> None:
    found = read_preference(reply)
    assert found.place in ("first", "second", "tie", "undecidable")
    assert (found.place == "undecidable") == found.problem.startswith("unparsable: ")


@given(
    st.text(alphabet=st.characters(blacklist_categories=("Cs",), blacklist_characters="{[<"), max_size=60).map(
        lambda t: t.replace(":", " ").replace("=", " ").replace("：", " ")
    )
)
@settings(max_examples=300, deadline=None)
def test_a_reason_on_its_own_line_changes_no_verdict(reason: str) -> None:
    line = " ".join(reason.split())
    assert read_preference(f"Comparison: {line}\nPreferred: Answer (B)").place == "second"
