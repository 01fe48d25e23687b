"""Commands on the calls of a run: check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alignprism.cli.console import FAILED, console, exit_codes

app = typer.Typer(
    help="The calls that were made of models: proof that nothing is missing or doubled.", no_args_is_help=True
)


@app.command("check")
def calls_check(
    run: Annotated[Path, typer.Argument(help="A run folder, or a folder that `generate` or `judge score` wrote to.")],
) -> None:
    """Prove that every (prompt, model, sample, judge, order) was done exactly once; exit 1 if not.

    Compares the rows with the call store: missing, doubled and failed ones are counted and some are named (by id, never by
    text). Answers that no row uses are counted too; they are no error.
    """
    with exit_codes():
        from alignprism.call_check import check_calls, shown

        found = check_calls(run)
        lines: list[tuple[str, ...]] = [("rows of", "by", "rows", "done once", "missing", "doubled", "failed")]
        for part in found.parts:
            counts = (part.rows, part.done, len(part.missing), len(part.doubled), len(part.failed))
            lines.append((part.place, part.by, *map(str, counts)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for place, by, *counted in lines:
            cells = (count.rjust(width) for count, width in zip(counted, widths[2:], strict=True))
            line = "  ".join((place.ljust(widths[0]), by.ljust(widths[1]), *cells))
            console.print(line, markup=False, highlight=False)
        for part in found.parts:
            for line in shown(part):
                console.print(line, markup=False, highlight=False)
        words = [f"{found.answers} answers and {found.failures} failures are stored"]
        words += [f"{found.purged} were purged"] if found.purged else []
        unused = ", ".join(f"{count} ({role} by {model})" for (role, model), count in sorted(found.unused.items()))
        words += [f"answers that no row uses: {unused}" if unused else "every answer is used"]
        console.print("; ".join(words) + ".", markup=False, highlight=False)
        for names in found.several.values():
            listed = ", ".join(f"{name} ({count})" for name, count in names.most_common())
            console.print(f"One model answered under several fingerprints: {listed}.", markup=False, highlight=False)
        if not found.good:
            console.print("Not everything was done exactly once.", highlight=False)
            raise typer.Exit(FAILED)
        console.print("Everything was done exactly once.", highlight=False)
