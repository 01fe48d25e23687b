"""Vicuna-80 questions in several languages (FreedomIntelligence/MultilingualSIFT)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, set_split
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, identifier, language_code, optional_text, text
from alignprism.rows import Prompt

SOURCE = "FreedomIntelligence/MultilingualSIFT (Vicuna-80)"


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One question; its language is in the file's name."""
    row = record.values
    named = re.search(r"questions_([A-Za-z]+)\.jsonl", record.file)
    if named is None and options.language is None:
        raise BadValue("language", "not in the file's name; call it questions_LANGUAGE.jsonl, or give --language")
    code = language_code({"language": options.language or (named.group(1) if named else "")}, "language")
    seed_id = f"vicuna-{identifier(row, 'question_id')}"
    category = optional_text(row, "category")
    prompt = Prompt(
        id=f"{seed_id}-{code}",
        text=text(row, "text", options.max_characters),
        language=code,
        set="general",
        split=set_split(None, seed_id),
        seed_id=seed_id,
        source=SOURCE,
        tags=(category,) if category else (),
        **FORMAT.rights(options),
    )
    yield Item((prompt,))


FORMAT = Format(
    name="vicuna",
    about="Vicuna-80 questions in several languages",
    tested_on="published files",
    parts={"prompts": Part(r"questions_[A-Za-z]+\.jsonl$", ("question_id", "text"))},
    read=read,
    licence="Apache-2.0",
    redistribute=True,
)
