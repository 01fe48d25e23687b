"""What can be said of one prompt by itself; a chunk of prompts at a time, so that processes can share the work."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from alignprism.languages import script_of
from alignprism.prompts.findings import Finding
from alignprism.prompts.handling import forbidden
from alignprism.prompts.identify import SCRIPT_SHARE, identify, own_script, same_language, script_share, share_in
from alignprism.prompts.lexical import Signatures, folded, normalise, signatures
from alignprism.prompts.personal import hidden_characters, personal_data
from alignprism.rows import CATEGORIES, Prompt

Placed = tuple[str, int, Prompt]
"""File, row number and the prompt itself."""


@dataclass(slots=True)
class Chunk:
    """What a chunk of prompts gives: findings, and one value per row for the checks that need all rows."""

    findings: list[Finding]
    folded: list[str]
    signed: Signatures
    text_keys: npt.NDArray[np.uint64]
    id_keys: npt.NDArray[np.uint64]
    seed_keys: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.int32]
    translated: npt.NDArray[np.bool_]
    cells: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Rows by language, scope and category (a prompt with two categories counts in both)."""


def key(*parts: str) -> int:
    """64 bits of a hash."""
    content = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def check_chunk(rows: Sequence[Placed]) -> Chunk:
    """All checks of single rows, and what the others need."""
    prompts = [prompt for _, _, prompt in rows]
    normalised = [normalise(p.text) for p in prompts]
    compared = [folded(text, p.language) for p, text in zip(prompts, normalised, strict=True)]
    return Chunk(
        findings=[finding for placed in rows for finding in check_prompt(*placed)],
        folded=compared,
        signed=signatures(compared),
        # Not folded: a text in another script is no double that may be dropped.
        text_keys=np.array([key(p.language, t) for p, t in zip(prompts, normalised, strict=True)], np.uint64),
        id_keys=np.array([key(p.id) for p in prompts], np.uint64),
        seed_keys=np.array([key(p.seed_id) for p in prompts], np.uint64),
        lengths=np.array([len(p.text) for p in prompts], np.int32),
        translated=np.array([bool(p.literal_translation or p.semantic_translation) for p in prompts], np.bool_),
        cells=Counter((p.language, p.scope or "none", c) for p in prompts for c in (p.categories or ("none",))),
    )


def check_prompt(file: str, row: int, prompt: Prompt) -> Iterator[Finding]:
    """The findings of one prompt."""

    def found(check: str, severity: str, evidence: str) -> Finding:
        return Finding(prompt.id, check, severity, evidence, prompt.language, file, row)  # type: ignore[arg-type]

    if not prompt.text.strip():
        yield found("empty", "error", "no text")
        return
    yield from (found("language", "warning", said) for said in _language(prompt))
    unknown = [c for c in prompt.categories if c not in CATEGORIES and forbidden("", [c]) is None]
    if unknown:
        yield found("category", "error", f"{unknown[0][:40]!r} is none of the nine categories")
    if prompt.scope not in (None, "global", "local"):
        yield found("scope", "error", f"{str(prompt.scope)[:40]!r}; accepted: global, local, or none")
    if prompt.split not in ("train", "dev", "test"):
        yield found("split", "error", f"{str(prompt.split)[:40]!r}; accepted: train, dev, test")
    for name in ("literal_translation", "semantic_translation"):
        translation = getattr(prompt, name)
        if translation and prompt.language != "en" and normalise(translation) == normalise(prompt.text):
            yield found("translation", "warning", f"{name} is the prompt itself")
    for kind, place in personal_data(prompt.text):
        yield found("personal-data", "warning", f"what looks like a {kind} at character {place}")
    for code, place, grave in hidden_characters(prompt.text):
        yield found("hidden-character", "error" if grave else "warning", f"{code} at character {place}")
    reason = forbidden(prompt.text, (*prompt.categories, *prompt.tags))
    if reason is not None:
        yield found("handling", "warning", f"kept out of every generating stage ({reason})")


def _language(prompt: Prompt) -> Iterator[str]:
    script = script_of(prompt.locale or "")
    share = share_in(prompt.text, script) if script else script_share(prompt.text, prompt.language)
    if share is not None and share < SCRIPT_SHARE:
        label = f"{prompt.language}-{script}" if script else prompt.language
        yield f"labelled {label}, but {1 - share:.0%} of the letters are of another script"
        return
    if script and not own_script(prompt.language, script):
        return  # Hindi in Latin letters is Hindi to no identifier
    identified = identify(prompt.text)
    if identified.code and identified.code != same_language(prompt.language):
        yield f"labelled {prompt.language}, identified as {identified.code} (score {identified.score:.2f})"
