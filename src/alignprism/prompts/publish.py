"""Publishing a data set: refused where a row must not leave, with card, canary and, if asked for, an encrypted archive."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from alignprism.errors import Failure, InputError
from alignprism.prompts.data_card import Described, card
from alignprism.prompts.findings import Findings
from alignprism.prompts.formats import aya, trl
from alignprism.prompts.handling import forbidden
from alignprism.prompts.values import BadValue
from alignprism.rows import Completion, Label, Pair, Prompt, Rating, RowError, Split, arrow_schema, write_atomic

Form = Literal["parquet", "aya", "trl", "datasets"]
FORMS: tuple[Form, ...] = ("parquet", "aya", "trl", "datasets")
ARCHIVE = "data.zip"
_SYNTHETIC = "synthetic-adversarial"

Tables = Mapping[str, Sequence[Any]]


def new_canary(name: str) -> str:
    """A string that no other text has: found in a model's output, it says that the model has seen the data."""
    return f"alignprism-canary {name} {uuid.uuid4()}"


def refusals(tables: Tables, synthetic: bool) -> Counter[str]:
    """Why rows must not be published, with their number."""
    why: Counter[str] = Counter()
    for name, rows in tables.items():
        for row in rows:
            reason = _refused(row, synthetic)
            if reason is not None:
                why[f"{name}: {reason}"] += 1
    return why


def _refused(row: Any, synthetic: bool) -> str | None:
    # A label is an answer about a completion, without text of its own.
    if hasattr(row, "redistribute") and not row.redistribute:
        return f"not to be redistributed (licence: {row.licence or 'unknown'})"
    tags = (*getattr(row, "categories", ()), *getattr(row, "tags", ()))
    for text in (getattr(row, field, None) for field in ("text", "prompt", "chosen", "rejected", "reference")):
        reason = forbidden(text, tags) if isinstance(text, str) else None
        if reason is not None:
            return f"never published ({reason})"
    if not synthetic and (_SYNTHETIC in tags or _SYNTHETIC in str(getattr(row, "source", ""))):
        return "rephrased by a model from a red-team seed; --include-synthetic publishes such rows"
    return None


def allowed(tables: Tables, synthetic: bool) -> dict[str, list[Any]]:
    """The rows that may be published: not what belongs to a refused prompt, and labels and ratings only with their subject.

    A pair repeats the text of its prompt, and an answer tells of it.
    """
    kept = {name: [row for row in rows if _refused(row, synthetic) is None] for name, rows in tables.items()}
    refused = {row.id for row in tables.get("prompts", ()) if _refused(row, synthetic) is not None}
    for name in ("pairs", "completions"):
        if name in kept:
            kept[name] = [row for row in kept[name] if row.prompt_id not in refused]
    subjects = {row.id for name in ("prompts", "completions") for row in kept.get(name, ())}
    if "labels" in kept:
        kept["labels"] = [row for row in kept["labels"] if row.completion_id in subjects]
    if "ratings" in kept:
        kept["ratings"] = [row for row in kept["ratings"] if row.subject_id in subjects]
    return kept


class _Splits:
    """The split under which a row is published: a prompt's own, and for what belongs to a prompt the prompt's."""

    def __init__(self, tables: Tables) -> None:
        prompts = tables.get("prompts", ())
        self._seeds: dict[str, Split] = {row.seed_id: row.split for row in prompts}
        self._subjects: dict[str, Split] = {row.id: row.split for row in prompts}
        for row in tables.get("completions", ()):
            self._subjects.setdefault(row.id, self._subjects.get(row.prompt_id, "train"))

    def of(self, row: Any) -> Split:
        """A row of any table; ``train`` where nothing in the folder says otherwise."""
        if isinstance(row, Prompt):
            return row.split
        if isinstance(row, Pair):
            return self._subjects.get(row.prompt_id) or self._seeds.get(row.seed_id) or row.split
        subject = {Completion: "prompt_id", Label: "completion_id", Rating: "subject_id"}[type(row)]
        return self._subjects.get(getattr(row, subject), "train")


