"""Merging two models that are named as everywhere (hub id, folder, adapter, ``embedded:NAME``) into a folder with a card.

SLERP of two LoRA adapters of the base, or of the model under a base that is an adapter itself, is an adapter again. In
every other case a LoRA adapter is first applied to its base, as a full model in float32 beside the result, and full
models are merged.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from alignprism import __version__
from alignprism.errors import InputError
from alignprism.model_card import cards_of, research_only, write_card
from alignprism.models.identity import weights_digest
from alignprism.models.spec import ModelSpec, ResolvedModel, name_under, resolve
from alignprism.rows import write_atomic
from alignprism.training.adapters import name_base, publish
from alignprism.training.merge import Merge, apply_adapter, merge_adapters, merge_models, merge_settings
from alignprism.training.model_folder import TERMS, copy_files, keep_inputs

ROLES = ("base", "first", "second")

_METHODS = {"slerp": "SLERP", "ties": "TIES"}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Merging:
    """What is to be merged: a method of `training.merge.DEFAULTS` with settings, three sources, and a new folder."""

    method: str
    base: str
    first: str
    second: str
    out: Path
    settings: Mapping[str, Any]


def merge_sources(merging: Merging, cache: Path, say: Say) -> dict[str, Any]:
    """Find the models, merge them, and publish ``out`` with model, ``alignprism.json`` and ``README.md``; returns the card.

    ``out`` appears whole or not at all.

    Raises
    ------
    alignprism.errors.InputError
        a setting or source that cannot be used, models that do not fit, or an ``out`` that is not empty.
    alignprism.training.config.TrainingError
        an adapter that is not plain LoRA, or damaged.
    """
    settings, out = merge_settings(merging.method, dict(merging.settings)), merging.out
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; name a new folder for the merged model")
    models = {role: resolve(ModelSpec(role, getattr(merging, role)), cache, say) for role in ROLES}
    index = cache / "digests.json"  # as in resolve
    keep_inputs(out, *(folder for model in models.values() for folder in (model.folder, model.adapter) if folder))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as name:
        made = Path(name) / "merged"
        base, first, second = (models[role] for role in ROLES)
        record = merge_resolved(merging.method, settings, base, first, second, made, index, say)
        adapter = (made / "adapter_config.json").is_file()
        if adapter:
            name_base(made, name_under(ModelSpec("base", merging.base), base))
        copy_files(base.folder, made, TERMS)
        digest = weights_digest(base.folder, made, index) if adapter else weights_digest(made)
        card = _card(merging, models, record, digest, "adapter" if adapter else "model")
        write_card(made, card)
        write_atomic(made / "README.md", _readme(out.name, card, _licence(base)).encode())
        publish(made, out)
    return card


def merge_resolved(
    method: str,
    settings: Mapping[str, Any],
    base: ResolvedModel,
    first: ResolvedModel,
    second: ResolvedModel,
    made: Path,
    index: Path,
    say: Say,
) -> Merge:
    """Merge models whose files are known into the folder ``made``, as an adapter where nothing is lost by it.

    The adapter lies on ``base.folder``; its base has no name yet. ``index`` remembers digests. Errors as `merge_sources`.
    """
    if method == "slerp" and _adapters_of(base, first, second, index):
        assert first.adapter is not None and second.adapter is not None
        say("both models are LoRA adapters of the base: so is the result, and SLERP acts on what they change")
        return merge_adapters(
            method,
            base.folder,
            first.adapter,
            second.adapter,
            made,
            index=index,
            start=base.adapter,
            check_names=False,
            **settings,
        )
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{made.name}.", dir=made.parent) as name:
        folders = []
        for role, model in zip(ROLES, (base, first, second), strict=True):
            # SLERP looks at nothing of the base but its tensors' names and shapes.
            if model.adapter is None or (role == "base" and method == "slerp"):
                folders.append(model.folder)
                continue
            say(
                f"{role} is a LoRA adapter: applying it to its base, in float32 (the whole model is in memory meanwhile)"
            )
            folders.append(apply_adapter(model.folder, model.adapter, Path(name) / role, dtype=torch.float32))
        say(f"merging full models by {_METHODS[method]}")
        digests = (base.digest, first.digest, second.digest)
        return merge_models(method, folders[0], folders[1], folders[2], made, digests=digests, **settings)


def _adapters_of(base: ResolvedModel, first: ResolvedModel, second: ResolvedModel, index: Path) -> bool:
    """Whether both models are adapters of the model under the base, by what it is and not by how it is named."""
    if first.adapter is None or second.adapter is None:
        return False
    return len({weights_digest(model.folder, None, index) for model in (base, first, second)}) == 1


# --- the cards -------------------------------------------------------------------------------------------------------


def _card(
    merging: Merging, models: Mapping[str, ResolvedModel], record: Merge, digest: str, kind: str
) -> dict[str, Any]:
    inputs = {role: {"name": getattr(merging, role), "digest": models[role].digest} for role in ROLES}
    card = {
        "alignprism": __version__,
        **asdict(record),
        **inputs,
        "result": {"kind": kind, "digest": digest},
        "research_only": any(map(research_only, models.values())),
    }
    if any(found.get("redistribute") is False for model in models.values() for found in cards_of(model)):
        card["redistribute"] = False
    return dict(json.loads(json.dumps(card)))


def _licence(base: ResolvedModel) -> str | None:
    """The base's licence where its card names it, as those of embedded models do."""
    return next((str(card["licence"]) for card in cards_of(base) if card.get("licence")), None)


def _readme(title: str, card: Mapping[str, Any], licence: str | None) -> str:
    method, kind = str(card["method"]), str(card["result"]["kind"])
    library = "peft" if kind == "adapter" else "transformers"
    what = "LoRA adapter" if kind == "adapter" else "full model"
    notes = []
    if card["research_only"]:
        notes.append("**Research only.** A model that was merged also learned rejected (harmful) answers.")
    if card.get("redistribute") is False:
        notes.append("**Not to be passed on.** A model that was merged learned rows that may not be redistributed.")
    named = f" ({licence})" if licence else ""
    notes.append(f"The licence and terms of the base model apply to this one too{named}.")
    inputs = [f"- {role}: {card[role]['name']}, digest `{card[role]['digest']}`" for role in ROLES]
    settings = ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(card["settings"].items()))
    linear = f", {card['linear_tensors']} of them so alike that it was linear" if method == "slerp" else ""
    figures = [
        f"- method: {_METHODS[method]} of {card['acts_on']}; {settings}",
        f"- tensors: {card['tensors']}{linear}",
        f"- this {what}: digest `{card['result']['digest']}`",
    ]
    return "\n".join(
        [
            f"---\nbase_model: {json.dumps(card['base']['name'])}\nlibrary_name: {library}",
            f"tags: [alignprism, merge, {method}]\n---\n# {title}\n",
            f"A {what}: two models that were fine-tuned from one base, merged by alignprism {card['alignprism']}. Nothing was "
            "trained or evaluated here; `alignprism evaluate` does that.\n",
            *(f"{note}\n" for note in notes),
            *inputs,
            *figures,
            "",
        ]
    )
