"""Chat templates, and the one way from (prompt, completion) to token ids.

Every part that shows text to a model goes through here, so that training, generation and scoring see the same ids:
exactly one beginning-of-sequence token, and the ids of prompt + completion are the concatenation of both. The join is
never tokenised again, because a merge across it would change the prompt that the model was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from jinja2.exceptions import TemplateError as JinjaError
from transformers import PreTrainedTokenizerBase

from alignprism.errors import InputError
from alignprism.models.protocol import Asked, Message

BASE_CHAT_TEMPLATE = (
    "{{ bos_token if bos_token else '' }}{% for message in messages %}"
    "{{ ('Assistant:\\n' if message['role'] == 'assistant' else 'User: ') + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:\\n' }}{% endif %}"
)
"""Given to a base model without a template: plain words, which every vocabulary has, and the end-of-sequence token as
the end of a turn.

Not the model family's own turn tokens, even where the vocabulary has them: in a pre-trained checkpoint they were never
trained. In Gemma-3-270M the rows of <start_of_turn> and <end_of_turn> lie within a cosine of .99 of more than 6,000
other unused tokens, so that an adapter that leaves the (tied) embedding alone cannot tell the end of a turn from any
of them: answers went on with such tokens instead of ending."""

_MARK = "alignprism"
_SPACE = "\u2581"
"""How SentencePiece writes a space in its tokens."""

Turn = dict[str, Any]
Form = Callable[[Message], Turn]
"""How a template wants a turn: its content as a text, or as a list of parts."""


class TemplateError(InputError):
    """A chat template cannot be used for prompt and completion."""


def with_chat_template(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give the tokenizer of a base model a template, if it has none; returns the same tokenizer.

    Raises
    ------
    TemplateError
        the template writes nothing of what it is given, in any form of content: every prompt would look the same.
    """
    if tokenizer.chat_template is None:
        tokenizer.chat_template = BASE_CHAT_TEMPLATE
    _form_for(tokenizer)
    return tokenizer


def render(tokenizer: PreTrainedTokenizerBase, prompt: Asked) -> str:
    """The text a model is shown for a prompt: its turns and the opening of the model's own.

    Raises
    ------
    TemplateError
        the tokenizer has no chat template (see `with_chat_template`), or the template refuses the turns.
    """
    turns = [Message("user", prompt)] if isinstance(prompt, str) else prompt
    return _render(tokenizer, turns, generation=True)


def _render(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], *, generation: bool) -> str:
    if tokenizer.chat_template is None:
        raise TemplateError("this tokenizer has no chat template; call with_chat_template(tokenizer) first")
    return _apply(tokenizer, turns, _form_for(tokenizer), generation=generation)


def _apply(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], form: Form, *, generation: bool) -> str:
    messages = [form(turn) for turn in turns]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation))
    except (JinjaError, TypeError) as error:  # TypeError: such as a text and a list that are joined
        roles = ", ".join(turn.role for turn in turns)
        raise TemplateError(f"the model's chat template refuses the turns {roles} ({error})") from error


def _as_text(turn: Message) -> Turn:
    return turn._asdict()


def _as_parts(turn: Message) -> Turn:
    return {"role": turn.role, "content": [{"type": "text", "text": turn.content}]}


# Kept beside the tokenizer and with the template that it was found for: finding it renders the template.
_FORMS: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str | Mapping[str, str] | None, Form]] = WeakKeyDictionary()


def _form_for(tokenizer: PreTrainedTokenizerBase) -> Form:
    """The form of content in which a text reaches the model, found once for a template.

    Templates of models that see images as well go through the parts of a content, and drop a plain text in silence.
    """
    known = _FORMS.get(tokenizer)
    if known is None or known[0] != tokenizer.chat_template:
        known = (tokenizer.chat_template, _find_form(tokenizer))
        _FORMS[tokenizer] = known
    return known[1]


