"""Checks before anything is generated: what is set aside, what stops the run, and the hash of the test set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alignprism.prompts.handling import forbidden
from alignprism.prompts.lexical import folded, normalise
from alignprism.rows import Prompt, RowError, by_id


@dataclass(frozen=True, slots=True)
class SetAside:
    """A prompt that was kept out, and why. Its text is not repeated here."""

    id: str
    language: str
    set: str
    reason: str


def set_aside(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[SetAside]]:
    """Part the prompts into those that may be used and those that the handling rules keep out."""
    kept: list[Prompt] = []
    out: list[SetAside] = []
    for prompt in prompts:
        reason = forbidden(prompt.text, (*prompt.categories, *prompt.tags))
        if reason is None and prompt.reference is not None:
            reason = forbidden(prompt.reference)
        if reason is None:
            kept.append(prompt)
        else:
            out.append(SetAside(prompt.id, prompt.language, prompt.set, reason))
    return kept, out


def check_leaks(prompts: Sequence[Prompt]) -> None:
    """Stop when a seed cluster, or a text of one language, lies in more than one split.

    Raises
    ------
    RowError
        naming the ids; also when an id occurs twice.
    """
    by_id(prompts)
    keys: tuple[tuple[str, Callable[[Prompt], object]], ...] = (
        ("seed cluster", lambda p: p.seed_id),
        ("text", lambda p: (p.language, folded(normalise(p.text), p.language))),
    )
    for what, key in keys:
        seen: dict[object, Prompt] = {}
        for prompt in prompts:
            first = seen.setdefault(key(prompt), prompt)
            if first.split != prompt.split:
                raise RowError(
                    f"leak: prompts {first.id!r} ({first.split}) and {prompt.id!r} ({prompt.split}) share a {what}; "
                    "give both the same split, or drop one"
                )


def frozen_hash(prompts: Sequence[Prompt]) -> str:
    """sha256 over the test prompts (id, language, set, text), whatever their order."""
    rows = sorted(f"{p.id}\t{p.language}\t{p.set}\t{p.text}" for p in prompts if p.split == "test")
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
