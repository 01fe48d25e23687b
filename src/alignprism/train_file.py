"""Training on a file of preferences alone, outside any study: the file, a start model, a folder; nothing is judged.

`prepare` says what there is to do and writes nothing; `execute` does it. The folder holds what `training.loop.train`
leaves (``adapter`` or ``model``, ``curve.jsonl``) and ``alignprism.json``: what was trained from what, with which
settings, and what was left out. That card is written first and is what tells one training from another: the same
training goes on, or is done; another one is refused.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from alignprism import __version__
from alignprism.errors import InputError
from alignprism.model_card import CARD_FILE, cards_of, outcome, readme, research_only, write_card
from alignprism.models.local import check_causal, load, load_tokenizer
from alignprism.models.spec import ModelSpec, ResolvedModel, name_under, resolve
from alignprism.processes import processes
from alignprism.rows import file_digest, write_atomic
from alignprism.run_folder import locked
from alignprism.training.adapters import name_base, stack_adapters
from alignprism.training.checkpoint import CHECKPOINT_FILE
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.curve import CURVE_FILE, HELD_OUT_FILE
from alignprism.training.examples import (
    Example,
    OverLimit,
    Text,
    TruncationReport,
    counts_left_out,
    make_examples,
    sequences,
)
from alignprism.training.loop import LAST_FOLDER, RESULT_FILE, RUN_FILE, Progress, train
from alignprism.training.plan import binding_settings, make_plan
from alignprism.training.precision import compute_dtype, weights_dtype
from alignprism.training.preference_file import Bounds, read_bounds, read_texts
from alignprism.training.reference import Reference, compute_reference, read_store, store_path

STACKED = "-on-base"
"""Ends the name of a folder with the start's adapter and the trained one as one, for a start that is not a whole model."""

_STEPS = (CURVE_FILE, HELD_OUT_FILE, CHECKPOINT_FILE, RESULT_FILE)
"""Of these there is one as soon as a training has done something."""


class TrainingFolderError(InputError):
    """The folder cannot be used for this training. Nothing was changed."""


class Reporter(Protocol):
    """Where a training says what it does; `progress.ConsoleReporter` is one."""

    def say(self, text: str) -> None:
        """One line."""

    def progress(self, title: str, total: int) -> Callable[[int, int], None]:
        """A bar, which the function returned moves to (done, total)."""


@dataclass(frozen=True, slots=True)
class FileTraining:
    """One training on one file. ``reference_store`` is only used by DPO; None means the cache's own for the start model."""

    file: Path
    model: ModelSpec
    out: Path
    config: TrainConfig
    reference_store: Path | None = None
    over_limit: OverLimit = "drop"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training as it will be: its start, its rows as tokens, and the card that names it.

    ``examples`` are all rows, ``trained`` those that are not held out; ``steps`` are optimiser steps.
    """

    training: FileTraining
    start: ResolvedModel
    tokenizer: PreTrainedTokenizerBase
    examples: Sequence[Example]
    trained: Sequence[Example]
    steps: int
    truncation: Sequence[TruncationReport]
    reference_store: Path
    card: Mapping[str, Any]

    def tokens(self) -> dict[str, int]:
        """Completion tokens that one epoch learns from, by language."""
        counts = {report.language: 0 for report in self.truncation}
        for example in self.trained:
            counts[example.language] += sum(len(c) for _, c in sequences(self.training.config, example))
        return counts


def prepare(training: FileTraining, cache: Path, say: Callable[[str], None]) -> Prepared:
    """Read the file, find the model and make the rows' tokens; loads no weights and leaves ``out`` alone.

    Raises
    ------
    alignprism.errors.InputError
        the file or the model cannot be used, no row is left to train on, or the held-out share leaves none on one side.
    """
    config = training.config
    texts = read_texts(training.file, "completion" if config.method == "sft-preferred" else "pair")
    bounds = read_bounds(training.file)
    texts = _without_held_out(training.file, texts, bounds, say)
    if config.method == "sft-preferred":  # what is not learned keeps no row out
        texts = [replace(text, rejected=None) for text in texts]
    start = resolve(training.model, cache, say)
    check_causal(start)
    tokenizer = load_tokenizer(start)
    _warn_of_markers(texts, tokenizer, say)
    examples, truncation = make_examples(texts, tokenizer, config.max_tokens, training.over_limit)
    card = _card(training, texts, bounds, start, len(examples), truncation)
    if not examples:
        left_out = counts_left_out(truncation, config.max_tokens)
        raise InputError(f"{training.file}: no row is left to train on; left out: {left_out}")
    try:
        # Which rows are held out, and the steps, are those of DPO; SFT's plan needs no reference.
        plan = make_plan(replace(config, method="sft-preferred"), examples, tokenizer, None)
    except TrainingError as error:  # here a share is what somebody typed
        raise InputError(f"{training.file}: {error}") from error
    store = training.reference_store or store_path(cache, start.digest)
    if config.preference:
        _check_store(store)
    return Prepared(training, start, tokenizer, examples, plan.examples, plan.steps, truncation, store, card)


def _without_held_out(file: Path, texts: list[Text], bounds: Bounds, say: Callable[[str], None]) -> list[Text]:
    """The rows that are not of split dev or test: those are what a model is measured on."""
    if not bounds.held_out:
        return texts
    rest = [text for text in texts if text.id not in bounds.held_out]
    how = "(column split, or the prompts.parquet beside the file; without both every row is learned)"
    if not rest:
        raise InputError(f"{file}: every row is of split dev or test {how}")
    say(f"Note: {len(texts) - len(rest)} of {len(texts)} rows are of split dev or test and are not learned {how}")
    return rest


def _warn_of_markers(texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None]) -> None:
    """Say where texts hold the model's own special tokens: they were put into a chat template before, it seems."""
    markers = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    found = {text.id: [m for m in markers if m in f"{text.prompt}{text.chosen}{text.rejected}"] for text in texts}
    rows = [name for name, held in found.items() if held]
    if rows:
        names = ", ".join(sorted({marker for held in found.values() for marker in held})[:4])
        say(
            f"Note: {len(rows)} rows hold special tokens of the model as text ({names}), the first is {rows[0]!r}. Prompts are put "
            "into the model's chat template here: give them without it"
        )


