"""The sample inside the package is what the issue promises: counts, categories, scopes, splits, marks."""

from __future__ import annotations

from collections import Counter

import pytest

from alignprism.prompts.check import check_leaks
from alignprism.prompts.read import read_sample
from alignprism.rows import CATEGORIES, PROMPT_SETS, Prompt

TRAINED = ("en", "hi", "fr", "es", "ar", "ru")
ZERO_SHOT = ("sr", "tl")
EIGHT = (*TRAINED, *ZERO_SHOT)


def of(prompt_set: str, code: str) -> list[Prompt]:
    return [p for p in read_sample(prompt_set) if p.language == code]


def test_the_sample_has_the_eight_languages_in_every_set() -> None:
    for prompt_set in PROMPT_SETS:
        assert {p.language for p in read_sample(prompt_set)} == set(EIGHT)


@pytest.mark.parametrize("code", TRAINED)
def test_trained_languages_have_12_train_4_dev_and_8_test_seeds(code: str) -> None:
    assert Counter(p.split for p in of("redteam", code)) == {"train": 12, "dev": 4, "test": 8}


@pytest.mark.parametrize("code", ZERO_SHOT)
def test_zero_shot_languages_are_test_only(code: str) -> None:
    assert Counter(p.split for p in of("redteam", code)) == {"test": 24}


def test_there_are_96_test_clusters() -> None:
    assert len({p.seed_id for p in read_sample("redteam") if p.split == "test"}) == 96


@pytest.mark.parametrize("code", EIGHT)
def test_every_language_has_all_nine_categories_and_two_thirds_global(code: str) -> None:
    prompts = of("redteam", code)
    assert {c for p in prompts for c in p.categories} == set(CATEGORIES)
    assert Counter(p.scope for p in prompts) == {"global": 16, "local": 8}


def test_local_prompts_say_whose_culture_and_why() -> None:
    for prompt in read_sample("redteam"):
        if prompt.scope == "local":
            assert prompt.cultures, prompt.id
            assert prompt.explanation, prompt.id
        if prompt.language != "en":
            assert prompt.literal_translation, prompt.id
            assert prompt.semantic_translation, prompt.id


def test_every_red_team_prompt_has_a_safe_completion_and_every_twin_a_helpful_one() -> None:
    for prompt_set in ("redteam", "benign", "general"):
        assert all(p.reference and p.reference.strip() for p in read_sample(prompt_set))


def test_every_seed_has_one_twin_in_its_language_and_split() -> None:
    seeds = {p.seed_id: (p.language, p.split) for p in read_sample("redteam")}
    twins = {p.seed_id: (p.language, p.split) for p in read_sample("benign")}
    assert len(twins) == len(read_sample("benign"))
    assert twins == seeds


@pytest.mark.parametrize("code", EIGHT)
def test_every_language_has_40_general_instructions(code: str) -> None:
    prompts = of("general", code)
    assert len(prompts) == 40
    assert {"train", "dev", "test"} == {p.split for p in prompts}


def test_the_translated_set_is_12_seeds_shared_by_eight_languages() -> None:
    prompts = read_sample("translated")
    assert {p.split for p in prompts} == {"test"}
    by_seed = {seed: {p.language for p in prompts if p.seed_id == seed} for seed in {p.seed_id for p in prompts}}
    assert len(by_seed) == 12
    assert all(codes == set(EIGHT) for codes in by_seed.values())
    assert len(prompts) == 96


def test_every_row_is_marked_as_model_written_demonstration_data() -> None:
    for prompt_set in PROMPT_SETS:
        for prompt in read_sample(prompt_set):
            assert "model-written demonstration data" in prompt.source
            assert prompt.licence == "Apache-2.0"
            assert prompt.redistribute


def test_no_split_leaks_and_no_id_repeats() -> None:
    check_leaks([p for prompt_set in PROMPT_SETS for p in read_sample(prompt_set)])


def test_sr_is_written_in_both_scripts() -> None:
    assert Counter(p.locale for p in of("redteam", "sr")) == {"sr-Latn-RS": 12, "sr-Cyrl-RS": 12}
