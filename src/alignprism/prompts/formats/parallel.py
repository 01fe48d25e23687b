"""Parallel text: Tatoeba test pairs (``tatoeba.hin-eng.hin`` beside ``.eng``), FLORES (``hin_Deva.devtest``).

A sentence with its English translation becomes a general prompt with ``semantic_translation``: a reference for
translation (chrF, BLEU) and for language identification, not a request. The English side is held in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, set_split
from alignprism.prompts.sources import Record, SourceFile, read_source_file
from alignprism.prompts.values import BadValue, language_code, text
from alignprism.rows import Prompt

_PAIRED = re.compile(r"([\w]+)\.([a-z]{2,3})-eng\.([a-z]{2,3})$")
_FLORES = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})\.(dev|devtest)$")
_ENGLISH = ("eng", "en")


def _side(name: str) -> tuple[str, str, str] | None:
    """What the pair is called, the language of this side, the split; None for another file."""
    base = PurePosixPath(name.removesuffix(".gz")).name
    paired = _PAIRED.search(base)
    if paired:
        return f"{paired.group(1)}.{paired.group(2)}-eng", paired.group(3), "test"
    flores = _FLORES.search(base)
    return (f"flores.{flores.group(3)}", flores.group(1), flores.group(3)) if flores else None


def prepare(files: Sequence[SourceFile], options: Options) -> dict[str, list[str]]:
    """The English side of every pair, by its name."""
    english: dict[str, list[str]] = {}
    for file in files:
        side = _side(file.name)
        if side is not None and side[1] in _ENGLISH:
            english[side[0]] = [r.values["text"] for r in read_source_file(file) if isinstance(r, Record)]
    return english


def read(record: Record, part: str, options: Options, prepared: Mapping[str, list[str]]) -> Iterator[Item | Bad]:
    """One sentence with its translation."""
    side = _side(record.file)
    if side is None:
        raise BadValue("", "the file's name names no pair of languages")
    name, label, split = side
    code = language_code({"language": label}, "language")
    if name not in prepared:
        raise BadValue("", f"the English side of {name} is not in the source; put both files into one folder")
    written = text(record.values, "text", options.max_characters)
    if record.row > len(prepared[name]):
        raise BadValue("text", f"the English side ends at row {len(prepared[name])}: the files are not parallel")
    seed_id = f"{name}-{record.row}"
    flores = name.startswith("flores")
    prompt = Prompt(
        id=f"{seed_id}-{code}" if flores else seed_id,
        text=written,
        language=code,
        set="general",
        split=set_split("dev" if split == "dev" else "test", seed_id),
        seed_id=seed_id,
        source="FLORES-200" if flores else f"Tatoeba by LASER ({name})",
        semantic_translation=text({"text": prepared[name][record.row - 1]}, "text"),
        licence="CC-BY-SA-4.0" if flores else "CC-BY-2.0-FR",
        redistribute=True,
    )
    yield Item((prompt,))


def export(tables: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    """Two text files for each pair, line by line, for sentences that came from Tatoeba."""
    files: dict[str, list[dict[str, Any]]] = {}
    for row in tables["prompts"]:
        name, _, number = row.id.rpartition("-")
        if not number.isdigit() or _PAIRED.search(f"{name}.{name.partition('.')[2].partition('-')[0]}") is None:
            raise BadValue("id", f"{row.id}: not from Tatoeba")
        if "\n" in row.text or "\n" in (row.semantic_translation or ""):
            raise BadValue("text", f"{row.id}: a line break inside the sentence")
        label = name.partition(".")[2].partition("-")[0]
        files.setdefault(f"{name}.{label}", []).append({"text": row.text})
        files.setdefault(f"{name}.eng", []).append({"text": row.semantic_translation})
    return files


FORMAT = Format(
    name="parallel",
    about="Parallel text with English: Tatoeba test pairs, FLORES",
    tested_on="published files",
    parts={
        "prompts": Part(r"\.[a-z]{2,3}-eng\.(?!en)[a-z]{2,3}$|(?<![a-z])(?!eng)[a-z]{3}_[A-Z][a-z]{3}\.(dev|devtest)$", ()),
    },
    read=read,
    licence="CC-BY (see each row)",
    redistribute=True,
    prepare=prepare,
    export=export,
)  # fmt: skip
