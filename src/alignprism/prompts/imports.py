"""Importing a data set: good rows become tables, bad ones a file with reasons, and the counts add up."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from alignprism.prompts.formats.format import AnyRow, Bad, Format, Item, Options, Part
from alignprism.prompts.sources import Record, SourceFile, Unreadable, read_source_file, set_aside_line, told
from alignprism.prompts.tables import TABLES, TableWriter
from alignprism.prompts.values import BadValue
from alignprism.rows import Label, Rating, RowError

SET_ASIDE = "set_aside.jsonl"
SUMMARY = "import.json"


@dataclass(slots=True)
class PartCount:
    """What happened to one part: ``read`` = ``kept`` + ``set_aside``. A thing is a prompt, a pair, ...: see `Item`."""

    read: int = 0
    kept: int = 0
    set_aside: int = 0


@dataclass(slots=True)
class Imported:
    """The outcome: counts by part, rows by table, reasons by column, and the files that no part reads."""

    format: str
    parts: dict[str, PartCount] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    not_read: list[str] = field(default_factory=list)

    @property
    def total(self) -> PartCount:
        """All parts together."""
        parts = self.parts.values()
        return PartCount(sum(p.read for p in parts), sum(p.kept for p in parts), sum(p.set_aside for p in parts))


def import_files(
    files: Sequence[SourceFile],
    form: Format,
    out: Path,
    options: Options,
    encoding: str = "utf-8-sig",
    report: Callable[[int], None] | None = None,
) -> Imported:
    """Read `files` with a format and write the folder `out`: tables, ``set_aside.jsonl``, ``import.json``.

    The folder appears when everything is written. Rows stream; what is held in memory is one hash for each id.

    Raises
    ------
    RowError
        the folder exists; no file is of this format; columns are missing; or not one row can be used.
    """
    if out.exists():
        raise RowError(f"{out} exists; name a new folder")
    chosen, not_read = _parts_of(files, form, encoding)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    try:
        with (temporary / SET_ASIDE).open("w", encoding="utf-8") as aside, ExitStack() as open_tables:
            outcome = _Import(form, options, encoding, temporary, aside, open_tables, report).run(chosen, files)
        outcome.not_read = not_read
        if not outcome.total.kept:
            first = (temporary / SET_ASIDE).read_text(encoding="utf-8").partition("\n")[0]
            why = told(Unreadable(**json.loads(first))) if first else f"{chosen[0][0].shown}: holds no rows"
            raise RowError(f"nothing can be used of {outcome.total.read} rows; the first reason: {why}")
        summary = {**asdict(outcome), "total": asdict(outcome.total), "options": _said(options)}
        (temporary / SUMMARY).write_text(json.dumps(summary, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return outcome


def _said(options: Options) -> dict[str, Any]:
    return {**asdict(options), "columns": dict(options.columns)}


def _parts_of(
    files: Sequence[SourceFile], form: Format, encoding: str
) -> tuple[list[tuple[SourceFile, str]], list[str]]:
    """Which part reads which file; by its columns a file of the hub, and a single file of another name."""
    chosen, not_read = [], []
    for file in files:
        part = next((name for name, part in form.parts.items() if part.takes(file.name)), None)
        if file.rows is not None and (part is None or len(form.parts) > 1):
            # Configuration and split are names for people: they seldom say which part it is.
            part = _by_columns(file, form, encoding, part, required=len(files) == 1)
        elif part is None and len(files) == 1:
            part = _by_columns(file, form, encoding)
        if part is None:
            not_read.append(file.shown)
        else:
            chosen.append((file, part))
    if not chosen:
        expected = "; ".join(f"{name}: {_plain(part)}" for name, part in form.parts.items())
        raise RowError(f"{files[0].shown}: no file of the format {form.name}; it reads {expected}")
    return chosen, not_read


def _plain(part: Part) -> str:
    return f"columns {', '.join(part.columns)}" if part.columns else f"files named {part.files}"


def _by_columns(
    file: SourceFile, form: Format, encoding: str, named: str | None = None, *, required: bool = True
) -> str | None:
    """The part whose columns the first row has, `named` before others; where none has them, None unless it is `required`."""
    headed = [name for name, part in form.parts.items() if part.header and part.columns]
    if not headed:
        return None
    first = next((r for r in read_source_file(file, encoding) if isinstance(r, Record)), None)
    if first is None:
        if not required:
            return None
        raise RowError(f"{file.shown}: holds no rows")
    missing = {name: [c for c in form.parts[name].columns if c not in first.values] for name in headed}
    fitting = [name for name in headed if not missing[name]]
    found = named if named in fitting else next(iter(fitting), None)
    if found is None and required:
        nearest = min(headed, key=lambda name: len(missing[name]))
        raise _missing(file, missing[nearest], first)
    return found


def _missing(file: SourceFile, columns: Sequence[str], first: Record) -> RowError:
    return RowError(
        f"{file.shown}: row {first.row}: column {columns[0]} is missing; "
        f"found: {', '.join(map(str, list(first.values)[:20])) or 'none'}"
    )


class _Import:
    """The state of one import: counts, the ids seen, and the files being written."""

    def __init__(
        self, form: Format, options: Options, encoding: str, folder: Path, aside: IO[str], tables: ExitStack,
        report: Callable[[int], None] | None,
    ) -> None:  # fmt: skip
        self.form, self.options, self.encoding, self.folder = form, options, encoding, folder
        self.outcome = Imported(form.name)
        self._aside, self._tables, self._report = aside, tables, report
        self._writers: dict[str, TableWriter] = {}
        self._seen: dict[str, set[int]] = {}

    def run(self, chosen: Sequence[tuple[SourceFile, str]], files: Sequence[SourceFile]) -> Imported:
        """Read everything."""
        prepared = self.form.prepare(files, self.options) if self.form.prepare is not None else None
        for file, part in chosen:
            self._file(file, part, prepared)
        self.outcome.rows = {name: writer.count for name, writer in self._writers.items()}
        return self.outcome

    def _file(self, file: SourceFile, part: str, prepared: Any) -> None:
        layout = self.form.parts[part]
        count = self.outcome.parts.setdefault(part, PartCount())
        before, checked = count.read, not layout.header
        for record in read_source_file(file, self.encoding, layout.header):
            if isinstance(record, Unreadable):
                self._set_aside(count, record.file, record.row, record.column, record.reason)
                continue
            if not checked:
                # Every record's columns are looked at again one by one; this error is for a file of another kind.
                missing = [c for c in layout.columns if c not in record.values]
                if missing and file.kind not in (".jsonl", ".json"):
                    raise _missing(file, missing, record)
                checked = True
            self._record(record, part, count, prepared)
            if self._report is not None and count.read % 1000 == 0:
                self._report(count.read)
        self.outcome.files[file.shown] = count.read - before

    def _record(self, record: Record, part: str, count: PartCount, prepared: Any) -> None:
        before = count.read
        try:
            for found in self._found(record, part, prepared):
                if isinstance(found, Bad):
                    self._set_aside(count, record.file, record.row, found.column, found.reason)
                    continue
                repeated = self._repeated(found)
                if repeated is not None:
                    reason = f"{repeated[:80]!r} occurs before; ids must be unique"
                    self._set_aside(count, record.file, record.row, "id", reason)
                    continue
                count.read += 1
                count.kept += 1
                for row in found.rows:
                    self._write(row)
        except BadValue as bad:
            self._set_aside(count, record.file, record.row, bad.column, bad.reason)
        if count.read == before:
            raise AssertionError(f"format {self.form.name} said nothing about {record.file}: row {record.row}")

    def _found(self, record: Record, part: str, prepared: Any) -> Iterator[Item | Bad]:
        yield from self.form.read(record, part, self.options, prepared)

    def _repeated(self, item: Item) -> str | None:
        """An id of the item that its table already has; else its ids are remembered, eight bytes each."""
        ids = [(TABLES[type(r)], r.id) for r in item.rows if not isinstance(r, Rating | Label)]
        hashes = [
            (table, int.from_bytes(hashlib.blake2b(i.encode("utf-8", "surrogatepass"), digest_size=8).digest()))
            for table, i in ids
        ]
        for (_, identity), (table, key) in zip(ids, hashes, strict=True):
            if key in self._seen.setdefault(table, set()):
                return identity
        for table, key in hashes:
            self._seen[table].add(key)
        return None

    def _write(self, row: AnyRow) -> None:
        name = TABLES[type(row)]
        if name not in self._writers:
            writer = TableWriter(self.folder / f"{name}.parquet", type(row))
            self._writers[name] = self._tables.enter_context(writer)
        self._writers[name].write(row)

    def _set_aside(self, count: PartCount, file: str, row: int, column: str, reason: str) -> None:
        count.read += 1
        count.set_aside += 1
        said = f"{column}: {reason}" if column else reason
        self.outcome.reasons[said] = self.outcome.reasons.get(said, 0) + 1
        self._aside.write(set_aside_line(Unreadable(file, row, column, reason)))
