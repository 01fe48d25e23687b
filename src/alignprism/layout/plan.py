"""A stage and a plan, which is a study with all that is known of it before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignprism import stages
from alignprism.models.spec import ResolvedModel
from alignprism.models.tokenizer import brings_its_own
from alignprism.rows import Prompt
from alignprism.run_folder import RunFolder
from alignprism.stages import Cell, Context, JudgeEntry, Sent
from alignprism.study import Study
from alignprism.study.families import Member


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    ``settings`` holds everything of the study that can change the result; ``inputs`` names the stages it reads;
    ``work`` writes the outputs and returns their paths. ``sent`` (which text goes to whom) and ``seconds`` are estimates.
    ``earlier`` are the settings by which an earlier version knew the stage; what was done under them is done.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any]
    work: Callable[[Context], list[Path]]
    sent: tuple[Sent, ...] = ()
    seconds: float = 0.0
    earlier: Mapping[str, Any] | None = None

    @property
    def calls(self) -> int:
        """Model calls, of models and of judges."""
        return sum(sent.use.calls for sent in self.sent)

    @property
    def cost(self) -> float:
        """Dollars at most, of models that have a price."""
        return sum(sent.use.most or 0.0 for sent in self.sent)


@dataclass
class Plan:
    """What a study comes to: models, judges, prompts and stages in order.

    ``models`` are those on this machine, ``digests`` say what every model is, servers included, and
    ``writers`` what those are that write and check new prompts; ``judges`` are by role.
    """

    study: Study
    run: RunFolder
    prompts: list[Prompt]
    models: dict[str, ResolvedModel]
    digests: dict[str, str]
    writers: dict[str, str]
    judges: dict[str, JudgeEntry]
    families: list[Member]
    shared: list[str]
    context: Context
    stages: list[Stage]
    cells: list[Cell]
    fetches: list[str]


def taught(study: Study, name: str) -> tuple[str, ...]:
    """The stage that a model of the study needs before it can be used: its instruction tuning, if it has one."""
    return (f"ift:{name}",) if study.models[name].ift == "train" else ()


def own_tokenizer(layout: Plan, name: str) -> dict[str, str]:
    """What tells a training from an adapter with a tokenizer or chat template of its own from those that did not keep it.

    Empty for all others: what was trained before there was a difference is the same.
    """
    adapter = layout.models[name].adapter if layout.study.training.lora_rank is not None else None
    return {"tokenizer": "the start's"} if adapter is not None and brings_its_own(adapter) else {}


def decoding_seconds(sent: Sent) -> float:
    """Rough time of decoding on this machine."""
    return sent.use.answer_tokens / stages.DECODE_TOKENS_PER_SECOND
