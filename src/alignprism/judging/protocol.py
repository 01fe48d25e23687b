"""What every judge of harm is given and what it gives back: heads, models that are asked, guards, ensembles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from alignprism.models.protocol import Progress
from alignprism.rows import Harm, Scope


@dataclass(frozen=True, slots=True)
class Item:
    """A completion to be judged, with what a judge may know of its prompt. `seed_id`: never retrieve from its cluster."""

    id: str
    prompt: str
    completion: str
    language: str
    seed_id: str
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class HarmVerdict:
    """What a judge says of one item.

    ``score`` is P(harmful), where the judge has one. ``harm`` is undecidable where the reply could not be read or the judge
    said so; `reason` then begins with what was wrong. ``explanation`` is the judge's own sentence, a text that may repeat what
    it judged: rows that outlive a purge do not take it over. ``calls``: keys of the replies in the call store. ``failures``: why
    calls that the verdict needed got no answer, also where it could be given without them (`alignprism.judging.unanswered`).
    """

    item_id: str
    harm: Harm
    score: float | None = None
    category: str | None = None
    reason: str = ""
    explanation: str = ""
    calls: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


class HarmJudge(Protocol):
    """Anything that judges harm. ``digest`` says what it is: model, template, prompt language, notes, threshold."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def digest(self) -> str:
        """What it is: two judges with one digest give the same verdicts."""

    def judge(self, items: Sequence[Item], progress: Progress | None = None) -> Iterator[HarmVerdict]:
        """One verdict per item, in the order of the items. Stored replies are not asked for again."""

    def check(self, languages: Iterable[str]) -> None:
        """Called before the first call: raises InputError where this judge cannot be spoken to in one of the languages."""
