"""Stages that train: instruction tuning of a raw base, and the cells (method x seed) of a study."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignprism import __version__
from alignprism.construct.pair_plan import harmful_from
from alignprism.errors import InputError
from alignprism.merge_sources import merge_resolved
from alignprism.model_card import write_card
from alignprism.models.local import LocalEngine, load
from alignprism.models.protocol import Decoding
from alignprism.models.spec import ResolvedModel
from alignprism.rows import Completion, Pair, Prompt, read_rows, write_atomic, write_rows
from alignprism.stages.cards import base_source, data_of, facts_of, file_name, inherited, learned_of, readme_of
from alignprism.stages.context import Cell, Context, arm_stage, arms_of, cells_of, dev_prompts
from alignprism.stages.data import write_json
from alignprism.stages.engines import adapters_of, cell_model, start_of, taught_name
from alignprism.stages.evaluate import completions_of
from alignprism.study import Study
from alignprism.training.adapters import check_plain, name_base, publish, stack_adapters, temporary_beside
from alignprism.training.config import Method, TrainConfig, TrainingError
from alignprism.training.curve import EVALUATIONS_FILE, read_curve, read_lines
from alignprism.training.examples import (
    Example,
    Text,
    counts_left_out,
    make_examples,
    texts_of_pairs,
    texts_of_prompts,
)
from alignprism.training.loop import Progress, TrainResult, train, training_steps
from alignprism.training.model_folder import DESCRIPTION, TERMS, copy_files
from alignprism.training.plan import split_held_out
from alignprism.training.precision import compute_dtype, weights_dtype
from alignprism.training.reference import Reference, compute_reference, store_path


def check_starts(study: Study, models: Mapping[str, ResolvedModel]) -> None:
    """Refuse, before anything is trained, an adapter that what is trained on it could not be joined with.

    Raises
    ------
    InputError
        naming the model, the file, and what of it is no plain LoRA.
    """
    taught = [name for name, entry in study.models.items() if entry.ift == "train"]
    lora = study.training.lora_rank is not None
    applied = "merge-ties" in study.methods and study.baseline not in taught
    trained = [study.baseline] if study.methods and (lora or applied) else []
    for name in dict.fromkeys([*(taught if lora else []), *trained]):
        for adapter in adapters_of(models[name]):
            try:
                check_plain(adapter)
            except TrainingError as error:
                raise InputError(
                    f"models.{name}: training goes on from this adapter, and the result could not be written as one: {error}. Merge "
                    "it into its base (transformers' format) and name that folder as source"
                ) from error


def teach(context: Context, name: str) -> list[Path]:
    """Stage ``ift:MODEL``: SFT on the train rows of the general instructions, in all languages of the study."""
    model = context.models[name]
    rows = [p for p in context.prompts("general", "train") if p.reference]
    config = train_config(context.study, "ift", context.study.seed)
    texts = texts_of_prompts(rows)
    card = {
        "method": "ift",
        "seed": config.seed,
        "data": {"general": file_name(context.study.data.general)},
        "redistribute": all(p.redistribute for p in rows),
        "licences": sorted({p.licence for p in rows}),
    }
    return _fit(context, f"ift:{name}", taught_name(name), model, texts, config, card, dev=[])


def train_cell(context: Context, cell: Cell) -> list[Path]:
    """Stage ``train:CELL``: one method with one seed, on the study's pairs.

    Raises
    ------
    TrainingError
        a pair's chosen side is judged harmful, or training itself cannot go on.
    """
    pairs = context.read(arm_stage("pairs", cell.arm), "pairs.parquet", Pair)
    check_chosen(pairs, harmful_from(context.study.judges.as_settings("preference")))
    base = start_of(context, context.study.baseline)
    start = cell_model(context, cell.start, base) if cell.start else base
    config = train_config(context.study, cell.method, cell.seed)
    card = {
        "method": cell.method,
        "seed": cell.seed,
        "mixture": arms_of(context.study)[cell.arm],
        "data": data_of(context.study, pairs),
        "redistribute": all(p.redistribute for p in pairs),
        "licences": sorted({p.licence for p in pairs}),
    }
    dev = dev_prompts(context.study, context.prompts()) if cell.evaluated else []
    return _fit(context, f"train:{cell.name}", cell.name, start, texts_of_pairs(pairs), config, card, dev)


def merge_cell(context: Context, cell: Cell) -> list[Path]:
    """Stage ``train:MERGE``: the general pairs' model and the safety pairs' model joined into one."""
    merging = context.study.merging
    method = cell.method.removeprefix("merge-")
    settings = {"t": merging.t} if method == "slerp" else {"density": merging.density, "scale": merging.scale}
    base = start_of(context, context.study.baseline)
    models = [cell_model(context, part, base) for part in cell.parts]
    target = context.run.cell_folder(cell.name)
    with temporary_beside(target) as work:
        made = work / "merged"
        index = context.cache / "digests.json"
        record = merge_resolved(method, settings, base, models[0], models[1], made, index, context.say)
        if (made / "adapter_config.json").is_file():
            name_base(made, base_source(context, base))
        card = {
            "alignprism": __version__,
            "method": cell.method,
            "seed": cell.seed,
            "merged": asdict(record),
            "parts": list(cell.parts),
        }
        card |= inherited({}, models)
        copy_files(base.folder, made, TERMS)
        write_card(made, card)
        write_atomic(made / "README.md", readme_of(cell.name, card, context.study, made).encode())
        publish(made, target)
    summary = write_json(context.run.stage_folder(f"train:{cell.name}") / "summary.json", {"card": card})
    return [*sorted(path for path in target.rglob("*") if path.is_file()), summary]


def is_cell(study: Study, name: str) -> bool:
    """Whether a name is a trained cell of the study."""
    return name in {cell.name for cell in cells_of(study)}


def check_chosen(pairs: Sequence[Pair], threshold: float) -> None:
    """Refuse to train on a pair whose chosen side is judged harmful.

    Raises
    ------
    TrainingError
        naming the pair; its text is not shown.
    """
    for number, pair in enumerate(pairs, 1):
        if pair.kind == "safety" and pair.chosen_score is not None and pair.chosen_score >= threshold:
            raise TrainingError(
                f"pairs.parquet: row {number} (pair {pair.id}, prompt {pair.prompt_id}): the chosen side is judged harmful "
                f"({pair.chosen_score:.2f}, threshold {threshold:.2f}); remove the pair, or have the judge checked"
            )


def train_config(study: Study, method: str, seed: int) -> TrainConfig:
    """The loop's configuration for one training of a study."""
    kind = "ift" if method == "ift" else method.split("-")[0]
    training = study.training
    # What only DPO uses is left at its default for the others, so that they do not depend on it.
    of_pairs: dict[str, Any] = {}
    if kind == "dpo":
        of_pairs = {
            "beta": training.beta,
            "loss": training.dpo_loss,
            "nll_weight": training.nll_weight,
            "prefix_sharing": training.prefix_sharing,
        }
    return TrainConfig(
        method=_loop_method(method),
        learning_rate=getattr(training, f"{kind}_learning_rate"),
        epochs=getattr(training, f"{kind}_epochs"),
        batch_size=training.batch_size,
        lora_rank=training.lora_rank or 0,
        lora_alpha=training.lora_alpha,
        max_tokens=training.max_tokens,
        seed=seed,
        checkpoint_every=training.checkpoint_every,
        held_out_share=training.held_out_share if method != "ift" else 0.0,
        patience=training.patience if method != "ift" else 0,
        gradient_checkpointing=training.gradient_checkpointing,
        trackers=tuple(training.trackers),
        micro_batch_tokens=training.micro_batch_tokens,
        precision=training.precision,
        **of_pairs,
    )


