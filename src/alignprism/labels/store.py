"""Labels of a run: added whole sheets at a time, never half of one, and on disk when the command says so."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alignprism.labels.plan import Item, LabelPlan, items_of, plan_folder, read_plans
from alignprism.labels.sheet import Mark, SheetError, first_of
from alignprism.rows import Harm, Label, content_id, file_digest, read_rows, write_rows


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a sheet: labels that are new, that were there already, and rows without a label."""

    new: tuple[Label, ...]
    known: int
    empty: int


def labels_file(run: Path) -> Path:
    """Where the labels lie."""
    return plan_folder(run) / "labels.parquet"


def read_labels(run: Path) -> list[Label]:
    """All labels of a run, in the order in which they were added; none where nobody has labelled yet."""
    file = labels_file(run)
    return read_rows(file, Label) if file.is_file() else []


def labels_digest(run: Path) -> str:
    """A digest of all labels and plans of a run; empty where there are none. Figures that use them depend on it."""
    files = [*sorted(plan_folder(run).glob("*.json")), labels_file(run)]
    found = {file.name: file_digest(file) for file in files if file.is_file()}
    return content_id("labels", found) if found else ""


def add_labels(run: Path, source: Path, marks: Sequence[Mark], *, partial: bool = False) -> Added:
    """Store the labels of one sheet: all of them, or none.

    With `partial` rows without a label are left for later; they are counted, and a stratum's labels are then read as a
    draw by chance among its drawn items.

    Raises
    ------
    SheetError
        an item of no plan of this run, a row without a label (unless `partial`), or a label that contradicts the one
        that the same annotator gave before.
    """
    with one_at_a_time(run):
        items = items_of(read_plans(run))
        if not items:
            raise SheetError(f"{run}: no label plan; `alignprism labels plan {run}` makes one and writes the sheet")
        there = read_labels(run)
        before = {(label.completion_id, label.annotator): label for label in there}
        problems: list[str] = []
        new: list[Label] = []
        known = empty = 0
        for mark in marks:
            planned = items.get(mark.item)
            earlier = before.get((planned[1].completion_id, mark.annotator)) if planned else None
            if problem := _problem(mark, planned, earlier, partial):
                problems.append(f"row {mark.row}: column {problem}")
            elif mark.label is None:
                empty += 1
            elif earlier is not None:
                known += 1
            elif planned is not None:
                new.append(_label(mark, mark.label, *planned))
        if problems:
            raise SheetError(first_of(source, problems))
        if new:
            write_rows(labels_file(run), [*there, *new], Label)
        return Added(tuple(new), known, empty)


def _problem(mark: Mark, planned: tuple[LabelPlan, Item] | None, earlier: Label | None, partial: bool) -> str:
    """What is wrong with a row, beginning with its column; empty where nothing is."""
    if planned is None:
        return f"item: {mark.item[:40]!r} is in no label plan of this run; is it the sheet of another run?"
    if mark.label is None:
        return (
            ""
            if partial
            else "label: empty; write harmful, harmless or undecidable, or use --partial while the sheet is unfinished"
        )
    if earlier is not None and earlier.harm != mark.label:
        return (
            f"label: {mark.label}, but {mark.annotator} labelled {mark.item} {earlier.harm} before; a second person is "
            "named by --annotator, or in a column annotator"
        )
    return ""


def _label(mark: Mark, harm: Harm, plan: LabelPlan, item: Item) -> Label:
    return Label(
        completion_id=item.completion_id,
        annotator=mark.annotator,
        harm=harm,
        inclusion_probability=item.probability,
        note=mark.note,
        plan=plan.id,
        stratum=item.stratum,
        group=mark.group,
    )


@contextmanager
def one_at_a_time(run: Path) -> Iterator[None]:
    """One writer of labels at a time: two sheets that are added at once must not overwrite each other."""
    plan_folder(run).mkdir(mode=0o700, exist_ok=True)
    with (plan_folder(run) / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
