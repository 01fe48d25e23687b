"""Judgements that lack an answer: a judge's call failed, which says nothing of the text and is no verdict on it.

A judge that could not be asked looks like one that could not decide, and an ensemble decides without its silent members; so
whoever counts, retries or stops asks here, and never by the wording of a reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alignprism.judging.protocol import HarmVerdict
from alignprism.rows import Comparison, Verdict

Judgement = HarmVerdict | Verdict | Comparison

STOPS = ("over budget", "interrupted")
"""Reasons of calls that were never made: the money or the run ended."""

# Comparisons, and verdicts of earlier versions, say it in their reason alone. A withheld reply is stored: it is an answer.
_NO_REPLY = re.compile(r"no reply: (?!withheld)([^(;]+)")


@dataclass(frozen=True, slots=True)
class Unanswered:
    """``rows`` of the ``asked`` judgements lack an answer, ``stopped`` of them because the money or the run ended.

    ``asked`` leaves out what no model was asked about. ``reasons`` counts rows by why an answer is missing.
    """

    asked: int
    rows: int
    stopped: int
    reasons: Counter[str]

    @property
    def everywhere(self) -> bool:
        """Not one judgement is complete: the judge, or a member of it, is not there."""
        return 0 < self.rows == self.asked

    @property
    def listed(self) -> str:
        """The reasons with their counts, in one line."""
        return ", ".join(f"{reason} ({count})" for reason, count in self.reasons.most_common())


def unanswered(row: Judgement) -> tuple[str, ...]:
    """Why calls that a judgement needed got no answer; empty where all did."""
    if not isinstance(row, Comparison) and row.failures:
        return row.failures
    decided = row.preferred if isinstance(row, Comparison) else row.harm
    if decided != "undecidable":
        return ()
    return tuple(reason.strip() for reason in _NO_REPLY.findall(row.reason))


def unanswered_in(rows: Sequence[Judgement]) -> Unanswered:
    """What is missing among some judgements."""
    lacking = [failures for row in rows if (failures := unanswered(row))]
    return Unanswered(
        asked=sum(bool(row.calls or unanswered(row)) for row in rows),
        rows=len(lacking),
        stopped=sum(any(reason in STOPS for reason in failures) for failures in lacking),
        reasons=Counter(reason for failures in lacking for reason in set(failures)),
    )