def tracked_as(study: Study, cell: str, seed: int) -> str:
    """What trackers call a training of a study: study, cell and seed."""
    ending = f"-seed{seed}"
    return f"{study.name}-{cell}" if cell.endswith(ending) else f"{study.name}-{cell}{ending}"


def with_dev_checks(config: TrainConfig, checks: int, rows: int, *, from_start: bool) -> TrainConfig:
    """The configuration with `checks` dev evaluations spread evenly, the last step included; `from_start` adds step 0.

    `rows` are those that are trained on.
    """
    steps = training_steps(config, rows)
    wanted = {max(1, round(steps * k / checks)) for k in range(1, checks + 1)} | ({0} if from_start else set())
    return replace(config, evaluate_steps=tuple(sorted(wanted)))


def _loop_method(method: str) -> Method:
    # Instruction tuning is SFT on the chosen (only) side.
    return "sft-preferred" if method == "ift" else method  # type: ignore[return-value]  # the study allows no other


def _fit(
    context: Context,
    stage: str,
    cell: str,
    start: ResolvedModel,
    texts: Sequence[Text],
    config: TrainConfig,
    card: dict[str, Any],
    dev: Sequence[Prompt],
) -> list[Path]:
    """Train from `start`, publish the cell, and write what happened; resumable at every step."""
    work = context.run.stage_folder(stage) / "work"
    weights, tokenizer = load(start, dtype=weights_dtype(config))
    examples, truncation = make_examples(texts, tokenizer, config.max_tokens, context.study.training.over_limit)
    dropped = len(texts) - len(examples)
    if dropped:
        why = counts_left_out(truncation, config.max_tokens)
        context.say(f"{cell}: {dropped} of {len(texts)} rows are left out: {why}")
    trained, held_out = split_held_out(config, examples) if examples else ([], [])
    checks = context.study.training.dev_checks
    if dev and checks and trained:
        # A cell that starts from another one continues its dev curve; the others show where they began.
        config = with_dev_checks(config, checks, len(trained), from_start=not is_cell(context.study, start.name))
    reference = _reference(context, start, weights, tokenizer, examples, config) if config.preference else None
    total = training_steps(config, len(trained))
    advance = context.progress(f"training {cell}", total)

    def report(progress: Progress) -> None:
        advance(progress.done, progress.total)

    evaluate = _dev_completions(context, cell, tokenizer, dev, work) if config.evaluate_steps else None
    name = tracked_as(context.study, cell, config.seed)
    result = train(
        config,
        examples,
        weights,
        tokenizer,
        work,
        reference,
        evaluate,
        report,
        start_digest=start.digest,
        run_name=name,
    )
    del weights
    gc.collect()
    context.timing["training_seconds"] = result.seconds
    for warning in result.warnings:
        context.say(f"{cell}: {warning}")
    learned = learned_of(trained, held_out)
    card |= facts_of(context, start, texts, truncation, config, result) | inherited(card, [start])
    card |= {"precision": result.precision} | ({} if card["method"] == "ift" else learned)
    files = _publish(context, cell, start, result, work, tokenizer, card)
    lengths = _keep_dev_answers(context, stage, work, files) if evaluate is not None else []
    summary = {
        "curve": [{k: v for k, v in asdict(row).items() if k != "seconds"} for row in read_curve(work)],
        "truncation": [asdict(report) for report in truncation],
        "dropped": dropped,
        "first_loss": result.first_loss,
        "last_loss": result.last_loss,
        "result": {k: v for k, v in asdict(result).items() if k not in ("identity", "seconds", "adapter", "model")}
        | {"safety_share": learned["safety_share"], "dev_max_new_tokens": lengths},
        "card": card,
    }
    return [*files, write_json(context.run.stage_folder(stage) / "summary.json", summary)]


