"""Any file with texts beside their references as translations or summaries that can be scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignprism.judging.judged_file import text_in
from alignprism.judging.summaries import Summary
from alignprism.judging.translation import Translation
from alignprism.languages import UnknownLanguage, language
from alignprism.prompts.parallel import ParallelText
from alignprism.records import read_records
from alignprism.rows import RowError, content_id

COLUMNS = ("completion", "reference", "language", "id", "model", "source_language")
"""What is read of a row; the first three must be there. ``source_language`` is for translations into English."""

REQUIRED = COLUMNS[:3]
ONE_MODEL = "model"
"""What the model is called in a file without a column for it."""


def read_summaries(path: Path, renamed: Mapping[str, str] | None = None) -> tuple[dict[str, list[Summary]], int]:
    """Summaries by model, and how many rows have none (a missing completion is no summary).

    Raises
    ------
    RowError
        the file cannot be read, a column is missing, a value is not what it should be, or a model has two for one id.
    """
    found: dict[str, list[Summary]] = {}
    rows, missing = _rows(path, renamed)
    for row in rows:
        found.setdefault(row["model"], []).append(
            Summary(row["id"], row["language"], row["id"], row["completion"], row["reference"])
        )
    return found, missing


def read_translations(path: Path, renamed: Mapping[str, str] | None = None) -> tuple[dict[str, list[Translation]], int]:
    """Translations by model, and how many rows have none; ``language`` is that of the translation.

    Raises
    ------
    RowError
        see `read_summaries`; or a translation into English without source_language, or neither side is English.
    """
    found: dict[str, list[Translation]] = {}
    rows, missing = _rows(path, renamed)
    for row in rows:
        source = row["source_language"] or ("en" if row["language"] != "en" else "")
        if not source:
            raise RowError(f"{row['where']}: a translation into English needs the column source_language")
        if (source == "en") == (row["language"] == "en"):
            raise RowError(f"{row['where']}: one of language and source_language must be English, not both or neither")
        to_english = row["language"] == "en"
        other = source if to_english else row["language"]
        sides = ("", row["reference"]) if to_english else (row["reference"], "")
        sentence = ParallelText(f"{other}:{row['id']}", other, *sides, row["id"], path.name)
        translation = Translation(sentence, "to English" if to_english else "from English", row["completion"])
        found.setdefault(row["model"], []).append(translation)
    return found, missing


def _rows(path: Path, renamed: Mapping[str, str] | None) -> tuple[list[dict[str, str]], int]:
    names = {name: (renamed or {}).get(name, name) for name in COLUMNS}
    unknown = sorted(set(renamed or {}) - set(COLUMNS))
    if unknown:
        raise RowError(f"{unknown[0]!r} is no column that is read; accepted: {', '.join(COLUMNS)}")
    rows, missing, seen = [], 0, set()
    for number, record in read_records(path):
        row = _row(f"{path}: row {number}", record, names)
        if row is None:
            missing += 1
            continue
        place = (row["model"], row["language"], row["source_language"], row["id"])
        if place in seen:
            raise RowError(f"{row['where']}: model {row['model']!r} has two completions for id {row['id']!r}")
        seen.add(place)
        rows.append(row)
    if not rows:
        raise RowError(f"{path}: no row with a completion")
    return rows, missing


def _row(where: str, record: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str] | None:
    for name in REQUIRED:
        if names[name] not in record:
            raise RowError(
                f"{where}: column {names[name]} is missing; there are {', '.join(record)} "
                f"(--column {name}=THEIRS names another)"
            )
    completion, reference = record[names["completion"]], record[names["reference"]]
    if completion is not None and not isinstance(completion, str):
        raise RowError(f"{where}: column {names['completion']}: a text is expected, not {type(completion).__name__}")
    if not isinstance(reference, str) or not reference.strip():
        raise RowError(f"{where}: column {names['reference']}: a text is expected")
    if completion is None:
        return None
    return {
        "where": where,
        "completion": completion,
        "reference": reference,
        "language": _code(record, names["language"], where),
        "source_language": _code(record, names["source_language"], where, optional=True),
        "model": text_in(record, names["model"], where) or ONE_MODEL,
        "id": text_in(record, names["id"], where) or content_id(reference),
    }


def _code(record: Mapping[str, Any], name: str, where: str, optional: bool = False) -> str:
    label = text_in(record, name, where)
    if not label and optional:
        return ""
    try:
        return language(label).code
    except UnknownLanguage as error:
        raise RowError(f"{where}: column {name}: {error}") from error
