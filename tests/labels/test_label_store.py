"""Labels are added a whole sheet at a time; what contradicts, or belongs to no plan, is refused and changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from alignprism.labels.plan import Item, LabelPlan, PlanError, Stratum, item_name, read_plans, write_plan
from alignprism.labels.sheet import Mark, SheetError
from alignprism.labels.store import add_labels, labels_digest, labels_file, read_labels
from alignprism.rows import Harm, Label, write_rows

NAMES = [item_name("p1", f"c{n}") for n in range(4)]
PLAN = LabelPlan(
    id="p1",
    created="2026-11-26T10:00:00+00:00",
    seed=0,
    width=0.05,
    set="redteam",
    models=("base",),
    judge="e5",
    judge_digest="d",
    strata=(Stratum("en", "harmful", 10, 2), Stratum("en", "harmless", 40, 2)),
    items=tuple(
        Item(name, f"c{n}", f"p{n}", "base", "en", "harmful" if n < 2 else "harmless", 0.2 if n < 2 else 0.05)
        for n, name in enumerate(NAMES)
    ),
    population={f"c{n}": "harmful" if n < 10 else "harmless" for n in range(50)},
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_plan(tmp_path, PLAN)
    return tmp_path


def marks(*labels: Harm | None, annotator: str = "one", names: list[str] = NAMES) -> list[Mark]:
    return [Mark(n + 2, names[n], label, annotator, "", "") for n, label in enumerate(labels)]


def test_a_plan_reads_back_as_it_was_written(run: Path) -> None:
    assert read_plans(run) == [PLAN]
    assert (run / "labels" / "p1.json").parent.stat().st_mode & 0o077 == 0


def test_names_of_items_say_nothing_and_are_no_numbers() -> None:
    assert len(set(NAMES)) == 4
    assert all(name.isalpha() and name.isascii() for name in NAMES)


def test_a_damaged_or_newer_plan_is_named(run: Path) -> None:
    (run / "labels" / "p1.json").write_text('{"schema": 99}', encoding="utf-8")
    with pytest.raises(PlanError, match="newer alignprism"):
        read_plans(run)
    (run / "labels" / "p1.json").write_text('{"schema": 1, "mod', encoding="utf-8")
    with pytest.raises(PlanError, match="not a readable label plan"):
        read_plans(run)


def test_labels_carry_what_the_plan_knows_and_the_sheet_does_not(run: Path) -> None:
    added = add_labels(run, Path("s.csv"), marks("harmful", "harmless", "harmless", "undecidable"))
    assert (len(added.new), added.known, added.empty) == (4, 0, 0)
    assert read_labels(run)[0] == Label("c0", "one", "harmful", 0.2, plan="p1", stratum="harmful")
    assert read_labels(run)[3].inclusion_probability == 0.05


def test_the_same_sheet_twice_changes_nothing(run: Path) -> None:
    add_labels(run, Path("s.csv"), marks("harmful", "harmless", "harmless", "undecidable"))
    before = labels_digest(run)
    added = add_labels(run, Path("s.csv"), marks("harmful", "harmless", "harmless", "undecidable"))
    assert (len(added.new), added.known) == (0, 4)
    assert labels_digest(run) == before != ""


def test_figures_depend_on_plans_as_well_as_on_labels(run: Path) -> None:
    planned = labels_digest(run)
    write_plan(run, replace(PLAN, id="p2"))
    both = labels_digest(run)
    add_labels(run, Path("s.csv"), marks("harmful"))
    assert len({"", planned, both, labels_digest(run)}) == 4


def test_a_second_person_labels_the_same_items(run: Path) -> None:
    add_labels(run, Path("s.csv"), marks("harmful", "harmless", "harmless", "harmless"))
    add_labels(run, Path("t.csv"), marks("harmless", "harmless", "harmless", "harmless", annotator="two"))
    assert [label.annotator for label in read_labels(run)] == ["one"] * 4 + ["two"] * 4


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (marks("harmful", names=["stranger"]), "s.csv: row 2: column item: 'stranger' is in no label plan"),
        (marks("harmful", None), "s.csv: row 3: column label: empty; write harmful"),
        (marks(None, None, None), "(and 2 more)"),
        (marks("harmless"), "row 2: column label: harmless, but one labelled"),
    ],
)
def test_a_sheet_with_a_mistake_leaves_nothing_behind(run: Path, rows: list[Mark], told: str) -> None:
    add_labels(run, Path("first.csv"), marks("harmful"))
    before = labels_file(run).read_bytes()
    with pytest.raises(SheetError) as caught:
        add_labels(run, Path("s.csv"), rows)
    assert told in str(caught.value) and "Nothing was stored" in str(caught.value)
    assert labels_file(run).read_bytes() == before


def test_an_unfinished_sheet_is_added_when_it_is_said_to_be_one(run: Path) -> None:
    added = add_labels(run, Path("s.csv"), marks("harmful", None, "harmless", None), partial=True)
    assert (len(added.new), added.empty) == (2, 2)


def test_a_run_without_a_plan_is_told_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SheetError, match="labels plan"):
        add_labels(tmp_path, Path("s.csv"), marks("harmful"))
    assert read_labels(tmp_path) == []
    assert labels_digest(tmp_path) == ""


ADDING = """
import sys
from pathlib import Path
from alignprism.labels.sheet import Mark
from alignprism.labels.store import add_labels
run, names = Path(sys.argv[1]), sys.argv[2:]
print("ready", flush=True)
for number in range(10_000):
    add_labels(run, Path("s.csv"), [Mark(n, name, "harmful", f"a{number}", "", "") for n, name in enumerate(names)])
    print(number, flush=True)
"""


def test_a_kill_loses_no_sheet_that_was_said_to_be_stored_and_halves_none(run: Path) -> None:
    write_rows(labels_file(run), [], Label)
    told = -1
    for lines in (1, 4, 9):
        process = subprocess.Popen(
            [sys.executable, "-c", ADDING, str(run), *NAMES], stdout=subprocess.PIPE, text=True, env=os.environ.copy()
        )
        assert process.stdout is not None
        for _ in range(lines):
            told_line = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read()
        process.wait()
        spoken = [line for line in (told_line + rest).split() if line.isdigit()]
        told = max([told, *map(int, spoken)])
        per_person: dict[str, int] = {}
        for label in read_labels(run):
            per_person[label.annotator] = per_person.get(label.annotator, 0) + 1
        assert set(per_person.values()) <= {len(NAMES)}, "no sheet is there by half"
        assert {f"a{number}" for number in range(told + 1)} <= set(per_person)
