"""Commands on embedded models: list, fetch."""

from __future__ import annotations

from typing import Annotated

import typer

from alignprism.cli.console import cache_folder, console, exit_codes

app = typer.Typer(help="Embedded models: what there is, and fetching it.", no_args_is_help=True)


@app.command("list")
def models_list() -> None:
    """Show the embedded models: packages, size, licence."""
    with exit_codes():
        from alignprism.models.embedded import EMBEDDED, describe

        for name in EMBEDDED:
            console.print(describe(name), markup=False, highlight=False)


@app.command("fetch")
def models_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Embedded models (default: all).")] = None,
) -> None:
    """Download embedded models, check their sha256, and convert them once into the cache."""
    with exit_codes():
        from alignprism.models.embedded import EMBEDDED, describe, ensure

        for name in names or list(EMBEDDED):
            console.print(describe(name), markup=False, highlight=False)
            folder = ensure(
                name, cache_folder(), lambda text: console.print(f"  {text}", markup=False, highlight=False)
            )
            console.print(f"  ready: {folder}", markup=False, highlight=False)
