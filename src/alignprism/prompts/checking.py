"""Checking a data set of any size: rows stream through processes, and what needs all rows is sorted on disk.

In memory per row: five numbers (about 40 bytes), the working arrays of one band (bounded by `Settings.memory`) and
the ids of findings. Texts lie in a scratch file.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignprism.prompts.findings import Finding, Findings
from alignprism.prompts.lexical import CUT, HASHES, NearPair, near_pairs
from alignprism.prompts.prompt_files import Read
from alignprism.prompts.row_checks import Chunk, Placed, check_chunk
from alignprism.prompts.sources import Unreadable
from alignprism.prompts.spill import Spill, SpilledRows

CHUNK = 4000
_FEW = 2 * CHUNK
"""Below this many rows a second process costs more than it saves."""

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Settings:
    """What to check, and how much it may take."""

    near_cut: float = CUT
    embed_rows: int = 2000
    """At most this many rows are compared across languages; 0 for none."""
    memory: int = 1 << 30
    processes: int = 2
    leaks: bool = True


@dataclass(slots=True)
class Checked:
    """What was looked at: rows, rows by language, scope and category, pairs found, and what was left out."""

    rows: int = 0
    unreadable: int = 0
    cells: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    exact: list[tuple[int, int]] = field(default_factory=list)
    near: list[NearPair] = field(default_factory=list)
    across: list[tuple[int, int]] = field(default_factory=list)
    embedded: int = 0
    not_embedded: int = 0


@dataclass(slots=True)
class _Columns:
    """One value per row, for the checks that need all of them."""

    text_keys: Keys
    id_keys: Keys
    seed_keys: Keys
    lengths: npt.NDArray[np.int32]
    translated: npt.NDArray[np.bool_]
    language: npt.NDArray[np.int16]
    split: npt.NDArray[np.int8]
    names: list[str]


def check(
    rows: Iterable[Read], findings: Findings, settings: Settings, report: Callable[[str], None] | None = None
) -> Checked:
    """Run every check; findings go to `findings`, and the pairs found are returned by row number for splitting."""
    say = report or (lambda text: None)
    outcome = Checked()
    with tempfile.TemporaryDirectory(prefix="alignprism-check-") as scratch, ExitStack() as stack:
        spill = stack.enter_context(Spill(Path(scratch) / "rows.arrow"))
        with (Path(scratch) / "signatures").open("wb") as signed:
            columns = _stream(rows, findings, settings, outcome, spill, signed, say)
        if not outcome.rows:
            return outcome
        texts = spill.read()
        signatures = np.memmap(Path(scratch) / "signatures", np.uint16, "r", shape=(outcome.rows, HASHES))
        _repeated_ids(columns, texts, findings)
        _lengths(columns, texts, findings)
        _translations(columns, texts, findings)
        say("comparing texts of one language")
        _exact(columns, texts, findings, outcome)
        _near(columns, texts, signatures, findings, settings, outcome)
        _across(columns, texts, findings, settings, outcome, say)
        if settings.leaks:
            _leaks(columns, texts, findings, outcome)
        _balance(outcome, findings)
        del signatures
    return outcome


def _stream(
    rows: Iterable[Read], findings: Findings, settings: Settings, outcome: Checked, spill: Spill, signed: Any,
    say: Callable[[str], None],
) -> _Columns:  # fmt: skip
    parts: list[Chunk] = []
    languages: dict[str, int] = {}
    language: list[npt.NDArray[np.int16]] = []
    split: list[npt.NDArray[np.int8]] = []
    for placed, chunk in _checked_chunks(_chunks(rows, findings, outcome), settings.processes):
        for finding in chunk.findings:
            findings.add(finding)
        prompts = [prompt for _, _, prompt in placed]
        spill.add(
            {
                "id": [p.id for p in prompts],
                "seed_id": [p.seed_id for p in prompts],
                "language": [p.language for p in prompts],
                "split": [p.split for p in prompts],
                "file": [file for file, _, _ in placed],
                "text": [p.text for p in prompts],
                "folded": chunk.folded,
                "row": [row for _, row, _ in placed],
            }
        )
        signed.write(chunk.signed.tobytes())
        numbers = [languages.setdefault(p.language, len(languages)) for p in prompts]
        language.append(np.array(numbers, np.int16))
        split.append(np.array([("train", "dev", "test").index(p.split) if p.split in ("train", "dev", "test") else -1 for p in prompts], np.int8))  # fmt: skip
        outcome.cells.update(chunk.cells)
        outcome.rows += len(placed)
        chunk.findings, chunk.folded, chunk.signed = [], [], chunk.signed[:0]
        parts.append(chunk)
        if outcome.rows % 100_000 < CHUNK:
            say(f"{outcome.rows} rows read")
    return _Columns(
        text_keys=_together([c.text_keys for c in parts], np.uint64),
        id_keys=_together([c.id_keys for c in parts], np.uint64),
        seed_keys=_together([c.seed_keys for c in parts], np.uint64),
        lengths=_together([c.lengths for c in parts], np.int32),
        translated=_together([c.translated for c in parts], np.bool_),
        language=_together(language, np.int16),
        split=_together(split, np.int8),
        names=list(languages),
    )


def _together(parts: Sequence[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def _chunks(rows: Iterable[Read], findings: Findings, outcome: Checked) -> Iterator[list[Placed]]:
    waiting: list[Placed] = []
    for read in rows:
        if isinstance(read, Unreadable):
            outcome.unreadable += 1
            where = f"column {read.column}: " if read.column else ""
            findings.add(Finding("", "unreadable", "error", f"{where}{read.reason}", "", read.file, read.row))
            continue
        waiting.append(read)
        if len(waiting) == CHUNK:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _checked_chunks(chunks: Iterator[list[Placed]], processes: int) -> Iterator[tuple[list[Placed], Chunk]]:
    """In order; in other processes once there are more than `_FEW` rows, a few chunks ahead and no more."""
    first = list(islice(chunks, _FEW // CHUNK))
    if processes < 2 or len(first) < _FEW // CHUNK:
        for chunk in chain(first, chunks):
            yield chunk, check_chunk(chunk)
        return
    # Not fork: threads of libraries that are loaded would not survive it.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        under_way: deque[tuple[list[Placed], Future[Chunk]]] = deque()
        for chunk in chain(first, chunks):
            under_way.append((chunk, pool.submit(check_chunk, chunk)))
            if len(under_way) > 2 * processes:
                done, future = under_way.popleft()
                yield done, future.result()
        while under_way:
            done, future = under_way.popleft()
            yield done, future.result()


def _runs(keys: Keys) -> Iterator[Ints]:
    """Row numbers with one key, where several have it; ascending inside a run."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    edges = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1], [True])))
    for start, end in zip(edges[:-1][np.diff(edges) > 1], edges[1:][np.diff(edges) > 1], strict=True):
        yield order[start:end]


