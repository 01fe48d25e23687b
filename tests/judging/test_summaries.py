"""ROUGE in any script: identical is 1 in all eight languages, rouge-score where that package can read the text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from alignprism.judging.summaries import (
    Summary,
    longest_common_subsequence,
    rouge,
    summary_figures,
    summary_requests,
    tokens,
)

SENTENCES = {
    "ar": "أُعِيدَ فَتْحُ الطَّرِيقِ بَعْدَ المَطَرِ الغَزِير",
    "en": "The road was opened again after the heavy rain",
    "es": "La carretera se abrió otra vez después de la lluvia",
    "fr": "La route a été rouverte après la forte pluie",
    "hi": "भारी बारिश के बाद सड़क फिर से खोल दी गई",
    "ru": "Дорогу снова открыли после сильного дождя",
    "sr": "Пут је поново отворен после јаке кише",
    "tl": "Muling binuksan ang daan matapos ang malakas na ulan",
    "zh": "大雨过后道路重新开放",
    "th": "ถนนเปิดอีกครั้งหลังฝนตกหนัก",
}
ENGLISH = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)


@pytest.mark.parametrize("code", SENTENCES)
def test_identical_is_one_and_nothing_in_common_is_zero(code: str) -> None:
    text = SENTENCES[code]
    for form in ("NFC", "NFD"):
        assert rouge(unicodedata.normalize(form, text), f"«{text.upper()}!»") == rouge(text, text)
    assert (rouge(text, text).rouge1, rouge(text, text).rouge2, rouge(text, text).rougeL) == (1, 1, 1)
    other = SENTENCES["en" if code != "en" else "ru"]
    assert rouge(text, other).rouge1 == 0


def test_combining_marks_belong_to_their_word() -> None:
    assert tokens("भारी बारिश की।") == ["भारी", "बारिश", "की"]
    assert len(tokens(SENTENCES["ar"])) == 6
    assert tokens("क्‍या soft\u00adhyphen don't 3.5") == ["क्या", "softhyphen", "don", "t", "3", "5"]
    assert tokens("大雨 ฝน") == ["大", "雨", "ฝ", "น"]


WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat,", "dog!", "Dog", "12", "it's"]), max_size=25)


@given(WORDS, WORDS)
@settings(max_examples=200, deadline=None)
def test_english_is_rouge_scores(ours: list[str], theirs: list[str]) -> None:
    hypothesis, reference = " ".join(ours), " ".join(theirs)
    expected = ENGLISH.score(reference, hypothesis)
    found = rouge(hypothesis, reference)
    for name in ("rouge1", "rouge2", "rougeL"):
        assert getattr(found, name) == pytest.approx(expected[name].fmeasure), name


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_two_texts_have_a_score_and_its_order_does_not_matter(a: str, b: str) -> None:
    found = rouge(a, b)
    assert found == rouge(b, a)
    assert all(0 <= value <= 1 for value in (found.rouge1, found.rouge2, found.rougeL))
    assert found.rougeL <= found.rouge1 + 1e-12


@given(st.lists(st.sampled_from("abc"), max_size=90), st.lists(st.sampled_from("abc"), max_size=90))
@settings(max_examples=100, deadline=None)
def test_the_longest_common_subsequence_is_the_textbooks(a: list[str], b: list[str]) -> None:
    row = [0] * (len(b) + 1)
    for x in a:
        before = row[:]
        for n, y in enumerate(b, 1):
            row[n] = before[n - 1] + 1 if x == y else max(before[n], row[n - 1])
    assert longest_common_subsequence(a, b) == row[-1]


def test_figures_are_paired_by_language() -> None:
    def made(model_drops: int) -> list[Summary]:
        return [
            Summary(
                f"{code}{n}",
                code,
                f"{n}",
                " ".join(SENTENCES[code].split()[: -(1 + (n + model_drops) % 3)]),
                SENTENCES[code],
            )
            for code in ("hi", "ru")
            for n in range(20)
        ]

    better = [Summary(s.id, s.language, s.seed_id, s.reference, s.reference) for s in made(0)]
    found = {
        (f.metric, f.estimand, f.model, f.language): f
        for f in summary_figures({"base": made(0), "tuned": better}, "base")
    }
    level = found["rougeL", "mean F1, Unicode tokens", "base", "hi"]
    change = found["rougeL", "b - a, paired; mean F1, Unicode tokens", "tuned", "hi"]
    assert change.estimate == pytest.approx(1 - level.estimate) and change.low > 0 and change.p < 0.01
    assert level.p is None and (level.n, level.clusters, change.baseline) == (20, 20, "base")
    assert found["rouge1", "mean F1, Unicode tokens", "tuned", "ru"].reason == "no variation between clusters"


def test_serbian_is_scored_in_one_script() -> None:
    latin = "Put je ponovo otvoren posle jake kiše"
    found = summary_figures({"m": [Summary("1", "sr", "1", latin, SENTENCES["sr"])]}, None)
    assert [f.estimate for f in found] == [1, 1, 1]


def test_a_model_is_asked_for_a_summary_in_the_texts_language() -> None:
    (request,) = summary_requests({"x1": ("hi", "लंबा पाठ")})
    assert request.id == "x1" and "in Hindi" in str(request.prompt) and str(request.prompt).endswith("लंबा पाठ")