def _reference(
    context: Context,
    start: ResolvedModel,
    weights: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    config: TrainConfig,
) -> Reference:
    """The frozen start model's log-probabilities, from the cache's store where it has them: every run shares it."""
    report = context.progress(f"reference log-probabilities of {start.name}", 2 * len(examples))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    store = store_path(context.cache, start.digest)
    return compute_reference(
        start.name,
        start.digest,
        weights,
        examples,
        store,
        micro_batch_tokens=config.micro_batch_tokens,
        pad_id=int(pad),
        compute=compute_dtype(config),
        report=report,
    )


def _dev_completions(
    context: Context, cell: str, tokenizer: PreTrainedTokenizerBase, dev: Sequence[Prompt], work: Path
) -> Callable[[int, PreTrainedModel], Mapping[str, float]]:
    """Keeps a checkpoint's answers to the dev prompts; they are judged later, so that another judge costs no training."""

    def evaluate(step: int, model: PreTrainedModel) -> Mapping[str, float]:
        advance = context.progress(f"{cell}: dev after {step} steps", len(dev))
        loaded = LocalEngine(model, tokenizer, f"{cell}@{step}", f"{cell}@{step}", None)
        evaluation = context.study.evaluation
        decoding = Decoding(max_new_tokens=evaluation.max_new_tokens, batch_size=evaluation.batch_size)
        rows = completions_of(loaded, dev, decoding, advance)
        write_rows(_dev_file(work, step), rows, Completion)
        return {"completions": float(len(rows)), "max_new_tokens": float(evaluation.max_new_tokens)}

    return evaluate


def _keep_dev_answers(context: Context, stage: str, work: Path, files: list[Path]) -> list[int]:
    """Write the answers of all checkpoints as one file, which is added to `files`; returns the limits on their length.

    Those are the ones that were in force: evaluation.max_new_tokens may be another one later.
    """
    evaluations = read_lines(work / EVALUATIONS_FILE)
    # Sorted, since the step whose weights are kept is evaluated last.
    steps = sorted(int(row["step"]) for row in evaluations)
    rows = [row for step in steps for row in read_rows(_dev_file(work, step), Completion)]
    files.append(context.write(stage, "completions.parquet", rows, Completion))
    return sorted({int(row["max_new_tokens"]) for row in evaluations})


def _dev_file(work: Path, step: int) -> Path:
    return work / f"dev-{step}.parquet"


def _publish(
    context: Context,
    cell: str,
    start: ResolvedModel,
    result: TrainResult,
    work: Path,
    tokenizer: PreTrainedTokenizerBase,
    card: Mapping[str, Any],
) -> list[Path]:
    """The finished cell under ``models/CELL``: one adapter on the base (the whole chain, exactly), or a full model."""
    temporary, target = work / "cell", context.run.cell_folder(cell)
    if result.adapter is not None:
        stack_adapters([*adapters_of(start), work / result.adapter], temporary)
        name_base(temporary, base_source(context, start))
        for adapter in adapters_of(start):
            # Its own tokenizer and chat template, byte for byte: the cell is trained with them, and is asked with them.
            copy_files(adapter, temporary, DESCRIPTION)
    else:
        assert result.model is not None
        # A copy: a kill before `publish` must find the trained model where training.json says it is.
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(work / result.model, temporary)
        tokenizer.save_pretrained(str(temporary))
    copy_files(start.folder, temporary, TERMS)
    write_card(temporary, card)
    write_atomic(temporary / "README.md", readme_of(cell, card, context.study, temporary).encode())
    target.parent.mkdir(parents=True, exist_ok=True)
    publish(temporary, target)
    return sorted(path for path in target.rglob("*") if path.is_file())
