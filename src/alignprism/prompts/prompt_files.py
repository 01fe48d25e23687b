"""Prompts of any file that can be checked or split: our own tables, or files of one's own, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from alignprism.prompts.formats.format import Options
from alignprism.prompts.read import own_prompt
from alignprism.prompts.sources import Unreadable, list_files, read_source_file, told
from alignprism.prompts.tables import HELD_OUT_PAIRS, read_table, row_type_of
from alignprism.prompts.values import BadValue
from alignprism.rows import Prompt, RowError

Read = tuple[str, int, Prompt] | Unreadable
_FOREIGN = frozenset({"completions.parquet", "pairs.parquet", HELD_OUT_PAIRS, "labels.parquet", "ratings.parquet"})


def read_prompts(paths: Sequence[Path], options: Options | None = None) -> Iterator[Read]:
    """File, row number and prompt, or why a row is none. A folder of `data import` gives its ``prompts.parquet``.

    Raises
    ------
    RowError
        a file cannot be read at all, or none holds a row.
    """
    chosen = options or Options(max_characters=1 << 40)
    count = 0
    for path in paths:
        for read in _of(path, chosen):
            count += 1
            yield read
    if not count:
        raise RowError(f"{', '.join(map(str, paths))}: no prompts in there")


def none_readable(paths: Sequence[Path]) -> RowError:
    """The error that files hold rows and not one prompt, with the reason of the first."""
    first = next(read for read in read_prompts(paths) if isinstance(read, Unreadable))
    return RowError(f"{', '.join(map(str, paths))}: no row can be read; the first: {told(first)}")


def _of(path: Path, options: Options) -> Iterator[Read]:
    if path.is_dir() and (path / "prompts.parquet").is_file():
        path = path / "prompts.parquet"
    if path.suffix == ".parquet" and row_type_of(path) is Prompt:
        for number, prompt in enumerate(read_table(path, Prompt), 1):
            yield str(path), number, prompt
        return
    for file in list_files(path):
        if file.name in _FOREIGN or file.kind == ".txt":
            continue
        for record in read_source_file(file):
            if isinstance(record, Unreadable):
                yield record
                continue
            try:
                prompt_set = str(record.values.get("set") or options.prompt_set or "redteam")
                prompt = own_prompt(record.values, prompt_set, None, file.shown, options.max_characters)
                yield file.shown, record.row, prompt
            except BadValue as bad:
                yield Unreadable(file.shown, record.row, bad.column, bad.reason)
