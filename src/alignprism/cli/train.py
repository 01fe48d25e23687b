"""Commands that train on a file in TRL's formats: sft, dpo."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console

from alignprism.cli.console import cache_folder, console, exit_codes, quiet_libraries
from alignprism.errors import InputError
from alignprism.progress import ConsoleReporter
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.trackers import TRACKERS, refuse_missing

app = typer.Typer(
    help="Training on a file in TRL's formats: a start model, a file, a folder; no study, no judge.",
    no_args_is_help=True,
)
DEFAULT = TrainConfig("dpo-ift")
LESS_MEMORY = (
    "A lower --micro-batch-tokens and --gradient-checkpointing take less and change no result: add them to the same command. "
    "A lower --max-tokens takes less too, but leaves rows out and is another training."
)
_COLUMNS = (
    "language",
    "rows",
    "kept",
    "too long",
    "cut",
    "empty",
    "equal",
    "tokens",
    "tokens/char",
    "longer",
    "longer (kept)",
)
_MEANING = (
    "cut: kept without the end of a completion; equal: both sides are the same tokens; tokens: completion tokens of one epoch; longer: by how many tokens the chosen "
    "side is longer on average, over all rows and over those kept"
)

PairsFile = Annotated[
    Path,
    typer.Argument(
        help=".jsonl or .parquet (or .csv of plain texts) with prompt, chosen, rejected: texts, or lists of "
        "{role, content} messages; the prompt may be the messages that both sides begin with. Optional: id, language."
    ),
]
TextsFile = Annotated[
    Path,
    typer.Argument(
        help=".jsonl or .parquet (or .csv of plain texts) with prompt and chosen (a rejected beside it is not looked at), prompt "
        "and completion, or messages, whose last one is learned. Optional: id, language."
    ),
]
Model = Annotated[
    str, typer.Option("--model", help="Start model: hub id, folder, LoRA adapter's folder, or embedded:NAME.")
]
Out = Annotated[
    Path, typer.Option("--out", help="Folder for the result; the same command goes on there, or finds all done.")
]
Adapter = Annotated[
    Path | None, typer.Option("--adapter", help="Folder of a LoRA adapter that is merged into the start model first.")
]
SETTINGS: dict[str, Any] = {
    "learning_rate": Annotated[float, typer.Option(help="Highest learning rate, after the warm-up.")],
    "epochs": Annotated[int, typer.Option(help="Times that every row is learned.")],
    "batch_size": Annotated[int, typer.Option(help="Rows of one optimiser step, over all processes.")],
    "max_tokens": Annotated[int, typer.Option(help="Longest prompt + completion of one side; see --over-limit.")],
    "lora_rank": Annotated[int, typer.Option(help="Rank of the LoRA adapter; 0 trains the full weights.")],
    "lora_alpha": Annotated[int, typer.Option(help="LoRA's alpha: the adapter is scaled by alpha / rank.")],
    "seed": Annotated[int, typer.Option(help="Seed of the adapter's first values and of the order of the rows.")],
    "schedule": Annotated[str, typer.Option(help="Learning rate after the warm-up: cosine, linear or constant.")],
    "warmup_share": Annotated[float, typer.Option(help="Share of the steps in which the learning rate rises from 0.")],
    "weight_decay": Annotated[float, typer.Option(help="AdamW's weight decay.")],
    "max_grad_norm": Annotated[float, typer.Option(help="Gradients with a larger norm are scaled down to it.")],
    "micro_batch_tokens": Annotated[
        int, typer.Option(help="Tokens of one forward, padding included: bounds memory, changes no result.")
    ],
    "gradient_checkpointing": Annotated[
        bool,
        typer.Option("--gradient-checkpointing", help="Less memory for more time: activations are computed twice."),
    ],
    "precision": Annotated[
        str,
        typer.Option(
            help="Of matrix products: float32, bfloat16, or auto (what accelerate was told; for full weights on a GPU "
            "bfloat16). Trained weights are float32 always."
        ),
    ],
    "checkpoint_every": Annotated[
        int, typer.Option(help="Steps between checkpoints, from which a stopped training goes on.")
    ],
    "held_out_share": Annotated[
        float,
        typer.Option(
            help="Share of the rows that is only scored (rows of one prompt, or one seed_id, stay together): the step that did best there "
            "is the result, and the last one is kept beside it."
        ),
    ],
    "held_out_every": Annotated[int, typer.Option(help="Steps between scores of the held-out rows; 0: once an epoch.")],
    "patience": Annotated[
        int, typer.Option(help="Scores of the held-out rows without a new best that end the training; 0: none do.")
    ],
}
"""Options of both commands: fields of `TrainConfig`, by name, with its defaults."""
OverLimitOption = Annotated[
    str,
    typer.Option("--over-limit", help="Rows over --max-tokens: drop, or cut their completions (then without an end)."),
]
Tracker = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        help=f"Send the curve there as well: {', '.join(TRACKERS)}; its package must be installed. May be repeated.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say rows by language, tokens, steps, what is left out and why; train nothing."),
]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each of `SETTINGS`; it gets their values as one mapping, ``settings``."""

    @wraps(command)
    def wrapped(**values: Any) -> None:
        settings = {name: values.pop(name) for name in SETTINGS}
        command(**values, settings=settings)

    hints = get_type_hints(command, include_extras=True) | SETTINGS
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "settings"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, keyword, default=getattr(DEFAULT, name)) for name in SETTINGS]
    parameters = [p.replace(annotation=hints[p.name], kind=keyword) for p in (*own, *added)]
    vars(wrapped)["__signature__"] = inspect.Signature(parameters)
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