def _check_store(store: Path) -> None:
    """Read what a store holds before anything is done: somebody may have named another file."""
    try:
        read_store(store)
    except TrainingError as error:
        raise InputError(str(error)) from error


def execute(prepared: Prepared, reporter: Reporter) -> dict[str, Any]:
    """Train, or go on, or find that all is done; returns the finished card, which is in ``out`` too.

    Raises
    ------
    TrainingFolderError
        ``out`` holds something else, or another training.
    alignprism.training.config.TrainingError
        training cannot start or go on.
    """
    out, state = prepared.training.out, processes()
    _check_folder(out, prepared.card)
    state.wait_for_everyone()
    with _claimed(out, prepared.card) if state.is_main_process else nullcontext():
        state.wait_for_everyone()
        card = _read_card(out)
        if "result" in card:
            reporter.say(f"{out}: everything was done before; nothing to compute")
            return card
        if not (out / RESULT_FILE).exists():
            _train(prepared, reporter)
        if state.is_main_process:
            _finish(prepared, card, reporter.say)
        state.wait_for_everyone()
        return _read_card(out)


def _finish(prepared: Prepared, card: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Make what was trained folders that can be used alone, then write the finished card."""
    out = prepared.training.out
    result = json.loads((out / RESULT_FILE).read_text(encoding="utf-8"))
    found = outcome(result)
    trained = [out / (result["adapter"] or result["model"]), out / LAST_FOLDER]
    folders = [_publish(prepared, folder, say) for folder in trained if folder.is_dir()]
    for folder in folders:  # a card of their own: they are copied and uploaded without what lies above
        own = {**card, "result": found | {"folder": folder.name}}
        write_card(folder, own)
        write_atomic(folder / "README.md", _readme(prepared, folder, own).encode())
    write_card(out, {**card, "result": found | {"folder": folders[0].name}})


def _train(prepared: Prepared, reporter: Reporter) -> None:
    training, start = prepared.training, prepared.start
    weights, tokenizer = load(start, dtype=weights_dtype(training.config))
    reference = None
    if training.config.preference:
        reference = _reference(prepared, weights, reporter)
    advance = reporter.progress(f"training {training.out.name}", prepared.steps)

    def report(progress: Progress) -> None:
        advance(progress.done, progress.total)

    examples, config, out = prepared.examples, training.config, training.out
    train(config, examples, weights, tokenizer, out, reference, None, report, start_digest=start.digest)
    del weights
    gc.collect()


def _reference(prepared: Prepared, weights: Any, reporter: Reporter) -> Reference:
    """The start model's log-probabilities, from the store where it has them."""
    start, pad = prepared.start, prepared.tokenizer.pad_token_id
    report = reporter.progress(f"reference log-probabilities of {start.name}", 2 * len(prepared.examples))
    return compute_reference(
        start.name,
        start.digest,
        weights,
        prepared.examples,
        prepared.reference_store,
        micro_batch_tokens=prepared.training.config.micro_batch_tokens,
        pad_id=int(pad) if pad is not None else 0,
        compute=compute_dtype(prepared.training.config),
        report=report,
    )


def _publish(prepared: Prepared, folder: Path, say: Callable[[str], None]) -> Path:
    """Make a trained folder one that can be loaded: with its tokenizer, and an adapter with the base that it lies on."""
    start, spec = prepared.start, prepared.training.model
    if prepared.training.config.lora_rank:
        base = name_under(spec, start)
        if start.adapter is not None:
            try:
                folder = stack_adapters([start.adapter, folder], folder.with_name(folder.name + STACKED))
            except TrainingError as error:
                say(f"{folder} lies on {start.name}, not on {base}, and the two adapters cannot be made one: {error}")
                return folder
        name_base(folder, base)
    prepared.tokenizer.save_pretrained(str(folder))
    return folder


def _readme(prepared: Prepared, folder: Path, card: Mapping[str, Any]) -> str:
    spec, lora = prepared.training.model, prepared.training.config.lora_rank > 0
    made = f"Trained by `alignprism train` on `{prepared.training.file.name}` from {spec.name}."
    return readme(folder.parent.name, spec.source, card, made, adapter=lora)


# --- the card --------------------------------------------------------------------------------------------------------


def _card(
    training: FileTraining,
    texts: Sequence[Text],
    bounds: Bounds,
    start: ResolvedModel,
    kept: int,
    truncation: Sequence[TruncationReport],
) -> dict[str, Any]:
    model = {"name": start.name, "digest": start.digest}
    settings = asdict(training.config)
    named = [{name: value for name, value in asdict(text).items() if value or name != "cluster"} for text in texts]
    content = json.dumps(named, sort_keys=True)
    card = {
        "alignprism": __version__,
        "method": "dpo" if training.config.preference else settings["method"],
        "file": {"name": training.file.name, "sha256": file_digest(training.file)},
        "trained_from": model,
        "reference": model if training.config.preference else None,
        "rows": len(texts),
        "rows_sha256": hashlib.sha256(content.encode()).hexdigest(),
        "dropped": len(texts) - kept,
        "dev_or_test_rows": len(bounds.held_out),
        "settings": {name: value for name, value in settings.items() if name != "method"}
        | {"over_limit": training.over_limit},
        "truncation": [asdict(report) for report in truncation],
        "research_only": training.config.method == "sft-random" or research_only(start),
    }
    if bounds.kept_back or any(found.get("redistribute") is False for found in cards_of(start)):
        card["redistribute"] = False
    # As it is read back, where a tuple is a list: the two are compared.
    return dict(json.loads(json.dumps(card)))


def _check_folder(out: Path, card: Mapping[str, Any]) -> None:
    """Refuse a folder that holds something else; every process finds the same, and ends with the same message.

    Where a training ended before its first step (an adapter that does not fit, a check that failed), the next one may be
    another.
    """
    if not (out / CARD_FILE).exists():
        if out.is_file() or (out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir())):
            raise TrainingFolderError(f"{out} exists and holds something else; name a new folder for --out")
        return
    different = _different(_identity(_read_card(out)), _identity(card))
    if different and any((out / name).exists() for name in _STEPS):
        raise TrainingFolderError(f"{out} belongs to another training ({different}); name another folder for --out")


@contextmanager
def _claimed(out: Path, card: Mapping[str, Any]) -> Iterator[None]:
    """Make the folder this training's, or find that it already is; no other command trains in it meanwhile."""
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _check_folder(out, card)
        if not (out / CARD_FILE).exists() or _identity(_read_card(out)) != _identity(card):
            (out / RUN_FILE).unlink(missing_ok=True)
            write_card(out, card)
        yield


def _different(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    return "; ".join(f"{key}: {found.get(key)} there, {wanted.get(key)} here" for key in names)


def _identity(card: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for two trainings to be the same one, by the names that a message shows."""
    settings = binding_settings(card["settings"], preference=card["method"] == "dpo")
    start = card["trained_from"]["digest"][:12]
    return {"method": card["method"], "start model": start, "rows of the file": card["rows_sha256"][:12], **settings}


def _read_card(out: Path) -> dict[str, Any]:
    try:
        card = json.loads((out / CARD_FILE).read_text(encoding="utf-8"))
        _identity(card)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingFolderError(f"{out / CARD_FILE}: not the card of a training; name another folder") from error
    return dict(card)
