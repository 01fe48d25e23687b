"""Any file with two answers to each prompt as matchups, and the file again with what a pairwise judge said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignprism.judging.judged_file import text_in
from alignprism.judging.pairwise import Matchup
from alignprism.judging.win_rates import Judged
from alignprism.languages import UnknownLanguage, language
from alignprism.records import read_records
from alignprism.rows import RowError, content_id

COLUMNS = ("prompt", "completion_a", "completion_b", "language", "id", "seed_id", "model_a", "model_b")
"""What is read of a row; the first four must be there."""

REQUIRED = COLUMNS[:4]

WRITTEN = (
    "judge",
    "judge_digest",
    "preferred",
    "flipped",
    "preferred_ab",
    "preferred_ba",
    "reason_ab",
    "reason_ba",
    "calls",
)
"""What is written beside a row's own columns."""


@dataclass(frozen=True, slots=True)
class PairedRow:
    """One row of a file, and what is compared of it: nothing where one of the answers is missing."""

    number: int
    record: Mapping[str, Any]
    matchup: Matchup | None


def read_paired(path: Path, renamed: Mapping[str, str] | None = None) -> list[PairedRow]:
    """Read a file with the columns of ``REQUIRED``, and those of ``COLUMNS`` that it has.

    ``renamed`` says what the file calls them. Rows without seed_id are clustered by their prompt's text; without model_a
    and model_b, which come together, the models are called a and b.

    Raises
    ------
    RowError
        the file cannot be read, a column is missing, or a value is not what it should be: file, row and column.
    """
    names = {name: (renamed or {}).get(name, name) for name in COLUMNS}
    unknown = sorted(set(renamed or {}) - set(COLUMNS))
    if unknown:
        raise RowError(f"{unknown[0]!r} is no column that is read; accepted: {', '.join(COLUMNS)}")
    rows = [_row(f"{path}: row {number}", number, record, names) for number, record in read_records(path)]
    if not rows:
        raise RowError(f"{path}: no rows")
    return rows


def _row(where: str, number: int, record: Mapping[str, Any], names: Mapping[str, str]) -> PairedRow:
    for name in REQUIRED:
        if names[name] not in record:
            raise RowError(
                f"{where}: column {names[name]} is missing; there are {', '.join(record)} "
                f"(--column {name}=THEIRS names another)"
            )
    prompt, a, b = (record[names[name]] for name in REQUIRED[:3])
    if not isinstance(prompt, str) or not prompt.strip():
        raise RowError(f"{where}: column {names['prompt']}: a text is expected")
    for name, answer in (("completion_a", a), ("completion_b", b)):
        if answer is not None and not isinstance(answer, str):
            raise RowError(f"{where}: column {names[name]}: a text is expected, not {type(answer).__name__}")
    try:
        code = language(text_in(record, names["language"], where)).code
    except UnknownLanguage as error:
        raise RowError(f"{where}: column {names['language']}: {error}") from error
    models = [text_in(record, names[name], where) for name in ("model_a", "model_b")]
    if bool(models[0]) != bool(models[1]):
        raise RowError(f"{where}: {names['model_a']} and {names['model_b']} come together: name both models or neither")
    if models[0] and models[0] == models[1]:
        raise RowError(f"{where}: {names['model_a']} and {names['model_b']} are the same model, {models[0]!r}")
    if a is None or b is None:
        return PairedRow(number, record, None)
    key = content_id(prompt)
    first, second = models[0] or "a", models[1] or "b"
    return PairedRow(number, record, Matchup(
        prompt_id=text_in(record, names["id"], where) or key,
        prompt=prompt, completion_a=f"row {number}, {first}", completion_b=f"row {number}, {second}", answer_a=a, answer_b=b,
        language=code, seed_id=text_in(record, names["seed_id"], where) or key, model_a=first, model_b=second,
    ))  # fmt: skip


def matchups_of(rows: Iterable[PairedRow]) -> list[Matchup]:
    """What can be compared."""
    return [row.matchup for row in rows if row.matchup is not None]


def compared_columns(
    rows: Sequence[PairedRow], found: Iterable[Judged], judge: str, digest: str, prefix: str = ""
) -> list[dict[str, Any]]:
    """Every row's own columns and what the judge said; ``preferred`` is empty where there was nothing to compare."""
    by_number = iter(found)
    return [
        {
            **row.record,
            **{f"{prefix}{k}": v for k, v in _columns(next(by_number) if row.matchup else None, judge, digest).items()},
        }
        for row in rows
    ]


def _columns(found: Judged | None, judge: str, digest: str) -> dict[str, Any]:
    if found is None:
        why = "not compared: an answer is missing"
        return dict(zip(WRITTEN, (judge, digest, "", False, "", "", why, why, []), strict=True))
    outcome = found.outcome
    values = (
        judge, digest, outcome.preferred, outcome.flipped, found.ab.preferred, found.ba.preferred, found.ab.reason,
        found.ba.reason, [*found.ab.calls, *found.ba.calls],
    )  # fmt: skip
    return dict(zip(WRITTEN, values, strict=True))
