"""Publishing a trained model: a plain transformers folder, refused where it must not leave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alignprism.run_folder import RunFolderError, read_manifest

if TYPE_CHECKING:
    from alignprism.models.spec import ResolvedModel

_CARD_FILE = "alignprism.json"


def export_cell(run: Path, cell: str, to: Path, cache: Path, say: Callable[[str], None]) -> None:
    """Write ``models/CELL`` of a run as a full model with tokenizer, card and its base's terms to a new folder.

    Raises
    ------
    RunFolderError
        no such model; it is research-only (`sft-random`); it was trained on rows that may not be redistributed; it, or the
        base that it lies on, is not what the run recorded; or the target exists.
    """
    manifest = read_manifest(run / "manifest.json")
    _refuse_bound(run, cell)
    if to.exists():
        raise RunFolderError(f"{to} exists; name a new folder")
    from alignprism.models.spec import ModelSpec, resolve

    folder = run / "models" / cell
    resolved = resolve(ModelSpec(cell, str(folder)), cache, say)
    _check_digest(cell, resolved, manifest["models"].get(cell, {}).get("digest"))
    _write(resolved, folder, to)


def _refuse_bound(run: Path, cell: str) -> None:
    """Stop where the cell is not there, or its card says that it must not leave."""
    card_file = run / "models" / cell / _CARD_FILE
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


def _check_digest(cell: str, found: ResolvedModel, recorded: str | None) -> None:
    """A base is found by its name, which may stand for other files by now: on them the adapter is another model."""
    if recorded is not None and found.digest != recorded:
        place = f"on the base in {found.folder}" if found.adapter else f"in {found.folder}"
        raise RunFolderError(
            f"{cell}: as it lies {place} its digest is {found.digest[:12]}, and the run recorded {recorded[:12]} after the "
            "training: files have changed since. Put the base back as it was, or run the study again"
        )


def _write(resolved: ResolvedModel, folder: Path, to: Path) -> None:
    from alignprism.models.local import load
    from alignprism.training.model_folder import TERMS, copy_files, new_folder

    model, tokenizer = load(resolved)
    with new_folder(to, folder) as temporary:
        model.save_pretrained(str(temporary))
        tokenizer.save_pretrained(str(temporary))
        copy_files(resolved.folder, temporary, TERMS)  # the base's, which bind this model too
        shutil.copy(folder / _CARD_FILE, temporary / _CARD_FILE)
        # The cell is an adapter, and what is written here is none: a hub would open it with another library.
        about = (folder / "README.md").read_text(encoding="utf-8")
        about = about.replace("\nlibrary_name: peft\n", "\nlibrary_name: transformers\n", 1)
        (temporary / "README.md").write_text(about, encoding="utf-8")
