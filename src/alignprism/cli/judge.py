"""Commands on judge heads: list, train-head."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alignprism.cli.console import cache_folder, console, exit_codes
from alignprism.errors import InputError

app = typer.Typer(help="Judge heads: what there is, and training one on own labels.", no_args_is_help=True)


@app.command("list")
def judge_list() -> None:
    """Show the judge heads that ship with alignprism, with their cards."""
    with exit_codes():
        from alignprism.judging.head import SHIPPED, Head

        for folder in sorted(path for path in SHIPPED.iterdir() if (path / "head.npz").is_file()):
            head = Head.load(folder.name)
            console.print(head.card_text, markup=False, highlight=False)


@app.command("train-head")
def judge_train_head(
    file: Annotated[
        Path, typer.Argument(help="Labels: JSON lines with prompt, completion, language, label (harmful or harmless).")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the head.")],
    encoder: Annotated[
        str, typer.Option("--encoder", help="e5 (multilingual encoder) or gemma (hidden states).")
    ] = "e5",
) -> None:
    """Train a judge head on own labels (harmful or harmless); use its folder as a judge in a study."""
    with exit_codes():
        from alignprism.judging.card import write_card
        from alignprism.judging.encoders import PARTS
        from alignprism.judging.judges import load_encoder
        from alignprism.judging.train_head import Settings, read_training_rows, train_head

        if encoder not in PARTS:
            raise InputError(f"--encoder {encoder}: accepted: {', '.join(PARTS)}")
        rows = read_training_rows(file)
        console.print(f"{len(rows)} rows; encoding and training", highlight=False)
        settings = Settings(map="states+refusal" if encoder == "gemma" else "distance+refusal")
        trained = train_head(out.name, rows, load_encoder(encoder, PARTS[encoder], cache_folder()), settings)
        trained.head.card["data"] = [f"{file.name}: {len(rows)} rows"]
        trained.head.save(out)
        write_card(out, trained.head)
        console.print(
            f"{out} written; its card: {out / 'card.md'}. Name the folder under judges in a study", highlight=False
        )
