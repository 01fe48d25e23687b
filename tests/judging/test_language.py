"""Language is told from two identifiers and the script; Serbian counts in both scripts."""

import pytest

from alignprism.judging.language import on_language, script_fits

SENTENCES = {
    "en": "The bakery on the corner opens early and sells warm bread every morning.",
    "hi": "कोने की दुकान सुबह जल्दी खुलती है और वहाँ ताज़ी रोटी मिलती है।",
    "fr": "La boulangerie du coin ouvre tôt et vend du pain chaud tous les matins.",
    "es": "La panadería de la esquina abre temprano y vende pan caliente cada mañana.",
    "ar": "يفتح المخبز في الزاوية باكرا ويبيع الخبز الساخن كل صباح.",
    "ru": "Булочная на углу открывается рано и каждое утро продаёт тёплый хлеб.",
    "sr": "Pekara na uglu otvara rano i svakog jutra prodaje topao hleb i burek.",
    "tl": "Maagang nagbubukas ang panaderya sa kanto at nagtitinda ng mainit na tinapay tuwing umaga.",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_each_language_is_recognised_as_itself(code: str) -> None:
    assert on_language(SENTENCES[code], code).on_language is True


@pytest.mark.parametrize("wanted", SENTENCES)
@pytest.mark.parametrize("written", SENTENCES)
def test_no_language_passes_for_another(wanted: str, written: str) -> None:
    if wanted != written:
        verdict = on_language(SENTENCES[written], wanted)
        assert verdict.on_language is False
        assert verdict.detected != wanted


def test_serbian_counts_in_cyrillic_and_croatian_counts_as_serbian() -> None:
    assert on_language("Пекара на углу отвара рано и свакога јутра продаје топао хлеб.", "sr").on_language is True
    assert on_language("Pekarnica na uglu otvara se rano i svako jutro prodaje topao kruh.", "sr").on_language is True


@pytest.mark.parametrize("text", ["Он је већ тамо, зар не?", "Ко је твој најбољи пријатељ?", "Нисам ништа рекао."])
def test_short_serbian_in_cyrillic_is_not_russian(text: str) -> None:
    assert on_language(text, "ru").on_language is False
    assert on_language(text, "sr").on_language is True


@pytest.mark.parametrize("text", ["Он уже там, не так ли?", "Кто твой лучший друг?", "Я ничего не говорил."])
def test_short_russian_is_not_serbian(text: str) -> None:
    assert on_language(text, "sr").on_language is False
    assert on_language(text, "ru").on_language is True


def test_a_quoted_russian_word_leaves_serbian_in_latin_serbian() -> None:
    assert on_language("Ruska reč „нельзя“ znači da nešto ne sme da se uradi u toj kući.", "sr").on_language is True


@pytest.mark.parametrize("code", ["hr", "bs", "sh"])
def test_standard_varieties_of_one_language_pass_for_each_other(code: str) -> None:
    assert on_language(SENTENCES["sr"], code).on_language is True


def test_filipino_code_is_tagalog() -> None:
    assert on_language(SENTENCES["tl"], "fil").on_language is True


def test_very_short_text_gets_the_script_test_only() -> None:
    assert on_language("Да.", "ru").on_language is True
    assert on_language("Да.", "ru").detected is None
    assert on_language("Yes.", "ru").on_language is False


def test_text_without_letters_is_undecided() -> None:
    assert on_language("42!", "en").on_language is None
    assert on_language("", "hi").on_language is None


def test_a_quoted_foreign_name_does_not_change_the_script() -> None:
    assert script_fits("उसने Google Maps खोला और रास्ता ढूँढ लिया, फिर वह बाज़ार चला गया।", "hi") is True


@pytest.mark.parametrize("code", ["es", "fr", "tl"])
def test_one_sentence_does_not_stand_for_the_page_behind_it(code: str) -> None:
    page = (
        "The town is small and quiet. People here grow apples, keep bees and repair old boats for their neighbours. "
        * 8
    )
    assert on_language(f"{SENTENCES[code]}\n\n{page}", code).on_language is False
    assert on_language(f"{SENTENCES[code]}\n\n{page}", "en").on_language is True
    assert on_language(f"{SENTENCES[code]} " * 8, code).on_language is True


def test_norwegian_is_known_by_its_two_codes() -> None:
    text = "Bakeriet på hjørnet åpner tidlig og selger varmt brød hver eneste morgen."
    assert on_language(text, "nb").on_language is True
    assert on_language(text, "no").on_language is True


@pytest.mark.parametrize("code", ["ny", "sm", "mi", "haw"])
def test_a_language_that_no_identifier_has_is_undecided_and_not_wrong(code: str) -> None:
    text = "E tatala vave le fale falaoa i le tulimanu ma faatau atu falaoa mafanafana i taeao uma."
    assert on_language(text, code).on_language is None
    assert on_language(SENTENCES["ru"], code).on_language is False, "the script does not fit"
