"""Ready pairs are kept apart from held-out prompts of other languages: a translation is a leak as well."""

from __future__ import annotations

from dataclasses import replace

from alignprism.prompts.read import read_sample
from alignprism.rows import Pair, Prompt
from alignprism.stages.ready import apart_across


def pairs_of(prompts: list[Prompt]) -> list[Pair]:
    rows = []
    for n, prompt in enumerate(prompts):
        rows.append(
            Pair(
                id=f"pair {n}", prompt_id=f"other {n}", prompt=prompt.text, chosen="No.", rejected="Yes.",
                language=prompt.language, kind="safety", scope=None, categories=(), seed_id=f"seed {n}",
                chosen_source="a", rejected_source="b", chosen_score=None, rejected_score=None, judge="", licence="", redistribute=False, random_side="chosen",
            )
        )  # fmt: skip
    return rows


def test_translations_of_held_out_prompts_are_set_aside_and_other_prompts_are_not() -> None:
    sample = read_sample("translated")
    french = [prompt for prompt in sample if prompt.language == "fr"]
    translations = [prompt for prompt in sample if prompt.language == "en"]
    others = [prompt for prompt in read_sample("general") if prompt.language == "en"][: len(translations)]
    assert len(french) == len(translations) >= 8 and len(others) >= 8
    pairs = pairs_of([*translations, *others])
    again = [*pairs, *(replace(pair, id=f"{pair.id} again") for pair in pairs)]  # several pairs of one prompt
    kept, aside = apart_across(again, [replace(prompt, split="test") for prompt in french])
    assert sorted([*(p.id for p in kept), *(row.id for row in aside)]) == sorted(p.id for p in again)
    wrong = {row.id for row in aside} & {pair.id for pair in pairs[len(translations) :]}
    found = {row.id for row in aside} & {pair.id for pair in pairs[: len(translations)]}
    assert len(found) >= 0.75 * len(translations) and len(wrong) <= 1, (sorted(found), sorted(wrong))
    assert {row.reason for row in aside} == {"says the same as a dev or test prompt in another language"}
    names = {row.id for row in aside}
    assert all((f"{name} again" in names) for name in found)
    assert not [row for row in aside if any(pair.prompt in row.detail for pair in pairs)]


def test_held_out_prompts_of_the_same_language_only_need_no_vectors() -> None:
    english = [prompt for prompt in read_sample("translated") if prompt.language == "en"]
    pairs = pairs_of(english)
    assert apart_across(pairs, english) == (pairs, [])
    assert apart_across(pairs, []) == (pairs, [])
    assert apart_across([], english) == ([], [])
