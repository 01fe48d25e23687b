"""Reference pages made from the code: every study key and every command. ``python -m alignprism.reference docs``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from alignprism.study import Study, dump, keys
from alignprism.study.writing import judge_keys


def study_page() -> str:
    """``docs/study.md``: every key of the study file, and the whole file with defaults."""
    rows = "\n".join(f"| `{name}` | {description} |" for name, description in keys())
    forms = "\n".join(f"| `{kind}` | `{name}` | {description} |" for kind, name, description in judge_keys())
    return (
        "# The study file\n\n"
        "Made from the code by `make docs`. `alignprism init` writes a file with every default; `--set key.subkey=value` "
        "overrides one value. Unknown keys are errors that name file, line and key.\n\n"
        "A study runs in one process. What several processes are to train (`accelerate launch`, `torchrun`) is trained with "
        "`alignprism train` ([training.md](training.md)) and then compared by `alignprism evaluate`.\n\n"
        f"| key | meaning |\n|---|---|\n{rows}\n\n## A judge as a mapping\n\n"
        "`judges.preference` and `judges.evaluation` take the name of a head, or a mapping with `kind` (head, rubric, guard, "
        "ensemble) and the keys below; `judges.pairwise` takes the keys of `pairwise`. A `model`, `translator` or member is "
        "written like an entry of `models`. The same mapping alone in a file is what `alignprism judge --judge FILE` reads.\n\n"
        f"| kind | key | meaning |\n|---|---|---|\n{forms}\n\n## All defaults\n\n```yaml\n{dump(Study())}```\n"
    )


def command_page() -> str:
    """``docs/cli.md``: every command with its help."""
    from alignprism.cli import app

    parts = [
        "# Commands\n\nMade from the code by `make docs`.\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong input, 3 a `--fail-if` held.\n"
        "Environment: `ALIGNPRISM_CACHE` (where models lie; default `~/.cache/alignprism`), `HF_HUB_OFFLINE=1` (ask no hub).\n"
    ]
    for path, command in commands(typer.main.get_command(app), "alignprism"):
        with command.context_class(command, info_name=path, terminal_width=100, max_content_width=100) as context:
            parts.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command below one, with its full name, the group itself first."""
    # Typer carries its own copy of click, whose classes have no public name.
    yield path, command
    if isinstance(command, TyperGroup):
        for name in sorted(command.commands):
            yield from commands(command.commands[name], f"{path} {name}")


def main(folder: Path) -> None:
    """Write both pages."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.md").write_text(study_page(), encoding="utf-8")
    (folder / "cli.md").write_text(command_page(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
