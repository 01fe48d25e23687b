"""General prompts with a chosen answer, of any file: our own pairs and prompts, TRL's preference format, UltraFeedback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alignprism.construct.output import SetAside, unreadable
from alignprism.prompts.formats import trl
from alignprism.prompts.formats.format import Bad, Item, Options
from alignprism.prompts.held_out import HELD_OUT, held_out_beside
from alignprism.prompts.read import own_prompt
from alignprism.prompts.sources import Record, Unreadable, read_source
from alignprism.prompts.tables import read_table, row_type_of
from alignprism.prompts.values import BadValue
from alignprism.rows import Pair, Prompt, RowError


def read_general(path: Path, language: str | None = None) -> tuple[list[Prompt], list[SetAside]]:
    """Prompts whose ``reference`` is the chosen answer, and the rows that are none, with the reason.

    Rows have ``prompt`` and ``chosen`` (texts or messages; ``rejected`` is not needed), or ``text`` and ``reference``.
    `language` is that of rows which name none. Prompts of split dev or test are set aside, as pairs are for training: those
    that say so themselves, and those that the ``prompts.parquet`` beside the file holds out.

    Raises
    ------
    RowError
        the file cannot be read, or holds no rows.
    """
    prompts: dict[str, Prompt] = {}
    aside: list[SetAside] = []
    held_out = held_out_beside(path)
    for found in _rows(path, language):
        if isinstance(found, Unreadable):
            aside.append(unreadable(found))
        elif found.id in prompts:
            aside.append(SetAside(found.id, "prompt occurs before"))
        elif found.split != "train":
            aside.append(SetAside(found.id, f"split {found.split}"))
        elif held_out.holds(found.id, found.seed_id):
            aside.append(SetAside(found.id, HELD_OUT))
        elif not (found.reference or "").strip():
            aside.append(SetAside(found.id, "no chosen answer"))
        else:
            prompts[found.id] = found
    if not prompts and not aside:
        raise RowError(f"{path}: holds no rows; columns read: prompt, chosen, language, or text, reference, language")
    return list(prompts.values()), aside


def _rows(path: Path, language: str | None) -> Iterator[Prompt | Unreadable]:
    if path.is_dir() and (path / "pairs.parquet").is_file():
        path = path / "pairs.parquet"
    kind = row_type_of(path) if path.suffix == ".parquet" else None
    if kind is Pair:
        yield from map(_of_pair, read_table(path, Pair))
    elif kind is Prompt:
        yield from read_table(path, Prompt)
    else:
        for record in read_source(path):
            yield record if isinstance(record, Unreadable) else _of_record(record, language)


def _of_record(record: Record, language: str | None) -> Prompt | Unreadable:
    options = Options(language=language)
    values = {**record.values, "language": record.values.get("language") or language}
    try:
        if "chosen" not in values:
            return own_prompt(values, "general", "train", record.file)
        # Only the chosen side is used; without a rejected one the format's reader would refuse the row.
        made = list(trl.read(Record(record.file, record.row, {**values, "rejected": _OTHER}), "pairs", options, None))
    except BadValue as bad:
        return Unreadable(record.file, record.row, bad.column, bad.reason)
    pairs = [row for item in made if isinstance(item, Item) for row in item.rows if isinstance(row, Pair)]
    if not pairs:
        bad_item = next(item for item in made if isinstance(item, Bad))
        return Unreadable(record.file, record.row, bad_item.column, bad_item.reason)
    return _of_pair(pairs[0])


_OTHER = "no rejected answer"


def _of_pair(pair: Pair) -> Prompt:
    return Prompt(
        id=pair.prompt_id, text=pair.prompt, language=pair.language, set="general", split=pair.split,
        seed_id=pair.seed_id, categories=pair.categories, source=pair.chosen_source, reference=pair.chosen,
        licence=pair.licence, redistribute=pair.redistribute, tags=pair.tags,
    )  # fmt: skip
