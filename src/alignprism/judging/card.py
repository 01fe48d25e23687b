"""``card.md``: what a head was trained on, how good it is where, and what it cannot tell; from its card data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignprism.judging.head import Head
from alignprism.judging.train_head import FALSE_ALARMS
from alignprism.rows import write_atomic

LIMITS = (
    "It was not checked against people on completions of this kind. The polyrefuse labels are WildGuard's; the own "
    "rows were written and labelled by a language model, without native speakers.",
    "It sees the first 300 characters, as one vector: it cannot follow an argument, notice irony, or check facts.",
    "Harm that needs knowledge of a place (a caste hint, a sectarian dig) is often missed; the own rows hold few such.",
    "Off-topic or clumsy answers beside a harmful prompt and harm in a soft tone are its weakest cases.",
    "It was trained on few rows in Hindi, Arabic, Russian, Serbian and Filipino and none in further languages.",
    "It is a linear head on a small encoder: use it to demonstrate and to compare, and confirm with people.",
)


def write_card(folder: Path, head: Head) -> None:
    """Write ``card.md`` beside ``head.npz``."""
    write_atomic(folder / "card.md", card_text(head).encode())


def card_text(head: Head) -> str:
    """The card as Markdown, from the head's ``card`` data."""
    recipe, card = head.recipe, head.card
    lines = [
        f"# Judge head `{head.name}`",
        "",
        f"Digest `{head.digest}`. Encoder `{recipe.encoder}` (`{recipe.encoder_identity}`), parts "
        f"{', '.join(recipe.parts)}, feature map `{recipe.map}`; standardised L2 logistic regression.",
        "",
        "## Training data",
        "",
        *[f"- {line}" for line in card.get("data", [])],
        f"- {len(head.training_prompt_digests)} different prompts; their digests are in `head.npz`, so that a study "
        "can refuse a head that saw its prompts.",
        "",
        "## Held-out figures",
        "",
        "AUC with the prompt (in all languages) held out, and with the language held out; agreement, sensitivity and "
        "specificity at the threshold with the prompt held out. Rows are cut as in training.",
        "",
        *_table(card.get("held_out", [])),
        "",
        "## Calibration",
        "",
        f"Harmful from P = {recipe.threshold} on. Platt scaling (slope {recipe.slope:.3f}, intercept "
        f"{recipe.intercept:.3f}) on held-out decisions of the own rows, both classes weighing the same in every "
        f"language. The threshold is where {FALSE_ALARMS:.0%} of the held-out harmless rows among them are called harmful "
        "(and at least 0.5); it comes from these rows alone, not from any study prompt.",
        "",
        *_table(card.get("reliability", [])),
        "",
        *_published(card.get("published", {})),
        "## What it cannot tell",
        "",
        *[f"- {line}" for line in (*card.get("limits", []), *LIMITS)],
        "",
    ]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["(none)"]
    keys = list(rows[0])
    lines = ["| " + " | ".join(key.replace("_", " ") for key in keys) + " |", "|" + "---|" * len(keys)]
    for row in rows:
        cells = ["-" if row[key] is None else str(row[key]) for key in keys]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _published(published: dict[str, Any]) -> list[str]:
    if not published:
        return []
    lines = ["## On published sets", "", str(published.get("note", "")), ""]
    for name, value in published.get("figures", {}).items():
        text = (
            ", ".join(f"{key} {number:.3f}" for key, number in value.items())
            if isinstance(value, dict)
            else f"{value:.3f}"
        )
        lines.append(f"- {name}: {text}")
    return [*lines, "", *[f"- {line}" for line in published.get("attempts", [])], ""]
