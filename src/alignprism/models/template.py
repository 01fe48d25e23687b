"""Chat templates, and the one way from (prompt, completion) to token ids.

Every part that shows text to a model goes through here, so that training, generation and scoring see the same ids:
exactly one beginning-of-sequence token, and the ids of prompt + completion are the concatenation of both. The join is
never tokenised again, because a merge across it would change the prompt that the model was asked.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

BASE_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n'"
    " + message['content'] + '<end_of_turn>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
"""Given to a base model without a template whose vocabulary has Gemma's turn tokens (pre-trained Gemma 2 and 3 have
them, untrained). It is the format of the instruction-tuned Gemma models, so that a model taught by it stays usable
with their tools."""

PLAIN_CHAT_TEMPLATE = (
    "{{ bos_token if bos_token else '' }}{% for message in messages %}"
    "{{ ('Assistant: ' if message['role'] == 'assistant' else 'User: ') + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
"""Given to any other base model without a template: plain words, which need nothing of the vocabulary, and the
end-of-sequence token as the end of a turn."""

_TURN_TOKENS = ("<start_of_turn>", "<end_of_turn>")
_MARK = "alignprism"


class TemplateError(ValueError):
    """A chat template cannot be used for prompt and completion."""


def with_chat_template(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give the tokenizer of a base model a template, if it has none; returns the same tokenizer."""
    if tokenizer.chat_template is None:
        vocabulary = tokenizer.get_vocab()
        turns = all(token in vocabulary for token in _TURN_TOKENS)
        tokenizer.chat_template = BASE_CHAT_TEMPLATE if turns else PLAIN_CHAT_TEMPLATE
    return tokenizer


def render(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The text a model is shown for a prompt: one user turn and the opening of the model's own.

    Raises
    ------
    TemplateError
        the tokenizer has no chat template (see `with_chat_template`).
    """
    return _render(tokenizer, [{"role": "user", "content": prompt}], generation=True)


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, generation: bool) -> str:
    if tokenizer.chat_template is None:
        raise TemplateError("this tokenizer has no chat template; call with_chat_template(tokenizer) first")
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
    return str(text)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Token ids of the rendered prompt, with exactly one beginning-of-sequence token where the model uses one."""
    return encode_rendered(tokenizer, render(tokenizer, prompt))


def encode_rendered(tokenizer: PreTrainedTokenizerBase, rendered: str) -> list[int]:
    """Token ids of a text that `render` made."""
    ids = _encode(tokenizer, rendered)
    bos = tokenizer.bos_token_id
    # Some templates write the token themselves, others leave it to the tokenizer: one of both, never both.
    if bos is not None and ids[:1] != [bos] and _adds_bos(tokenizer):
        return [int(bos), *ids]
    return ids


def completion_ids(tokenizer: PreTrainedTokenizerBase, completion: str) -> list[int]:
    """Token ids of a completion as it follows a prompt, ending with the end-of-turn token, which is trained too."""
    return [*_encode(tokenizer, completion), end_of_turn_id(tokenizer)]


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends the model's turn: the first special token the template writes after its content, else EOS.

    Raises
    ------
    TemplateError
        the template writes none and the tokenizer has no end-of-sequence token.
    """
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
    text = _render(tokenizer, messages, generation=False)
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    for token in _encode(tokenizer, text[text.rindex(_MARK) + len(_MARK) :]):
        if token in special:
            return token
    if tokenizer.eos_token_id is None:
        raise TemplateError("the chat template ends no turn with a special token and the tokenizer has no EOS token")
    return int(tokenizer.eos_token_id)


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens after which an answer is complete: end of turn and end of sequence."""
    eos = tokenizer.eos_token_id
    return frozenset({end_of_turn_id(tokenizer), *(() if eos is None else (int(eos),))})


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of completion ids, byte for byte as the tokens spell it, without special tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return list(tokenizer("")["input_ids"])[:1] == [tokenizer.bos_token_id]