def _finding(
    texts: SpilledRows, row: int, check: str, severity: Any, evidence: str, other: int | None = None
) -> Finding:
    return Finding(
        texts.value("id", row), check, severity, evidence, texts.value("language", row), texts.value("file", row),
        texts.number(row), texts.value("id", other) if other is not None else "",
    )  # fmt: skip


def _repeated_ids(columns: _Columns, texts: SpilledRows, findings: Findings) -> None:
    for run in _runs(columns.id_keys):
        for row in run[1:].tolist():
            where = f"{texts.value('file', int(run[0]))}: row {texts.number(int(run[0]))}"
            findings.add(_finding(texts, row, "repeated-id", "error", f"the id of {where} too", int(run[0])))


def _lengths(columns: _Columns, texts: SpilledRows, findings: Findings) -> None:
    """Beyond five robust standard deviations of the log length, by language (median and MAD; 50 rows or more)."""
    logs = np.log(np.maximum(columns.lengths, 1))
    for number in range(len(columns.names)):
        rows = np.flatnonzero(columns.language == number)
        if len(rows) < 50:
            continue
        middle = np.median(logs[rows])
        spread = max(1.4826 * float(np.median(np.abs(logs[rows] - middle))), 0.1)
        for row in rows[np.abs(logs[rows] - middle) > 5 * spread].tolist():
            evidence = f"{columns.lengths[row]} characters, where the median of the language is {np.exp(middle):.0f}"
            findings.add(_finding(texts, row, "length", "warning", evidence))


