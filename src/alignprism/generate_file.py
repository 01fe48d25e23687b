"""Completions for the prompts of any file, from any model: the file comes back with the answers beside its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignprism.errors import InputError
from alignprism.judging.judged_file import SUFFIXES, write_judged
from alignprism.models.protocol import Asked, Decoding, Engine, Failed, Message, Outcome, Progress, Request, in_order
from alignprism.records import read_records
from alignprism.rows import RowError

WRITTEN = (
    "completion", "sample", "model", "model_digest", "n_tokens", "truncated", "filtered", "failure", "failure_detail", "call",
)  # fmt: skip
"""What is written beside a row's own columns; ``id`` and ``prompt`` too, where the file has none."""


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One row of the file: its number, all that stands in it, its id, and what the model is asked."""

    number: int
    record: Mapping[str, Any]
    id: str
    prompt: Asked


def read_prompt_rows(path: Path, column: str | None = None) -> list[PromptRow]:
    """Rows with a prompt (a text, or a list of {role, content} messages) in `column`, or else in ``prompt`` or ``text``.

    Rows without an ``id`` are named by their number.

    Raises
    ------
    RowError
        the file cannot be read or has no rows; a prompt is missing or empty; an id occurs twice.
    """
    rows: list[PromptRow] = []
    seen: dict[str, int] = {}
    for number, record in read_records(path):
        where = f"{path}: row {number}"
        names = [column] if column else ["prompt", "text"]
        name = next((name for name in names if record.get(name) is not None), None)
        if name is None:
            raise RowError(
                f"{where}: column {' or '.join(names)} is missing; there are {', '.join(record)} (--column names another)"
            )
        given = record.get("id")
        row_id = f"row {number}" if given is None or str(given).strip() == "" else str(given)
        if row_id in seen:
            raise RowError(f"{where}: column id: {row_id!r} stands in row {seen[row_id]} already; ids must be unique")
        seen[row_id] = number
        rows.append(PromptRow(number, record, row_id, _prompt(record[name], f"{where}: column {name}")))
    if not rows:
        raise RowError(f"{path}: no rows")
    return rows


def _prompt(value: object, where: str) -> Asked:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value:
        turns = [turn for turn in value if isinstance(turn, Mapping)]
        if len(turns) == len(value) and all(
            isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str) for turn in turns
        ):
            return tuple(Message(turn["role"], turn["content"]) for turn in turns)
    raise RowError(f"{where}: a text, or a list of messages with role and content, is expected")


def requests_of(rows: Sequence[PromptRow], *, plain: bool = False) -> list[Request]:
    """What a model is asked for the rows.

    Raises
    ------
    RowError
        `plain`, and a row is a conversation.
    """
    for row in rows:
        if plain and not isinstance(row.prompt, str):
            raise RowError(f"row {row.number}: --plain continues texts, and this prompt is a list of messages")
    return [Request(row.id, row.prompt, plain=plain) for row in rows]


def check_output(out: Path, rows: Sequence[PromptRow], prefix: str = "") -> None:
    """Whether the answers can be written there, before anything is asked.

    Raises
    ------
    InputError
        another kind of file, or columns that would be overwritten.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {out}: the name ends in {out.suffix or 'nothing'}; accepted: {', '.join(SUFFIXES)}")
    there = sorted({f"{prefix}{name}" for name in WRITTEN} & {name for row in rows for name in row.record})
    if there:
        raise InputError(f"the file has a column {there[0]} already; --prefix TEXT puts a text before the new ones")


def generate(
    engine: Engine,
    rows: Sequence[PromptRow],
    decoding: Decoding,
    out: Path,
    *,
    plain: bool = False,
    prefix: str = "",
    progress: Progress | None = None,
) -> Counter[str]:
    """Ask for every row and write the file, whole or not at all; returns how many rows have no answer, by reason."""
    requests = requests_of(rows, plain=plain)
    outcomes = in_order(engine.complete(requests, decoding, progress), requests, decoding.samples)
    per_row = [row for row in rows for _ in range(decoding.samples)]
    written = [_record(engine, row, outcome, prefix) for row, outcome in zip(per_row, outcomes, strict=True)]
    write_judged(out, written)
    return Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Failed))


def _record(engine: Engine, row: PromptRow, outcome: Outcome, prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "completion": "", "sample": outcome.sample, "model": engine.name, "model_digest": engine.digest, "n_tokens": 0,
        "truncated": False, "filtered": False, "failure": "", "failure_detail": "", "call": outcome.call,
    }  # fmt: skip
    if isinstance(outcome, Failed):
        values |= {"failure": outcome.reason, "failure_detail": outcome.detail}
    else:
        values |= {"completion": outcome.text, "n_tokens": outcome.n_tokens}
        values |= {"truncated": outcome.truncated, "filtered": outcome.filtered}
    own = {**row.record, "id": row.id}
    if own.get("prompt") is None and isinstance(row.prompt, str):
        own["prompt"] = row.prompt  # so that `judge score` reads the file as it is
    return {**own, **{f"{prefix}{name}": values[name] for name in WRITTEN}}


def failures_sentence(failures: Mapping[str, int], total: int, say: Callable[[str], None]) -> None:
    """Say plainly how many rows have no answer."""
    listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(failures.items(), key=lambda e: (-e[1], e[0])))
    again = "raise --max-cost" if "over budget" in failures else "the same command asks them again"
    say(
        f"{sum(failures.values())} of {total} rows got no answer: {listed}. They stand in the output with their reason; {again}."
    )
