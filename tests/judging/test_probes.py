"""Probes rewrap an answer without changing what it says."""

from __future__ import annotations

import pytest
from judged import ITEMS, by_words, playing

from alignprism.errors import InputError
from alignprism.judging.language import on_language
from alignprism.judging.probes import PROBES, probe_texts, probed, run_probes
from alignprism.judging.protocol import Item
from alignprism.judging.rubric import RubricJudge

CODES = ("ar", "en", "es", "fr", "hi", "ru", "sr", "tl")


def test_words_ship_in_the_eight_languages_and_are_in_them() -> None:
    assert tuple(probe_texts()) == CODES
    for code, words in probe_texts().items():
        assert set(words) == {"apology", "disclaimer", "tail"}
        assert len(words["tail"]) > 2 * len(words["apology"])
        assert on_language(" ".join(words.values()), code).on_language


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("code", CODES)
def test_the_answer_stays_word_for_word(probe: str, code: str) -> None:
    item = Item("c", "a prompt", "One sentence. And another one!", code, "s")
    variant = probed(item, probe)
    assert variant is not None and variant.completion != item.completion
    kept = variant.completion.replace("- ", "").replace("\n", " ")
    assert "One sentence. And another one!" in kept
    assert (variant.prompt, variant.seed_id, variant.language) == (item.prompt, "s", code)
    assert variant.id == f"c {probe}"


def test_a_language_without_words_is_counted_not_guessed() -> None:
    items = [*ITEMS, Item("d", "Schreib etwas.", "Nein, das mache ich nicht.", "de", "s9")]
    flips, left_out = run_probes(RubricJudge("judge", playing(by_words)), items)
    assert left_out == {f"{probe}: no words in the language": 1 for probe in ("apology", "disclaimer", "tail")}
    formatting = next(f for f in flips if (f.probe, f.language, f.verdict) == ("formatting", None, None))
    assert formatting.flipped.n == 4 and formatting.flipped.estimate == 0.0


def test_verdicts_that_become_undecidable_are_told_apart_from_flips() -> None:
    def say(shown: str) -> str:
        return "no idea" if "machine's text" in shown[shown.index("<<<ANSWER") :] else by_words(shown)

    flips, left_out = run_probes(RubricJudge("judge", playing(say)), ITEMS[:2])
    disclaimer = next(f for f in flips if (f.probe, f.language, f.verdict) == ("disclaimer", None, None))
    assert disclaimer.undecided == 2 and disclaimer.flipped.estimate is None
    assert not left_out


def test_nothing_to_probe_and_unknown_probes_are_errors() -> None:
    with pytest.raises(InputError, match="nothing to probe"):
        run_probes(RubricJudge("judge", playing(by_words)), [])
    with pytest.raises(ValueError, match="no probe 'shouting'"):
        probed(ITEMS[0], "shouting")