def _translations(columns: _Columns, texts: SpilledRows, findings: Findings) -> None:
    """Rows without an English translation: each where the language has some, one note where it has none."""
    for number, code in enumerate(columns.names):
        rows = np.flatnonzero(columns.language == number)
        missing = rows[~columns.translated[rows]]
        if code == "en" or not len(missing):
            continue
        if len(missing) > len(rows) / 2:
            said = f"{len(missing)} of {len(rows)} rows have no English translation"
            findings.add(Finding("", "translation", "note", said, code))
            continue
        for row in missing.tolist():
            findings.add(_finding(texts, row, "translation", "warning", "no English translation"))


def _exact(columns: _Columns, texts: SpilledRows, findings: Findings, outcome: Checked) -> None:
    for run in _runs(columns.text_keys):
        first = int(run[0])
        for row in run[1:].tolist():
            # The key is a hash: the texts themselves decide.
            if texts.value("folded", row) == texts.value("folded", first):
                outcome.exact.append((first, row))
                findings.add(
                    _finding(texts, row, "duplicate", "warning", "the same text, but for case and spaces", first)
                )


def _near(
    columns: _Columns, texts: SpilledRows, signatures: Any, findings: Findings, settings: Settings, outcome: Checked
) -> None:
    group = columns.language.astype(np.int64)
    group[[row for _, row in outcome.exact]] = -1
    outcome.near = near_pairs(
        signatures, group, lambda row: texts.value("folded", row), settings.near_cut, settings.memory
    )
    for pair in outcome.near:
        evidence = f"Jaccard similarity {pair.similarity:.2f} of character 5-grams"
        findings.add(_finding(texts, pair.second, "near-duplicate", "warning", evidence, pair.first))


def _across(
    columns: _Columns, texts: SpilledRows, findings: Findings, settings: Settings, outcome: Checked,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Near-duplicates across languages, among the rows with the smallest seed hashes: whole seeds, the same each time."""
    if not settings.embed_rows or len(columns.names) < 2:
        outcome.not_embedded = outcome.rows
        return
    from alignprism.prompts.meaning import across_languages, embed

    order = np.argsort(columns.seed_keys, kind="stable")[: settings.embed_rows]
    rows = np.sort(order)
    outcome.embedded, outcome.not_embedded = len(rows), outcome.rows - len(rows)
    say(f"comparing {len(rows)} rows across languages ({outcome.not_embedded} left out)")
    vectors = embed([texts.value("text", int(row)) for row in rows])
    for pair in across_languages(vectors, [texts.value("language", int(row)) for row in rows]):
        first, second = int(rows[pair.first]), int(rows[pair.second])
        outcome.across.append((first, second))
        # Translations of one seed are what they should be.
        if columns.seed_keys[first] != columns.seed_keys[second]:
            said = f"says the same in another language (margin {pair.margin:.3f}), with another seed"
            findings.add(_finding(texts, second, "across-languages", "warning", said, first))
    if outcome.not_embedded:
        said = f"{outcome.not_embedded} of {outcome.rows} rows were not compared across languages (--embed-rows)"
        findings.add(Finding("", "across-languages", "note", said))


def _leaks(columns: _Columns, texts: SpilledRows, findings: Findings, outcome: Checked) -> None:
    """Seeds, texts and near-duplicates that lie in more than one split; an error each."""
    for run in _runs(columns.seed_keys):
        first = int(run[0])
        for row in run[columns.split[run] != columns.split[first]].tolist():
            said = f"its seed lies in {texts.value('split', first)} and in {texts.value('split', row)}"
            findings.add(_finding(texts, row, "leak", "error", said, first))
    pairs = [*outcome.exact, *((p.first, p.second) for p in outcome.near), *outcome.across]
    for first, second in pairs:
        if columns.split[first] != columns.split[second] and columns.seed_keys[first] != columns.seed_keys[second]:
            said = f"a duplicate lies in {texts.value('split', first)}, this row in {texts.value('split', second)}"
            findings.add(_finding(texts, second, "leak", "error", said, first))


def _balance(outcome: Checked, findings: Findings) -> None:
    """Languages that lack a scope or a category that others have."""
    languages = sorted({language for language, _, _ in outcome.cells})
    for place, what in ((1, "scope"), (2, "category")):
        values = sorted({cell[place] for cell in outcome.cells} - {"none"})
        for code in languages:
            has = {cell[place] for cell, count in outcome.cells.items() if cell[0] == code and count}
            for value in values:
                if value not in has:
                    findings.add(Finding("", "balance", "note", f"no prompt of {what} {value}", code))
