"""Where data comes from: a file, a folder, an archive or a hub data set, as records with file and row number.

Reading is lazy: no file is held in memory but JSON that is one array, Excel sheets and members of a ``.tar``. A
record that cannot be read is an `Unreadable` with its place, and the next one follows; a file that cannot be read at
all is an error.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignprism.prompts.csv_records import csv_rows, delimiter_of, uneven
from alignprism.rows import RowError

READ = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".txt")
"""Kinds of files that are read, each also with ``.gz`` behind it, and inside ``.tar``, ``.tar.gz``, ``.tgz``."""

_BATCH = 1000
_ARCHIVE_LIMIT = 1 << 29


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it lies in a file."""

    file: str
    row: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One row that cannot be read, and why."""

    file: str
    row: int
    column: str
    reason: str


def set_aside_line(row: Unreadable) -> str:
    """A line of ``set_aside.jsonl``: file, row, column, reason."""
    # The name of a file can hold half characters, which UTF-8 has no bytes for.
    return json.dumps(asdict(row), ensure_ascii=False).encode("utf-8", "replace").decode() + "\n"


def told(row: Unreadable) -> str:
    """Place and reason, for a message."""
    return f"{row.file}: row {row.row}: {f'column {row.column}: ' if row.column else ''}{row.reason}"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source: its name inside the source, its kind (``.csv``, ...), and how its bytes are opened.

    ``shown`` is the name that messages give. ``rows`` stands instead of bytes where a library hands over records.
    """

    name: str
    shown: str
    kind: str
    open: Callable[[], IO[bytes]]
    rows: Callable[[], Iterator[dict[str, Any]]] | None = None


def list_files(source: Path) -> list[SourceFile]:
    """The readable files of a file, folder (with its subfolders) or tar archive, in the order of their names.

    Raises
    ------
    RowError
        there is nothing to read, or the kind of file is not known.
    """
    if source.is_dir():
        paths = sorted(p for p in source.rglob("*") if p.is_file() and not p.name.startswith("."))
        files = [file for path in paths for file in _files_of(path, path.relative_to(source).as_posix())]
        if not files:
            raise RowError(f"{source}: no file to read; accepted: {', '.join(READ)}, each also .gz, and .tar(.gz)")
        return files
    if not source.exists():
        raise RowError(f"{source}: no such file or folder")
    files = _files_of(source, source.name)
    if not files:
        raise RowError(f"{source}: accepted are {', '.join(READ)}, each also with .gz, and .tar, .tar.gz, .tgz")
    return files


def _files_of(path: Path, name: str) -> list[SourceFile]:
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return _members(path)
    plain = name.removesuffix(".gz")
    kind = PurePosixPath(plain).suffix.lower()
    # Tatoeba and FLORES name their text files by language: "tatoeba.hin-eng.hin", "hin_Deva.devtest".
    if kind not in READ and not _parallel_text(plain):
        return []
    opener = partial(_opened, path, name.endswith(".gz"))
    return [SourceFile(plain, str(path), kind if kind in READ else ".txt", opener)]


def _opened(path: Path, compressed: bool) -> IO[bytes]:
    opened: Any = gzip.open(path, "rb") if compressed else path.open("rb")  # noqa: SIM115  # the caller closes it
    return opened  # type: ignore[no-any-return]


def _parallel_text(name: str) -> bool:
    parts = PurePosixPath(name).name.split(".")
    return len(parts) in (2, 3) and (parts[-1] in ("dev", "devtest") or (len(parts) == 3 and "-" in parts[1]))


