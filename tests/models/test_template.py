"""Prompt and completion become the same token ids wherever they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from alignprism.models import template
from alignprism.models.protocol import Message

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


ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
LLAMA_2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def sentencepiece_like(scheme: Literal["first", "always"], chat_template: str) -> PreTrainedTokenizerBase:
    """A tokenizer with SentencePiece's spaces, trained here: "first" as in Llama 2 and Mistral, "always" in older files."""
    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    inner.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))]
    corpus = ["Yes, why not", "user assistant Hello Hi there", "[INST] Hi [/INST] Yes", "Hallo Welt", "नमस्ते दुनिया"]
    inner.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=400, special_tokens=specials))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = chat_template
    return tokenizer


@pytest.mark.parametrize("scheme", ["first", "always"])
@pytest.mark.parametrize("chat_template", [ZEPHYR, LLAMA_2])
@pytest.mark.parametrize("completion", ["Yes, why not", " Yes", "नमस्ते", "Hi\n there", "\u2581x", "12"])
def test_an_answer_is_learned_as_the_template_writes_it(
    scheme: Literal["first", "always"], chat_template: str, completion: str
) -> None:
    """Tokenised alone it would begin with a space that no conversation has."""
    tokenizer = sentencepiece_like(scheme, chat_template)
    turns = [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": completion}]
    whole = tokenizer(str(tokenizer.apply_chat_template(turns, tokenize=False)), add_special_tokens=False)["input_ids"]
    before, after = template.prompt_ids(tokenizer, "Hi there"), template.completion_ids(tokenizer, completion)
    assert before == whole[: len(before)]
    trailing = [] if chat_template is ZEPHYR else tokenizer(" ", add_special_tokens=False)["input_ids"][-1:]
    answer = after[:-1] + trailing  # Llama 2 ends its turn with a space that belongs to the template
    assert answer == whole[len(before) : len(before) + len(answer)]
    assert after[-1] == tokenizer.eos_token_id == whole[len(before) + len(answer)]


@pytest.mark.parametrize("completion", ["\nfoo", "\n\nYes"])
def test_an_answer_that_would_melt_into_its_prompt_is_tokenised_by_itself(completion: str) -> None:
    tokenizer = sentencepiece_like("first", ZEPHYR)
    tokenizer.add_tokens(["\n\n"])
    ids = template.completion_ids(tokenizer, completion)
    assert tokenizer.convert_ids_to_tokens(ids[0]) != "\u2581"
    assert tokenizer.decode(ids[:-1]) == completion


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


PARTS = "{% for m in messages %}{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
"""As Llama Guard 3 1B and Llama Guard 4 write them: a plain text has no parts, and is dropped in silence."""


def with_template(text: str) -> PreTrainedTokenizerBase:
    tokenizer = tiny.tiny_tokenizer(turns=True)
    tokenizer.chat_template = text
    return tokenizer


def test_a_template_that_wants_a_list_of_parts_gets_one() -> None:
    tokenizer = template.with_chat_template(with_template(PARTS))
    turns = [Message("user", "Hi there. "), Message("assistant", "Hello")]
    assert template.render(tokenizer, turns) == "Hi there. Hello"
    assert template.stop_ids(tokenizer) == {tokenizer.eos_token_id}  # it once ended in a ValueError


def test_the_form_of_content_is_found_anew_for_another_template() -> None:
    tokenizer = with_template(PARTS)
    assert template.render(tokenizer, "Hi") == "Hi"
    tokenizer.chat_template = "{% for m in messages %}{{ '[' + m.content + ']' }}{% endfor %}"
    assert template.render(tokenizer, "Hi") == "[Hi]"


def test_a_template_that_only_classifies_an_answer_may_want_one() -> None:
    wants_both = (
        "{% if messages|length != 2 %}{{ raise_exception('two turns') }}{% endif %}"
        "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}"
    )
    tokenizer = template.with_chat_template(with_template(wants_both))
    assert template.render(tokenizer, [Message("user", "a"), Message("assistant", "b")]) == "ab"
    with pytest.raises(template.TemplateError, match="refuses the turns user"):
        template.render(tokenizer, "Hi")


def test_a_template_that_drops_every_text_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(template.TemplateError, match=r"leaves out the text of a user's turn.*chat_template\.jinja"):
        template.with_chat_template(with_template("{% for m in messages %}<{{ m.role }}>{% endfor %}"))


def test_a_template_that_drops_the_assistants_text_says_so() -> None:
    only_users = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    with pytest.raises(template.TemplateError, match="leaves out the text of the assistant's turn"):
        template.end_of_turn_id(with_template(only_users))
