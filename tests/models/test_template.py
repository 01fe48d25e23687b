"""Prompt and completion become the same token ids wherever they are used."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from alignprism.models import template

WITH_TURNS = template.with_chat_template(tiny.tiny_tokenizer(turns=True))
PLAIN = template.with_chat_template(tiny.tiny_tokenizer(turns=False))


@pytest.mark.parametrize("tokenizer", [WITH_TURNS, PLAIN])
@settings(max_examples=60, deadline=None)
@given(prompt=st.text(max_size=40), completion=st.text(max_size=40))
def test_one_bos_and_the_end_of_turn_last(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> None:
    before = template.prompt_ids(tokenizer, prompt)
    after = template.completion_ids(tokenizer, completion)
    assert before[0] == tokenizer.bos_token_id
    assert before.count(tokenizer.bos_token_id) == 1
    assert tokenizer.bos_token_id not in after
    assert after[-1] == template.end_of_turn_id(tokenizer)
    assert template.decode(tokenizer, after) == completion


@pytest.mark.parametrize("tokenizer", [WITH_TURNS, PLAIN])
def test_a_base_model_gets_plain_words_and_eos_even_where_it_has_turn_tokens(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert template.render(tokenizer, "Hi") == "<bos>User: Hi\nAssistant:\n"
    assert template.end_of_turn_id(tokenizer) == tokenizer.eos_token_id
    assert template.stop_ids(tokenizer) == {tokenizer.eos_token_id}


def test_the_whole_conversation_is_prompt_then_completion() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    whole = WITH_TURNS(WITH_TURNS.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
    joined = template.prompt_ids(WITH_TURNS, "Hi") + template.completion_ids(WITH_TURNS, "Hello")
    assert whole[: len(joined)] == joined


def test_a_template_of_the_models_own_is_kept(smollm2_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    own = tokenizer.chat_template
    assert template.with_chat_template(tokenizer).chat_template == own
    assert template.render(tokenizer, "Hi").endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert template.end_of_turn_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_gemma_gets_exactly_one_bos(gemma_folder: Path) -> None:
    tokenizer = template.with_chat_template(AutoTokenizer.from_pretrained(gemma_folder))
    ids = template.prompt_ids(tokenizer, "Bonjour")
    assert ids[0] == 2
    assert ids.count(2) == 1
    assert template.completion_ids(tokenizer, "Salut")[-1] == tokenizer.eos_token_id == 1


def test_without_a_template_the_error_says_what_to_call() -> None:
    with pytest.raises(template.TemplateError, match="with_chat_template"):
        template.render(tiny.tiny_tokenizer(turns=True), "Hi")
