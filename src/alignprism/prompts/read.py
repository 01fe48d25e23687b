"""Reading prompts: the sample inside the package, and JSONL, CSV or Parquet files of one's own."""

from __future__ import annotations

import ast
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from alignprism.languages import UnknownLanguage, language
from alignprism.prompts.handling import forbidden
from alignprism.records import read_records
from alignprism.rows import CATEGORIES, Prompt, RowError, Split, content_id

SAMPLE_LICENCE = "Apache-2.0"
SAMPLE_SOURCE = "alignprism sample (model-written demonstration data)"
COLUMNS = (
    "id, text (or prompt), language, split, seed_id, scope, categories, cultures, locale, reference (or response), "
    "explanation, literal_translation, semantic_translation, source, licence, redistribute"
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


def read_file(path: Path, prompt_set: str, default_split: Split | None = None) -> list[Prompt]:
    """Read prompts from a JSONL, CSV or Parquet file.

    ``text`` (or ``prompt``) and ``language`` are needed; the other columns are optional. Without ``split`` a row gets
    `default_split`, or one drawn from the hash of its seed, which stays the same when rows are added.

    Raises
    ------
    RowError
        naming file, row and column.
    """
    rows = [_prompt_of(record, prompt_set, default_split, f"{path}: row {n}") for n, record in read_records(path)]
    if not rows:
        raise RowError(f"{path}: holds no rows; columns read: {COLUMNS}")
    return rows


def _prompt_of(record: dict[str, Any], prompt_set: str, default_split: Split | None, where: str) -> Prompt:
    text = record.get("text") or record.get("prompt")
    if not isinstance(text, str) or not text.strip():
        raise RowError(f"{where}: column text: empty or missing; columns read: {COLUMNS}")
    try:
        code = language(str(record.get("language") or "").strip()).code
    except UnknownLanguage as error:
        raise RowError(f"{where}: column language: {error}") from error
    scope = (str(record["scope"]).strip().lower() if record.get("scope") else None) or None
    if scope not in (None, "global", "local"):
        raise RowError(f"{where}: column scope: {scope!r}; accepted: global, local, or empty")
    categories = _listed(record.get("categories"), f"{where}: column categories")
    # A tag of what is never used is read, so that the row is set aside and counted, not the whole file refused.
    unknown = [c for c in categories if c not in CATEGORIES and forbidden("", [c]) is None]
    if unknown:
        raise RowError(f"{where}: column categories: {unknown[0]!r} is unknown; accepted: {', '.join(CATEGORIES)}")
    seed_id = _text(record, "seed_id") or _text(record, "id") or content_id(text)
    split = record.get("split") or default_split or split_of(seed_id)
    if split not in ("train", "dev", "test"):
        raise RowError(f"{where}: column split: {split!r}; accepted: train, dev, test")
    return Prompt(
        id=_text(record, "id") or content_id(prompt_set, code, text),
        text=text,
        language=code,
        set=prompt_set,
        split=split,
        seed_id=seed_id,
        scope=scope,  # type: ignore[arg-type]  # checked above
        categories=categories,
        cultures=_listed(record.get("cultures"), f"{where}: column cultures"),
        locale=_text(record, "locale"),
        source=_text(record, "source") or where.split(": row")[0],
        reference=_text(record, "reference") or _text(record, "response"),
        explanation=_text(record, "explanation"),
        literal_translation=_text(record, "literal_translation"),
        semantic_translation=_text(record, "semantic_translation"),
        licence=_text(record, "licence") or "unknown",
        redistribute=str(record.get("redistribute", "")).lower() in ("true", "1", "yes"),
    )


def _text(record: dict[str, Any], column: str) -> str | None:
    value = record.get(column)
    return str(value) if value not in (None, "") else None


def _listed(value: Any, where: str) -> tuple[str, ...]:
    """A list, a stringified Python list (as Aya publishes it), or one plain string."""
    if value in (None, "", []):
        return ()
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise RowError(f"{where}: {value[:40]!r} is not a list") from error
    if isinstance(value, str):
        return (value.strip(),)
    if not isinstance(value, list | tuple | set):
        raise RowError(f"{where}: {str(value)[:40]!r} is not a list")
    return tuple(str(item) for item in value)


def split_of(seed_id: str) -> Split:
    """Split drawn from the seed's hash: half train, one eighth dev, three eighths test; adding rows moves none."""
    bucket = hashlib.sha256(seed_id.encode()).digest()[0]
    return "train" if bucket < 128 else "dev" if bucket < 160 else "test"