def _members(path: Path) -> list[SourceFile]:
    """The readable members, in memory and never unpacked: a member's path can reach nothing."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member) if PurePosixPath(member.name).suffix.lower() in READ else None
                if content is not None:
                    found[member.name] = content.read(_ARCHIVE_LIMIT)
                    if sum(map(len, found.values())) >= _ARCHIVE_LIMIT:
                        raise RowError(
                            f"{path}: more than {_ARCHIVE_LIMIT >> 20} MiB inside; unpack it and give the folder"
                        )
    except (tarfile.TarError, OSError, EOFError) as error:
        raise RowError(f"{path}: not a readable tar archive ({error})") from error
    return [
        SourceFile(name, f"{path}:{name}", PurePosixPath(name).suffix.lower(), partial(io.BytesIO, found[name]))
        for name in sorted(found)
    ]


def read_source_file(
    file: SourceFile, encoding: str = "utf-8-sig", header: bool = True
) -> Iterator[Record | Unreadable]:
    """The records of one file. Without a header the columns of a CSV file are named ``0``, ``1``, ...

    Raises
    ------
    RowError
        the file is damaged as a whole, of an unknown encoding, or its header cannot be read.
    """
    if file.rows is not None:
        yield from (Record(file.shown, number, values) for number, values in enumerate(file.rows(), 1))
    elif file.kind == ".parquet":
        yield from _parquet(file)
    elif file.kind == ".xlsx":
        from alignprism.prompts.excel import excel_records

        yield from excel_records(file)
    else:
        yield from _text_file(file, encoding, header)


def read_source(source: Path) -> Iterator[Record | Unreadable]:
    """The records of all files of a source, one file after the other.

    Raises
    ------
    RowError
        see `list_files` and `read_source_file`.
    """
    for file in list_files(source):
        yield from read_source_file(file)


def _parquet(file: SourceFile) -> Iterator[Record | Unreadable]:
    number = 0
    try:
        with file.open() as handle, pq.ParquetFile(handle) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(file.shown, number, values)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RowError(f"{file.shown}: not a readable Parquet file after row {number} ({error})") from error


def _text_file(file: SourceFile, encoding: str, header: bool) -> Iterator[Record | Unreadable]:
    try:
        with file.open() as raw:
            start = raw.read(4)
            raw.seek(0)
            if start[:2] in (b"\xff\xfe", b"\xfe\xff") and encoding.startswith("utf-8"):
                raise RowError(
                    f"{file.shown}: UTF-16; save the file as UTF-8, or import it with `data import --encoding utf-16`"
                )
            # Bytes that are not of the encoding become half characters, so that the cell can be named later.
            lines = io.TextIOWrapper(raw, encoding, errors=_errors(encoding), newline="")
            if file.kind == ".txt":
                yield from (Record(file.shown, n, {"text": line.rstrip("\r\n")}) for n, line in enumerate(lines, 1))
            elif file.kind in (".csv", ".tsv"):
                yield from _csv(file, lines, header)
            else:
                yield from _json(file, lines)
    except LookupError as error:
        raise RowError(f"--encoding {encoding}: no such encoding; use for example utf-8 or windows-1251") from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise RowError(f"{file.shown}: the gzip data are damaged ({error}); fetch the file again") from error
    except UnicodeError as error:
        raise RowError(f"{file.shown}: not {encoding} ({error}); save the file as UTF-8") from error
    except OSError as error:
        raise RowError(f"{file.shown}: cannot be read ({error.strerror or error})") from error


def _errors(encoding: str) -> str:
    return "strict" if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")) else "surrogateescape"


def _csv(file: SourceFile, lines: io.TextIOWrapper, header: bool) -> Iterator[Record | Unreadable]:
    first = lines.readline()
    if not first.strip():
        return
    if header and any("\udc80" <= character <= "\udcff" for character in first):
        raise RowError(
            f"{file.shown}: header: not UTF-8; save the file as UTF-8, or import it with `data import --encoding`, as windows-1251"
        )
    delimiter = delimiter_of(first, file.name) if header else ","
    rows = csv_rows(_chain(first, lines), delimiter)
    columns: list[str] | None = None
    number = 0
    for line, cells in rows:
        if columns is None and header:
            if isinstance(cells, str):
                raise RowError(f"{file.shown}: header: {cells}")
            columns = [name.strip() for name in cells]
            repeated = next((name for name in columns if name and columns.count(name) > 1), None)
            if repeated is not None:
                raise RowError(f"{file.shown}: header: column {repeated!r} occurs twice; rename one")
            continue
        number += 1
        if isinstance(cells, str):
            yield Unreadable(file.shown, number, "", cells)
        elif columns is None:
            yield Record(file.shown, number, {str(place): cell for place, cell in enumerate(cells)})
        elif len(cells) != len(columns):
            yield Unreadable(file.shown, number, "", uneven(len(cells), len(columns), line))
        else:
            yield Record(file.shown, number, dict(zip(columns, cells, strict=True)))


def _chain(first: str, rest: io.TextIOWrapper) -> Iterator[str]:
    yield first
    yield from rest


def _json(file: SourceFile, lines: io.TextIOWrapper) -> Iterator[Record | Unreadable]:
    """JSON lines; or, in a ``.json`` file, one array of objects."""
    number = 0
    for line in lines:
        number += 1
        if not line.strip():
            continue
        if file.kind == ".json" and number == 1 and line.strip() in ("[", "{"):
            yield from _json_array(file, line + lines.read())
            return
        try:
            values = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            yield Unreadable(file.shown, number, "", f"not JSON ({getattr(error, 'msg', 'nested too deep')}{where})")
            continue
        if isinstance(values, list) and number == 1 and file.kind == ".json":
            yield from _objects(file, values)
            return
        if not isinstance(values, dict):
            yield Unreadable(file.shown, number, "", "a JSON object is expected, one per line")
            continue
        yield Record(file.shown, number, values)


def _json_array(file: SourceFile, content: str) -> Iterator[Record | Unreadable]:
    try:
        values = json.loads(content)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RowError(f"{file.shown}: not JSON ({error}); save it as JSON lines to have good rows kept") from error
    if isinstance(values, dict):
        values = next((v for v in values.values() if isinstance(v, list)), [values])
    yield from _objects(file, values)


def _objects(file: SourceFile, values: list[Any]) -> Iterator[Record | Unreadable]:
    for number, item in enumerate(values, 1):
        if isinstance(item, dict):
            yield Record(file.shown, number, item)
        else:
            yield Unreadable(file.shown, number, "", "a JSON object is expected")
