"""Rows come back as they were written, files appear whole or not at all, and a file that is not ours is refused."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import types
import typing
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.rows import (
    SCHEMA_VERSION,
    Comparison,
    Completion,
    Figure,
    Label,
    Pair,
    Prompt,
    Rating,
    ReferenceLikelihood,
    RowError,
    Verdict,
    arrow_schema,
    by_id,
    content_id,
    read_rows,
    write_atomic,
    write_rows,
)

ROW_TYPES: list[type[Any]] = [Prompt, Completion, Pair, Verdict, ReferenceLikelihood, Comparison, Label, Rating, Figure]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(_values(arguments[0]), max_size=3).map(tuple)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(_values(a) for a in arguments))
    return {
        str: TEXTS,
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False),
        bool: st.booleans(),
        type(None): st.none(),
    }[annotation]


def _rows(row_type: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(row_type)
    return st.builds(row_type, **{f.name: _values(hints[f.name]) for f in dataclasses.fields(row_type)})


def prompt(number: int, text: str = "Hello.") -> Prompt:
    return Prompt(f"p{number}", text, "en", "redteam", "train", f"s{number}", categories=("profanity",))


@pytest.mark.parametrize("row_type", ROW_TYPES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rows_of_every_type_come_back_equal(row_type: type[Any], data: st.DataObject) -> None:
    rows = data.draw(st.lists(_rows(row_type), max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        assert write_rows(path, rows, row_type) == len(rows)
        assert read_rows(path, row_type) == rows


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_every_file_says_what_it_holds(row_type: type[Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [], row_type)
    schema = pq.read_schema(path)
    assert schema.names == [f.name for f in dataclasses.fields(row_type)]
    assert schema.metadata[b"alignprism.row"] == row_type.__name__.encode()
    assert schema.metadata[b"alignprism.schema"] == str(SCHEMA_VERSION).encode()


def test_pairs_hold_the_columns_that_trl_reads() -> None:
    assert {"prompt", "chosen", "rejected"} <= {f.name for f in dataclasses.fields(Pair)}


def test_the_figure_has_the_columns_of_the_design() -> None:
    columns = [
        "metric",
        "estimand",
        "model",
        "baseline",
        "language",
        "scope",
        "category",
        "set",
        "n",
        "clusters",
        "estimate",
        "low",
        "high",
        "interval",
        "judge",
        "correction",
        "n_labels",
        "train_seeds",
        "family",
        "p_adjusted",
        "reason",
    ]
    assert set(columns) <= {f.name for f in dataclasses.fields(Figure)}


def _with_metadata(path: Path, **metadata: str) -> None:
    table = pa.Table.from_pylist([dataclasses.asdict(prompt(1))], schema=arrow_schema(Prompt))
    full = {"alignprism.row": "Prompt", "alignprism.schema": str(SCHEMA_VERSION)} | metadata
    pq.write_table(table.replace_schema_metadata(full), path)


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    _with_metadata(path, **{"alignprism.schema": str(SCHEMA_VERSION + 1)})
    before = path.read_bytes()
    with pytest.raises(RowError, match=f"newer alignprism .schema {SCHEMA_VERSION + 1}") as caught:
        read_rows(path, Prompt)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_rows_of_another_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [prompt(1)], Prompt)
    with pytest.raises(RowError, match="holds Prompt rows, Completion expected"):
        read_rows(path, Completion)


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(RowError, match="holds unknown rows, Prompt expected"):
        read_rows(path, Prompt)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [prompt(1)], Prompt)
    pq.write_table(pq.read_table(path).drop_columns(["seed_id"]), path)
    with pytest.raises(RowError, match="column seed_id is missing"):
        read_rows(path, Prompt)


def test_an_older_file_without_a_later_optional_column_is_read_with_its_default(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [prompt(1)], Prompt)
    pq.write_table(pq.read_table(path).drop_columns(["explanation", "redistribute"]), path)
    assert read_rows(path, Prompt) == [prompt(1)]


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"no parquet at all"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(damage)
    with pytest.raises(RowError, match="not a readable Parquet file") as caught:
        read_rows(path, Prompt)
    assert str(path) in str(caught.value)


def test_changed_bytes_never_raise_anything_else_and_changed_pages_never_pass(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    rows = [prompt(n, f"héllo नमस्ते مرحبا {n}") for n in range(30)]
    write_rows(path, rows, Prompt)
    good = path.read_bytes()
    footer = int.from_bytes(good[-8:-4], "little") + 8
    draw = random.Random(0)
    for _ in range(400):
        place = draw.randrange(len(good))
        path.write_bytes(good[:place] + bytes([good[place] ^ draw.randrange(1, 256)]) + good[place + 1 :])
        try:
            read = read_rows(path, Prompt)
        except RowError:
            continue
        # Bytes of the pages are under a checksum; the footer's are not (the manifest's sha256 covers the whole file).
        assert read == rows or place >= len(good) - footer


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [prompt(1)], Prompt)
    good = path.read_bytes()
    for length in range(0, len(good), 97):
        path.write_bytes(good[:length])
        with pytest.raises(RowError):
            read_rows(path, Prompt)


WRITER = """
import sys
from pathlib import Path
from alignprism.rows import write_atomic
path = Path(sys.argv[1])
letters = [b"a" * 3_000_000, b"b" * 3_000_000]
print("ready", flush=True)
while True:
    for data in letters:
        write_atomic(path, data)
"""


def test_a_killed_writer_leaves_the_old_file_or_the_new_one_never_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = {b"old", b"a" * 3_000_000, b"b" * 3_000_000}
    path.write_bytes(b"old")
    for attempt in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.02 + 0.013 * attempt)
            writer.send_signal(signal.SIGKILL)
        assert path.read_bytes() in whole


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_rows_that_cannot_be_written_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [prompt(1)], Prompt)
    with pytest.raises(pa.ArrowTypeError):
        write_rows(path, [dataclasses.replace(prompt(2), text=3)], Prompt)  # type: ignore[arg-type]
    assert read_rows(path, Prompt) == [prompt(1)]


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / name, [prompt(1), prompt(2)], Prompt)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_content_id_is_stable_and_keeps_its_parts_apart() -> None:
    assert content_id("a", "b") == "0473ef2dc0d324ab"
    assert len({content_id("ab"), content_id("a", "b"), content_id("b", "a"), content_id("a", None)}) == 4


def test_a_repeated_prompt_id_is_an_error() -> None:
    assert list(by_id([prompt(1), prompt(2)])) == ["p1", "p2"]
    with pytest.raises(RowError, match=r"'p1' occurs twice \(row 3\)"):
        by_id([prompt(1), prompt(2), prompt(1)])