def _find_form(tokenizer: PreTrainedTokenizerBase) -> Form:
    refused = True
    alone = [Message("user", _MARK)]
    for form in (_as_text, _as_parts):
        # Templates of classifiers may want an answer as well.
        for turns in (alone, [Message("user", _MARK), Message("assistant", "?")]):
            try:
                shown = _apply(tokenizer, turns, form, generation=False)
            except TemplateError:
                continue
            refused = False
            if _MARK in shown:
                return form
    if refused:  # it wants other turns, such as a system message first: said of the prompts that it refuses
        return _as_text
    raise TemplateError(
        "the model's chat template leaves out the text of a user's turn, given as a text and given as a list of parts "
        '([{"type": "text", "text": ...}]): the model would see none of the prompts; put a template that writes '
        "message['content'] into chat_template.jinja beside the model's tokenizer"
    )


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Asked) -> list[int]:
    """Token ids of the rendered prompt, with exactly one beginning-of-sequence token where the model uses one."""
    return encode_rendered(tokenizer, render(tokenizer, prompt))


def encode_rendered(tokenizer: PreTrainedTokenizerBase, rendered: str) -> list[int]:
    """Token ids of a text that `render` made."""
    return encode_many(tokenizer, [rendered])[0]


def encode_many(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[str]) -> list[list[int]]:
    """Token ids of many texts that `render` made; much faster than one at a time."""
    if not rendered:
        return []
    found = tokenizer(list(rendered), add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    # Some templates write the token themselves, others leave it to the tokenizer: one of both, never both.
    missing = bos is not None and any(ids[:1] != [bos] for ids in found) and _adds_bos(tokenizer)
    return [[bos, *ids] if missing and ids[:1] != [bos] else list(ids) for ids in found]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a template puts around the model's answer.

    ``opening`` is the text that a generation prompt ends with, after what the user said; ``lead`` the white space between it
    and the answer (Llama 2's templates write a space); ``end`` the token that ends the turn.
    """

    opening: str
    opening_ids: tuple[int, ...]
    lead: str
    end: int


def frame_of(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The frame of a tokenizer's template; takes 20 ms where there are thousands of added tokens, so find it once.

    Raises
    ------
    TemplateError
        as `end_of_turn_id`.
    """
    end = end_of_turn_id(tokenizer)
    asked = Message("user", "?")
    try:
        prompt = _render(tokenizer, [Message("user", _MARK)], generation=True)
        whole = _render(tokenizer, [asked, Message("assistant", _MARK)], generation=False)
        short = _render(tokenizer, [asked], generation=True)
    except TemplateError:  # it wants other turns, such as a system message first: said of the prompts that it refuses
        return Frame("", (), "", end)
    opening = prompt[prompt.rindex(_MARK) + len(_MARK) :] if _MARK in prompt else ""
    between = whole[len(short) : whole.rindex(_MARK)] if whole.startswith(short) else ""
    # More than white space, such as an empty block of thoughts, is the model's to write or not.
    return Frame(opening, tuple(_encode(tokenizer, opening)), "" if between.strip() else between, end)


def completion_ids(tokenizer: PreTrainedTokenizerBase, completion: str, frame: Frame | None = None) -> list[int]:
    """Token ids of a completion as it follows a prompt, ending with the end-of-turn token, which is trained too.

    They are those that follow the template's opening when both are one text: SentencePiece tokenizers (Llama 2, Mistral)
    begin a text that stands alone with a space that is not there in a conversation. Where a token would lie across the
    two, the completion is tokenised alone, without that space. `frame` is that of `frame_of`, where the caller has it.
    """
    frame = frame or frame_of(tokenizer)
    said, opening = f"{frame.lead}{completion}", frame.opening_ids
    ids = _encode(tokenizer, f"{frame.opening}{said}")
    if opening and tuple(ids[: len(opening)]) == opening:
        return [*ids[len(opening) :], frame.end]
    alone = _encode(tokenizer, said)
    added = alone and tokenizer.convert_ids_to_tokens(alone[0]) == _SPACE and not said.startswith((" ", _SPACE))
    return [*(alone[1:] if added and opening else alone), frame.end]


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends the model's turn: the first special token the template writes after its content, else EOS.

    Raises
    ------
    TemplateError
        the template writes none and the tokenizer has no end-of-sequence token; or it leaves out what the model says.
    """
    text = _render(tokenizer, [Message("user", "?"), Message("assistant", _MARK)], generation=False)
    if _MARK not in text:
        raise TemplateError(
            "the model's chat template leaves out the text of the assistant's turn, so that nothing says how a turn ends; "
            "put a template that writes message['content'] of every turn into chat_template.jinja beside the tokenizer"
        )
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
