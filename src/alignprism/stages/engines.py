"""From the models of a run to loaded engines (one model in memory at a time), and from their answers to rows."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from alignprism.errors import Failure
from alignprism.judging.unanswered import unanswered_in
from alignprism.models.identity import weights_digest
from alignprism.models.local import LocalEngine, load
from alignprism.models.protocol import Decoding, Engine, Failed, Outcome, Progress, Request, in_order
from alignprism.models.settings import ModelSettings
from alignprism.models.spec import ResolvedModel
from alignprism.models.store import CallStore
from alignprism.rows import Comparison, Completion, Verdict, content_id
from alignprism.stages.context import Context


def taught_name(name: str) -> str:
    """The folder of a model that the `ift` stage made."""
    return f"{name}-ift"


def start_of(context: Context, name: str) -> ResolvedModel:
    """A study's model as it is used: as given, or as the `ift` stage left it."""
    entry, model = context.study.models[name], context.models[name]
    return cell_model(context, taught_name(name), model, name) if entry.ift == "train" else model


def cell_model(context: Context, cell: str, base: ResolvedModel, name: str | None = None) -> ResolvedModel:
    """A model trained in this run: an adapter on the base's folder, or a folder of its own."""
    folder = context.run.cell_folder(cell)
    index = context.cache / "digests.json"
    if (folder / "adapter_config.json").is_file():
        return ResolvedModel(name or cell, base.folder, folder, weights_digest(base.folder, folder, index))
    return ResolvedModel(name or cell, folder, None, weights_digest(folder, None, index))


def model_of(context: Context, name: str) -> ResolvedModel:
    """A model of the study or a trained cell, by name."""
    if name in context.study.models:
        return start_of(context, name)
    return cell_model(context, name, context.models[context.study.baseline])


def adapters_of(model: ResolvedModel) -> list[Path]:
    """The adapters that lie on the model's folder: none or one."""
    return [model.adapter] if model.adapter else []


@contextmanager
def call_store(context: Context) -> Iterator[CallStore]:
    """The run's call store."""
    with CallStore(context.run.path / "calls.sqlite") as store:
        yield store


@contextmanager
def opened(context: Context, settings: ModelSettings, name: str) -> Iterator[Engine]:
    """Any model that settings name, asked through the run's call store and within its budget."""
    from alignprism.models.engines import open_engine  # not needed, and not loaded, where all models are weights here

    with (
        call_store(context) as store,
        open_engine(
            settings,
            name,
            store=store,
            cache=context.cache,
            allow_remote=context.study.allow_remote,
            keys=context.keys,
            cap=context.budget(store),
            say=context.say,
            tally=context.tally,
        ) as engine,
    ):
        yield engine


@contextmanager
def engine(context: Context, name: str) -> Iterator[Engine]:
    """A model of the study or a trained cell, by name: a server, a Ray cluster, or weights in this process."""
    entry = context.study.models.get(name)
    if entry is not None and (entry.endpoint is not None or (entry.engine == "ray" and entry.ift == "none")):
        with opened(context, entry, name) as found:
            yield found
    else:
        with local_engine(context, model_of(context, name)) as local:
            yield local


@contextmanager
def local_engine(context: Context, model: ResolvedModel) -> Iterator[LocalEngine]:
    """A model loaded into this process, for what only weights can do (likelihoods), or asked through the call store."""
    weights, tokenizer = load(model)
    with call_store(context) as store:
        yield LocalEngine(weights, tokenizer, model.name, model.digest, store)
    del weights
    gc.collect()


def answers_of(
    asked: Engine, requests: Sequence[Request], decoding: Decoding, progress: Progress | None = None
) -> list[Outcome]:
    """One outcome per request and sample, in their order; some may be failures.

    Raises
    ------
    CallsStopped
        the budget was reached or the work interrupted, or not one call got an answer: what was answered is stored, and the
        same command goes on from there.
    """
    outcomes = in_order(asked.complete(requests, decoding, progress), requests, decoding.samples)
    check_outcomes(outcomes, asked.name)
    return outcomes


class CallsStopped(Failure):
    """A stage cannot be finished now; what was answered is kept."""


def check_outcomes(outcomes: Sequence[Outcome], name: str) -> None:
    """Stop where the failures are not the model's: they would be frozen into the results."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    reasons = Counter[str](outcome.reason for outcome in failed)
    _refuse_stopped(reasons, f"{len(outcomes) - len(failed)} of {len(outcomes)} calls are answered", name)
    if failed and len(failed) == len(outcomes):
        listed = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        detail = f"; the first, request {failed[0].request_id!r}: {failed[0].detail}" if failed[0].detail else ""
        raise CallsStopped(f"{name}: none of {len(outcomes)} calls got an answer: {listed}{detail}")


def check_judged(rows: Sequence[Verdict] | Sequence[Comparison], name: str) -> None:
    """Stop where judgements lack an answer for want of money, time or a judge; a call that failed here and there is a gap.

    Raises
    ------
    CallsStopped
        see `answers_of`. For an ensemble, one silent member is enough: the verdicts would be those of the others.
    """
    missing = unanswered_in(rows)
    _refuse_stopped(missing.reasons, f"{missing.asked - missing.rows} of {missing.asked} judgements are made", name)
    if missing.everywhere:
        raise CallsStopped(f"{name}: not one of {missing.asked} judgements got all its answers: {missing.listed}")


def _refuse_stopped(reasons: Counter[str], done: str, name: str) -> None:
    if reasons["over budget"]:
        raise CallsStopped(
            f"{name}: budget.max_cost is reached; {done} and kept. Raise it and run again: nothing is asked twice"
        )
    if reasons["interrupted"]:
        raise CallsStopped(f"{name}: interrupted; {done} and kept. Run again to go on from there")


def completion_row(asked: Engine, outcome: Outcome, decoding: Decoding, *key: object) -> Completion:
    """An engine's answer, or why there is none, as a row; its id is made of the model's digest, the prompt and the `key`."""
    row = Completion(
        id=content_id(asked.digest, outcome.request_id, *key),
        prompt_id=outcome.request_id,
        model=asked.name,
        model_digest=asked.digest,
        text="",
        sample=outcome.sample,
        n_tokens=0,
        truncated=False,
        temperature=decoding.temperature,
        seed=decoding.seed,
        call=outcome.call,
    )
    if isinstance(outcome, Failed):
        return replace(row, failure=outcome.reason)
    return replace(
        row, text=outcome.text, n_tokens=outcome.n_tokens, truncated=outcome.truncated, filtered=outcome.filtered
    )
