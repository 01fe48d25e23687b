"""MultiQ: 200 open questions, machine-translated into many languages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, set_split
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, identifier, language_code, optional_text, text
from alignprism.rows import Prompt

SOURCE = "paul-rottger/multiq"


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One question."""
    row = record.values
    label = text(row, "language").strip()
    seed_id = f"multiq-{identifier(row, 'id')}"
    domain = optional_text(row, "domain")
    yield Item(
        (
            Prompt(
                # By the file's own code: the full set has zh, zh-CN and zh-TW.
                id=f"{seed_id}-{label}",
                text=text(row, "prompt", options.max_characters),
                language=language_code(row, "language"),
                set="general",
                split=set_split(None, seed_id),
                seed_id=seed_id,
                locale=label if "-" in label else None,
                source=SOURCE,
                tags=(domain,) if domain else (),
                **FORMAT.rights(options),
            ),
        )
    )


def export(tables: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    """The published columns, for prompts that came from here."""
    rows = []
    for row in tables["prompts"]:
        if not row.seed_id.startswith("multiq-"):
            raise BadValue("seed_id", f"{row.id}: not from MultiQ")
        rows.append(
            {
                "id": row.seed_id.removeprefix("multiq-"),
                "language": row.id.removeprefix(f"{row.seed_id}-"),
                "prompt": row.text,
                "domain": row.tags[0] if row.tags else "",
            }
        )
    return {"MultiQ.csv": rows}


FORMAT = Format(
    name="multiq",
    about="MultiQ: 200 open questions in many languages",
    tested_on="published files",
    parts={"prompts": Part(r"MultiQ\w*\.csv$", ("id", "language", "prompt"))},
    read=read,
    hub=("Paul/MultiQ",),
    licence="CC-BY-4.0",
    redistribute=True,
    export=export,
)
