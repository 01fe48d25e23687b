"""What the commands that make and mix pairs share: languages as one option, an opened judge of harm, counts on the console."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from alignprism.cli.console import cache_folder
from alignprism.cli.construct import Asking, keys_of
from alignprism.cli.judge_options import models_of, show_table
from alignprism.errors import InputError

if TYPE_CHECKING:
    from alignprism.judging.protocol import HarmJudge
    from alignprism.judging.settings import JudgeSettings
    from alignprism.rows import Pair, Prompt

LanguagesOption = Annotated[
    str | None, typer.Option("--languages", help="Only these, as en,hi; the others stay for zero-shot transfer.")
]


def codes_of(languages: str | None) -> list[str]:
    """``en,Hindi`` as codes.

    Raises
    ------
    InputError
        a language is not known.
    """
    from alignprism.languages import UnknownLanguage, find_language

    try:
        return [find_language(name.strip()).code for name in (languages or "").split(",") if name.strip()]
    except UnknownLanguage as error:
        raise InputError(f"--languages: {error}") from error


def open_harm_judge(
    settings: JudgeSettings, asking: Asking, notes_rows: Sequence[Prompt], stack: ExitStack
) -> HarmJudge:
    """The judge, asked through the command's call store and within its cap, while the stack is open."""
    from alignprism.judging.open import open_judge

    return stack.enter_context(
        open_judge(
            settings, store=asking.store, cache=cache_folder(), keys=keys_of(models_of(settings)),
            allow_remote=asking.allow_remote, notes_rows=notes_rows, cap=asking.cap, say=asking.reporter.say,
            tally=asking.tally,
        )
    )  # fmt: skip


def show_pairs(pairs: Sequence[Pair]) -> None:
    """Pairs by language and kind, with the mean length of each side."""
    kinds = sorted({pair.kind for pair in pairs}, reverse=True)
    counts = Counter((pair.language, pair.kind) for pair in pairs)
    lines = []
    for code in sorted({pair.language for pair in pairs}):
        own = [pair for pair in pairs if pair.language == code]
        means = [sum(map(len, side)) / len(own) for side in ([p.chosen for p in own], [p.rejected for p in own])]
        lines.append([code, *(str(counts[code, kind]) for kind in kinds), *(f"{mean:.0f}" for mean in means)])
    show_table(["language", *kinds, "characters chosen", "rejected"], lines)
