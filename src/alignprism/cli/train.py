"""Commands that train on a file in TRL's formats: sft, dpo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from alignprism.cli.console import cache_folder, console, exit_codes, quiet_libraries
from alignprism.errors import InputError
from alignprism.progress import ConsoleReporter
from alignprism.training.config import TrainConfig, TrainingError

app = typer.Typer(
    help="Training on a file in TRL's formats: a start model, a file, a folder; no study, no judge.",
    no_args_is_help=True,
)
DEFAULT = TrainConfig("dpo-ift")
TRACKERS = ("tensorboard", "trackio", "mlflow", "wandb")
_COLUMNS = (
    "language",
    "rows",
    "kept",
    "too long",
    "empty",
    "equal",
    "tokens",
    "tokens/char",
    "longer",
    "longer (kept)",
)
_MEANING = (
    "equal: both sides are the same tokens; tokens: completion tokens of one epoch; longer: by how many tokens the chosen "
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
        help=".jsonl or .parquet (or .csv of plain texts) with prompt and chosen (rejected may stand beside it), prompt "
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
LearningRate = Annotated[float, typer.Option("--learning-rate", help="Highest learning rate, after the warm-up.")]
Epochs = Annotated[int, typer.Option("--epochs", help="Times that every row is learned.")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Rows of one optimiser step, over all processes.")]
MaxTokens = Annotated[
    int,
    typer.Option("--max-tokens", help="Longest prompt + completion of one side; longer rows are left out, not cut."),
]
LoraRank = Annotated[int, typer.Option("--lora-rank", help="Rank of the LoRA adapter; 0 trains the full weights.")]
LoraAlpha = Annotated[int, typer.Option("--lora-alpha", help="LoRA's alpha: the adapter is scaled by alpha / rank.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the adapter's first values and of the order of the rows.")]
ScheduleOption = Annotated[
    str, typer.Option("--schedule", help="Learning rate after the warm-up: cosine, linear or constant.")
]
GradientCheckpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Less memory for more time: activations are computed twice.")
]
CheckpointEvery = Annotated[
    int, typer.Option("--checkpoint-every", help="Steps between checkpoints, from which a stopped training goes on.")
]
HeldOutShare = Annotated[
    float,
    typer.Option(
        "--held-out-share",
        help="Share of the rows that is only scored (rows of one prompt stay together): the step that did best there is "
        "the result.",
    ),
]
HeldOutEvery = Annotated[
    int, typer.Option("--held-out-every", help="Steps between scores of the held-out rows; 0: once an epoch.")
]
Patience = Annotated[
    int,
    typer.Option(
        "--patience", help="Scores of the held-out rows without a new best that end the training; 0: none do."
    ),
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


@app.command()
def sft(
    file: TextsFile,
    model: Model,
    out: Out,
    side: Annotated[
        str,
        typer.Option(
            "--side", help="chosen, or random: of each pair either side, drawn once (the result is research-only)."
        ),
    ] = "chosen",
    adapter: Adapter = None,
    learning_rate: LearningRate = DEFAULT.learning_rate,
    epochs: Epochs = DEFAULT.epochs,
    batch_size: BatchSize = DEFAULT.batch_size,
    max_tokens: MaxTokens = DEFAULT.max_tokens,
    lora_rank: LoraRank = DEFAULT.lora_rank,
    lora_alpha: LoraAlpha = DEFAULT.lora_alpha,
    seed: Seed = DEFAULT.seed,
    schedule: ScheduleOption = DEFAULT.schedule,
    gradient_checkpointing: GradientCheckpointing = DEFAULT.gradient_checkpointing,
    checkpoint_every: CheckpointEvery = DEFAULT.checkpoint_every,
    held_out_share: HeldOutShare = DEFAULT.held_out_share,
    held_out_every: HeldOutEvery = DEFAULT.held_out_every,
    patience: Patience = DEFAULT.patience,
    tracker: Tracker = None,
    dry_run: DryRun = False,
) -> None:
    """Supervised fine-tuning on the completions of a file."""
    with exit_codes():
        if side not in ("chosen", "random"):
            raise InputError(f"--side {side}: accepted: chosen, random")
        config = _config(
            method="sft-random" if side == "random" else "sft-preferred",
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            max_tokens=max_tokens,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            seed=seed,
            schedule=schedule,
            gradient_checkpointing=gradient_checkpointing,
            checkpoint_every=checkpoint_every,
            held_out_share=held_out_share,
            held_out_every=held_out_every,
            patience=patience,
            trackers=_trackers(tracker or []),
        )
        _train(file, model, adapter, out, config, None, dry_run)


@app.command()
def dpo(
    file: PairsFile,
    model: Model,
    out: Out,
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
    learning_rate: LearningRate = DEFAULT.learning_rate,
    epochs: Epochs = DEFAULT.epochs,
    batch_size: BatchSize = DEFAULT.batch_size,
    max_tokens: MaxTokens = DEFAULT.max_tokens,
    lora_rank: LoraRank = DEFAULT.lora_rank,
    lora_alpha: LoraAlpha = DEFAULT.lora_alpha,
    seed: Seed = DEFAULT.seed,
    schedule: ScheduleOption = DEFAULT.schedule,
    gradient_checkpointing: GradientCheckpointing = DEFAULT.gradient_checkpointing,
    checkpoint_every: CheckpointEvery = DEFAULT.checkpoint_every,
    held_out_share: HeldOutShare = DEFAULT.held_out_share,
    held_out_every: HeldOutEvery = DEFAULT.held_out_every,
    patience: Patience = DEFAULT.patience,
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
    with exit_codes():
        config = _config(
            method="dpo-ift",  # the start is named, so the two DPO methods of a study are one here
            beta=beta,
            loss=loss,
            nll_weight=nll_weight,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            max_tokens=max_tokens,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            seed=seed,
            schedule=schedule,
            gradient_checkpointing=gradient_checkpointing,
            checkpoint_every=checkpoint_every,
            held_out_share=held_out_share,
            held_out_every=held_out_every,
            patience=patience,
            trackers=_trackers(tracker or []),
        )
        _train(file, model, adapter, out, config, reference_store, dry_run)


def _config(**settings: Any) -> TrainConfig:
    try:
        return TrainConfig(**settings)
    except TrainingError as error:  # here a setting is what somebody typed
        raise InputError(str(error)) from error


def _trackers(names: list[str]) -> tuple[str, ...]:
    """Refuse what accelerate would leave out without a word: a tracker whose package is not there."""
    if not names:
        return ()
    unknown = [name for name in names if name not in TRACKERS]
    if unknown:
        raise InputError(f"--tracker {unknown[0]}: accepted: {', '.join(TRACKERS)}")
    from accelerate.tracking import get_available_trackers

    available = {str(tracker) for tracker in get_available_trackers()}
    missing = [name for name in names if name not in available]
    if missing:
        raise InputError(f"--tracker {missing[0]}: the package {missing[0]} is not installed; pip install {missing[0]}")
    return tuple(dict.fromkeys(names))


def _train(
    file: Path, model: str, adapter: Path | None, out: Path, config: TrainConfig, store: Path | None, dry_run: bool
) -> None:
    quiet_libraries()
    from accelerate import PartialState

    from alignprism.models.spec import ModelSpec
    from alignprism.train_file import FileTraining, execute, prepare

    name = f"{model} with {adapter}" if adapter else model
    spec = ModelSpec(name, model, str(adapter) if adapter else None)
    training = FileTraining(file, spec, out, config, store)
    # Under `accelerate launch` one process speaks for all.
    reporter = ConsoleReporter(console if PartialState().is_main_process else Console(quiet=True))
    try:
        prepared = prepare(training, cache_folder(), reporter.say)
        reporter.say(f"start: {name}, digest {prepared.start.digest}")
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
    )


def _say_rows(reporter: ConsoleReporter, card: Mapping[str, Any], tokens: Mapping[str, int]) -> None:
    """A table by language: how many rows are learned, why others are not, and what the limit did to the lengths."""
    reporter.say(f"{card['rows']} rows, {card['dropped']} left out")
    lines = [_COLUMNS]
    for row in card["truncation"]:
        counts = [row[name] for name in ("rows", "kept", "over_limit", "empty", "identical")]
        lengths = [row[name] for name in ("tokens_per_character", "length_difference", "length_difference_kept")]
        figures = [*counts, tokens[row["language"]], *(f"{value:.2f}" for value in lengths)]
        lines.append((row["language"], *map(str, figures)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        reporter.say("  ".join(cells))
    reporter.say(_MEANING)
