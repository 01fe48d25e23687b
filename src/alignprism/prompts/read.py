"""Reading prompts: the sample inside the package, and JSONL, CSV or Parquet files of one's own."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from alignprism.errors import shown
from alignprism.prompts.handling import forbidden
from alignprism.prompts.values import MAX_CHARACTERS, BadValue, language_code, listed, optional_text
from alignprism.prompts.values import text as value_text
from alignprism.records import read_records
from alignprism.rows import CATEGORIES, Prompt, RowError, Split, content_id

SAMPLE_LICENCE = "Apache-2.0"
SAMPLE_SOURCE = "alignprism sample (model-written demonstration data)"
COLUMNS = (
    "id, text (or prompt), language, set, split, seed_id, scope, categories, cultures, locale, reference (or response), "
    "explanation, literal_translation, semantic_translation, source, licence, redistribute, tags"
)


def sample_files(kind: str) -> list[tuple[str, str]]:
    """Names and texts of the package's sample files of one kind: ``redteam``, ``general`` or ``translated``."""
    folder = resources.files("alignprism") / "sample"
    if kind == "translated":
        return [("translated.jsonl", (folder / "translated.jsonl").read_text(encoding="utf-8"))]
    files = sorted((folder / kind).iterdir(), key=lambda item: item.name)
    return [(f"{kind}/{item.name}", item.read_text(encoding="utf-8")) for item in files if item.name.endswith(".jsonl")]


def read_sample(prompt_set: str) -> list[Prompt]:
    """The sample's prompts of one set (see `rows.PROMPT_SETS`), in a fixed order."""
    kind = {"benign": "redteam"}.get(prompt_set, prompt_set)
    make = {"redteam": _sample_redteam, "benign": _sample_benign, "general": _sample_general}.get(
        prompt_set, _sample_translated
    )
    return [make(json.loads(line)) for _, text in sample_files(kind) for line in text.split("\n") if line]


def _sample_redteam(row: dict[str, Any]) -> Prompt:
    return Prompt(
        id=row["seed_id"],
        text=row["prompt"],
        set="redteam",
        seed_id=row["seed_id"],
        reference=row["safe_completion"],
        explanation=row["explanation"],
        literal_translation=row["literal_translation"],
        semantic_translation=row["semantic_translation"],
        scope=row["scope"],
        categories=tuple(row["categories"]),
        cultures=tuple(row["cultures"]),
        **_sample_common(row),
    )


def _sample_benign(row: dict[str, Any]) -> Prompt:
    return Prompt(
        id=f"{row['seed_id']}-benign",
        text=row["twin_prompt"],
        set="benign",
        seed_id=row["seed_id"],
        reference=row["twin_completion"],
        semantic_translation=row["twin_translation"],
        **_sample_common(row),
    )


def _sample_general(row: dict[str, Any]) -> Prompt:
    return Prompt(
        id=row["id"],
        text=row["prompt"],
        set="general",
        seed_id=row["id"],
        reference=row["response"],
        **_sample_common(row),
    )


def _sample_translated(row: dict[str, Any]) -> Prompt:
    return Prompt(
        id=f"{row['seed_id']}-{row['language']}",
        text=row["prompt"],
        set="translated",
        seed_id=row["seed_id"],
        scope=row["scope"],
        categories=tuple(row["categories"]),
        semantic_translation=row["prompt_en"],
        **_sample_common(row),
    )


def _sample_common(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "language": row["language"],
        "locale": row["locale"],
        "split": row["split"],
        "source": SAMPLE_SOURCE,
        "licence": SAMPLE_LICENCE,
        "redistribute": True,
    }


