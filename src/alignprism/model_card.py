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
_OUTCOME = (
    "steps",
    "planned_steps",
    "kept_step",
    "held_out_rows",
    "tokens",
    "first_loss",
    "last_loss",
    "displacement",
    "displacement_by_language",
    "unshared",
    "seconds",
    "warnings",
    "precision",
)


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


def outcome(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a card takes from the result of a training (`training.loop.TrainResult` as a mapping)."""
    return {name: result[name] for name in _OUTCOME if name in result}


def readme(title: str, base: str, card: Mapping[str, Any], made: str, *, adapter: bool) -> str:
    """The model card that hubs show, in Markdown: what made the model, what binds it, its warnings, and its card line by line."""
    library = "peft" if adapter else "transformers"
    return (
        "\n\n".join(
            [
                f"---\nbase_model: {base}\nlibrary_name: {library}\ntags: [alignprism, {card['method']}]\n---\n# {title}",
                made,
                *_notes(card),
                "The licence and terms of the base model apply to this one too (Gemma: the Gemma Terms of Use and its "
                "prohibited-use policy).",
                *_body(card),
            ]
        )
        + "\n"
    )


def _notes(card: Mapping[str, Any]) -> list[str]:
    """What binds the model, and what its training warned of."""
    notes = []
    if card.get("research_only"):
        notes.append(
            "**Research only.** This model was also trained on rejected (harmful) answers. `alignprism export` refuses it."
        )
    if card.get("redistribute") is False:
        notes.append(
            "**Not to be passed on.** Rows that it learned, or a model that it was made from, may not be redistributed. "
            "`alignprism export` refuses it."
        )
    return [*notes, *(f"**Warning.** {warning}" for warning in (card.get("result") or {}).get("warnings", ()))]


_SECTIONS = {"settings": "Settings", "result": "Result"}


def _body(card: Mapping[str, Any]) -> list[str]:
    """The card in lines: what made the model, then its settings, its result, and what became of the rows by language."""
    plain = {key: value for key, value in card.items() if key not in _SECTIONS and key != "truncation"}
    blocks = [_lines(plain)]
    for key, title in _SECTIONS.items():
        if values := {name: value for name, value in (card.get(key) or {}).items() if name != "warnings"}:
            blocks.append(f"## {title}\n\n{_lines(values)}")
    if reports := card.get("truncation"):
        columns = ("language", "rows", "kept", "over_limit", "cut", "empty", "identical")
        lines = [columns, ("---",) * len(columns), *([str(report[name]) for name in columns] for report in reports)]
        blocks.append("## Rows by language\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return blocks


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in sorted(values.items()))


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
