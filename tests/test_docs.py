"""The reference pages are what the code says, and nothing is left undocumented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from alignprism.cli import app
from alignprism.reference import command_page, commands, study_page
from alignprism.study import keys

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = sorted([*(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "README.md"])
COMMANDS = dict(commands(typer.main.get_command(app), "alignprism"))


def test_the_study_page_is_what_the_code_says() -> None:
    page = (REPOSITORY / "docs" / "study.md").read_text(encoding="utf-8")
    assert page == study_page(), "run `make docs`"


def test_the_command_page_is_what_the_code_says() -> None:
    page = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == command_page(), "run `make docs`"


def test_every_study_key_has_a_meaning() -> None:
    found = keys()
    assert len(found) > 50
    assert not [name for name, meaning in found if len(meaning) < 10]


def test_every_command_is_found() -> None:
    names = "quickstart, init, run, evaluate, report, purge, export, models list, models fetch, judge list"
    names += ", judge train-head, train sft, train dpo, merge slerp, merge ties"
    assert {f"alignprism {name}" for name in names.split(", ")} <= set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help and len(command.help) > 15
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("file", DOCS, ids=lambda path: path.name)
def test_no_page_names_a_path_of_the_machine_it_was_written_on(file: Path) -> None:
    assert not re.findall(r"(?:/home/|/root/|/Users/|/tmp/|/work/|C:\\)\S*", file.read_text(encoding="utf-8"))
