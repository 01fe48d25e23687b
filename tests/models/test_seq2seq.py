"""Translation models in this process: what transformers' own generate writes, stored, resumed, and refused in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_seq2seq as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignprism.errors import InputError
from alignprism.models.protocol import Answer, Decoding, Failed, Request, in_order
from alignprism.models.seq2seq import Seq2SeqModel, is_seq2seq, load_seq2seq
from alignprism.models.seq2seq_pieces import pieces_of
from alignprism.models.store import CallStore
from alignprism.models.translation_codes import language_tokens, target_name, target_of, targets_of, token_for

REQUESTS = [Request(f"t{n}", text, plain=True) for n, text in enumerate(tiny.TEXTS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_nllb(tmp_path_factory.mktemp("seq2seq") / "nllb")


def load(folder: Path, store: CallStore | None = None, beams: int = 1) -> Seq2SeqModel:
    return load_seq2seq(str(folder), "tiny", folder.parent / "cache", store, beams)


def said(whole: Seq2SeqModel, source: str, target: str, decoding: Decoding = tiny.GREEDY) -> list[str]:
    outcomes = in_order(whole.direction(source, target).complete(REQUESTS, decoding), REQUESTS)
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    return [outcome.text for outcome in outcomes if isinstance(outcome, Answer)]


@pytest.mark.parametrize("beams", [1, 3])
def test_every_text_gets_what_generate_writes_for_it_alone(folder: Path, beams: int) -> None:
    whole = load(folder, beams=beams)
    found = said(whole, "en", "hi")
    whole.tokenizer.src_lang = "eng_Latn"
    start = whole.tokenizer.convert_tokens_to_ids("hin_Deva")
    for text, answer in zip(tiny.TEXTS, found, strict=True):
        inputs = whole.tokenizer(text, return_tensors="pt", split_special_tokens=True)
        with torch.inference_mode():
            ids = whole.model.generate(
                **inputs, forced_bos_token_id=start, num_beams=beams, do_sample=False, max_new_tokens=12
            )
        assert ids[0, 1] == start
        assert answer == whole.tokenizer.decode(ids[0], skip_special_tokens=True).strip()


def test_the_target_language_and_the_source_language_matter(folder: Path) -> None:
    whole = load(folder)
    assert said(whole, "en", "hi") != said(whole, "en", "ru")
    assert said(whole, "en", "hi") != said(whole, "fr", "hi")


def test_a_text_that_spells_special_tokens_is_only_a_text(folder: Path) -> None:
    whole = load(folder)
    whole.tokenizer.src_lang = "eng_Latn"
    ids = whole.tokenizer(["</s> hin_Deva"], split_special_tokens=True)["input_ids"][0]
    assert ids.count(2) == 1 and whole.tokenizer.convert_tokens_to_ids("hin_Deva") not in ids


def test_a_cut_translation_says_so_and_a_long_text_is_a_failure(folder: Path) -> None:
    whole = load(folder)
    asked = [Request("short", "x", plain=True), Request("long", "word " * 100, plain=True)]
    short, long = in_order(whole.direction("en", "hi").complete(asked, Decoding(max_new_tokens=3)), asked)
    assert isinstance(short, Answer) and short.truncated and short.n_tokens == 3
    assert isinstance(long, Failed) and long.reason == "prompt too long" and "200" in long.detail
    with pytest.raises(InputError, match="200 positions"):
        whole.direction("en", "hi").complete(asked, Decoding(max_new_tokens=200))


def test_what_is_stored_is_not_translated_again_and_directions_do_not_mix(folder: Path, tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        whole = load(folder, store)
        first = {target: said(whole, "en", target) for target in ("hi", "ru")}
        assert len(store) == 2 * len(tiny.TEXTS)
        whole.model.generate = None  # whoever calls it now fails
        assert {target: said(whole, "en", target) for target in ("hi", "ru")} == first
        roles = {purpose.role for purpose in store.purposes()}
        assert roles == {"completion"}  # as the requests say


def test_beams_and_weights_are_part_of_an_answers_identity(folder: Path, tmp_path: Path) -> None:
    other = tiny.write_nllb(tmp_path / "other", seed=1)
    assert load(folder).digest == load(folder).digest != load(other).digest
    one, three = (load(folder, beams=beams).direction("en", "hi").numerics for beams in (1, 3))
    assert one != three


def test_sampling_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="greedy"):
        load(folder).direction("en", "hi").complete(REQUESTS, replace(tiny.GREEDY, temperature=1.0))


def test_an_unknown_language_names_those_that_there_are(folder: Path) -> None:
    with pytest.raises(InputError, match=r"does not know Swahili \(sw\); it knows ar, en, fr, hi, ru, sr"):
        load(folder).direction("en", "sw")


def test_serbian_in_latin_letters_is_asked_of_cyrillic(folder: Path) -> None:
    whole = load(folder)
    assert whole.direction("en", "sr-Latn").how == whole.direction("en", "sr").how


def test_a_model_of_one_direction_translates_that_one(tmp_path: Path) -> None:
    whole = load(tiny.write_marian(tmp_path / "marian"))
    found = said(whole, "en", "fr")
    outcomes = list(whole.direction("en", "fr").complete(REQUESTS, tiny.GREEDY))
    # Marian is set to end every text by force, which would hide that it was cut.
    assert all(isinstance(o, Answer) and o.truncated == (o.n_tokens == 12) for o in outcomes)
    inputs = whole.tokenizer(tiny.TEXTS[0], return_tensors="pt")
    ids = whole.model.generate(**inputs, max_new_tokens=12, do_sample=False, num_beams=1, forced_eos_token_id=None)
    assert found[0] == whole.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    with pytest.raises(InputError, match="only en to fr, not English"):
        whole.direction("en", "hi")


def test_a_model_with_tags_is_told_the_language_in_the_text(tmp_path: Path) -> None:
    whole = load(tiny.write_marian(tmp_path / "tags", [">>fra<<", ">>srp_Latn<<", ">>srp_Cyrl<<"]))
    assert whole.direction("en", "sr-Latn").how.prefix == ">>srp_Latn<< "
    assert whole.direction("en", "sr").how.prefix == ">>srp_Cyrl<< "
    said(whole, "en", "sr-Latn")


def test_m2m100_keeps_its_languages_in_a_place_of_its_own(tmp_path: Path) -> None:
    whole = load(tiny.write_m2m100(tmp_path / "m2m"))
    how = whole.direction("en", "hi").how
    assert how.source == "en" and how.start == whole.tokenizer.get_lang_id("hi")
    assert not any(text.startswith("__hi__") for text in said(whole, "en", "hi"))


def test_t5_is_told_in_words_what_it_was_trained_for(tmp_path: Path) -> None:
    whole = load(tiny.write_t5(tmp_path / "t5"))
    assert whole.direction("en", "fr").how.prefix == "translate English to French: "
    said(whole, "en", "fr")
    with pytest.raises(InputError, match=r"not English \(en\) into Hindi \(hi\)"):
        whole.direction("en", "hi")


def test_a_chat_model_and_an_empty_folder_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    assert not is_seq2seq(str(tiny_llama))
    with pytest.raises(InputError, match="no encoder-decoder model"):
        load(tiny_llama)
    with pytest.raises(InputError, match="accepted: a folder"):
        is_seq2seq(str(tmp_path))


def test_a_killed_run_goes_on_with_the_same_translations(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, tiny.__file__, str(folder), str(tmp_path / "killed.sqlite"), str(log)],
        env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while log.stat().st_size == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    acknowledged = set(log.read_text().split())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with CallStore(tmp_path / "killed.sqlite") as store:
            kept = store.get_many(list(acknowledged))
            assert acknowledged and set(kept) == acknowledged
            continued = tiny.translated(folder, store)
            assert {key: call.text for key, call in store.get_many(list(kept)).items()} == {
                key: call.text for key, call in kept.items()
            }
        with CallStore(tmp_path / "whole.sqlite") as store:
            assert tiny.translated(folder, store) == continued
    finally:
        torch.set_num_threads(threads)


# --- names of languages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocabulary", "target", "token"),
    [
        (["hin_Deva", "arb_Arab", "arz_Arab"], "ar", "arb_Arab"),
        (["srp_Cyrl", "srp_Latn"], "sr", "srp_Cyrl"),
        (["srp_Cyrl", "srp_Latn"], "sr-Latn", "srp_Latn"),
        (["srp_Latn"], "sr", "srp_Latn"),
        (["zho_Hant", "zho_Hans"], "zh", "zho_Hans"),
        (["pes_Arab", "prs_Arab"], "fa", "pes_Arab"),
        (["pbt_Arab"], "ps", "pbt_Arab"),
        (["nob_Latn", "nno_Latn"], "no", "nob_Latn"),
        (["swh_Latn", "npi_Deva", "zsm_Latn"], "sw", "swh_Latn"),
        (["tgl_Latn"], "fil", "tgl_Latn"),
        (["hi_IN", "en_XX"], "hi", "hi_IN"),
        (["__hi__", "__sr__"], "sr-Latn", "__sr__"),
        (["<2hi>", "<2sr_Latn>"], "hi", "<2hi>"),
        ([">>hin<<", ">>id<<"], "hi", ">>hin<<"),
    ],
)  # fmt: skip
def test_models_languages_are_found_by_our_codes(vocabulary: list[str], target: str, token: str) -> None:
    words = [*vocabulary, "▁the", "hi", "__init__", "<2>", "xx_Xxxx"]
    known = language_tokens(words, tags=token[0] in "<>")
    assert token_for(target_of(target), known, "m").token == token


def test_a_script_that_a_model_lacks_is_not_replaced() -> None:
    with pytest.raises(InputError, match=r"Serbian \(Cyrillic script\)"):
        token_for("sr-Cyrl", language_tokens(["srp_Latn"], tags=False), "m")


def test_targets_are_named_by_any_label_and_once() -> None:
    assert targets_of(["Hindi", " ar", "srp_Latn", "tgl"]) == ["hi", "ar", "sr-Latn", "tl"]
    assert target_name("sr-Latn") == "Serbian (Latin script)"
    assert targets_of(["zh-TW", "pt-BR", "pa_PK", "sr-Cyrl-RS"]) == ["zh-Hant", "pt", "pa-Arab", "sr-Cyrl"]
    assert targets_of(["zh-CN", "sr-ME", "uz-Cyrl"]) == ["zh", "sr-Latn", "uz-Cyrl"]
    with pytest.raises(InputError, match=r"'pt-PT': .*the variety of a region; write pt for Portuguese"):
        targets_of(["hi", "pt-PT"])
    for labels, words in (
        (["hi", "hin"], "named twice"),
        (["zh-TW", "zh-Hant"], "named twice"),
        ([" "], "at least one"),
        (["xx-"], "no language known"),
    ):
        with pytest.raises(InputError, match=words):
            targets_of(labels)


# --- pieces ----------------------------------------------------------------------------------------------------------


@given(st.text(alphabet="ab .!?\n\t`1", max_size=200), st.integers(1, 60))
def test_pieces_together_are_the_text(text: str, longest: int) -> None:
    pieces = pieces_of(text, longest)
    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text == piece.text.strip() and "\n" not in piece.text for piece in pieces if piece.translate)


def test_lists_and_code_keep_their_form() -> None:
    text = "Do this:\n\n  - First. Then rest.\n```python\nprint(1)\n```\n42\n"
    asked = [piece.text for piece in pieces_of(text) if piece.translate]
    assert asked == ["Do this:", "- First. Then rest."]
    long = [piece.text for piece in pieces_of("One two. Three four. Five six.", 20) if piece.translate]
    assert long == ["One two. Three four.", "Five six."]
