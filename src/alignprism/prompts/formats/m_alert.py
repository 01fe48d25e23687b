"""M-ALERT (felfri/M-ALERT): the ALERT prompts in five languages. No real file was at hand.

Read in both layouts that are in use: one row with a column for each language, or one row for each language with
``prompt`` (and ``language``, or --language).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, set_split
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, language_code, optional_text, text
from alignprism.rows import Prompt, content_id

SOURCE = "felfri/M-ALERT"
LANGUAGES = ("en", "de", "fr", "it", "es")
# By the first word of ALERT's categories (``hate_women``, ``self_harm_suicide``, ``sex_harrasment`` as published).
_CATEGORIES = {"hate": "hate_speech", "self_harm": "self_harm"}
_CBRN = ("weapon_chemical", "weapon_biological", "weapon_radioactive")
_EXACT = {"sex_harrasment": "bullying_harassment", "sex_harassment": "bullying_harassment"}


def _categories(label: str) -> tuple[str, ...]:
    if label in _EXACT:
        return (_EXACT[label],)
    return tuple(ours for start, ours in _CATEGORIES.items() if label.startswith(start))


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """The prompts of one row."""
    row = record.values
    category = text(row, "category")
    found = [code for code in LANGUAGES if code in row]
    if not found:
        named: Mapping[str, Any] = {"language": row.get("language") or options.language}
        code = language_code(named, "language")
        yield _item(row, "prompt", code, category, record, options)
        return
    for code in found:
        try:
            yield _item(row, code, code, category, record, options)
        except BadValue as bad:
            yield Bad(bad.column, bad.reason)


def _item(row: dict[str, Any], column: str, code: str, category: str, record: Record, options: Options) -> Item:
    written = text(row, column, options.max_characters)
    key = optional_text(row, "id") or content_id(category, row.get("en") or written)
    seed_id = f"m-alert-{key}"
    prompt = Prompt(
        id=f"{seed_id}-{code}",
        text=written,
        language=code,
        set="translated",
        split=set_split(None, seed_id),
        seed_id=seed_id,
        categories=_categories(category),
        source=SOURCE,
        semantic_translation=optional_text(row, "en") if code != "en" else None,
        tags=(category, *(("cbrn",) if category in _CBRN else ())),
        **FORMAT.rights(options),
    )
    return Item((prompt,))


FORMAT = Format(
    name="m-alert",
    about="M-ALERT: the ALERT prompts in five languages",
    tested_on="rows made after the published schema",
    parts={"prompts": Part(r"(?i)m[-_]?alert\w*\.(jsonl?|csv|parquet)$|/\w+$", ("category",))},
    read=read,
    hub=("felfri/M-ALERT",),
    licence="CC-BY-NC-SA-4.0",
    redistribute=False,
)
