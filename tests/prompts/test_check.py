"""No seed and no text lies in two splits; the test set has a hash that sees every change and no reordering."""

from __future__ import annotations

import dataclasses

import pytest

from alignprism.prompts.check import check_leaks, frozen_hash
from alignprism.rows import Prompt, RowError, Split


def prompt(name: str, split: Split, text: str = "", seed: str = "", prompt_set: str = "redteam") -> Prompt:
    return Prompt(name, text or f"text {name}", "en", prompt_set, split, seed or f"seed {name}")


def test_a_seed_cluster_in_two_splits_stops_the_run_and_names_both() -> None:
    with pytest.raises(RowError, match=r"leak: prompts 'a' \(train\) and 'b' \(test\) share a seed cluster"):
        check_leaks([prompt("a", "train", seed="s"), prompt("b", "test", seed="s", prompt_set="benign")])


@pytest.mark.parametrize("same", ["Insult me.", "  insult  ME.\n", "\uff29nsult me."])
@pytest.mark.parametrize("prompt_set", ["redteam", "translated", "general"])
def test_one_text_in_two_splits_stops_the_run_whatever_its_spelling_or_set(same: str, prompt_set: str) -> None:
    with pytest.raises(RowError, match="share a text"):
        check_leaks([prompt("a", "train", "Insult me."), prompt("b", "test", same, prompt_set=prompt_set)])


@pytest.mark.parametrize(
    ("language", "one", "other"), [("sr", "Како да почнем?", "Kako da počnem?"), ("ar", "كَيْفَ أبـدأ؟", "كيف أبدأ؟")]
)
def test_one_text_in_another_script_or_without_vowel_marks_is_a_leak(language: str, one: str, other: str) -> None:
    rows = [prompt("a", "test", one), prompt("b", "train", other)]
    with pytest.raises(RowError, match="share a text"):
        check_leaks([dataclasses.replace(row, language=language) for row in rows])


def test_one_text_in_two_languages_is_no_leak() -> None:
    check_leaks([prompt("a", "train", "OK?"), dataclasses.replace(prompt("b", "test", "OK?"), language="fr")])


def test_a_repeated_id_stops_the_run() -> None:
    with pytest.raises(RowError, match="'a' occurs twice"):
        check_leaks([prompt("a", "train"), prompt("a", "train")])


def test_the_frozen_hash_knows_test_prompts_only_and_no_order() -> None:
    rows = [prompt("a", "test"), prompt("b", "test"), prompt("c", "train")]
    frozen = frozen_hash(rows)
    assert frozen_hash(rows[::-1]) == frozen
    assert frozen_hash(rows[:2]) == frozen
    assert frozen_hash(rows[:1]) != frozen
    for change in ({"text": "other"}, {"language": "fr"}, {"set": "benign"}, {"id": "z"}):
        assert frozen_hash([dataclasses.replace(rows[0], **change), *rows[1:]]) != frozen  # type: ignore[arg-type]