@app.command()
@with_settings
def sft(
    file: TextsFile,
    model: Model,
    out: Out,
    settings: Mapping[str, Any],
    side: Annotated[
        str,
        typer.Option(
            "--side", help="chosen, or random: of each pair either side, drawn once (the result is research-only)."
        ),
    ] = "chosen",
    adapter: Adapter = None,
    over_limit: OverLimitOption = "drop",
    tracker: Tracker = None,
    dry_run: DryRun = False,
) -> None:
    """Supervised fine-tuning on the completions of a file."""
    with exit_codes(LESS_MEMORY):
        if side not in ("chosen", "random"):
            raise InputError(f"--side {side}: accepted: chosen, random")
        method = "sft-random" if side == "random" else "sft-preferred"
        config = _config(settings, method=method, trackers=refuse_missing(tracker or [], "--tracker"))
        _train(file, model, adapter, out, config, over_limit, None, dry_run)


@app.command()
@with_settings
def dpo(
    file: PairsFile,
    model: Model,
    out: Out,
    settings: Mapping[str, Any],
    adapter: Adapter = None,
    beta: Annotated[
        float, typer.Option("--beta", help="How closely the policy is held to the reference: higher is closer.")
    ] = DEFAULT.beta,
    loss: Annotated[
        str,
        typer.Option("--loss", help="Of summed log-probabilities (sigmoid) or of those per token (length-normalised)."),
    ] = DEFAULT.loss,
    nll_weight: Annotated[
        float,
        typer.Option("--nll-weight", help="Adds so many times the chosen sides' negative log-likelihood per token."),
    ] = DEFAULT.nll_weight,
    prefix_sharing: Annotated[
        bool,
        typer.Option(
            help="Both sides of a pair in one row, where the model allows it; faster, and checked at the start."
        ),
    ] = DEFAULT.prefix_sharing,
    over_limit: OverLimitOption = "drop",
    tracker: Tracker = None,
    reference_store: Annotated[
        Path | None,
        typer.Option(
            "--reference-store",
            help="File of the reference's log-probabilities, which any trainings may share, also at the same time "
            "(default: the start model's own under reference/ in the cache folder).",
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Direct preference optimisation on the pairs of a file. The reference is the start model (with --adapter merged)."""
    with exit_codes(LESS_MEMORY):
        config = _config(
            settings,
            method="dpo-ift",  # the start is named, so the two DPO methods of a study are one here
            beta=beta,
            loss=loss,
            nll_weight=nll_weight,
            prefix_sharing=prefix_sharing,
            trackers=refuse_missing(tracker or [], "--tracker"),
        )
        _train(file, model, adapter, out, config, over_limit, reference_store, dry_run)


def _config(settings: Mapping[str, Any], **more: Any) -> TrainConfig:
    try:
        return TrainConfig(**settings, **more)
    except TrainingError as error:  # here a setting is what somebody typed
        raise InputError(str(error)) from error


def _train(
    file: Path,
    model: str,
    adapter: Path | None,
    out: Path,
    config: TrainConfig,
    over_limit: str,
    store: Path | None,
    dry_run: bool,
) -> None:
    if over_limit not in ("drop", "cut"):
        raise InputError(f"--over-limit {over_limit}: accepted: drop, cut")
    quiet_libraries()
    from alignprism.models.spec import ModelSpec
    from alignprism.processes import in_force, launched, processes
    from alignprism.train_file import FileTraining, execute, prepare

    name = f"{model} with {adapter}" if adapter else model
    spec = ModelSpec(name, model, str(adapter) if adapter else None)
    training = FileTraining(file, spec, out, config, store, "cut" if over_limit == "cut" else "drop")
    # Under `accelerate launch` one process speaks for all.
    state = processes()
    reporter = ConsoleReporter(console if state.is_main_process else Console(quiet=True))
    try:
        prepared = prepare(training, cache_folder(), reporter.say)
        reporter.say(f"start: {name}, digest {prepared.start.digest}")
        if (
            launched()
        ):  # accelerate starts fewer processes, or shares nothing, where a configuration does not fit the machine
            reporter.say(f"processes: {state.num_processes}, on {state.device}; strategy: {in_force(state)}")
        if config.preference:
            reporter.say(
                f"reference: the start model, digest {prepared.start.digest}; kept in {prepared.reference_store}"
            )
        if dry_run:
            _say_rows(reporter, prepared.card, prepared.tokens())
            reporter.say(
                f"{prepared.steps} steps of {config.batch_size} rows; epochs: {config.epochs}; held out: "
                f"{len(prepared.examples) - len(prepared.trained)} rows. Nothing was done."
            )
            return
        card = execute(prepared, reporter)
    finally:
        reporter.close()
    _say_rows(reporter, card, prepared.tokens())
    result = card["result"]
    reporter.say(
        f"{result['steps']} steps, loss {result['first_loss']:.4f} at the first and {result['last_loss']:.4f} at the last"
    )
    if result.get("held_out_rows"):
        _say_held_out(reporter, result)
    for warning in result.get("warnings", []):
        reporter.say(f"Note: {warning}")
    reporter.say(
        f"{out / result['folder']}: the trained model; {out / 'curve.jsonl'}: its curve; {out / 'alignprism.json'}: its card"
    )


def _say_held_out(reporter: ConsoleReporter, result: Mapping[str, Any]) -> None:
    if result["steps"] < result["planned_steps"]:
        reporter.say(f"ended before {result['planned_steps']} steps: the held-out rows gained nothing more (patience)")
    reporter.say(
        f"the result is step {result['kept_step']}, the best on {result['held_out_rows']} held-out rows (held_out.jsonl)"
        + ("" if result["kept_step"] == result["steps"] else "; the last step's weights are in last/")
    )


def _say_rows(reporter: ConsoleReporter, card: Mapping[str, Any], tokens: Mapping[str, int]) -> None:
    """A table by language: how many rows are learned, why others are not, and what the limit did to the lengths."""
    reporter.say(f"{card['rows']} rows, {card['dropped']} left out")
    lines = [_COLUMNS]
    for row in card["truncation"]:
        counts = [row[name] for name in ("rows", "kept", "over_limit", "cut", "empty", "identical")]
        lengths = [row[name] for name in ("tokens_per_character", "length_difference", "length_difference_kept")]
        figures = [*counts, tokens[row["language"]], *(f"{value:.2f}" for value in lengths)]
        lines.append((row["language"], *map(str, figures)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        reporter.say("  ".join(cells))
    reporter.say(_MEANING)
