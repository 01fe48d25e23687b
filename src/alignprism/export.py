"""Publishing a trained model: a plain transformers folder, refused where it must not leave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from alignprism.run_folder import RunFolderError, read_manifest

_CARD_FILES = ("alignprism.json", "README.md")


def export_cell(run: Path, cell: str, to: Path, cache: Path, say: Callable[[str], None]) -> None:
    """Write ``models/CELL`` of a run as a full model with tokenizer and card to a new folder.

    Raises
    ------
    RunFolderError
        no such model; it is research-only (`sft-random`); it was trained on rows that may not be redistributed; or the
        target exists.
    """
    read_manifest(run / "manifest.json")
    folder = run / "models" / cell
    card_file = folder / "alignprism.json"
    if not card_file.is_file():
        found = sorted(p.name for p in (run / "models").glob("*") if p.is_dir())
        raise RunFolderError(f"{run}: no trained model {cell!r}; there is: {', '.join(found) or 'none'}")
    card = json.loads(card_file.read_text(encoding="utf-8"))
    if card["research_only"]:
        raise RunFolderError(
            f"{cell}: research-only, because it also learned rejected (harmful) answers; it is never exported"
        )
    if not card["redistribute"]:
        raise RunFolderError(
            f"{cell}: some of its training rows may not be redistributed (licences: {', '.join(card.get('licences', []))}), "
            "so the model is not exported"
        )
    if to.exists():
        raise RunFolderError(f"{to} exists; name a new folder")
    from alignprism.models.local import load
    from alignprism.models.spec import ModelSpec, resolve

    model, tokenizer = load(resolve(ModelSpec(cell, str(folder)), cache, say))
    temporary = to.with_name(f".{to.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(str(temporary))
    tokenizer.save_pretrained(str(temporary))
    for name in _CARD_FILES:
        shutil.copy(folder / name, temporary / name)
    temporary.rename(to)
