"""Files in TRL's dataset formats become texts to learn from: preference pairs, and for SFT plain completions too.

A row is a JSON object (``.jsonl``) or a Parquet row. ``prompt``, ``chosen`` and ``rejected`` are strings or lists of
``{role, content}`` messages; a plain prompt is one user message, so that both forms of one conversation are one text. A
list of one message is a completion; a longer one is the whole conversation, whose last message is the completion: the
prompt is then implicit (TRL's "implicit prompt"), and a ``prompt`` column has to agree with it. SFT also reads
``completion`` beside a prompt, or ``messages``, of which it learns the last one. Several turns and a system message
are rendered by the model's own chat template.

``id`` (default: ``row-NUMBER``) and ``language`` (any label; default ``und``, undetermined) are optional, and so is
``random_side`` and ``seed_id``, which alignprism's own pairs carry. `read_bounds` looks at ``redistribute`` and ``split``. Other columns are
not read, but a row that needs more than text (images, tools) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alignprism.models.protocol import Asked, Message
from alignprism.prompts.formats.format import named_split
from alignprism.prompts.held_out import held_out_beside
from alignprism.prompts.values import BadValue
from alignprism.records import read_records
from alignprism.rows import RowError, content_id
from alignprism.training.examples import Side, Text

Need = Literal["completion", "pair"]
"""``completion``: something to learn is enough; ``pair``: every row needs both sides."""

UNDETERMINED = "und"  # BCP-47
_ROLES = ("system", "user", "assistant")
_MORE_THAN_TEXT = ("image", "images", "videos", "audio", "tools", "chat_template_kwargs")
_CALLS = ("tool_calls", "function_call")
_MESSAGES_AS_TEXT = re.compile(r"""\s*\[\s*\{\s*["'](role|content)["']\s*:""")
_LEARNED = ("chosen", "completion", "messages")

Turns = tuple[Message, ...]


class _BadValue(Exception):  # noqa: N818  # never leaves this file: it becomes a RowError with its place
    """A value that cannot be used: its column and why."""

    def __init__(self, column: str, why: str) -> None:
        super().__init__(why)
        self.column, self.why = column, why


def read_texts(path: Path, need: Need) -> list[Text]:
    """The rows of a file, in their order. With `need` ``completion`` a row's rejected side is kept where there is one.

    Empty and identical sides are texts like others: `examples.make_examples` leaves them out and counts them.

    Raises
    ------
    RowError
        the file cannot be read or holds no rows; or a row cannot be used, naming file, row and column, never the text.
    """
    texts: list[Text] = []
    first: dict[str, int] = {}
    for number, record in read_records(path):
        try:
            text = _text(record, number, need)
            if text.id in first:
                raise _BadValue(
                    "id", f"{text.id!r} is that of row {first[text.id]} too; without the column rows are numbered"
                )
        except _BadValue as error:
            raise RowError(f"{path}: row {number}: column {error.column}: {error.why}") from error
        first[text.id] = number
        texts.append(text)
    if not texts:
        raise RowError(
            f"{path}: holds no rows; columns read: prompt, chosen, rejected, completion, messages, id, language"
        )
    return texts


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a file says of the use of its rows; a file that says nothing sets no bounds.

    ``kept_back``: a row's column ``redistribute`` says, as ours do, that it may not be passed on. ``held_out``: ids of rows
    of split dev or test, by their own column ``split`` or by the ``prompts.parquet`` beside the file.
    """

    kept_back: bool
    held_out: frozenset[str]


def read_bounds(path: Path) -> Bounds:
    """The bounds of a file that `read_texts` can read.

    Raises
    ------
    RowError
        the file cannot be read; or a ``split`` names none, so that it cannot be known whether its row is held out.
    """
    beside = held_out_beside(path)
    kept_back, held_out = False, set[str]()
    for number, record in read_records(path):
        kept_back |= str(record.get("redistribute")).lower() in ("false", "0", "no")
        try:
            split = named_split(record)
        except BadValue as bad:
            raise RowError(f"{path}: row {number}: column {bad.column}: {bad.reason}") from bad
        if split in ("dev", "test") or beside.holds(str(record.get("prompt_id")), str(record.get("seed_id"))):
            held_out.add(_name(record, number))
    return Bounds(kept_back, frozenset(held_out))


def _text(record: Mapping[str, Any], number: int, need: Need) -> Text:
    for column in _MORE_THAN_TEXT:
        if record.get(column):
            raise _BadValue(column, "not supported: rows are learned as text alone")
    learned = _learned_column(record, need)
    sides = [learned, "rejected"] if _given(record, "rejected") and learned != "messages" else [learned]
    prompt, completions = _conversation(record, sides)
    name = _name(record, number)
    chosen, rejected = completions[0], completions[1] if len(completions) > 1 else None
    return Text(
        id=name,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        language=_language(record),
        kind="preference" if rejected is not None else "completion",
        random_side=_random_side(record, name, chosen, rejected),
        cluster=str(record.get("seed_id") or ""),
    )


def _name(record: Mapping[str, Any], number: int) -> str:
    identity = record.get("id")
    return f"row-{number}" if identity is None or identity == "" else str(identity)


def _learned_column(record: Mapping[str, Any], need: Need) -> str:
    """The column with the text to learn; `need` ``pair`` also asks for ``rejected``."""
    if need == "pair":
        for column in ("chosen", "rejected"):
            if not _given(record, column):
                raise _BadValue(column, "missing; every row needs chosen and rejected")
        return "chosen"
    found = [column for column in _LEARNED if _given(record, column)]
    if not found:
        raise _BadValue("chosen", "missing; accepted: prompt with chosen or completion, or messages")
    return found[0]


def _given(record: Mapping[str, Any], column: str) -> bool:
    return record.get(column) is not None


def _conversation(record: Mapping[str, Any], sides: list[str]) -> tuple[Asked, list[str]]:
    """The prompt, and the completion of each side."""
    asked = _value(record, "prompt") if _given(record, "prompt") else None
    prompt: Turns | None = (Message("user", asked),) if isinstance(asked, str) else asked
    implicit: Turns | None = None
    completions = []
    for column in sides:
        value = _value(record, column)
        if isinstance(value, str):
            completions.append(value)
            continue
        turns, last = value[:-1], value[-1]
        if last.role != "assistant":
            raise _BadValue(column, f"the last message is of the role {last.role}; the completion is the assistant's")
        completions.append(last.content)
        if not turns:
            continue
        if implicit is not None and turns != implicit:
            raise _BadValue(
                column,
                f"all messages but the last must be those of {sides[0]}; only single-message completions are supported",
            )
        if prompt is not None and not _agrees(turns, prompt, plain=isinstance(asked, str)):
            raise _BadValue("prompt", f"differs from the messages before the last one of {column}")
        implicit = turns
    return _asked(implicit or prompt), completions


def _agrees(turns: Turns, prompt: Turns, *, plain: bool) -> bool:
    """Whether a prompt column says the same as a whole conversation; a plain one may be any of its user messages."""
    return prompt[0] in turns if plain else turns == prompt


def _asked(turns: Turns | None) -> Asked:
    """The prompt of a row: its messages, or the text alone where there is one user message and nothing else."""
    if turns is None:
        raise _BadValue(
            "prompt",
            "missing; a plain completion, or a list of one message, needs a prompt (one that both texts begin with has to be "
            "cut off first, as trl.extract_prompt does)",
        )
    last = turns[-1]
    if last.role != "user":
        raise _BadValue("prompt", f"the last message before the completion is of the role {last.role}, not of the user")
    if not last.content.strip():
        raise _BadValue("prompt", "empty")
    return last.content if len(turns) == 1 else turns


def _value(record: Mapping[str, Any], column: str) -> str | Turns:
    """A string, or messages."""
    value = record[column]
    if isinstance(value, str) and column != "messages":
        if _MESSAGES_AS_TEXT.match(value):
            raise _BadValue(column, "a list of messages written as one text (a .csv cell?); use .jsonl or .parquet")
        return value
    if not isinstance(value, list):
        raise _BadValue(column, f"a string or a list of messages is expected, not {type(value).__name__}")
    if not value:
        raise _BadValue(column, "an empty list of messages")
    return tuple(_message(item, column, place) for place, item in enumerate(value, 1))


def _message(item: Any, column: str, place: int) -> Message:
    if not isinstance(item, Mapping) or not isinstance(item.get("content"), str):
        raise _BadValue(column, f"message {place}: an object with role and content, a string, is expected")
    if item.get("role") not in _ROLES:
        raise _BadValue(column, f"message {place}: the role must be one of {', '.join(_ROLES)}")
    if any(item.get(key) for key in _CALLS):
        raise _BadValue(column, f"message {place}: calls of tools are not supported")
    return Message(item["role"], item["content"])


def _language(record: Mapping[str, Any]) -> str:
    value = record.get("language")
    if value is not None and not isinstance(value, str):
        raise _BadValue("language", f"a string is expected, such as 'hi', not {type(value).__name__}")
    return (value or "").strip() or UNDETERMINED


def _random_side(record: Mapping[str, Any], name: str, chosen: str, rejected: str | None) -> Side:
    """The side that SFT on a random side learns: the row's own, else drawn from its content, whatever the seed."""
    given = record.get("random_side")
    if given in ("chosen", "rejected"):
        return "rejected" if given == "rejected" and rejected is not None else "chosen"
    coin = int(content_id("random side", name, chosen, rejected), 16) % 2
    return "rejected" if coin and rejected is not None else "chosen"
