"""Values of a record: taken by column, checked once, and named by column when they cannot be used."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from alignprism.errors import shown
from alignprism.languages import UnknownLanguage, find_language

MAX_CHARACTERS = 100_000
"""A longer text is damage or an attack on whoever processes it, not a prompt."""

_HALF = re.compile(r"[\ud800-\udfff]")
_OVERRIDE = re.compile("[\u202d\u202e]")


class BadValue(Exception):  # noqa: N818  # never leaves this package: it becomes a set-aside row or a RowError
    """A value that cannot be used: its column, why, and what to do. Never the text itself."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(f"{column}: {reason}")
        self.column, self.reason = column, reason


def value(record: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of a place inside it (``OriginalEntry.Prompt``); None where there is none."""
    found: Any = record
    for part in column.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def text(record: Mapping[str, Any], column: str, limit: int = MAX_CHARACTERS) -> str:
    """A text that has to be there and to be usable as it is.

    Raises
    ------
    BadValue
        missing, empty, no text, too long, not Unicode, or with a NUL byte or a direction override.
    """
    found = value(record, column)
    if found is None or (isinstance(found, str) and not found.strip()):
        raise BadValue(column, "empty or missing; fill it in or leave the row out")
    if not isinstance(found, str):
        raise BadValue(column, f"a text is expected, not {type(found).__name__}")
    check_text(found, column, limit)
    return found


def check_text(found: str, column: str, limit: int = MAX_CHARACTERS) -> None:
    """Refuse a text that no later step could show or process as it is (see `text`)."""
    if len(found) > limit:
        raise BadValue(
            column,
            f"{len(found):,} characters; the limit is {limit:,}: cut it, or import the file with `data import --max-characters`",
        )
    half = _HALF.search(found)
    if half is not None:
        code = ord(half.group())
        if 0xDC80 <= code <= 0xDCFF:
            raise BadValue(
                column,
                f"byte 0x{code - 0xDC00:02x} is not of the file's encoding: save the file as UTF-8, "
                "or import it with `data import --encoding`, as windows-1251",
            )
        raise BadValue(column, f"half of a surrogate pair at character {half.start() + 1}; not Unicode text")
    nul = found.find("\0")
    if nul >= 0:
        raise BadValue(column, f"a NUL byte at character {nul + 1}: remove it")
    override = _OVERRIDE.search(found)
    if override is not None:
        raise BadValue(
            column,
            f"a direction override (U+{ord(override.group()):04X}) at character {override.start() + 1} "
            "shows the text as something else: remove it",
        )


def optional_text(record: Mapping[str, Any], column: str) -> str | None:
    """A text or number that may be missing, as text; checked like `text`."""
    found = value(record, column)
    if found is None or found == "":
        return None
    if isinstance(found, float) and found != found:  # an empty cell, as data frames write it
        return None
    written = str(found)
    check_text(written, column)
    return written


def identifier(record: Mapping[str, Any], column: str) -> str:
    """An id: a text or a number, without the ``.0`` that spreadsheets append."""
    found = value(record, column)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    written = "" if found is None else str(found).strip()
    if not written:
        raise BadValue(column, "empty or missing; every row needs an id")
    check_text(written, column)
    return written


def language_code(record: Mapping[str, Any], column: str) -> str:
    """The BCP-47 code of a language label in any of the usual forms."""
    found = value(record, column)
    if not isinstance(found, str) or not found.strip():
        raise BadValue(column, "empty or missing; a language such as 'hi' is expected")
    try:
        return find_language(found).code
    except UnknownLanguage as error:
        raise BadValue(column, str(error)) from error


def listed(found: Any, column: str) -> tuple[str, ...]:
    """A list, a stringified Python or JSON list (as Aya publishes it), or one plain string."""
    if found is None or (isinstance(found, str) and not found.strip()):
        return ()
    if isinstance(found, str) and found.lstrip().startswith("["):
        found = _parsed_list(found, column)
    if isinstance(found, str):
        return (found.strip(),)
    if not isinstance(found, list | tuple | set):
        raise BadValue(column, f"{shown(found)} is not a list")
    return tuple(str(item) for item in found)


def _parsed_list(written: str, column: str) -> Any:
    try:
        return json.loads(written)
    except ValueError:
        pass
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise BadValue(column, f"{shown(written)} is not a list") from error


def number(record: Mapping[str, Any], column: str) -> float:
    """A number, also where a file writes it as text."""
    found = value(record, column)
    try:
        return float(found)
    except (TypeError, ValueError) as error:
        raise BadValue(column, f"{shown(found)} is not a number") from error


def one_of(record: Mapping[str, Any], column: str, accepted: tuple[str, ...]) -> str:
    """A word of a fixed list, whatever its case."""
    found = str(value(record, column) or "").strip()
    for word in accepted:
        if found.casefold() == word.casefold():
            return word
    raise BadValue(column, f"{shown(found)}; accepted: {', '.join(accepted)}")
