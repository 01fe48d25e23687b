"""What every command shares: the two consoles, the exit codes, and how errors and libraries speak.

Exit codes: 0 done, 1 failed, 2 wrong input, 3 a ``--fail-if`` held.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from safetensors import SafetensorError

from alignprism.errors import Failure, InputError

FAILED, WRONG_INPUT, CONDITION_HELD = 1, 2, 3
GO_ON = "What was finished is kept; the same command goes on from there."

# Wrapped between words for a person; in a file or a pipe a line stays one line.
console = Console(soft_wrap=not sys.stdout.isatty())
errors = Console(stderr=True, soft_wrap=not sys.stderr.isatty())


def cache_folder() -> Path:
    """Where fetched and converted models lie: ALIGNPRISM_CACHE, or ~/.cache/alignprism."""
    return Path(os.environ.get("ALIGNPRISM_CACHE") or "~/.cache/alignprism").expanduser()


LESS_MEMORY = "It takes less with a smaller batch size."
"""What to do when a command that asks or judges runs out of memory."""


@contextmanager
def exit_codes(less_memory: str = LESS_MEMORY) -> Iterator[None]:
    """Turn errors that teach into one message and an exit code; anything else is a bug and keeps its traceback.

    `less_memory` says which options of the command in use make it take less.
    """
    try:
        yield
    except KeyboardInterrupt:
        _stop(f"Stopped. {GO_ON}", FAILED)
    except InputError as error:
        _stop(str(error), WRONG_INPUT)
    except (OSError, RuntimeError, sqlite3.Error, SafetensorError) as error:
        if _disk_full(error):
            file = getattr(error, "filename", None) or "no file named"
            _stop(f"The disk is full ({file}). Make room. {GO_ON}", FAILED)
        if _out_of_memory(error):
            _stop(f"Out of memory. {less_memory} {GO_ON}", FAILED)
        if not isinstance(error, Failure):
            raise
        _stop(str(error), FAILED)


def quiet_libraries() -> None:
    """Their own progress bars and deprecation notes would stand between ours; errors still come through."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate|torch)\b")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error: SQLite, safetensors and torch have words of their own for it."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC:
            return True
        if any(words in str(error) for words in ("No space left on device", "database or disk is full")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _out_of_memory(error: BaseException) -> bool:
    """By name and words, because torch is not loaded by every command."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _stop(message: str, code: int) -> None:
    errors.print(message, markup=False, highlight=False)
    raise typer.Exit(code)
