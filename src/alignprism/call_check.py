"""Proof that every (prompt, model, sample, judge, order) of a run was done exactly once: its rows against its call store.

A row names the calls that it was made of. What is looked for: rows that should be there and are not; rows that are there
twice; rows whose call is not in the store, failed, or was made for another prompt; and, for information, answers that no row
uses. What the rows should be is closed over the run itself: whatever one model was asked, every model of that stage was;
whatever a model answered, its judge saw; whatever was compared in one order was compared in the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignprism.construct.output import ORIGINS
from alignprism.errors import InputError
from alignprism.models.store import CallStore
from alignprism.records import read_records
from alignprism.run_folder import read_manifest

_PROMPT_MAKING = ("write", "check")
"""Roles whose answers become prompts: one answer may give several, or none, so that one which no row names says nothing."""

_SHOWN = 5  # examples of one kind of trouble


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing that must be done exactly once, and the calls it was made of."""

    what: tuple[Hashable, ...]
    calls: tuple[str, ...] = ()
    failure: str = ""
    asked: tuple[str, int] | None = None
    """The request (prompt, sample) that a completion's call must have been made for."""
    needs_call: bool = False


@dataclass(slots=True)
class Part:
    """One line of the table: the rows of one file by one model or judge."""

    place: str
    by: str
    rows: int = 0
    done: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Every unit was done exactly once."""
        return not (self.missing or self.doubled or self.failed)


@dataclass(slots=True)
class Check:
    """What was found. ``unused``: answers that no row uses, by role and model; ``several``: models that answered under more
    than one fingerprint, with how many of each."""

    parts: list[Part]
    answers: int
    failures: int
    unused: Counter[tuple[str, str]]
    several: dict[str, Counter[str]]
    purged: int

    @property
    def good(self) -> bool:
        """Every unit was done exactly once."""
        return all(part.good for part in self.parts)


def check_calls(folder: Path) -> Check:
    """Check a run folder, or a folder of files that `generate` and `judge score` wrote, against its ``calls.sqlite``.

    Raises
    ------
    InputError
        no call store, or no rows to check.
    """
    file = folder / "calls.sqlite"
    if not file.is_file():
        raise InputError(f"{folder}: no calls.sqlite; this is no run folder and no folder of `alignprism generate`")
    if (folder / "manifest.json").is_file():
        read_manifest(folder / "manifest.json")
        found = list(_run_units(folder))
    else:
        found = list(_file_units(folder))
    if not found:
        raise InputError(
            f"{folder}: no rows that name their calls (columns call or calls, behind a --prefix where one was given)"
        )
    with CallStore(file) as store:
        return _compare(found, store)


def _compare(found: Sequence[tuple[str, str, list[Unit], set[tuple[Hashable, ...]]]], store: CallStore) -> Check:
    status: dict[str, str] = {}
    served: dict[str, Counter[str]] = defaultdict(Counter)
    for key, state, reason, digest, name, fingerprint in store.index():
        status[key] = "" if state == "answered" else reason
        if state == "answered" and (name or fingerprint):
            served[digest][f"{name} {fingerprint}".strip()] += 1
    asked: dict[str, set[tuple[str, int]]] = defaultdict(set)
    purposes: dict[str, tuple[str, str]] = {}
    for purpose in store.purposes():
        asked[purpose.key].add((purpose.request_id, purpose.sample))
        purposes.setdefault(purpose.key, (purpose.role, purpose.model))
    used: set[str] = set()
    parts = []
    for place, by, units, expected in found:
        used.update(key for unit in units for key in unit.calls)
        parts.append(_part(place, by, units, expected, status, asked))
    made_for = {key: purposes.get(key, ("unknown", "unknown")) for key, reason in status.items() if not reason}
    unused = Counter(who for key, who in made_for.items() if key not in used and who[0] not in _PROMPT_MAKING)
    several = {digest: names for digest, names in served.items() if len(names) > 1}
    failures = sum(1 for reason in status.values() if reason)
    purged = sum(1 for reason in status.values() if reason == "purged")
    return Check(parts, len(status) - failures, failures - purged, unused, several, purged)


def _part(
    place: str,
    by: str,
    units: Sequence[Unit],
    expected: set[tuple[Hashable, ...]],
    status: Mapping[str, str],
    asked: Mapping[str, set[tuple[str, int]]],
) -> Part:
    part = Part(place, by, rows=len(units))
    counts = Counter(unit.what for unit in units)
    part.doubled = [f"{_words(what)}: {count} rows" for what, count in counts.items() if count > 1]
    part.missing = [f"{_words(what)}: no row" for what in sorted(expected - set(counts), key=str)]
    for unit in units:
        trouble = _trouble(unit, status, asked)
        if trouble is None:
            part.done += counts[unit.what] == 1
        elif trouble[0] == "missing":
            part.missing.append(f"{_words(unit.what)}: {trouble[1]}")
        else:
            part.failed.append(f"{_words(unit.what)}: {trouble[1]}")
    return part


def _trouble(
    unit: Unit, status: Mapping[str, str], asked: Mapping[str, set[tuple[str, int]]]
) -> tuple[str, str] | None:
    if unit.failure:
        return "failed", unit.failure
    if unit.needs_call and not unit.calls:
        return "missing", "the row names no call"
    for key in unit.calls:
        if key not in status:
            return "missing", "its call is not in the store"
        if status[key]:
            return "failed", status[key]
        if unit.asked is not None and key in asked and unit.asked not in asked[key]:
            return "missing", "its call was made for another prompt"
    return None


def _words(what: Iterable[Hashable]) -> str:
    return ", ".join(str(part) for part in what)


# --- a run folder -----------------------------------------------------------------------------------------------------

_Found = tuple[str, str, list[Unit], set[tuple[Hashable, ...]]]


def _run_units(folder: Path) -> Iterator[_Found]:
    stages = sorted(path.parent for path in (folder / "stages").glob("*/completions.parquet"))
    completions = {stage.name: _columns(stage / "completions.parquet") for stage in stages}
    evaluated = [rows for name, rows in completions.items() if name.startswith("complete-")]
    prompts = {(row["prompt_id"], row["sample"]) for rows in evaluated for row in rows}
    places = {row["id"]: (row["prompt_id"], row["sample"]) for rows in completions.values() for row in rows}
    for name, rows in completions.items():
        for model, own in _by(rows, "model").items():
            # Checkpoints are asked in the middle of training, outside the store: their weights are nowhere to be asked again.
            units = [_completion(row, stored=not name.startswith("train-")) for row in own]
            expected: set[tuple[Hashable, ...]] = {*prompts} if name.startswith("complete-") else set()
            yield f"{name}/completions", model, units, expected
    yield from _written_units(folder / "stages")
    yield from _verdict_units(folder, completions, places)
    for file in sorted((folder / "stages").glob("*/comparisons.parquet")):
        for judge, own in _by(_columns(file), "judge").items():
            units = _units(own, "prompt_id", "completion_a", "completion_b", "order")
            pairs = {unit.what[:3] for unit in units}
            yield (
                f"{file.parent.name}/comparisons",
                judge,
                units,
                {(*p, order) for p in pairs for order in ("ab", "ba")},
            )


def _written_units(folder: Path) -> Iterator[_Found]:
    """Prompts that a model wrote, of the folders in a folder."""
    for file in sorted(folder.glob(f"*/{ORIGINS}")):
        rows = [row for _, row in read_records(file)]
        units = [Unit((row["id"],), _listed(row["calls"]), needs_call=True) for row in rows]
        yield f"{file.parent.name}/prompts", "writer", units, set()


def _verdict_units(
    folder: Path, completions: Mapping[str, list[dict[str, Any]]], places: Mapping[str, tuple[str, int]]
) -> Iterator[_Found]:
    files = sorted(
        [*(folder / "stages").glob("*/verdicts.parquet"), *(folder / "stages").glob("*/dev_verdicts.parquet")]
    )
    rows_of = {file: _columns(file) for file in files}
    # The preference judge sees one set of prompts only: whatever it saw of one model, it saw of all.
    preferred = {
        places[row["completion_id"]]
        for file, rows in rows_of.items()
        if file.parent.name.startswith("prefer-")
        for row in rows
        if row["completion_id"] in places
    }
    for file, rows in rows_of.items():
        stage = file.parent.name
        kind, _, model = stage.partition("-")
        of = "train-" if file.name.startswith("dev_") else "complete-"
        answered = completions.get(f"{of}{model}", [])
        if kind == "prefer":
            answered = [row for row in answered if places[row["id"]] in preferred]
        expected: set[tuple[Hashable, ...]] = {(row["id"],) for row in answered}
        for judge, own in _by(rows, "judge").items():
            yield f"{stage}/{file.stem}", judge, _units(own, "completion_id"), expected


def _completion(row: Mapping[str, Any], *, stored: bool) -> Unit:
    place = (row["prompt_id"], row["sample"])
    calls = (row["call"],) if row.get("call") and stored else ()
    return Unit(place, calls, row.get("failure") or "", asked=place, needs_call=stored)


def _units(rows: Sequence[Mapping[str, Any]], *names: str) -> list[Unit]:
    """Verdicts or comparisons of one judge. One that is asked (some row names a call) decides nothing without a call."""
    asked = any(row.get("calls") for row in rows)
    return [
        Unit(
            tuple(row[name] for name in names),
            tuple(row.get("calls") or ()),
            needs_call=asked and (row.get("harm") or row.get("preferred")) not in ("undecidable", "tie", None),
        )
        for row in rows
    ]


def _by(rows: Iterable[dict[str, Any]], name: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[str(row[name])].append(row)
    return found


_READ = (
    "id", "prompt_id", "model", "sample", "call", "failure", "calls", "completion_id", "judge", "completion_a",
    "completion_b", "order", "harm", "preferred",
)  # fmt: skip


def _columns(file: Path) -> list[dict[str, Any]]:
    """The rows of a file without their texts."""
    try:
        with pq.ParquetFile(file) as opened:
            names = [name for name in _READ if name in opened.schema_arrow.names]
            rows: list[dict[str, Any]] = opened.read(columns=names).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: not a readable Parquet file ({error})") from error
    return rows


# --- a folder of single files -----------------------------------------------------------------------------------------


def _file_units(folder: Path) -> Iterator[_Found]:
    for file in sorted(path for path in folder.iterdir() if path.suffix.lower() in (".parquet", ".jsonl", ".csv")):
        completions: dict[str, list[Unit]] = defaultdict(list)
        verdicts: dict[str, list[Unit]] = defaultdict(list)
        for number, row in read_records(file):
            prefix, kind = _own_columns(row)
            if kind == "call":
                place = (str(row.get("id") or f"row {number}"), int(row.get(f"{prefix}sample") or 0))
                call = (str(row[f"{prefix}call"]),) if row[f"{prefix}call"] else ()
                failure = str(row.get(f"{prefix}failure") or "")
                by = str(row.get(f"{prefix}model"))
                completions[by].append(Unit(place, call, failure, asked=place, needs_call=True))
            elif kind == "calls":
                by = str(row.get(f"{prefix}judge"))
                verdicts[by].append(Unit((f"row {number}",), _listed(row[f"{prefix}calls"])))
        for by, units in completions.items():
            samples = {unit.what[1] for unit in units}
            expected: set[tuple[Hashable, ...]] = {(unit.what[0], s) for unit in units for s in samples}
            yield file.name, by, units, expected
        for by, units in verdicts.items():
            yield f"{file.name} (verdicts)", by, units, set()
    yield from _written_units(folder)


def _own_columns(row: Mapping[str, Any]) -> tuple[str, str]:
    """Prefix and kind (``call`` of a completion, ``calls`` of a judgement) of what the file's command wrote; kind "": nothing.

    It is the last such column: a command writes behind the columns that it found, and those name calls of another folder.
    """
    beside = {"call": "failure", "calls": "judge"}  # what the command writes beside it
    for name in reversed(list(row)):
        for kind, other in beside.items():
            prefix = name.removesuffix(kind)
            if name == kind or (name.endswith(kind) and f"{prefix}{other}" in row):
                return prefix, kind
    return "", ""


def _listed(value: object) -> tuple[str, ...]:
    """The keys of a ``calls`` column; a CSV file holds them as JSON text."""
    if isinstance(value, str):
        return tuple(part for part in value.strip("[] ").replace('"', "").replace(" ", "").split(",") if part)
    return tuple(str(part) for part in value) if isinstance(value, list) else ()


def shown(part: Part) -> Iterator[str]:
    """A few examples of each kind of trouble."""
    for kind, lines in (("missing", part.missing), ("doubled", part.doubled), ("failed", part.failed)):
        for line in lines[:_SHOWN]:
            yield f"{part.place}, {part.by}: {kind}: {line}"
        if len(lines) > _SHOWN:
            yield f"{part.place}, {part.by}: {kind}: and {len(lines) - _SHOWN} more"
