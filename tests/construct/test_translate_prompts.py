"""Prompts in other languages: who they belong to stays, what is wrong is set aside with its reason, nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parallel_sample import dictionary, sample, times_asked, translator

from alignprism.construct.translate import TranslatedSet, translate_prompts
from alignprism.construct.translation_checks import FEWEST_FOR_LENGTH, problem_of, unusual_lengths
from alignprism.construct.translation_rows import first_row
from alignprism.construct.translation_settings import TranslateSettings
from alignprism.construct.translators import FromFile
from alignprism.errors import Failure, InputError
from alignprism.models.scripted import Line
from alignprism.models.store import CallStore
from alignprism.prompts.row_checks import check_prompt
from alignprism.rows import Prompt, RowError

ENGLISH = sample()
FIRST = ENGLISH[0]


def accounted(found: TranslatedSet, prompts: list[Prompt], targets: list[str]) -> None:
    """Every prompt and target is made or set aside, once, and the report says the same."""
    ids = [prompt.id for prompt in found.prompts] + [row.id for row in found.set_aside]
    assert sorted(ids) == sorted(f"{prompt.id}-{target}" for prompt in prompts for target in targets)
    for target, one in found.report["by language"].items():
        aside = sum(one["set aside"].values())
        assert one["prompts"] == len(prompts) == one["translated"] + one["taken as they are"] + aside
        assert aside == sum(row.id.endswith(f"-{target}") for row in found.set_aside)


def reasons(found: TranslatedSet) -> dict[str, str]:
    return {row.id: row.reason for row in found.set_aside}


def test_a_translated_prompt_keeps_whom_it_belongs_to() -> None:
    known = translator()
    found = translate_prompts(ENGLISH, ["hi", "ar"], known, known)
    accounted(found, ENGLISH, ["hi", "ar"])
    assert not found.set_aside
    by_id = {prompt.id: prompt for prompt in found.prompts}
    for old in ENGLISH:
        new = by_id[f"{old.id}-hi"]
        assert new.text == dictionary()[old.text, "hi"]
        assert (new.language, new.set, new.source) == ("hi", "translated", "translated by known")
        assert (new.seed_id, new.split, new.scope, new.categories) == (
            old.seed_id,
            old.split,
            old.scope,
            old.categories,
        )
        assert (new.licence, new.redistribute, new.semantic_translation) == (old.licence, old.redistribute, old.text)
        assert new.reference is None and new.locale is None
        assert not [finding for finding in check_prompt("", 1, new) if finding.check == "language"]


def test_the_report_measures_quality_by_the_way_back() -> None:
    known = translator()
    report = translate_prompts(ENGLISH, ["hi"], known, known).report
    score = report["by language"]["hi"]["chrf++ of back-translations"]
    assert score["estimate"] == 1.0 and score["n"] == len(ENGLISH)
    assert report["quality"].startswith("sacrebleu") and report["translator"]["digest"] == known.digest
    unmeasured = translate_prompts(ENGLISH, ["hi"], known).report
    assert unmeasured["by language"]["hi"]["chrf++ of back-translations"] is None
    assert unmeasured["quality"] == "not measured: no back-translator"


LOOP = "नदी नदी नदी नदी नदी नदी नदी नदी नदी नदी"
WRONG = {
    "language": dictionary()[FIRST.text, "es"],
    "empty": "",
    "the same as the source": f"  {FIRST.text.upper()} ",
    "degenerate": LOOP,
    "handling": "यह सामूहिक विनाश के हथियारों के बारे में है, बस एक परीक्षण वाक्य।",
    "cut at the length limit": Line(dictionary()[FIRST.text, "hi"], truncated=True),
    "no answer: timeout": Line("", failure="timeout"),
    "length": " ".join(dictionary()[prompt.text, "hi"] for prompt in ENGLISH),
    "back-translation unlike": "मुझे गाँव के मेले में बिकने वाली मिठाइयों की एक सूची चाहिए।",
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_is_wrong_is_set_aside_with_its_reason(reason: str) -> None:
    changed: dict[tuple[str, str], str | Line] = {(FIRST.text, "hi"): WRONG[reason]}
    back = translator({(WRONG["back-translation unlike"], "en"): "A list of sweets, please."}, name="back")  # type: ignore[dict-item]
    found = translate_prompts(ENGLISH, ["hi"], translator(changed), back)
    accounted(found, ENGLISH, ["hi"])
    assert reasons(found) == {f"{FIRST.id}-hi": reason}
    assert FIRST.text not in str(found.report)


def test_a_back_translation_that_fails_is_no_proof_of_quality() -> None:
    back = translator({(dictionary()[FIRST.text, "hi"], "en"): Line("", failure="timeout")}, name="back")
    found = translate_prompts(ENGLISH, ["hi"], translator(), back)
    assert reasons(found) == {f"{FIRST.id}-hi": "back-translation: no answer: timeout"}
    assert found.report["by language"]["hi"]["chrf++ of back-translations"]["n"] == len(ENGLISH) - 1


def test_what_the_handling_rules_bar_is_not_even_asked() -> None:
    known = translator()
    barred = [replace(FIRST, tags=("CBRN",)), *ENGLISH[1:]]
    found = translate_prompts(barred, ["hi"], known)
    assert reasons(found) == {f"{FIRST.id}-hi": "handling"}
    assert times_asked(known) == len(ENGLISH) - 1


def test_a_prompt_in_the_target_language_is_set_aside_or_taken_as_it_is() -> None:
    mixed = [*ENGLISH, *(replace(prompt, id=f"{prompt.id}-own") for prompt in sample("hi"))]
    found = translate_prompts(mixed, ["hi"], translator())
    accounted(found, mixed, ["hi"])
    assert set(reasons(found).values()) == {"is in the target language already"} and len(found.set_aside) == 12
    kept = translate_prompts(mixed, ["hi"], translator(), settings=TranslateSettings(keep_source=True))
    accounted(kept, mixed, ["hi"])
    assert not kept.set_aside and kept.report["by language"]["hi"]["taken as they are"] == 12
    own = next(prompt for prompt in kept.prompts if prompt.id.endswith("-own-hi"))
    assert (own.source, own.language, own.set) == (mixed[-1].source, "hi", "translated")


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["en"], "nothing to translate into en: is in the target language already"),
        (["hi", "Hindi"], "named twice"),
        ([], "at least one language"),
        (["qq"], "no language known"),
    ],
)
def test_what_cannot_be_asked_is_wrong_input(targets: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        translate_prompts(ENGLISH, targets, translator())


def test_ids_must_be_unique() -> None:
    with pytest.raises(RowError, match="occurs twice"):
        translate_prompts([FIRST, FIRST], ["hi"], translator())


def test_references_are_translated_when_that_is_asked_for() -> None:
    one, two, three = (prompt.text for prompt in ENGLISH[:3])
    prompts = [replace(FIRST, reference=two), replace(ENGLISH[1], reference=three), replace(ENGLISH[2], reference=None)]
    changed: dict[tuple[str, str], str | Line] = {(three, "hi"): dictionary()[three, "fr"]}
    found = translate_prompts(prompts, ["hi"], translator(changed), settings=TranslateSettings(references=True))
    accounted(found, prompts, ["hi"])
    assert [(prompt.text, prompt.reference) for prompt in found.prompts] == [
        (dictionary()[one, "hi"], dictionary()[two, "hi"])
    ]
    assert reasons(found) == {
        f"{ENGLISH[1].id}-hi": "reference: language",
        f"{ENGLISH[2].id}-hi": "no reference answer to translate",
    }


def test_a_named_script_is_checked_and_kept() -> None:
    latin = translate_prompts(
        [FIRST], ["sr-Latn"], translator({(FIRST.text, "sr"): "Napiši nam nešto o našim komšijama iz sela."})
    )
    (made,) = latin.prompts
    assert (made.id, made.language, made.locale) == (f"{FIRST.id}-sr-Latn", "sr", "sr-Latn")
    cyrillic = translate_prompts(
        [FIRST], ["sr-Latn"], translator({(FIRST.text, "sr"): "Напиши нам нешто о нашим комшијама из села."})
    )
    assert reasons(cyrillic) == {f"{FIRST.id}-sr-Latn": "script"}


@pytest.mark.parametrize(
    ("target", "good", "bad"),
    [
        ("hi-Latn", "Mujhe apne gaon ke logon ke baare mein batao.", "मुझे अपने गाँव के लोगों के बारे में बताओ।"),
        (
            "uz-Cyrl",
            "Менга қишлоғимиз одамлари ҳақида айтиб беринг.",
            "Menga qishlogʻimiz odamlari haqida aytib bering.",
        ),
        ("pa-Arab", "مینوں اپنے پنڈ دے لوکاں بارے دسو۔", "ਮੈਨੂੰ ਆਪਣੇ ਪਿੰਡ ਦੇ ਲੋਕਾਂ ਬਾਰੇ ਦੱਸੋ।"),
        ("zh-Hant", "請告訴我我們村裡的人們在說些什麼話。", "请告诉我我们村里的人们在说些什么话。"),
    ],
)
def test_the_script_that_a_target_names_is_the_one_that_is_tested(target: str, good: str, bad: str) -> None:
    assert problem_of(good, FIRST.text, target) is None
    assert problem_of(bad, FIRST.text, target) == ("script", f"most letters are not in {target[3:]}")


def kept_of(prompt: Prompt, target: str) -> TranslatedSet:
    known = translator({(FIRST.text, "sr"): "Напиши нам нешто о нашим комшијама из села."})
    return translate_prompts([FIRST, prompt], [target], known, settings=TranslateSettings(keep_source=True))


def test_serbian_that_is_kept_is_written_in_the_script_that_the_target_names() -> None:
    own = Prompt("own", "Како да напишем писмо?", "sr", "redteam", "test", "s", reference="Љубазно.", locale="sr-RS")
    for target, text, reference in (
        ("sr-Latn", "Kako da napišem pismo?", "Ljubazno."),
        ("sr-Cyrl", own.text, own.reference),
        ("sr", own.text, own.reference),
    ):
        made = next(p for p in kept_of(own, target).prompts if p.id.startswith("own"))
        assert (made.text, made.reference, made.language) == (text, reference, "sr")
        assert made.locale == ("sr-Latn" if target == "sr-Latn" else "sr-RS")
    latin = replace(own, text="Kako da napišem pismo?", reference=None)
    assert "Како да напишем писмо?" in [p.text for p in kept_of(latin, "sr-Cyrl").prompts]


def test_a_prompt_in_another_script_than_the_targets_is_not_kept() -> None:
    own = Prompt("own", "请告诉我这个国家的历史", "zh", "redteam", "test", "s")
    settings = TranslateSettings(keep_source=True)
    assert first_row(own, "zh-Hant", settings).reason == "is in the target language already, in another script"
    assert first_row(own, "zh", settings).kept and first_row(own, "zh-Hans", settings).kept
    assert first_row(replace(own, text="請告訴我這個國家的歷史"), "zh-Hant", settings).kept


def test_a_run_out_of_budget_stops_and_goes_on(tmp_path: Path) -> None:
    stopped: dict[tuple[str, str], str | Line] = {
        (prompt.text, "hi"): Line("", failure="over budget") for prompt in ENGLISH[6:]
    }
    with CallStore(tmp_path / "calls.sqlite") as store:
        with pytest.raises(Failure, match="6 translations were not made"):
            translate_prompts(ENGLISH, ["hi"], translator(stopped, store))
        again = translator(store=store)
        found = translate_prompts(ENGLISH, ["hi"], again)
        assert times_asked(again) == 6 and not found.set_aside
        third = translator(store=store)
        assert translate_prompts(ENGLISH, ["hi"], third) == found and times_asked(third) == 0


def test_a_file_leaves_rows_for_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    lines = [f'{prompt.id},hi,"{dictionary()[prompt.text, "hi"]}"' for prompt in ENGLISH[2:]]
    file.write_text("id,language,text\n" + f"{ENGLISH[1].id},hi,\nunknown,hi,x\n" + "\n".join(lines), encoding="utf-8")
    found = translate_prompts(ENGLISH, ["hi"], FromFile(file))
    accounted(found, ENGLISH, ["hi"])
    assert reasons(found) == {f"{FIRST.id}-hi": "not in the file", f"{ENGLISH[1].id}-hi": "empty"}
    assert found.report["translator"]["file rows not asked for"] == 1


# --- checks ----------------------------------------------------------------------------------------------------------


def test_every_translation_of_the_sample_passes() -> None:
    for (text, target), other in dictionary().items():
        if text != other:
            assert problem_of(other, text, target) is None


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), max_size=30), st.floats(1.01, 10))
def test_only_rows_far_from_the_median_are_unusual(lengths: list[tuple[int, int]], factor: float) -> None:
    found = unusual_lengths(lengths, factor)
    assert len(found) == len(lengths)
    if len(lengths) < FEWEST_FOR_LENGTH:
        assert found == [None] * len(lengths)
    assert all(one is None or one > factor or one < 1 / factor for one in found)
    assert sum(one is not None for one in found) <= len(lengths)


def test_a_language_that_is_always_short_has_no_unusual_rows() -> None:
    assert unusual_lengths([(100, 20)] * 12 + [(100, 100)], 3.0) == [None] * 12 + [pytest.approx(5.0)]
