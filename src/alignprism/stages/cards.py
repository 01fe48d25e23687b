"""The card of a study's model: what made it from what, what binds it, on how many rows, and how its training ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alignprism import __version__
from alignprism.model_card import cards_of, outcome, readme, research_only
from alignprism.models.spec import ModelSpec, ResolvedModel, name_under
from alignprism.rows import Pair
from alignprism.stages.context import Context
from alignprism.study import Study
from alignprism.training.adapters import CONFIG_FILE
from alignprism.training.config import TrainConfig
from alignprism.training.examples import Example, Text, TruncationReport
from alignprism.training.loop import TrainResult

RESEARCH_ONLY = ("sft-random",)


def base_source(context: Context, start: ResolvedModel) -> str:
    """What the study calls the files under a start; a study whose base is a server trains nothing."""
    # Of a model that is taught, these are not the baseline's.
    names = [context.study.baseline, *context.models]
    name = next((name for name in names if context.models[name].folder == start.folder), names[0])
    entry = context.study.models[name]
    assert entry.source is not None
    return name_under(ModelSpec(name, entry.source, entry.adapter), context.models[name])


def inherited(card: Mapping[str, Any], models: Sequence[ResolvedModel]) -> dict[str, Any]:
    """What a model may be used for: as its own rows allow, and no more than the models that it is made of."""
    cards = [found for model in models for found in cards_of(model)]
    licences = {licence for found in (card, *cards) for licence in found.get("licences", ())}
    return {
        "research_only": card.get("method") in RESEARCH_ONLY or any(map(research_only, models)),
        "redistribute": all(found.get("redistribute", True) for found in (card, *cards)),
        "licences": sorted(licences),
    }


_FREE_SETTINGS = frozenset({"method", "checkpoint_every", "trackers", "micro_batch_tokens", "gradient_checkpointing"})
"""Not in a cell's card: they change no result, and the card's bytes are in the keys of what is made with the model."""


def _settings(config: TrainConfig) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return {name: value for name, value in settings.items() if name not in _FREE_SETTINGS}


def facts_of(
    context: Context,
    start: ResolvedModel,
    texts: Sequence[Text],
    truncation: Sequence[TruncationReport],
    config: TrainConfig,
    result: TrainResult,
) -> dict[str, Any]:
    """What every card of a training says: by what, from what, on what, with which settings, and how it ended."""
    named = {"name": result.reference, "digest": result.reference_digest}
    return {
        "alignprism": __version__,
        "trained_from": {"name": start.name, "digest": start.digest},
        "reference": named if result.reference is not None else None,
        "languages": sorted({text.language for text in texts}),
        "rows": len(texts),
        "dropped": len(texts) - sum(report.kept for report in truncation),
        "truncation": [asdict(report) for report in truncation],
        "settings": _settings(config) | {"over_limit": context.study.training.over_limit},
        # Seconds differ between equal trainings, and the card's bytes are in the keys of what is made with the model.
        "result": {name: value for name, value in outcome(asdict(result)).items() if name != "seconds"},
    }


def learned_of(trained: Sequence[Example], held_out: Sequence[Example]) -> dict[str, Any]:
    """For the card: pairs that were learned and that were only scored, and the share of safety pairs of the learned ones."""
    safety = sum(example.kind == "safety" for example in trained)
    return {"pairs": len(trained), "held_out_pairs": len(held_out), "safety_share": safety / len(trained)}


def data_of(study: Study, pairs: Sequence[Pair]) -> dict[str, str]:
    """Which of the study's `data` the pairs were made from, by key: `sample`, or the name of a file (its folder is nobody's business)."""
    kinds, data = {pair.kind for pair in pairs}, study.data
    safety = ["safety_pairs"] if data.safety_pairs is not None else ["redteam", "completions"]
    general = ["general_pairs"] if data.general_pairs is not None else [*study.pairs.general_sets, "completions"]
    keys = [*(safety if "safety" in kinds else ()), *(general if "general" in kinds else ())]
    return {key: file_name(getattr(data, key)) for key in keys if getattr(data, key) is not None}


def file_name(source: str | None) -> str:
    """The name that a card shows of a file; its folder is nobody's business."""
    return Path(source).name if source else ""


def readme_of(cell: str, card: Mapping[str, Any], study: Study, folder: Path) -> str:
    """The model card of a finished folder, in Markdown."""
    entry = study.models[study.baseline]
    how = "Merged" if "merged" in card else "Trained"
    laid_over = f" with the adapter {entry.adapter}" if entry.adapter else ""
    made = f"{how} by alignprism in study `{study.name}` from {entry.source}{laid_over}."
    return readme(cell, str(entry.source), card, made, adapter=(folder / CONFIG_FILE).is_file())