def publish(
    tables: Tables, out: Path, name: str, form: Form, canary: str, *, synthetic: bool = False, leave_out: bool = False,
    password: bytes | None = None, findings: Findings | None = None, about: str = "",
) -> dict[str, int]:  # fmt: skip
    """Write a folder that can be uploaded as it is; returns the number of rows by table.

    Pairs, completions, labels and ratings lie under the split of their prompt, also of one that is left out.

    Raises
    ------
    InputError
        rows that must not be published (unless `leave_out`), or rows that the form has no place for.
    RowError
        the folder exists.
    """
    if out.exists():
        raise RowError(f"{out} exists; name a new folder")
    why = refusals(tables, synthetic)
    if why and not leave_out:
        listed = "; ".join(f"{count} {reason}" for reason, count in why.most_common(5))
        raise InputError(f"not published: {listed}. Take these rows out, or publish the others with --leave-out")
    kept = allowed(tables, synthetic) if why else {key: list(rows) for key, rows in tables.items()}
    if not any(kept.values()):
        raise InputError("not published: no row may be; see `alignprism data import` for licences of own data")
    splits = _Splits(tables)
    kept["pairs"] = [dataclasses.replace(pair, split=splits.of(pair)) for pair in kept.get("pairs", ())]
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        written = _files(kept, form, canary, splits)
        if form == "datasets":
            _save_to_disk(kept, temporary, canary, splits)
            files: dict[str, dict[str, str]] = {}
        else:
            files = {} if password is not None else _paths(written)
            _write(written, temporary, password)
        described = Described(name, canary, files, ARCHIVE if password is not None else None, findings, about)
        write_atomic(temporary / "README.md", card(kept, described).encode())
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {key: len(rows) for key, rows in kept.items() if rows}


def _files(tables: Tables, form: Form, canary: str, splits: _Splits) -> dict[str, bytes]:
    """Path to bytes: ``data/CONFIGURATION/SPLIT.EXTENSION``."""
    try:
        if form == "aya":
            rows = [(row.split, aya.published(row) | {"canary": canary}) for row in _of_aya(tables["prompts"])]
            return _lines("prompts", rows)
        if form == "trl":
            (records,) = trl.export(tables).values()
            return _lines("pairs", [(record["split"], record | {"canary": canary}) for record in records])
    except BadValue as bad:
        raise InputError(f"--format {form}: column {bad.column}: {bad.reason}") from bad
    if form == "datasets":
        return {}
    return {
        f"data/{name}/{split}.parquet": _parquet(part, canary)
        for name, found in tables.items()
        for split, part in _by_split(found, splits).items()
    }


def _of_aya(prompts: Sequence[Any]) -> Sequence[Any]:
    for row in prompts:
        if row.scope is None or not row.categories:
            raise BadValue("scope" if row.scope is None else "categories", f"{row.id}: empty, and Aya has no such row")
    if not prompts:
        raise BadValue("prompts", "there are none")
    return prompts


def _by_split(rows: Sequence[Any], splits: _Splits) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(splits.of(row), []).append(row)
    return found


def _lines(name: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, bytes]:
    parts: dict[str, list[str]] = {}
    for split, record in rows:
        parts.setdefault(split, []).append(json.dumps(record, ensure_ascii=False) + "\n")
    return {f"data/{name}/{split}.jsonl": "".join(found).encode() for split, found in parts.items()}


def _with_canary(rows: Sequence[Any], canary: str) -> pa.Table:
    schema = arrow_schema(type(rows[0]))
    table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema)
    table = table.append_column("canary", pa.array([canary] * len(rows), pa.string()))
    return table.replace_schema_metadata({**(schema.metadata or {}), b"canary": canary.encode()})


def _parquet(rows: Sequence[Any], canary: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_with_canary(rows, canary), sink, compression="zstd")
    return sink.getvalue()


def _paths(files: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for path in files:
        _, name, file = path.split("/")
        found.setdefault(name, {})[file.partition(".")[0]] = path
    return found


def _write(files: Mapping[str, bytes], folder: Path, password: bytes | None) -> None:
    if password is None:
        for path, content in files.items():
            write_atomic(folder / path, content)
        return
    try:
        import pyzipper
    except ImportError as error:
        raise Failure("an encrypted archive needs the package pyzipper; install it") from error
    sink = io.BytesIO()
    with pyzipper.AESZipFile(sink, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(password)
        for path, content in files.items():
            archive.writestr(path, content)
    write_atomic(folder / ARCHIVE, sink.getvalue())


def _save_to_disk(tables: Tables, folder: Path, canary: str, splits: _Splits) -> None:
    """A folder for ``datasets.load_from_disk``, one for each table."""
    import datasets

    datasets.disable_progress_bars()
    for name, rows in tables.items():
        parts = {split: datasets.Dataset(_with_canary(part, canary)) for split, part in _by_split(rows, splits).items()}
        if parts:
            datasets.DatasetDict(parts).save_to_disk(str(folder / name))
