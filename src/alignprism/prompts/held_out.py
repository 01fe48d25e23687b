"""Which pairs are of a held-out prompt: pairs have no say in the split, the ``prompts.parquet`` beside them has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alignprism.prompts.formats.format import named_split
from alignprism.prompts.sources import Record, read_source
from alignprism.prompts.values import BadValue
from alignprism.rows import RowError

HELD_OUT = "of a held-out prompt"
"""The reason of what is set aside."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Ids and seeds of dev and test prompts."""

    ids: frozenset[str] = frozenset()
    seeds: frozenset[str] = frozenset()

    def holds(self, prompt_id: str, seed_id: str) -> bool:
        """Is this one of those prompts, or of the same seed?"""
        return prompt_id in self.ids or seed_id in self.seeds


def held_out_beside(path: Path) -> HeldOut:
    """What the ``prompts.parquet`` in a folder, or beside a file, holds out; nothing where there is none.

    Raises
    ------
    RowError
        that file cannot be read, or names an unknown split: what is held out is then not known.
    """
    file = (path if path.is_dir() else path.parent) / "prompts.parquet"
    if not file.is_file():
        return HeldOut()
    ids, seeds = set(), set()
    for record in read_source(file):
        if isinstance(record, Record) and _held_out(record):
            ids.add(str(record.values.get("id")))
            seeds.add(str(record.values.get("seed_id") or record.values.get("id")))
    return HeldOut(frozenset(ids), frozenset(seeds))


def _held_out(record: Record) -> bool:
    try:
        return named_split(record.values) in ("dev", "test")
    except BadValue as bad:
        raise RowError(f"{record.file}: row {record.row}: column {bad.column}: {bad.reason}") from bad
