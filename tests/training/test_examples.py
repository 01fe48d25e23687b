"""Texts to token ids: nothing is cut, everything dropped is counted."""

from __future__ import annotations

import pytest
from tiny_models import tiny_tokenizer

from alignprism.rows import Pair, Prompt
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.examples import (
    Text,
    counts_left_out,
    fit,
    make_examples,
    sequences,
    texts_of_pairs,
    texts_of_prompts,
)


def _text(number: int, chosen: str = "yes", rejected: str | None = "never", language: str = "en") -> Text:
    return Text(f"row-{number}", "Why?", chosen, rejected, language, "safety")


def test_completions_end_with_the_end_of_turn_token_and_follow_the_template() -> None:
    tokenizer = tiny_tokenizer()
    (example,), _ = make_examples([_text(0)], tokenizer, 64)
    assert tokenizer.decode(example.prompt_ids).replace(" ", "") == "<s><user>Why?<end><assistant>"
    assert tokenizer.decode(example.chosen_ids).replace(" ", "") == "yes<end>"
    assert example.rejected_ids is not None and example.rejected_ids[-1] == tokenizer.eos_token_id


def test_rows_over_the_limit_are_dropped_whole_and_counted_by_language() -> None:
    texts = [
        _text(0),
        _text(1, rejected="n" * 60),
        _text(2, chosen="y" * 60),
        _text(3, chosen=" "),
        _text(4, chosen="same", rejected="same"),
        _text(5, language="hi"),
    ]
    limit = 30
    examples, reports = make_examples(texts, tiny_tokenizer(), limit)
    assert [e.pair_id for e in examples] == ["row-0", "row-5"]
    assert all(len(e.prompt_ids) + len(ids) <= limit for e in examples for ids in (e.chosen_ids, e.side("rejected")))
    english, hindi = reports
    assert (english.language, english.rows, english.kept) == ("en", 5, 1)
    assert (english.over_limit, english.empty, english.identical) == (2, 1, 1)
    assert english.share_over_limit == pytest.approx(0.4)
    assert (hindi.rows, hindi.kept, hindi.over_limit) == (1, 1, 0)
    assert hindi.tokens_per_character == pytest.approx((4 + 6) / (3 + 5))
    assert hindi.length_difference == hindi.length_difference_kept == -2.0


def test_cutting_is_asked_for_counted_and_taught_without_an_end() -> None:
    texts = [_text(0), _text(1, chosen="y" * 60), _text(2, chosen="z" * 40, rejected="z" * 50), _text(3, language="hi")]
    limit, tokenizer = 30, tiny_tokenizer()
    examples, (english, hindi) = make_examples(texts, tokenizer, limit, "cut")
    assert [e.pair_id for e in examples] == ["row-0", "row-1", "row-3"], "row 2 is twice the same once it is cut"
    cut = examples[1]
    assert len(cut.prompt_ids) + len(cut.chosen_ids) == limit and cut.chosen_ids[-1] != tokenizer.eos_token_id
    assert cut.side("rejected")[-1] == tokenizer.eos_token_id
    assert (english.kept, english.cut, english.over_limit, english.identical) == (2, 1, 0, 1)
    assert english.share_without_end == pytest.approx(1 / 4)
    assert (hindi.cut, hindi.share_without_end) == (0, 0.0)
    assert english.length_difference == pytest.approx((3 - 5 + 60 - 5 + 40 - 50) / 3), "before anything is cut"
    assert english.length_difference_kept == pytest.approx(
        (3 - 5 + len(cut.chosen_ids) - len(cut.side("rejected"))) / 2
    )
    dropped = make_examples(texts, tokenizer, limit)[1][0]
    assert dropped.tokens_per_character == english.tokens_per_character, (
        "it says what the text costs, not what was kept"
    )
    too_long = [Text("long", "W" * 60, "yes", "no", "en", "safety")]
    assert make_examples(too_long, tokenizer, limit, "cut")[1][0].over_limit == 1


def test_every_row_that_is_left_out_has_its_reason() -> None:
    long, empty, equal = _text(1, rejected="n" * 60), _text(2, chosen=" "), _text(3, chosen="same", rejected="same")
    fitted = fit([_text(0), long, empty, equal], tiny_tokenizer(), 30)
    assert fitted.left_out == {"row-1": "over_limit", "row-2": "empty", "row-3": "identical"}
    told = counts_left_out(fitted.reports, 30)
    assert told == "1 over 30 tokens a side, 1 with an empty completion, 1 with equal sides"
    assert counts_left_out(fit([_text(0)], tiny_tokenizer(), 30).reports, 30) == ""


def test_a_row_of_exactly_the_limit_stays() -> None:
    text = _text(0)
    (example,), _ = make_examples([text], tiny_tokenizer(), 64)
    length = len(example.prompt_ids) + len(example.side("rejected"))
    assert len(make_examples([text], tiny_tokenizer(), length)[0]) == 1
    assert len(make_examples([text], tiny_tokenizer(), length - 1)[0]) == 0


def test_plain_prompt_and_response_rows_have_no_rejected_side() -> None:
    prompt = Prompt("p", "Why?", "en", "general", "train", "s", reference="Because.")
    (example,), _ = make_examples(texts_of_prompts([prompt]), tiny_tokenizer(), 64)
    assert example.rejected_ids is None
    assert len(sequences(TrainConfig("sft-preferred"), example)) == 1
    with pytest.raises(TrainingError, match="'p' has no rejected side"):
        sequences(TrainConfig("dpo-ift"), example)


def test_a_prompt_without_a_response_cannot_be_learned_from() -> None:
    with pytest.raises(TrainingError, match="'p' has no reference response"):
        texts_of_prompts([Prompt("p", "Why?", "en", "general", "train", "s")])


def test_each_method_runs_its_sides() -> None:
    pair = Pair(
        "id",
        "Why?",
        "good",
        "bad",
        "p",
        "s",
        "en",
        "safety",
        "global",
        (),
        "a",
        "b",
        0.1,
        0.9,
        "judge",
        "",
        True,
        "rejected",
    )
    (example,), _ = make_examples(texts_of_pairs([pair]), tiny_tokenizer(), 64)
    chosen, rejected = (example.prompt_ids, example.chosen_ids), (example.prompt_ids, example.side("rejected"))
    assert sequences(TrainConfig("sft-preferred"), example) == [chosen]
    assert sequences(TrainConfig("sft-random"), example) == [rejected]
    assert (
        sequences(TrainConfig("dpo-ift"), example) == sequences(TrainConfig("dpo-sft"), example) == [chosen, rejected]
    )
