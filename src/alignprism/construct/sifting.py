"""The round that all writing of prompts is made of: ask the writer, set aside what a rule is against, ask the checker.

Everything that comes back is counted once: as accepted, or as set aside under one reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignprism.construct.checker import Checker, Opinion
from alignprism.construct.filters import CUT, Why
from alignprism.construct.output import SetAside
from alignprism.construct.writing import Commission, written_lists
from alignprism.models.extra import without_extra
from alignprism.models.protocol import Decoding, Engine, Progress
from alignprism.rows import Prompt

STOPS = ("over budget", "interrupted")
"""Failures that end the work; what was made until then is kept."""

NO_ANSWERS = "the writer gave no answer"
NO_CHECKS = "the checker gave no answer"

Bars = Callable[[str, int], Progress]
"""Opens a bar: its title and total."""

Written = tuple[Prompt, Prompt]
"""A new prompt and its seed."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a written prompt is from: its seed's id, and the keys of the answers that it was read in and checked by."""

    id: str
    seed: str
    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WrittenPrompts:
    """New prompts with their origins, what was set aside, and the report (numbers and ids, no texts).

    ``stopped`` says why it ended: a reason of the command that wrote them, or the failure that ended it.
    """

    prompts: tuple[Prompt, ...]
    origins: tuple[Origin, ...]
    set_aside: tuple[SetAside, ...]
    report: Mapping[str, Any]
    stopped: str


@dataclass
class Sifting:
    """What came of all rounds so far. ``stopped`` is empty while there is no reason to end."""

    writer: Engine
    checker: Checker | None
    progress: Bars | None = None
    made: list[Written] = field(default_factory=list)
    aside: list[SetAside] = field(default_factory=list)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    rounds: list[dict[str, int]] = field(default_factory=list)
    came: int = 0
    stopped: str = ""
    calls: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def written(
        self,
        asked: Sequence[Commission],
        decoding: Decoding,
        make: Callable[[Prompt, str], Prompt],
        rule: Callable[[Prompt], Why | None],
    ) -> list[Written]:
        """A new round: the prompts of the writer's replies that the rule lets through, in the order of the requests."""
        self.rounds.append({"asked": len(asked), "failed": 0, "came": -self.came, "accepted": -len(self.made)})
        kept: list[Written] = []
        for one, listed in written_lists(self.writer, asked, decoding, self._bar("replies of", self.writer, asked)):
            self.came += len(listed.items) + bool(listed.problem) + listed.cut
            if listed.failure is not None:
                self.rounds[-1]["failed"] += 1
                self.stopped = str(listed.failure) if listed.failure in STOPS else self.stopped
            if listed.problem:
                self.set_aside(one.request.id, one.seed, (listed.problem, listed.detail))
            if listed.cut:
                self.set_aside(one.request.id, one.seed, (CUT, ""))
            for prompt in (make(one.seed, text) for text in listed.items):
                why = rule(prompt)
                if why is None:
                    kept.append((prompt, one.seed))
                    self.calls[prompt.id] = (listed.call,)
                else:
                    self.set_aside(prompt.id, one.seed, why)
        if self.rounds[-1]["failed"] == len(asked):  # another round would be spent on a model that does not answer
            self.stopped = self.stopped or NO_ANSWERS
        return kept

    def checked(
        self,
        found: Sequence[Written],
        rule: Callable[[Opinion, Prompt], Why | None],
        room: Callable[[Written], Why | None],
    ) -> list[Written]:
        """The end of a round: what the checker's opinion and then `room` let through, which is accepted at once."""
        against: list[Why | None] = [None] * len(found)
        if self.checker is not None and found:
            bar, failed = self._bar("checks by", self.checker.engine, found), 0
            for n, opinion in enumerate(self.checker.opinions([prompt for prompt, _ in found], bar)):
                against[n] = rule(opinion, found[n][1])
                self.calls[found[n][0].id] += (opinion.call,)
                failed += opinion.failure is not None
                self.stopped = str(opinion.failure) if opinion.failure in STOPS else self.stopped
            if failed == len(found):  # what another round writes would not be checked either
                self.stopped = self.stopped or NO_CHECKS
        accepted = []
        for one, reason in zip(found, against, strict=True):
            why = reason or room(one)
            if why is None:
                accepted.append(one)
            else:
                self.set_aside(one[0].id, one[1], why)
        self.made += accepted
        self.rounds[-1]["came"] += self.came
        self.rounds[-1]["accepted"] += len(self.made)
        return accepted

    def origins(self) -> tuple[Origin, ...]:
        """Of the accepted prompts, in their order."""
        return tuple(Origin(one.id, seed.id, tuple(filter(None, self.calls[one.id]))) for one, seed in self.made)

    def set_aside(self, row_id: str, seed: Prompt, why: Why) -> None:
        """A row that is not used, with its reason."""
        self.aside.append(SetAside(row_id, *why))
        self.reasons[seed.language, why[0]] += 1

    def _bar(self, what: str, engine: Engine, rows: Sequence[object]) -> Progress | None:
        return self.progress(f"round {len(self.rounds)}: {what} {engine.name}", len(rows)) if self.progress else None

    def report(self) -> dict[str, Any]:
        """Who was asked, and where everything that came went: accepted or set aside, in all and by language."""
        total: Counter[str] = Counter()
        for (_, reason), count in self.reasons.items():
            total[reason] += count
        accepted = Counter(prompt.language for prompt, _ in self.made)
        checker = self.checker
        return {
            "writer": {"name": self.writer.name, "digest": self.writer.digest},
            "checker": None if checker is None else {"name": checker.name, "digest": checker.digest},
            "checked": checker is not None,
            "checker_is_writer": checker is not None
            and without_extra(checker.engine.digest) == without_extra(self.writer.digest),
            "came": self.came,
            "accepted": len(self.made),
            "set_aside": dict(sorted(total.items())),
            "by_language": {
                code: {
                    "accepted": accepted[code],
                    "set_aside": {
                        reason: n for (language, reason), n in sorted(self.reasons.items()) if language == code
                    },
                }
                for code in sorted({*accepted, *(language for language, _ in self.reasons)})
            },
            "rounds": self.rounds,
        }
