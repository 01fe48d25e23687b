"""Aya evaluation suite (Cohere For AI): open-ended prompts, among them Dolly-200 in many languages.

Columns ``id``, ``inputs``, ``targets``, ``language`` (ISO 639-3), ``script``, ``source_id``. No real file was at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part
from alignprism.prompts.sources import Record
from alignprism.prompts.values import identifier, language_code, optional_text, text
from alignprism.rows import Prompt


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One prompt with its target; the rows of one ``source_id`` are one prompt in many languages."""
    row = record.values
    code = language_code(row, "language")
    label = text(row, "language").strip()
    script = optional_text(row, "script")
    source_id = optional_text(row, "source_id")
    number = identifier(row, "id")
    folder = record.file.rstrip("/").split("/")[-2] if record.file.count("/") else ""
    family = "dolly" if "dolly" in record.file else "aya"
    seed_id = f"{family}-{source_id}" if source_id else f"{family}-{label}-{number}"
    prompt = Prompt(
        id=f"{family}-{label}{f'-{script}' if script else ''}-{source_id or number}",
        text=text(row, "inputs", options.max_characters),
        language=code,
        set="general",
        split="test",
        seed_id=seed_id,
        locale=f"{code}-{script}" if script and len(script) == 4 else None,
        source=f"CohereForAI/aya_evaluation_suite{f' ({folder})' if 'dolly' in folder or 'aya' in folder else ''}",
        reference=optional_text(row, "targets"),
        **FORMAT.rights(options),
    )
    yield Item((prompt,))


FORMAT = Format(
    name="aya-evaluation-suite",
    about="Aya evaluation suite: Dolly-200 and others, for general ability",
    tested_on="rows made after the published schema",
    parts={"prompts": Part(r"(dolly|aya)\w*.*\.(jsonl?|csv|parquet)$|/\w+$", ("id", "inputs", "language"))},
    read=read,
    hub=("CohereForAI/aya_evaluation_suite", "CohereLabs/aya_evaluation_suite"),
    licence="Apache-2.0",
    redistribute=True,
)
