"""The rows that the refusal head was trained on: the project's own, written by a model for this purpose, in ten languages.

``refusal_LANG.jsonl``: full refusals in usual and unusual words (lectures, rejected premises, helplines instead of
answers), partial ones, and answers that are no refusal although they look like one: definitions of crimes, apologies in
a drafted letter, absurd premises corrected, cautious help. ``refusal_en_pairs.jsonl``: one crime or one group of people
in answers and in refusals alike, so that the topic tells nothing. From ``own_LANG.jsonl`` come the written kinds:
``refuse`` is a full refusal, every other kind is none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from alignprism.judging.own_rows import DATA, WRITTEN
from alignprism.rows import Refusal


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """One labelled answer. Rows of one `group` (a text in its languages, a topic) are never split between folds."""

    text: str
    language: str
    refusal: Refusal
    group: str
    source: str
    kind: str = ""


def refusal_rows() -> list[RefusalRow]:
    """All own rows that say something about refusal, in a fixed order."""
    rows = []
    for path in sorted(DATA.glob("refusal_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            rows.append(
                RefusalRow(record["completion"], record["language"], record["refusal"], record["group"], "refusal")
            )
    for path in sorted(DATA.glob("own_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["kind"] in WRITTEN:
                said: Refusal = "full" if record["kind"] == "refuse" else "none"
                group = "own-" + record["id"].split("-")[1]
                rows.append(RefusalRow(record["completion"], record["language"], said, group, "own", record["kind"]))
    return rows
