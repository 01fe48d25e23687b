"""Near-duplicates by letters: the exact similarity decides, and the candidates miss next to nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignprism.prompts.clusters import joined
from alignprism.prompts.lexical import CUT, folded, grams, jaccard, near_pairs, normalise, signatures

WORDS = [
    "river",
    "stone",
    "lamp",
    "garden",
    "window",
    "market",
    "letter",
    "bridge",
    "music",
    "winter",
    "harbour",
    "candle",
    "forest",
    "silver",
    "engine",
    "paper",
]


def sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) + str(rng.randrange(99)) for _ in range(12)) for _ in range(count)]


def found(texts: list[str], group: list[int] | None = None, **options: float) -> set[tuple[int, int]]:
    normalised = [normalise(text) for text in texts]
    groups = np.array(group or [0] * len(texts))
    return {
        (p.first, p.second)
        for p in near_pairs(signatures(normalised), groups, normalised.__getitem__, **options)  # type: ignore[arg-type]
    }


def test_changed_words_are_found_and_strangers_are_not() -> None:
    base = sentences(300, 1)
    changed = []
    for n, text in enumerate(base):
        words = text.split()
        words[n % 12] = "altered"
        changed.append(" ".join(words))
    pairs = found([*base, *changed])
    expected = {
        (n, n + 300) for n in range(300) if jaccard(grams(normalise(base[n])), grams(normalise(changed[n]))) >= CUT
    }
    assert len(expected) > 250
    assert len(expected & pairs) >= 0.97 * len(expected)
    assert pairs <= expected


def test_every_pair_reported_has_the_similarity_it_is_reported_with() -> None:
    normalised = [normalise(t) for t in (*sentences(50, 2), *sentences(50, 2))]
    for pair in near_pairs(signatures(normalised), np.zeros(100, np.int64), normalised.__getitem__):
        assert pair.similarity == pytest.approx(jaccard(grams(normalised[pair.first]), grams(normalised[pair.second])))


def test_case_spaces_and_compatibility_forms_are_no_difference() -> None:
    assert normalise("  Ｈello\n WORLD ") == "hello world"
    assert found(["The old mill by the river is closed today.", "the OLD mill  by the river is closed today."]) == {
        (0, 1)
    }


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [
        ("Како да отворим рачун у Џакову, Љубо?", "Kako da otvorim račun u Džakovu, Ljubo?", "sr"),
        ("Како да отворим рачун?", "Kako da otvorim račun?", "bs"),
        ("كَيْفَ أَكْتُبُ رِسَالَةً؟", "كيف أكتب رسالة؟", "ar"),
        ("كيـــف أكتب ـــ رسالة؟", "كيف أكتب رسالة؟", "ar"),
    ],
)
def test_two_spellings_of_one_text_are_one(one: str, other: str, language: str) -> None:
    assert normalise(one) != normalise(other)
    assert folded(normalise(one), language) == folded(normalise(other), language)


@pytest.mark.parametrize(
    ("text", "language"),
    [("как дела", "ru"), ("kako да", "mk"), ("मुझे ज़रूर", "hi"), ("plain text", "sr"), ("أآإا", "ar")],
)
def test_what_makes_another_word_is_not_folded(text: str, language: str) -> None:
    assert folded(normalise(text), language) == normalise(text)


def test_languages_are_never_compared_and_a_negative_group_with_none() -> None:
    same = ["The old mill by the river is closed today."] * 3
    assert found(same, [0, 1, 0]) == {(0, 2)}
    assert found(same, [0, -1, -1]) == set()


def test_a_small_memory_gives_the_same_pairs() -> None:
    texts = [*sentences(200, 3), *sentences(200, 3)]
    assert found(texts, memory=2000) == found(texts)


def test_a_cluster_of_many_is_joined_by_its_pairs() -> None:
    texts = [*sentences(30, 4), *(f"{sentences(1, 5)[0]} end{n % 3}" for n in range(60))]
    assert len(set(joined(90, found(texts))[30:].tolist())) == 1


@pytest.mark.parametrize("texts", [[], [""], ["a", "a"], ["ab", "abc"], ["ไทยไม่มีช่องว่างระหว่างคำ"] * 2])
def test_short_and_empty_texts_break_nothing(texts: list[str]) -> None:
    assert signatures([normalise(t) for t in texts]).shape == (len(texts), 64)
    found(texts)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=8))
def test_signatures_estimate_the_similarity_without_bias(texts: list[str]) -> None:
    normalised = [normalise(t) for t in texts]
    signed = signatures(normalised)
    for n, one in enumerate(normalised):
        for m, other in enumerate(normalised):
            if one == other:
                assert (signed[n] == signed[m]).all()


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_union_find_is_reachability(size: int, pairs: list[tuple[int, int]]) -> None:
    pairs = [(a % size, b % size) for a, b in pairs]
    roots = joined(size, pairs).tolist()
    reach = [{n} for n in range(size)]
    for _ in range(size):
        for a, b in pairs:
            reach[a] |= reach[b]
            reach[b] |= reach[a]
    for n in range(size):
        assert roots[n] == min(m for m in range(size) if n in reach[m] or m in reach[n]) or roots[n] in reach[n]
        assert {m for m in range(size) if roots[m] == roots[n]} >= reach[n]
