"""Any file with prompts and answers as rows that can be judged, and the file again with the verdicts beside its columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from alignprism.errors import InputError, shown
from alignprism.judging.protocol import Item
from alignprism.judging.verdicts import item_of, nothing_to_judge
from alignprism.languages import UnknownLanguage, language
from alignprism.records import read_records
from alignprism.rows import Completion, Prompt, RowError, Scope, Verdict, content_id, write_atomic

COLUMNS = ("prompt", "completion", "language", "id", "seed_id", "scope", "truncated", "filtered", "failure")
"""What is read of a row; the first two must be there."""

WRITTEN = (
    "judge", "judge_digest", "harm", "harm_score", "category", "on_language", "detected_language", "degenerate", "refusal",
    "reason", "explanation", "calls",
)  # fmt: skip
"""What is written beside a row's own columns."""

SUFFIXES = (".jsonl", ".csv", ".parquet")


class Recorded(Protocol):
    """A row that keeps all that stands in it."""

    @property
    def record(self) -> Mapping[str, Any]:
        """The row's own columns."""


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """One row of a file: its number, all that stands in it, and what is judged of it."""

    number: int
    record: Mapping[str, Any]
    prompt: Prompt
    completion: Completion
    file: str = ""

    @property
    def place(self) -> str:
        """File and row, as messages name them."""
        return f"{self.file}: row {self.number}" if self.file else f"row {self.number}"


def read_judged(path: Path, renamed: Mapping[str, str] | None = None) -> list[JudgedRow]:
    """Read a file with the columns prompt and completion, and those of ``COLUMNS`` that it has.

    ``renamed`` says what the file calls them (``{"completion": "response"}``). Rows without seed_id are clustered by
    their prompt's text.

    Raises
    ------
    RowError
        the file cannot be read, a column is missing, or a value is not what it should be: file, row and column.
    """
    names = {name: (renamed or {}).get(name, name) for name in COLUMNS}
    unknown = sorted(set(renamed or {}) - set(COLUMNS))
    if unknown:
        raise RowError(f"{unknown[0]!r} is no column that is read; accepted: {', '.join(COLUMNS)}")
    rows = [_row(path, number, record, names) for number, record in read_records(path)]
    if not rows:
        raise RowError(f"{path}: no rows")
    return rows


def _row(path: Path, number: int, record: Mapping[str, Any], names: Mapping[str, str]) -> JudgedRow:
    where = f"{path}: row {number}"
    for name in ("prompt", "completion"):
        if names[name] not in record:
            raise RowError(
                f"{where}: column {names[name]} is missing; there are {', '.join(record)} "
                f"(--column {name}=THEIRS names another)"
            )
    text, answer = record[names["prompt"]], record[names["completion"]]
    if not isinstance(text, str) or not text.strip():
        raise RowError(f"{where}: column {names['prompt']}: a text is expected")
    if answer is not None and not isinstance(answer, str):
        raise RowError(f"{where}: column {names['completion']}: a text is expected, not {type(answer).__name__}")
    code = text_in(record, names["language"], where)
    try:
        code = language(code).code if code else ""
    except UnknownLanguage as error:
        raise RowError(f"{where}: column {names['language']}: {error}") from error
    scope = _scope(text_in(record, names["scope"], where), f"{where}: column {names['scope']}")
    key = content_id(text)
    failure = text_in(record, names["failure"], where) or ("the row has none" if answer is None else "")
    flags = {name: _flag(record, names[name], where) for name in ("truncated", "filtered")}
    prompt = Prompt(
        key + f" {number}", text, code, "redteam", "test", text_in(record, names["seed_id"], where) or key, scope
    )
    completion = Completion(
        text_in(record, names["id"], where) or f"row {number}", prompt.id, "", "", answer or "", 0, 0, flags["truncated"],
        0.0, 0, flags["filtered"], failure,
    )  # fmt: skip
    return JudgedRow(number, record, prompt, completion, str(path))


def text_in(record: Mapping[str, Any], name: str, where: str) -> str:
    """A short text of a row (a name, a code, an id), without white space around it; empty where there is none.

    Raises
    ------
    RowError
        it is neither a text nor a whole number.
    """
    value = record.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise RowError(f"{where}: column {name}: a text is expected, not {type(value).__name__}")
    return (value or "").strip()


def _scope(value: str, where: str) -> Scope | None:
    known: dict[str, Scope | None] = {"": None, "global": "global", "local": "local"}
    if value not in known:
        raise RowError(f"{where}: {shown(value)}; accepted: global, local or nothing")
    return known[value]


def _flag(record: Mapping[str, Any], name: str, where: str) -> bool:
    value = record.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    if str(value).strip().lower() in ("true", "1", "false", "0", ""):
        return str(value).strip().lower() in ("true", "1")
    raise RowError(f"{where}: column {name}: true or false is expected")


def items_of(rows: Iterable[JudgedRow]) -> list[Item]:
    """What a judge would be asked about: rows with nothing to judge are left out; ids are unique."""
    return [
        item_of(row.prompt, row.completion, f"{row.completion.id}~{row.number}")
        for row in rows
        if not nothing_to_judge(row.completion)
    ]


def written_columns(row: JudgedRow, verdict: Verdict, explanation: str, prefix: str = "") -> dict[str, Any]:
    """A row's own columns and the verdict's, the latter with a prefix."""
    values = {
        "judge": verdict.judge,
        "judge_digest": verdict.judge_digest,
        "harm": verdict.harm,
        "harm_score": verdict.harm_score,
        "category": verdict.category,
        "on_language": verdict.on_language,
        "detected_language": verdict.detected_language,
        "degenerate": verdict.degenerate,
        "refusal": verdict.refusal,
        "reason": verdict.reason,
        "explanation": explanation,
        "calls": list(verdict.calls),
    }
    return {**row.record, **{f"{prefix}{name}": values[name] for name in WRITTEN}}


def check_output(out: Path, rows: Sequence[Recorded], prefix: str = "", written: Sequence[str] = WRITTEN) -> None:
    """Whether new columns (those of verdicts) can be written there, before anything is asked.

    Raises
    ------
    InputError
        another kind of file, or columns that would be overwritten.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {out}: the name ends in {out.suffix or 'nothing'}; accepted: {', '.join(SUFFIXES)}")
    there = sorted({f"{prefix}{name}" for name in written} & {name for row in rows for name in row.record})
    if there:
        raise InputError(
            f"the file has a column {there[0]} already (and {len(there) - 1} more); --prefix TEXT puts a text before the new ones"
        )


def write_judged(out: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows, whole or not at all: JSON lines, CSV (lists as JSON) or Parquet.

    Raises
    ------
    InputError
        Parquet cannot hold the rows: a column has values of several types.
    """
    suffix = out.suffix.lower()
    names = list(dict.fromkeys(name for record in records for name in record))
    if suffix == ".jsonl":
        lines = (json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)
        write_atomic(out, "".join(lines).encode())
    elif suffix == ".csv":
        sink = io.StringIO(newline="")
        writer = csv.DictWriter(sink, names, restval="")
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in record.items()} for record in records)
        write_atomic(out, sink.getvalue().encode())
    else:
        try:
            table = pa.Table.from_pylist([{name: record.get(name) for name in names} for record in records])
            buffer = pa.BufferOutputStream()
            pq.write_table(table, buffer, compression="zstd")
        except pa.ArrowException as error:
            raise InputError(f"{out}: these rows do not fit into Parquet ({error}); name a .jsonl file") from error
        write_atomic(out, buffer.getvalue().to_pybytes())


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
