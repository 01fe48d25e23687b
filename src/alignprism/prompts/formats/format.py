"""What a format is: which files it reads, and how one record becomes rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from alignprism.errors import shown
from alignprism.prompts.read import split_of
from alignprism.prompts.sources import Record, SourceFile
from alignprism.prompts.values import MAX_CHARACTERS, BadValue, optional_text
from alignprism.rows import Completion, Label, Pair, Prompt, Rating, Scope, Split, content_id

AnyRow = Prompt | Completion | Pair | Label | Rating


@dataclass(frozen=True, slots=True)
class Item:
    """What one thing in a record became: a prompt, or a pair with its completions and their ratings."""

    rows: tuple[AnyRow, ...]


@dataclass(frozen=True, slots=True)
class Bad:
    """One thing in a record that cannot be used, by column, with the reason."""

    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Options:
    """What the user says about the data: only what a format cannot know by itself."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column to theirs (``--map text=Prompt``)."""
    language: str | None = None
    prompt_set: str | None = None
    licence: str | None = None
    redistribute: bool = False
    max_characters: int = MAX_CHARACTERS


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of file of a format. ``files`` is matched against the name without ``.gz``, ``columns`` must be there."""

    files: str
    columns: tuple[str, ...]
    header: bool = True

    def takes(self, name: str) -> bool:
        """Does the part read a file of this name (with its folders)?"""
        return re.search(self.files, name) is not None


Read = Callable[[Record, str, Options, Any], Iterable[Item | Bad]]
"""Record, part, options and what `Format.prepare` returned -> what the record holds; at least one thing."""


@dataclass(frozen=True, slots=True)
class Format:
    """A published or own format.

    ``prepare`` looks at all files once, where rows of one need another; ``export`` turns tables back into files
    (name to records), where a round trip is promised.
    """

    name: str
    about: str
    tested_on: Literal["published files", "rows made after the published schema", "own files"]
    parts: Mapping[str, Part]
    read: Read
    hub: Sequence[str] = ()
    licence: str = "unknown"
    redistribute: bool = False
    prepare: Callable[[Sequence[SourceFile], Options], Any] | None = None
    export: Callable[[Mapping[str, Sequence[Any]]], dict[str, list[dict[str, Any]]]] | None = None

    def rights(self, options: Options) -> dict[str, Any]:
        """Licence and ``redistribute`` of every row: the set's own; where it states none, the user's."""
        if self.licence != "unknown":
            return {"licence": self.licence, "redistribute": self.redistribute}
        return {"licence": options.licence or "unknown", "redistribute": options.redistribute}


_SPLITS: dict[str, Split] = {
    "train": "train", "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev", "test": "test",
}  # fmt: skip


def set_split(published: str | None, seed_id: str) -> Split:
    """The published split under our names, else the one of the seed's hash."""
    return _SPLITS.get((published or "").strip().lower()) or split_of(seed_id)


def named_split(record: Mapping[str, Any]) -> Split | None:
    """The split that a row names, under our names; None where it names none.

    Raises
    ------
    BadValue
        a word that names no split: whether the row is held out cannot be known.
    """
    named = (optional_text(record, "split") or "").strip().lower()
    if named and named not in _SPLITS:
        raise BadValue("split", f"{shown(named)}; accepted: {', '.join(_SPLITS)}, or empty")
    return _SPLITS.get(named)


def make_pair(
    *,
    id: str,
    prompt: str,
    chosen: str,
    rejected: str,
    language: str,
    prompt_id: str,
    seed_id: str,
    kind: Literal["safety", "general"],
    **more: Any,
) -> Pair:
    """A pair; what a format does not know stays empty, and the random side is drawn from the content."""
    known: dict[str, Any] = {
        "scope": None, "categories": (), "chosen_source": "", "rejected_source": "", "chosen_score": None,
        "rejected_score": None, "judge": "",
    }  # fmt: skip
    coin = int(content_id("random side", id, chosen, rejected), 16) % 2
    known.setdefault("random_side", "rejected" if coin else "chosen")
    return Pair(
        id=id, prompt=prompt, chosen=chosen, rejected=rejected, prompt_id=prompt_id, seed_id=seed_id,
        language=language, kind=kind, **(known | more),
    )  # fmt: skip


def supplied(*, id: str, prompt_id: str, model: str, text: str, truncated: bool = False, **rights: Any) -> Completion:
    """A completion that came with a set: which weights wrote it is not known, and its tokens were not counted."""
    return Completion(
        id=id, prompt_id=prompt_id, model=model, model_digest="", text=text, sample=0, n_tokens=0,
        truncated=truncated, temperature=0.0, seed=0, **rights,
    )  # fmt: skip


def as_scope(word: str | None) -> Scope | None:
    """``global`` or ``local`` of any case, or None."""
    plain = (word or "").strip().lower()
    return "global" if plain == "global" else "local" if plain == "local" else None


def ratings(
    subject: Literal["prompt", "completion"], subject_id: str, annotator: str, values: Mapping[str, Any], **more: Any
) -> tuple[Rating, ...]:
    """One `Rating` for each scale."""
    return tuple(
        Rating(subject_id, subject, annotator, scale, float(found), **more)
        for scale, found in values.items()
        if found is not None
    )
