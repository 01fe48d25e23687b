"""MultiJail (DAMO-NLP-SG): 315 unsafe English prompts, translated by native speakers into nine languages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, set_split
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, identifier, listed, optional_text, text
from alignprism.rows import Prompt

SOURCE = "DAMO-NLP-SG/MultiJail"
LANGUAGES = ("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv")
# Where the set's own tag says the same as one of the nine categories; the others stay tags.
CATEGORIES = {
    "Violence & incitement": "violence_threats_incitement",
    "Terrorism & organized crime": "violence_threats_incitement",
    "Discrimination & injustice": "discrimination_injustice",
    "Hate speech & offensive language": "hate_speech",
    "Bullying & harassment": "bullying_harassment",
    "Self-harm": "self_harm",
}


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One prompt for each language; a bad cell costs only that language."""
    row = record.values
    tags = listed(row.get("tags"), "tags")
    seed_id = f"multijail-{identifier(row, 'id')}"
    source = f"{SOURCE} ({optional_text(row, 'source') or 'source not given'})"
    english = row.get("en")
    for code in LANGUAGES:
        try:
            written = text(row, code, options.max_characters)
        except BadValue as bad:
            yield Bad(bad.column, bad.reason)
            continue
        prompt = Prompt(
            id=f"{seed_id}-{code}",
            text=written,
            language=code,
            set="translated",
            split=set_split(None, seed_id),
            seed_id=seed_id,
            categories=tuple(dict.fromkeys(CATEGORIES[tag] for tag in tags if tag in CATEGORIES)),
            source=source,
            semantic_translation=english if code != "en" and isinstance(english, str) and english.strip() else None,
            tags=tags,
            **FORMAT.rights(options),
        )
        yield Item((prompt,))


def export(tables: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    """The published columns, for prompts that came from here."""
    by_seed: dict[str, dict[str, Any]] = {}
    for row in tables["prompts"]:
        if not row.seed_id.startswith("multijail-"):
            raise BadValue("seed_id", f"{row.id}: not from MultiJail; its format has no place for other prompts")
        where = row.source.removeprefix(SOURCE).strip(" ()")
        made = by_seed.setdefault(
            row.seed_id,
            {"id": row.seed_id.removeprefix("multijail-"), "source": where, "tags": str(list(row.tags))}
            | dict.fromkeys(LANGUAGES, ""),
        )
        made[row.language] = row.text
    return {"MultiJail.csv": list(by_seed.values())}


FORMAT = Format(
    name="multijail",
    about="MultiJail: 315 unsafe prompts in ten languages, human translations",
    tested_on="published files",
    parts={"prompts": Part(r"MultiJail\.csv$", ("id", "tags", *LANGUAGES))},
    read=read,
    hub=("DAMO-NLP-SG/MultiJail",),
    licence="MIT",
    redistribute=True,
    export=export,
)
