"""The card of a model that alignprism made, ``alignprism.json``: in its folder, or above it in the folder of a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignprism.errors import InputError
from alignprism.models.spec import ResolvedModel
from alignprism.rows import write_atomic

CARD_FILE = "alignprism.json"
RESULT_FOLDERS = ("adapter", "adapter-on-base", "model", "last", "last-on-base")
"""What `alignprism train` calls its results, whose card lies beside them."""


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write a folder's card, whole or not at all."""
    write_atomic(folder / CARD_FILE, json.dumps(card, indent=1, sort_keys=True, ensure_ascii=False).encode())


def cards_of(model: ResolvedModel) -> list[dict[str, Any]]:
    """Every card that speaks of a model: its adapter's and its base's; none for a model made elsewhere."""
    folders = [folder.absolute() for folder in (model.adapter, model.folder) if folder is not None]
    places = [place for folder in folders for place in (folder, *_above(folder))]
    found = [_read(place / CARD_FILE) for place in places]
    return [card for card in found if card]


def research_only(model: ResolvedModel) -> bool:
    """Whether a card says that the model must not leave: it learned rejected (harmful) answers, or comes from one that did."""
    return any(card.get("research_only") is True for card in cards_of(model))


def readme(title: str, base: str, card: Mapping[str, Any], made: str, *, adapter: bool) -> str:
    """The model card that hubs show, in Markdown: what made the model, what binds it, and its card line by line."""
    only = (
        "\n**Research only.** This model was also trained on rejected (harmful) answers. `alignprism export` refuses it.\n"
        if card.get("research_only")
        else ""
    )
    rows = "\n".join(f"- {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in sorted(card.items()))
    library = "peft" if adapter else "transformers"
    return (
        f"---\nbase_model: {base}\nlibrary_name: {library}\ntags: [alignprism, {card['method']}]\n---\n# {title}\n\n{made}\n{only}\n"
        "The licence and terms of the base model apply to this one too (Gemma: the Gemma Terms of Use and its "
        f"prohibited-use policy).\n\n{rows}\n"
    )


def _above(folder: Path) -> list[Path]:
    return [folder.parent] if folder.name in RESULT_FOLDERS else []


def _read(file: Path) -> dict[str, Any]:
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{file}: damaged ({error}), so nobody can say what this model may be used for") from error
    return dict(card) if isinstance(card, dict) else {}
