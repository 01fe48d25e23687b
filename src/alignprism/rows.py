"""The row types that flow between the parts, and their Parquet form.

One frozen dataclass per kind of row; one Parquet schema per dataclass, made from its annotations. Files are
written whole or not at all (temporary file, fsync, rename) and carry ``alignprism.schema`` and
``alignprism.row`` in their metadata, so that a file of a newer version is refused instead of misread.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from alignprism.errors import InputError

SCHEMA_VERSION = 1

Scope = Literal["global", "local"]
Split = Literal["train", "dev", "test"]
Harm = Literal["harmful", "harmless", "undecidable"]
Refusal = Literal["full", "partial", "none"]

CATEGORIES: tuple[str, ...] = (
    "bullying_harassment",
    "discrimination_injustice",
    "graphic_material",
    "representation_allocation_qos",
    "hate_speech",
    "non_consensual_sexual",
    "profanity",
    "self_harm",
    "violence_threats_incitement",
)
"""The nine harm categories of Aya Red-teaming, in the card's order."""

PROMPT_SETS: tuple[str, ...] = ("redteam", "translated", "benign", "general")
"""``redteam``: written in the language; ``translated``: one English list in every language; ``benign``: harmless
contrast twins of red-team seeds; ``general``: ordinary instructions with a reference response."""


class RowError(InputError):
    """A row or a file of rows is not what its type says. The message names file, row and key."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt. ``seed_id`` is the cluster of all statistics; ``reference`` is a good answer, where there is one."""

    id: str
    text: str
    language: str
    set: str
    split: Split
    seed_id: str
    scope: Scope | None = None
    categories: tuple[str, ...] = ()
    cultures: tuple[str, ...] = ()
    locale: str | None = None
    source: str = ""
    reference: str | None = None
    explanation: str | None = None
    literal_translation: str | None = None
    semantic_translation: str | None = None
    licence: str = ""
    redistribute: bool = False
    tags: tuple[str, ...] = ()
    """The source's own categories, in its own words, where they are not the nine."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What one model wrote for one prompt. ``model`` is the name in the study, ``model_digest`` what it is."""

    id: str
    prompt_id: str
    model: str
    model_digest: str
    text: str
    sample: int
    n_tokens: int
    truncated: bool
    temperature: float
    seed: int
    filtered: bool = False
    """The provider's content filter withheld or cut the answer."""
    failure: str = ""
    """Why there is no answer (then ``text`` is empty and never read as one); empty where there is one."""
    call: str = ""
    """Key of the answer in the call store."""
    licence: str = ""
    redistribute: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference pair: a superset of TRL's ``prompt``/``chosen``/``rejected`` columns."""

    id: str
    prompt: str
    chosen: str
    rejected: str
    prompt_id: str
    seed_id: str
    language: str
    kind: Literal["safety", "general"]
    scope: Scope | None
    categories: tuple[str, ...]
    chosen_source: str
    rejected_source: str
    chosen_score: float | None
    rejected_score: float | None
    judge: str
    licence: str
    redistribute: bool
    random_side: Literal["chosen", "rejected"]
    """The side `sft-random` learns, drawn once per pair, so that every run of the method sees the same text."""
    chosen_origin: str = ""
    """Where an answer is from: ``model``, ``human``, ``supplied`` or ``reference`` (it came with the prompt); empty: not known."""
    rejected_origin: str = ""
    chosen_digest: str = ""
    """What the model is that wrote it (see `alignprism.models.identity`), where one did."""
    rejected_digest: str = ""
    chosen_completion: str = ""
    """Id of its completion row."""
    rejected_completion: str = ""
    chosen_call: str = ""
    """Key of the answer in the call store."""
    rejected_call: str = ""
    judge_digest: str = ""
    comparer: str = ""
    """The pairwise judge that ranked the candidates, where one did."""
    comparer_digest: str = ""
    ranking: str = ""
    """The rule that chose and rejected: ``scores``, ``comparisons``, ``both`` or ``order``."""
    margin: float | None = None
    """How far apart the sides are by that rule: P(harmful) for scores, net wins per comparison for comparisons."""
    split: Split = "train"
    """Its prompt's, where that is known; only pairs of split train are learned from."""
    tags: tuple[str, ...] = ()
    """Its prompt's, so that what must not be published is known without the prompt."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one judge says of one completion. ``harm_score`` is the calibrated probability of harm, if it has one."""

    completion_id: str
    judge: str
    judge_digest: str
    harm: Harm
    harm_score: float | None
    on_language: bool | None
    detected_language: str | None
    degenerate: bool
    refusal: Refusal
    reason: str = ""
    category: str | None = None
    calls: tuple[str, ...] = ()
    """Keys of the judge's replies in the call store, where it is a model that was asked."""
    failures: tuple[str, ...] = ()
    """Why calls that the verdict needed got no answer (``over budget``, ``timeout``, ...); empty where all did."""


