"""Robustness slices: what people type, by rule, the same each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignprism.prompts.identify import script_share
from alignprism.prompts.transforms import (
    TRANSFORMS,
    code_mixed,
    romanised_arabic,
    romanised_hindi,
    serbian_cyrillic,
    serbian_latin,
    transformed,
)
from alignprism.rows import Prompt


@pytest.mark.parametrize(
    ("text", "latin"),
    [
        ("क्या तुम बता सकते हो", "kya tum bata sakte ho"),
        ("मेरा नाम कमल है।", "mera naam kamal hai."),
        ("लड़का घर जा रहा है", "larka ghar ja raha hai"),
        ("नमस्ते दोस्त, ज़िंदगी कैसी है?", "namaste dost, zindagee kaisee hai?"),
        ("१० रुपये OK", "10 rupye OK"),
        ("न", "na"),
        ("\u0958\u0932\u092e \u095b\u0930\u093e", "qalam zara"),
        ("\u092c\u095c\u093e \u092b\u093c\u0930\u0915 \u092a\u095d\u094b \u095f\u0939", "bara farak parho yah"),
        ("ऴ", "la"),
    ],
)
def test_hindi_as_it_is_typed(text: str, latin: str) -> None:
    assert romanised_hindi(text) == latin


@pytest.mark.parametrize(
    ("text", "latin"),
    [
        ("كيف حالك يا صديقي؟", "kif 7alk ya sdiqi?"),
        ("مرحبا", "mr7ba"),
        ("الوقت", "alwqt"),
        ("مَدْرَسَة", "madrasa"),
        ("عندي ٣ كتب", "3ndi 3 ktb"),
    ],
)
def test_arabic_as_it_is_typed(text: str, latin: str) -> None:
    assert romanised_arabic(text) == latin


@pytest.mark.parametrize(
    ("cyrillic", "latin"),
    [
        ("Љубав и Његош, ЉУБАВ, Џеп, ђак", "Ljubav i Njegoš, LJUBAV, Džep, đak"),
        ("инјекција и конјунктура", "injekcija i konjunktura"),
        ("надживети, оџак, џеп", "nadživeti, odžak, džep"),
        ("Танјуг јавља", "Tanjug javlja"),
    ],
)
def test_serbian_in_both_scripts(cyrillic: str, latin: str) -> None:
    assert serbian_latin(cyrillic) == latin
    assert serbian_cyrillic(latin) == cyrillic


def test_addresses_and_foreign_words_stay_latin() -> None:
    assert (
        serbian_cyrillic("Piši na ja@mejl.rs ili www.rts.rs o jazz quiz")
        == "Пиши на ja@mejl.rs или www.rts.rs о јазз quiz"
    )


@given(st.text("абвгдђежзијклљмнњопрстћуфхцчџш ,.?", max_size=30))
def test_cyrillic_comes_back_from_latin_but_for_letters_that_meet(text: str) -> None:
    again = serbian_cyrillic(serbian_latin(text))
    # н+ј, л+ј and д+ж side by side are written like њ, љ and џ: Latin script does not tell them apart.
    merged = text.replace("нј", "њ").replace("лј", "љ").replace("дж", "џ")
    assert serbian_latin(again) == serbian_latin(text)
    assert again in (text, merged) or "нј" in text or "лј" in text or "дж" in text


@given(st.text("कखगचजटडणतदनपबमयरलवशसहािीुूेैोौ्ंँ ।अआइ", max_size=30))
def test_no_devanagari_letter_is_left(text: str) -> None:
    assert script_share(romanised_hindi(text), "hi") in (None, 0.0)


def test_code_mixing_takes_every_second_sentence_or_common_words() -> None:
    assert code_mixed("Uno. Dos. Tres.", "One. Two. Three.", "es") == "Uno. Two. Tres."
    assert code_mixed("मुझे पैसे चाहिए, दोस्त", "I need money, friend", "hi") == "मुझे money चाहिए, friend"
    assert code_mixed("أخبرني رجاءً عن الوَقت والمديـنة", None, "ar") == "أخبرني please عن time والمديـنة"
    assert code_mixed("غَدًا أكتب رسـالة", None, "ar") == "tomorrow أكتب message"
    assert code_mixed("Hola", "Hello", "es") is None
    assert code_mixed("Ein Satz.", None, "de") is None


def test_slices_keep_seed_and_split_and_say_what_they_are() -> None:
    rows = [
        Prompt("a", "Љубав је лепа.", "sr", "redteam", "test", "s1", tags=("x",)),
        Prompt("b", "Ljubav je lepa.", "sr", "redteam", "test", "s2"),
        Prompt("c", "मेरा दोस्त।", "hi", "redteam", "dev", "s3"),
        Prompt("d", "My friend.", "en", "redteam", "dev", "s4"),
    ]
    made = transformed(rows, TRANSFORMS)
    assert [(p.id, p.locale, p.seed_id, p.split) for p in made] == [
        ("a~sr-latin", "sr-Latn", "s1", "test"),
        ("b~sr-cyrillic", "sr-Cyrl", "s2", "test"),
        ("c~romanised-hi", "hi-Latn", "s3", "dev"),
        ("c~code-mixed", None, "s3", "dev"),
    ]
    assert made[0].tags == ("x", "robustness: sr-latin")
    assert transformed(rows, TRANSFORMS) == made
