"""Commands that merge two models of one base: slerp, ties."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from alignprism.cli.console import cache_folder, console, exit_codes, quiet_libraries
from alignprism.progress import ConsoleReporter

app = typer.Typer(
    help="Merging two models that were fine-tuned from one base: no data, no training. `alignprism evaluate` takes the "
    "result as a --model.",
    no_args_is_help=True,
)

_SOURCE = "hub id, folder, or embedded:NAME"
Base = Annotated[str, typer.Option("--base", help=f"The model that both were fine-tuned from: {_SOURCE}.")]
First = Annotated[
    str,
    typer.Option(
        "--first", help=f"One model: {_SOURCE}; or a LoRA adapter's folder. The result has its tokenizer and type."
    ),
]
Second = Annotated[str, typer.Option("--second", help=f"The other model: {_SOURCE}; or a LoRA adapter's folder.")]
Out = Annotated[
    Path, typer.Option("--out", help="New folder for the merged model, alignprism.json and README.md (a model card).")
]


@app.command()
def slerp(
    base: Base,
    first: First,
    second: Second,
    out: Out,
    t: Annotated[float, typer.Option("--t", help="The way from the first model (0) to the second (1).")] = 0.5,
) -> None:
    """Go part of the way from one model to the other, on the arc between their weights.

    Two LoRA adapters of the base stay an adapter: there the arc lies between what they change, and nothing is
    approximated. `alignprism evaluate` takes the result as a --model.
    """
    _merge("slerp", base, first, second, out, {"t": t})


@app.command()
def ties(
    base: Base,
    first: First,
    second: Second,
    out: Out,
    density: Annotated[
        float, typer.Option("--density", help="Share of each model's changes, the largest of each tensor, that stays.")
    ] = 0.2,
    weights: Annotated[
        tuple[float, float], typer.Option("--weights", help="How much the first and the second model count.")
    ] = (1.0, 1.0),
    scale: Annotated[
        float, typer.Option("--scale", help="Factor of the merged change before it is added to the base (lambda).")
    ] = 1.0,
) -> None:
    """Keep each model's largest changes to the base, elect a sign for every weight, average the changes that agree.

    LoRA adapters are applied to their base first, in float32 and in a temporary folder beside OUT: the result is a full
    model in float32. `alignprism evaluate` takes it as a --model.
    """
    _merge("ties", base, first, second, out, {"density": density, "weights": weights, "scale": scale})


def _merge(method: str, base: str, first: str, second: str, out: Path, settings: dict[str, Any]) -> None:
    with exit_codes():
        quiet_libraries()
        from alignprism.merge_sources import Merging, merge_sources

        reporter = ConsoleReporter(console)
        card = merge_sources(Merging(method, base, first, second, out, settings), cache_folder(), reporter.say)
        linear = f", {card['linear_tensors']} of them linearly (nearly parallel)" if method == "slerp" else ""
        reporter.say(f"{card['tensors']} tensors merged{linear}; digest {card['result']['digest']}")
        if card["research_only"]:
            reporter.say("Note: research-only, because a model that was merged also learned rejected (harmful) answers")
        what = "LoRA adapter" if card["result"]["kind"] == "adapter" else "full model"
        reporter.say(
            f"{out}: the merged {what}; {out / 'alignprism.json'}: its card; {out / 'README.md'}: its model card"
        )
