"""The two kinds of errors that teach; every error of a part is one of them, and the command line needs no other list."""

from __future__ import annotations

from typing import Any


def shown(found: Any) -> str:
    """A value as a message may show it: quoted where it is short, else only its length (it may be harmful text)."""
    written = str(found)
    return repr(written) if len(written) <= 32 else f"a text of {len(written)} characters"


class InputError(ValueError):
    """What was given cannot be used as it is: the message says what, where and what is accepted. Exit code 2."""


class Failure(RuntimeError):  # noqa: N818  # the word users read; InputError is the other kind
    """The input was right and the work did not succeed: the message says why and what to do. Exit code 1."""
