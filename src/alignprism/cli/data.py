"""``alignprism data``: import, check, split, transform, export and publish data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from alignprism.cli.console import console, exit_codes
from alignprism.errors import InputError

if TYPE_CHECKING:
    from alignprism.prompts.imports import Imported

app = typer.Typer(help="Import, check, split and publish data sets.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", help="A new folder.")]


@app.command("formats")
def data_formats() -> None:
    """List the formats that ``data import`` reads, and which of them were tested on published files."""
    with exit_codes():
        from alignprism.prompts.formats import formats

        for form in formats().values():
            hub = f"; hub: {', '.join(form.hub)}" if form.hub else ""
            console.print(f"{form.name}: {form.about}", markup=False, highlight=False)
            console.print(f"    tested on {form.tested_on}{hub}", markup=False, highlight=False)


@app.command("import")
def data_import(
    source: Annotated[str, typer.Argument(help="A file, a folder, an archive, or a hub data set (owner/name).")],
    form: Annotated[str, typer.Option("--format", help="Its format; see `alignprism data formats`.")],
    out: Out,
    columns: Annotated[
        str, typer.Option("--map", help="Own files: our columns to theirs, as text=Prompt,language=Lang.")
    ] = "",
    language: Annotated[str, typer.Option("--language", help="Language of rows that name none.")] = "",
    prompt_set: Annotated[
        str, typer.Option("--set", help="Own files: redteam, translated, benign or general.")
    ] = "redteam",
    licence: Annotated[str, typer.Option("--licence", help="Licence of rows that name none, as CC-BY-4.0.")] = "",
    redistribute: Annotated[
        bool, typer.Option("--redistribute", help="That licence lets the rows be published.")
    ] = False,
    configuration: Annotated[str, typer.Option("--configuration", help="Only this configuration of a hub set.")] = "",
    encoding: Annotated[str, typer.Option("--encoding", help="Encoding of text files, as windows-1251.")] = "utf-8-sig",
    max_characters: Annotated[
        int, typer.Option("--max-characters", min=1, help="Longer texts are set aside.")
    ] = 100_000,
) -> None:
    """Read a data set into tables of rows; rows that cannot be used go to set_aside.jsonl with the reason."""
    with exit_codes():
        from alignprism.prompts.formats import find_format
        from alignprism.prompts.formats.format import Options
        from alignprism.prompts.hub import hub_files, is_hub_id
        from alignprism.prompts.imports import import_files
        from alignprism.prompts.sources import list_files
        from alignprism.rows import PROMPT_SETS

        if prompt_set not in PROMPT_SETS:
            raise InputError(f"--set {prompt_set}: accepted: {', '.join(PROMPT_SETS)}")
        options = Options(
            columns=_map(columns),
            language=language or None,
            prompt_set=prompt_set,
            licence=licence or None,
            redistribute=redistribute,
            max_characters=max_characters,
        )
        chosen = find_format(form)
        local = Path(source)
        remote = is_hub_id(source) and not local.exists()
        files = hub_files(source, configuration or None) if remote else list_files(local)
        outcome = import_files(files, chosen, out, options, encoding)
        _show_import(outcome, out)


def _map(columns: str) -> dict[str, str]:
    found = {}
    for entry in filter(None, (part.strip() for part in columns.split(","))):
        ours, equals, theirs = entry.partition("=")
        if not equals or not ours.strip() or not theirs.strip():
            raise InputError(f"--map {entry}: OURS=THEIRS is expected, as text=Prompt")
        from alignprism.prompts.formats.own import READ

        if ours.strip() not in READ:
            raise InputError(
                f"--map {entry}: {ours.strip()!r} is no column of a prompt; there is {', '.join(sorted(READ))}"
            )
        found[ours.strip()] = theirs.strip()
    return found


def _show_import(outcome: Imported, out: Path) -> None:
    from alignprism.prompts.imports import SET_ASIDE

    table = Table("part", "read", "kept", "set aside", box=None, pad_edge=False)
    for name, count in outcome.parts.items():
        table.add_row(name, str(count.read), str(count.kept), str(count.set_aside))
    console.print(table)
    console.print(
        "rows: " + ", ".join(f"{count} {name}" for name, count in outcome.rows.items()), markup=False, highlight=False
    )
    for reason, times in sorted(outcome.reasons.items(), key=lambda item: -item[1])[:10]:
        console.print(f"set aside {times}: {reason}", markup=False, highlight=False)
    if outcome.reasons:
        console.print(f"all with file and row: {out / SET_ASIDE}", markup=False, highlight=False)
    if outcome.not_read:
        console.print(f"{len(outcome.not_read)} other files were not read", markup=False, highlight=False)
    console.print(f"{out} written", markup=False, highlight=False)


@app.command("export")
def data_export(
    folder: Annotated[Path, typer.Argument(help="A folder that `data import` or `data split` wrote.")],
    form: Annotated[str, typer.Option("--format", help="aya, trl, alignprism, multijail, multiq or parallel.")],
    out: Out,
) -> None:
    """Write rows in a published format; says how many an import brings back unchanged."""
    with exit_codes():
        from alignprism.prompts.exports import export_tables
        from alignprism.prompts.formats import find_format
        from alignprism.prompts.tables import read_folder

        exported = export_tables(read_folder(folder), find_format(form), out)
        for name, count in exported.rows.items():
            equal = exported.equal[name]
            lost = "" if equal == count else f"; {count - equal} lose columns that the format has no place for"
            console.print(f"{name}: {count} written, {equal} come back unchanged{lost}", markup=False, highlight=False)
        console.print(f"{out} written: {', '.join(exported.files)}", markup=False, highlight=False)
