"""Artefact probes: does a verdict move when the answer is the same and only its wrapping differs?

An apology in front, a disclaimer behind, a longer tail, another formatting (arXiv 2503.09347: apologies alone skew verdicts;
arXiv 2503.04474: style moves false negatives). The added words are files (``templates/probes/LANG.yaml``), so that a native
speaker can mend them; none of them says what the answer says or takes it back, so a verdict that moves is an artefact.
Training changes style: a judge whose verdicts follow style sees changes that are none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import yaml

from alignprism.errors import InputError
from alignprism.judging.protocol import HarmJudge, Item
from alignprism.judging.template_file import FOLDER
from alignprism.judging.unanswered import unanswered
from alignprism.languages import language
from alignprism.models.protocol import Progress
from alignprism.rows import Harm
from alignprism.statistics import Estimate, rate

NO_ANSWER = "a call of the judge got no answer"
"""How the reason ends of answers that are left out because they could not be judged; they say nothing of the judge."""

PROBES = ("apology", "disclaimer", "tail", "formatting")
_SENTENCE_END = re.compile(r"(?<=[.!?।؟…])\s+|\n+")


@dataclass(frozen=True, slots=True)
class Flips:
    """How often one probe moved the verdict.

    ``flipped``: share of answers with a decided verdict before and after whose verdict changed; interval clustered by seed
    prompt. ``undecided``: answers whose verdict was decided before and is not after. ``language`` and ``verdict`` (the one
    before) are None for all of them.
    """

    probe: str
    language: str | None
    verdict: Harm | None
    flipped: Estimate
    undecided: int


@cache
def probe_texts() -> Mapping[str, Mapping[str, str]]:
    """The added words by language."""
    files = sorted((FOLDER / "probes").glob("*.yaml"))
    return {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}


def probed(item: Item, probe: str) -> Item | None:
    """The same answer in another wrapping; None where there are no words in its language.

    Raises
    ------
    ValueError
        no such probe.
    """
    name, text = f"{item.id} {probe}", item.completion.strip()
    if probe == "formatting":
        return replace(item, id=name, completion=_as_list(text))
    if probe not in PROBES:
        raise ValueError(f"no probe {probe!r}; there are {', '.join(PROBES)}")
    words = probe_texts().get(language(item.language).code if item.language else "")
    if words is None:
        return None
    if probe == "apology":
        return replace(item, id=name, completion=f"{words[probe]} {text}")
    return replace(item, id=name, completion=f"{text}\n\n{words[probe]}")


def _as_list(text: str) -> str:
    """Every sentence as a point of a Markdown list."""
    return "\n".join(f"- {part.strip()}" for part in _SENTENCE_END.split(text) if part.strip())


def run_probes(
    judge: HarmJudge, items: Sequence[Item], progress: Progress | None = None
) -> tuple[list[Flips], Counter[str]]:
    """Flips by probe, by probe and language, by probe and verdict; and how many answers each probe left out, by reason.

    Raises
    ------
    InputError
        no items; or the judge cannot be spoken to in one of their languages.
    """
    if not items:
        raise InputError("nothing to probe: no row has an answer that can be judged")
    judge.check({item.language for item in items})
    rounds = 1 + len(PROBES)

    def part(number: int) -> Callable[[int, int], None]:
        return lambda done, total: progress(number * total + done, rounds * total) if progress is not None else None

    first = list(judge.judge(items, part(0)))
    before = {verdict.item_id: verdict.harm for verdict in first if not unanswered(verdict)}
    decided = [item for item in items if before.get(item.id, "undecidable") != "undecidable"]
    left_out = Counter({NO_ANSWER: len(items) - len(before), "undecidable before": len(before) - len(decided)})
    found: list[Flips] = []
    for number, probe in enumerate(PROBES, 1):
        wrapped = [(item, variant) for item in decided if (variant := probed(item, probe)) is not None]
        missing = len(decided) - len(wrapped)
        if missing:
            left_out[f"{probe}: no words in the language"] = missing
        after = list(judge.judge([variant for _, variant in wrapped], part(number)))
        left_out[f"{probe}: {NO_ANSWER}"] = sum(bool(unanswered(verdict)) for verdict in after)
        moved = [
            (item, before[item.id], verdict.harm)
            for (item, _), verdict in zip(wrapped, after, strict=True)
            if not unanswered(verdict)
        ]
        found += _flips(probe, moved)
    return found, +left_out


def _flips(probe: str, rows: Sequence[tuple[Item, Harm, Harm]]) -> Iterator[Flips]:
    languages = sorted({item.language for item, _, _ in rows})
    groups: list[tuple[str | None, Harm | None]] = [(None, None)]
    groups += [(code, None) for code in languages] + [(None, "harmful"), (None, "harmless")]
    for code, verdict in groups:
        chosen = [row for row in rows if code in (None, row[0].language) and verdict in (None, row[1])]
        both = [row for row in chosen if row[2] != "undecidable"]
        flipped = np.array([now != then for _, then, now in both], dtype=bool)
        clusters = np.array([item.seed_id for item, _, _ in both], dtype=str)
        yield Flips(probe, code, verdict, rate(flipped, clusters), len(chosen) - len(both))
