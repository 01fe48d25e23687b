"""Removing every text from a run folder: prompts, completions, pairs and stored calls; hashes and figures stay."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from alignprism.labels.store import labels_file, one_at_a_time
from alignprism.models.store import CallStore
from alignprism.rows import Comparison, Completion, Label, Pair, Prompt, RowError, read_rows, write_rows
from alignprism.run_folder import RunFolder, RunFolderError, locked, now, read_manifest

_TEXTS: dict[type[Any], tuple[str, ...]] = {
    Prompt: ("text", "reference", "explanation", "literal_translation", "semantic_translation"),
    Completion: ("text",),
    Pair: ("prompt", "chosen", "rejected"),
    # What a judge or a person wrote about a text may repeat it.
    Comparison: ("reason",),
    Label: ("note",),
}
_FILES: dict[str, type[Any]] = {
    "prompts.parquet": Prompt,
    "completions.parquet": Completion,
    "pairs.parquet": Pair,
    "comparisons.parquet": Comparison,
}


def purge_run(path: Path, say: Callable[[str], None] = lambda _: None) -> int:
    """Replace every text by its sha256; returns how many were removed. `say` is told of files that had to go whole.

    The run is marked as purged: it can be read and its page made again, but not continued.

    Raises
    ------
    RunFolderError
        this is no run folder, or a newer one; it has no results yet; or another process is working in it.
    """
    read_manifest(path / "manifest.json")  # first, so that no lock is left in a folder that is no run
    # All the while: a run that goes on would write texts again, and a manifest that knows nothing of this.
    with locked(path):
        run = RunFolder(path, read_manifest(path / "manifest.json"))
        if not (path / "results.json").is_file():
            raise RunFolderError(f"{path}: the run has no results yet, so purging would lose them; let it finish first")
        removed = _purge_rows(path, say)
        # Set aside as damaged, or left half written by a kill: not readable as rows, but texts all the same.
        for left in [*path.rglob("*.damaged*"), *path.rglob(".*.tmp")]:
            if left.is_file():
                left.unlink()
        if (path / "calls.sqlite").is_file():
            with CallStore(path / "calls.sqlite") as store:
                removed += store.purge_texts()
        for work in (path / "stages").glob("*/work"):
            shutil.rmtree(work)
        (path / "samples.html").unlink(missing_ok=True)
        run.manifest["purged"] = now()
        run.save()
    return removed


def _purge_rows(path: Path, say: Callable[[str], None]) -> int:
    """Every table of a run that holds texts, and what people noted beside their labels."""
    removed = 0
    for file in sorted((path / "stages").rglob("*.parquet")):
        row_type = _FILES.get(file.name)
        if row_type is not None:
            removed += _purge_file(file, row_type, say)
    if labels_file(path).is_file():
        with one_at_a_time(path):
            removed += _purge_file(labels_file(path), Label, say)
    return removed


def _purge_file(file: Path, row_type: type[Any], say: Callable[[str], None]) -> int:
    try:
        rows: Sequence[Any] = read_rows(file, row_type)
    except RowError as error:  # what cannot be read may still hold texts that somebody else can
        file.unlink()
        say(f"Removed whole, as its texts could not be removed one by one: {error}")
        return 0
    names = [name for name in _TEXTS[row_type] if name in {f.name for f in fields(row_type)}]
    removed = sum(_is_text(getattr(row, name)) for row in rows for name in names)
    purged = [replace(row, **{name: _hash(getattr(row, name)) for name in names}) for row in rows]
    write_rows(file, purged, row_type)
    return removed


def _is_text(value: str | None) -> bool:
    return value is not None and value != "" and not value.startswith("sha256:")


def _hash(value: str | None) -> str | None:
    return f"sha256:{hashlib.sha256(value.encode()).hexdigest()}" if value is not None and _is_text(value) else value
