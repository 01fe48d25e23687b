"""Own prompts in JSON lines, CSV, TSV, Parquet or Excel, with a column map (``--map text=Prompt,language=Lang``).

``text`` and ``language`` are needed (or --language for all rows); the other columns of a prompt are optional. A row's own
``set`` goes before --set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part
from alignprism.prompts.read import own_prompt
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, one_of, optional_text
from alignprism.rows import PROMPT_SETS, Prompt

READ = frozenset(f.name for f in dataclasses.fields(Prompt)) | {"prompt", "response"}


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One prompt."""
    mapped = dict(record.values)
    for ours, theirs in options.columns.items():
        if theirs not in record.values:
            raise BadValue(theirs, f"missing, but --map says that {ours} is there")
        mapped[ours] = record.values[theirs]
    if options.language is not None and not mapped.get("language"):
        mapped["language"] = options.language
    try:
        prompt_set = one_of(mapped, "set", PROMPT_SETS) if optional_text(mapped, "set") else options.prompt_set
        made = own_prompt(mapped, prompt_set or "redteam", None, record.file, options.max_characters)
    except BadValue as bad:
        raise BadValue(options.columns.get(bad.column, bad.column), bad.reason) from bad
    # What the rows say of their licence goes first; the options speak for rows that say nothing.
    if not mapped.get("licence") and options.licence is not None:
        made = dataclasses.replace(made, licence=options.licence, redistribute=options.redistribute)
    yield Item((made,))


FORMAT = Format(
    name="own",
    about="Own prompts: JSON lines, CSV, TSV, Parquet or Excel, with --map text=COLUMN,language=COLUMN",
    tested_on="own files",
    parts={"prompts": Part(r"\.(jsonl?|csv|tsv|parquet|xlsx)$|/\w+$", ())},
    read=read,
)