def read_file(
    path: Path, prompt_set: str, default_split: Split | None = None, rows_of: str | None = None
) -> list[Prompt]:
    """Read prompts from a JSONL, CSV or Parquet file.

    ``text`` (or ``prompt``) and ``language`` are needed; the other columns are optional. Without ``split`` a row gets
    `default_split`, or one drawn from the hash of its seed, which stays the same when rows are added. Where rows say which
    ``set`` they are of, those of `rows_of` are read (None: of `prompt_set`), as prompts of `prompt_set`.

    Raises
    ------
    RowError
        naming file, row and column.
    """
    wanted = rows_of or prompt_set
    others: Counter[str] = Counter()
    rows = []
    for number, record in read_records(path):
        named = optional_text(record, "set") or wanted
        if named == wanted:
            rows.append(_prompt_of(record, prompt_set, default_split, f"{path}: row {number}"))
        else:
            others[named] += 1
    if not rows and others:
        listed = ", ".join(f"{count} of set {shown(name)}" for name, count in others.most_common())
        raise RowError(
            f"{path}: no row is of set {wanted!r} (column set: {listed}); name the file under data.KEY of its set, or say "
            "data.redteam_set: translated where a parallel set holds the red-team prompts"
        )
    if not rows:
        raise RowError(f"{path}: holds no rows; columns read: {COLUMNS}")
    return rows


def _prompt_of(record: dict[str, Any], prompt_set: str, default_split: Split | None, where: str) -> Prompt:
    try:
        return own_prompt(record, prompt_set, default_split, where.split(": row")[0])
    except BadValue as bad:
        raise RowError(f"{where}: column {bad.column}: {bad.reason}") from bad


def own_prompt(
    record: Mapping[str, Any],
    prompt_set: str,
    default_split: Split | None,
    source: str,
    limit: int = MAX_CHARACTERS,
) -> Prompt:
    """A prompt of the columns in ``COLUMNS``; `source` stands where the record names none.

    Raises
    ------
    BadValue
        naming the column.
    """
    column = "text" if record.get("text") or not record.get("prompt") else "prompt"
    if not isinstance(record.get(column), str) or not str(record[column]).strip():
        raise BadValue("text", f"empty or missing; columns read: {COLUMNS}")
    text = value_text(record, column, limit)
    code = language_code(record, "language")
    scope = (str(record["scope"]).strip().lower() if record.get("scope") else None) or None
    if scope not in (None, "global", "local"):
        raise BadValue("scope", f"{shown(scope)}; accepted: global, local, or empty")
    categories = listed(record.get("categories"), "categories")
    # A tag of what is never used is read, so that the row is set aside and counted, not the whole file refused.
    unknown = [c for c in categories if c not in CATEGORIES and forbidden("", [c]) is None]
    if unknown:
        raise BadValue("categories", f"{shown(unknown[0])} is unknown; accepted: {', '.join(CATEGORIES)}")
    seed_id = optional_text(record, "seed_id") or optional_text(record, "id") or content_id(text)
    split = record.get("split") or default_split or split_of(seed_id)
    if split not in ("train", "dev", "test"):
        raise BadValue("split", f"{shown(split)}; accepted: train, dev, test")
    return Prompt(
        id=optional_text(record, "id") or content_id(prompt_set, code, text),
        text=text,
        language=code,
        set=prompt_set,
        split=split,
        seed_id=seed_id,
        scope=scope,  # type: ignore[arg-type]  # checked above
        categories=categories,
        cultures=listed(record.get("cultures"), "cultures"),
        locale=optional_text(record, "locale"),
        source=optional_text(record, "source") or source,
        reference=optional_text(record, "reference") or optional_text(record, "response"),
        explanation=optional_text(record, "explanation"),
        literal_translation=optional_text(record, "literal_translation"),
        semantic_translation=optional_text(record, "semantic_translation"),
        licence=optional_text(record, "licence") or "unknown",
        redistribute=str(record.get("redistribute", "")).lower() in ("true", "1", "yes"),
        tags=listed(record.get("tags"), "tags"),
    )


def split_of(seed_id: str) -> Split:
    """Split drawn from the seed's hash: half train, one eighth dev, three eighths test; adding rows moves none."""
    bucket = hashlib.sha256(seed_id.encode()).digest()[0]
    return "train" if bucket < 128 else "dev" if bucket < 160 else "test"
