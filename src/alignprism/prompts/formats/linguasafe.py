"""LinguaSafe: prompts of twelve languages with type, subtype, severity level and language-specific flag.

The columns are those that the authors' own evaluation reads: ``id``, ``lang``, ``prompt``, ``subtype``, ``level`` (0
safe to 3), ``specific``. No real file was at hand. Rows made for a language (``specific``) read as scope ``local``,
the others as ``global``: a stand-in, and marked as one. Level 0 is over-sensitivity data: set ``benign``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alignprism.errors import shown
from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, set_split
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, language_code, number, optional_text, text
from alignprism.rows import Prompt, content_id

SOURCE = "LinguaSafe; scope is a stand-in (language-specific as local)"
CATEGORIES = {
    "Violence": "violence_threats_incitement",
    "Violent Crimes": "violence_threats_incitement",
    "Terrorism": "violence_threats_incitement",
    "Profanity": "profanity",
    "Gender": "discrimination_injustice",
    "Race": "discrimination_injustice",
    "Age": "discrimination_injustice",
    "Religion": "discrimination_injustice",
    "Sex Orientation": "discrimination_injustice",
    "Other Hate Speech": "hate_speech",
}
"""Subtype to category, where one of the nine says the same; every subtype stays a tag."""


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One prompt."""
    row = record.values
    code = language_code(row, "lang")
    written = text(row, "prompt", options.max_characters)
    level = number(row, "level")
    if level not in (0, 1, 2, 3):
        raise BadValue("level", f"{level:g}; accepted: 0, 1, 2, 3")
    subtype = text(row, "subtype")
    specific = str(row.get("specific")).strip().lower()
    if specific not in ("true", "false", "1", "0"):
        raise BadValue("specific", f"{shown(specific)}; accepted: true, false")
    key = optional_text(row, "id")
    key = key.removesuffix(".0") if key is not None else content_id(code, written)
    # The same id in several languages is one prompt translated; one made for a language stands alone.
    local = specific in ("true", "1")
    seed_id = f"linguasafe-{code}-{key}" if local else f"linguasafe-{key}"
    kind = optional_text(row, "type")
    prompt = Prompt(
        id=f"linguasafe-{key}-{code}",
        text=written,
        language=code,
        set="benign" if level == 0 else "redteam",
        split=set_split(None, seed_id),
        seed_id=seed_id,
        scope="local" if local else "global",
        categories=(CATEGORIES[subtype],) if subtype in CATEGORIES else (),
        source=SOURCE,
        tags=(
            *((kind,) if kind else ()),
            subtype,
            f"level {level:g}",
            *(("cbrn",) if subtype == "Bio-Chemical Misuse" else ()),
        ),
        **FORMAT.rights(options),
    )
    yield Item((prompt,))


FORMAT = Format(
    name="linguasafe",
    about="LinguaSafe: twelve languages, severity levels, language-specific prompts",
    tested_on="rows made after the published schema",
    parts={"prompts": Part(r"(?i)lingua.?safe\w*\.(jsonl?|csv|parquet)$|/\w+$", ("lang", "prompt", "subtype", "level", "specific"))},
    read=read,
    hub=("telegraphpolehead/linguasafe",),
)  # fmt: skip
