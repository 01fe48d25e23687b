"""From the models of a run to loaded engines (one model in memory at a time), and from their answers to rows."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alignprism.models.identity import weights_digest
from alignprism.models.local import LocalEngine, load
from alignprism.models.protocol import Answer, Decoding
from alignprism.models.spec import ResolvedModel
from alignprism.models.store import CallStore
from alignprism.rows import Completion, content_id
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
def engine(context: Context, model: ResolvedModel) -> Iterator[LocalEngine]:
    """A loaded engine that keeps its answers in the run's call store; memory is given back at the end."""
    weights, tokenizer = load(model)
    with CallStore(context.run.path / "calls.sqlite") as store:
        yield LocalEngine(weights, tokenizer, model.name, model.digest, store)
    del weights
    gc.collect()


def completion_row(loaded: LocalEngine, answer: Answer, decoding: Decoding, *key: object) -> Completion:
    """An engine's answer as a row; its id is made of the model's digest, the prompt and the `key`."""
    return Completion(
        id=content_id(loaded.digest, answer.request_id, *key),
        prompt_id=answer.request_id,
        model=loaded.name,
        model_digest=loaded.digest,
        text=answer.text,
        sample=answer.sample,
        n_tokens=answer.n_tokens,
        truncated=answer.truncated,
        temperature=decoding.temperature,
        seed=decoding.seed,
    )