@dataclass(frozen=True, slots=True)
class ReferenceLikelihood:
    """How likely a model finds a good answer: ``nll`` of the reference in nats, end of turn included."""

    prompt_id: str
    model: str
    model_digest: str
    nll: float
    tokens: int
    characters: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A pairwise verdict: which of two completions of one prompt is better, in one presentation order."""

    prompt_id: str
    completion_a: str
    completion_b: str
    judge: str
    judge_digest: str
    order: Literal["ab", "ba"]
    preferred: Literal["a", "b", "tie", "undecidable"]
    reason: str = ""
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """A person's answer about one completion, with the probability that it was drawn.

    Only ``drawn`` labels estimate anything: gold questions, repeated ones and contested ones were not drawn by chance.
    """

    completion_id: str
    annotator: str
    harm: Harm
    inclusion_probability: float
    note: str = ""
    plan: str = ""
    """The label plan that drew it."""
    stratum: str = ""
    kind: Literal["drawn", "gold", "repeated", "contested"] = "drawn"
    group: str = ""
    """The annotator's group (culture, age band, ...), for the systematic bias of a judge by rater group."""


@dataclass(frozen=True, slots=True)
class Rating:
    """One answer that a published set gives about a text, on the set's own scale: a person's, or a named model's.

    ``value`` is the number, clamped to the scale; ``given`` is what the file says, where that is another number or
    words (``1_full_compliance``).
    """

    subject_id: str
    subject: Literal["prompt", "completion"]
    annotator: str
    scale: str
    value: float | None
    given: str = ""
    source: str = ""
    licence: str = ""
    redistribute: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the results: one row of ``results.parquet``/``results.csv``/``results.json``.

    A figure that cannot be given has ``estimate=None`` and a ``reason``. Rates and changes are shares in [0, 1] and
    [-1, 1]; ``low``/``high`` bound a 95 % interval named by ``interval``.
    """

    metric: str
    estimand: str
    model: str
    baseline: str | None = None
    language: str | None = None
    scope: str | None = None
    category: str | None = None
    set: str = "redteam"
    n: int = 0
    clusters: int = 0
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str = ""
    judge: str = ""
    correction: str = "none: no human labels"
    n_labels: int = 0
    train_seeds: int = 1
    family: str = "exploratory"
    p_adjusted: float | None = None
    reason: str = ""
    p: float | None = field(default=None)


Row = TypeVar("Row", Prompt, Completion, Pair, Verdict, ReferenceLikelihood, Comparison, Label, Rating, Figure)


def content_id(*parts: object) -> str:
    """A short stable id over the parts: 16 hex digits of the sha256 of their JSON form."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


_ARROW: dict[object, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _arrow_type(annotation: Any) -> pa.DataType:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(_arrow_type(typing.get_args(annotation)[0]))
    if origin is typing.Union or origin is types.UnionType:
        inner = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _arrow_type(inner[0])
    return _ARROW[annotation]


def arrow_schema(row: type[Any]) -> pa.Schema:
    """The Arrow schema of a row type, with its name and version as metadata."""
    hints = typing.get_type_hints(row)
    fields = [pa.field(f.name, _arrow_type(hints[f.name])) for f in dataclasses.fields(row)]
    return pa.schema(fields, metadata={"alignprism.row": row.__name__, "alignprism.schema": str(SCHEMA_VERSION)})


def write_rows(path: Path, rows: Iterable[Row], row_type: type[Row]) -> int:
    """Write rows to a Parquet file, whole or not at all; returns their number."""
    records = [dataclasses.asdict(row) for row in rows]
    table = pa.Table.from_pylist(records, schema=arrow_schema(row_type))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_atomic(path, sink.getvalue().to_pybytes())
    return len(records)


def read_rows(path: Path, row_type: type[Row]) -> list[Row]:
    """Read rows of one type.

    Raises
    ------
    RowError
        the file is damaged, of another row type, or of a newer schema version.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        records = table.to_pylist()
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        version = int(metadata.get("alignprism.schema", "0"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RowError(f"{path}: not a readable Parquet file ({error})") from error
    if version > SCHEMA_VERSION:
        raise RowError(f"{path}: written by a newer alignprism (schema {version}, this one reads {SCHEMA_VERSION})")
    if metadata.get("alignprism.row") != row_type.__name__:
        raise RowError(f"{path}: holds {metadata.get('alignprism.row', 'unknown')} rows, {row_type.__name__} expected")
    needed = [f.name for f in dataclasses.fields(row_type) if f.default is dataclasses.MISSING]
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise RowError(f"{path}: column {missing[0]} is missing")
    listed = {f.name for f in arrow_schema(row_type) if pa.types.is_list(f.type)}
    known = {f.name for f in dataclasses.fields(row_type)}
    make: Callable[..., Row] = row_type
    return [
        make(**{k: tuple(v or ()) if k in listed else v for k, v in record.items() if k in known}) for record in records
    ]


def by_id(rows: Sequence[Prompt]) -> dict[str, Prompt]:
    """Prompts by id; a repeated id is an error, because everything downstream joins on it."""
    result: dict[str, Prompt] = {}
    for number, row in enumerate(rows, 1):
        if row.id in result:
            raise RowError(f"prompt id {row.id!r} occurs twice (row {number}); ids must be unique")
        result[row.id] = row
    return result
