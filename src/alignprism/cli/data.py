"""``alignprism data``: import, check, split, transform, export and publish data sets."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from alignprism.cli.console import console, exit_codes
from alignprism.errors import Failure, InputError
from alignprism.progress import ConsoleReporter

if TYPE_CHECKING:
    from alignprism.prompts.checking import Checked
    from alignprism.prompts.findings import Findings
    from alignprism.prompts.imports import Imported
    from alignprism.prompts.splitting import Done
    from alignprism.rows import Prompt

SPLIT_NAMES = ("train", "dev", "test", "set aside")

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
        files = hub_files(source, configuration or None, chosen.hub) if remote else list_files(local)
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
        from alignprism.prompts.tables import HELD_OUT_PAIRS, read_folder

        exported = export_tables(read_folder(folder), find_format(form), out)
        for name, count in exported.rows.items():
            equal = exported.equal[name]
            lost = "" if equal == count else f"; {count - equal} lose columns that the format has no place for"
            console.print(f"{name}: {count} written, {equal} come back unchanged{lost}", markup=False, highlight=False)
        if (folder / HELD_OUT_PAIRS).is_file():
            console.print(f"not exported: {HELD_OUT_PAIRS}, so that nobody trains on it", markup=False, highlight=False)
        console.print(f"{out} written: {', '.join(exported.files)}", markup=False, highlight=False)


@app.command("check")
def data_check(
    files: Annotated[list[Path], typer.Argument(help="Folders of `data import`, or files of prompts.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write all findings to this .parquet or .jsonl file.")
    ] = None,
    leaks: Annotated[
        bool, typer.Option("--leaks/--no-leaks", help="Fail when a seed or a duplicate lies in two splits.")
    ] = True,
    near_cut: Annotated[
        float, typer.Option("--near-cut", min=0.05, max=1, help="Similarity from which texts are near-duplicates.")
    ] = 0.7,
    embed_rows: Annotated[
        int, typer.Option("--embed-rows", min=0, help="Rows compared across languages (about 40 a second); 0 for none.")
    ] = 2000,
    memory: Annotated[float, typer.Option("--memory", min=0.05, help="GB for the working arrays.")] = 1.0,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Processes that check rows.")] = 2,
    fix: Annotated[
        Path | None, typer.Option("--fix", help="Also write a new folder without rows that have an error or a double.")
    ] = None,
) -> None:
    """Check prompts: language, labels, duplicates, personal data, hidden characters, balance, leaks. Changes nothing.

    Exit code 1 when there is an error among the findings.
    """
    with exit_codes():
        from alignprism.prompts.checking import Settings, check
        from alignprism.prompts.findings import Findings
        from alignprism.prompts.prompt_files import read_prompts

        if out is not None and out.suffix not in (".parquet", ".jsonl"):
            raise InputError(f"--out {out}: a name that ends in .parquet or .jsonl is expected")
        settings = Settings(near_cut, embed_rows, int(memory * (1 << 30)), processes, leaks)
        say = ConsoleReporter(console).say
        with Findings(out) as findings:
            outcome = check(read_prompts(files), findings, settings, say)
        _show_findings(findings)
        console.print(
            f"{outcome.rows} prompts, {outcome.unreadable} rows unreadable; {outcome.embedded} compared across languages, "
            f"{outcome.not_embedded} not",
            markup=False,
            highlight=False,
        )  # fmt: skip
        if fix is not None:
            _write_fixed(files, findings, outcome, fix)
        if findings.total("error"):
            raise Failure(
                f"{findings.total('error')} errors" + (f"; all findings: {out}" if out else "; --out FILE keeps all")
            )


def _show_findings(findings: Findings) -> None:
    table = Table("check", "severity", "n", "first", box=None, pad_edge=False)
    for check, severity, count in findings.by_check():
        first = next((f for f in findings.first[check] if f.severity == severity), None)
        where = f"{first.id or first.language}: {first.evidence}" if first is not None else ""
        table.add_row(check, severity, str(count), escape(where))
    console.print(table)


def _write_fixed(files: list[Path], findings: Findings, outcome: Checked, fix: Path) -> None:
    doubles = {row for _, row in outcome.exact}
    numbers = itertools.count()

    def sound(file: str, row: int, prompt: Prompt) -> list[Prompt]:
        bad = next(numbers) in doubles or (file, row) in findings.erroneous
        return [] if bad else [prompt]

    read, made, unreadable = _write_prompts(files, fix, sound)
    console.print(
        f"{fix} written: {made} prompts, {read - made} left out, {unreadable} rows unreadable", markup=False,
        highlight=False,
    )  # fmt: skip


def _write_prompts(
    files: list[Path], out: Path, made_of: Callable[[str, int, Prompt], Sequence[Prompt]]
) -> tuple[int, int, int]:
    """What is made of every prompt into a new folder, and the other rows with their reason into ``set_aside.jsonl``.

    Returns the number of prompts read, of prompts written, and of rows that cannot be read. The folder appears when all
    is written, so that a failure leaves nothing in the way of the next try.

    Raises
    ------
    InputError
        the folder exists; or no row can be read.
    """
    from alignprism.construct.output import new_folder
    from alignprism.prompts.prompt_files import none_readable, read_prompts
    from alignprism.prompts.sources import Unreadable, set_aside_line
    from alignprism.prompts.tables import TableWriter
    from alignprism.rows import Prompt

    read = unreadable = 0
    with new_folder(out) as folder, (folder / "set_aside.jsonl").open("w", encoding="utf-8") as aside:
        with TableWriter(folder / "prompts.parquet", Prompt) as table:
            for found in read_prompts(files):
                if isinstance(found, Unreadable):
                    unreadable += 1
                    aside.write(set_aside_line(found))
                    continue
                read += 1
                for prompt in made_of(*found):
                    table.write(prompt)
        if not read:
            raise none_readable(files)
    return read, table.count, unreadable


@app.command("split")
def data_split(
    files: Annotated[list[Path], typer.Argument(help="Folders of `data import`, or files of prompts.")],
    out: Out,
    shares: Annotated[str, typer.Option("--shares", help="Share of each split.")] = "train=0.5,dev=0.125,test=0.375",
    seed: Annotated[int, typer.Option("--seed", help="Another number draws another split.")] = 0,
    previous: Annotated[
        Path | None, typer.Option("--previous", help="An earlier split of older rows: they keep theirs.")
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Fill every language, scope and category to its share (keep with --previous)."),
    ] = False,
    near_cut: Annotated[
        float, typer.Option("--near-cut", min=0.05, max=1, help="Similarity from which texts stay together.")
    ] = 0.7,
    embed_rows: Annotated[
        int,
        typer.Option(
            "--embed-rows",
            min=0,
            help="Rows compared across languages (about 40 a second); 0 for none. Rows added later can then move old ones: "
            "give the next split --previous.",
        ),
    ] = 0,
) -> None:
    """Draw train, dev and test by seed cluster: translations, rephrasings and near-duplicates stay together."""
    with exit_codes():
        from alignprism.prompts.split import read_shares
        from alignprism.prompts.splitting import split_files

        done = split_files(files, out, read_shares(shares), seed, previous, exact, near_cut, embed_rows)
        table = Table("language", "scope", *SPLIT_NAMES, box=None, pad_edge=False)
        for (code, scope), counts in done.by_language_and_scope().items():
            table.add_row(code, scope, *(str(counts.get(name, 0)) for name in SPLIT_NAMES))
        console.print(table)
        console.print(
            f"{out} written: {done.rows} prompts in {done.clusters} clusters, {done.bridges} set aside, "
            f"{done.unreadable} rows unreadable", markup=False, highlight=False,
        )  # fmt: skip
        _show_pairs(done, out)
        if embed_rows and previous is None:
            console.print(
                "Compared across languages, rows that are added later can move old ones: if some of these rows were split "
                f"before, split again with --previous; and give the next split --previous {out}",
                markup=False,
                highlight=False,
            )


def _show_pairs(done: Done, out: Path) -> None:
    from alignprism.prompts.tables import HELD_OUT_PAIRS

    if not done.pairs:
        return
    held_out = done.pairs["dev"] + done.pairs["test"]
    apart = f"; {held_out} of dev and test prompts are apart, in {out / HELD_OUT_PAIRS}" if held_out else ""
    aside = f"; {done.pairs['set aside']} set aside with their prompt" if done.pairs["set aside"] else ""
    console.print(f"pairs: {done.pairs['train']} of train prompts{apart}{aside}", markup=False, highlight=False)


@app.command("transform")
def data_transform(
    files: Annotated[list[Path], typer.Argument(help="Folders of `data import`, or files of prompts.")],
    out: Out,
    to: Annotated[
        str,
        typer.Option(
            "--to", help="romanised-hi, romanised-ar, sr-latin, sr-cyrillic, code-mixed; several with commas."
        ),
    ] = "romanised-hi,romanised-ar,sr-latin,sr-cyrillic,code-mixed",
) -> None:
    """Write robustness slices by rule: prompts in another script or mixed with English, with the seeds of the originals."""
    with exit_codes():
        from alignprism.prompts.transforms import TRANSFORMS, transformed

        names = [name.strip() for name in to.split(",") if name.strip()]
        unknown = next((name for name in names if name not in TRANSFORMS), None)
        if unknown is not None or not names:
            raise InputError(f"--to {unknown or to}: accepted: {', '.join(TRANSFORMS)}")
        counts: Counter[str] = Counter()

        def slices(file: str, row: int, prompt: Prompt) -> list[Prompt]:
            made = transformed([prompt], names)
            counts.update(one.id.rpartition("~")[2] for one in made)
            return made

        _, _, unreadable = _write_prompts(files, out, slices)
        for name in names:
            console.print(f"{name}: {counts[name]} prompts", markup=False, highlight=False)
        aside = f"; {unreadable} rows unreadable, see set_aside.jsonl" if unreadable else ""
        console.print(f"{out} written{aside}", markup=False, highlight=False)


@app.command("publish")
def data_publish(
    folder: Annotated[Path, typer.Argument(help="A folder that `data import` or `data split` wrote.")],
    out: Out,
    name: Annotated[str, typer.Option("--name", help="Name of the data set.")],
    form: Annotated[
        str, typer.Option("--format", help="parquet, aya, trl (both JSON lines), or datasets.")
    ] = "parquet",
    about: Annotated[Path | None, typer.Option("--about", help="Text file with a description for the card.")] = None,
    canary: Annotated[str, typer.Option("--canary", help="An own canary string; a new one is made without.")] = "",
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Publish the rows that may be, without the others.")
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--include-synthetic", help="Also rows that a model rephrased from red-team seeds.")
    ] = False,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="Encrypt the texts into data.zip with this file's first line."),
    ] = None,
) -> None:
    """Write a folder to upload: data, card with the hub's metadata, canary. Refused where a row must not be published."""
    with exit_codes():
        from alignprism.prompts.checking import Settings, check
        from alignprism.prompts.findings import Findings
        from alignprism.prompts.prompt_files import read_prompts
        from alignprism.prompts.publish import FORMS, new_canary, publish
        from alignprism.prompts.tables import read_folder

        chosen = next((known for known in FORMS if known == form), None)
        if chosen is None:
            raise InputError(f"--format {form}: accepted: {', '.join(FORMS)}")
        password = _password(password_file)
        if password is not None and chosen == "datasets":
            raise InputError("--password-file goes with parquet, aya or trl: a datasets folder cannot be encrypted")
        tables = read_folder(folder, held_out=True)
        with Findings(None) as findings:
            if tables["prompts"]:
                check(read_prompts([folder]), findings, Settings(embed_rows=0))
        rows = publish(
            tables, out, name, chosen, canary or new_canary(name), synthetic=synthetic, leave_out=leave_out,
            password=password, findings=findings, about=about.read_text(encoding="utf-8") if about is not None else "",
        )  # fmt: skip
        said = ", ".join(f"{count} {kind}" for kind, count in rows.items())
        console.print(f"{out} written: {said}; read README.md before you upload it", markup=False, highlight=False)


def _password(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        first = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError as error:
        raise InputError(f"--password-file {file}: cannot be read ({error.strerror})") from error
    if len(first) < 12:
        raise InputError(f"--password-file {file}: the first line is the password; 12 characters or more")
    return first.encode()
