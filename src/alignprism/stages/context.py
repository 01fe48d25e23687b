"""What every stage is given, the trained cells of a study, and the prompts that they are about."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignprism.construct.mix import KINDS, Kind, mixed_counts
from alignprism.models.cost import Budget
from alignprism.models.spec import ResolvedModel
from alignprism.models.store import CallStore
from alignprism.models.tally import Tally
from alignprism.rows import Prompt, Row, content_id, read_rows, write_rows
from alignprism.run_folder import RunFolder
from alignprism.study import MERGES, METHODS, Study

ARMS = {"general": 0.0, "safety": 1.0}
"""Shares of safety pairs of the models that are merged; the study's own mixture is the arm without a name."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One model that a study makes: by training (method, seed, pairs of an arm) or by merging two others.

    ``start`` is the cell whose weights a training starts from (None: the base). ``parts`` are the merged cells. Cells of
    the named arms are only parts: they are not evaluated.
    """

    name: str
    method: str
    seed: int
    start: str | None = None
    arm: str = ""
    parts: tuple[str, ...] = ()

    @property
    def evaluated(self) -> bool:
        """Whether test prompts are asked of it."""
        return not self.arm


def arms_of(study: Study) -> dict[str, float]:
    """Mixture of every set of pairs that the study's methods train on, by arm."""
    own = {"": study.mixture} if set(study.methods) - set(MERGES) else {}
    return own | (ARMS if set(study.methods) & set(MERGES) else {})


def evaluated_models(study: Study) -> list[str]:
    """The models of a study that are compared; the others only generate."""
    return [name for name, entry in study.models.items() if entry.evaluate]


def arm_study(study: Study, arm: str) -> Study:
    """The study as one arm sees it: with the arm's mixture."""
    return study.model_copy(update={"mixture": arms_of(study)[arm]})


def arm_stage(kind: str, arm: str) -> str:
    """Name of the stage that makes an arm's candidates or pairs."""
    return f"{kind}:{arm}" if arm else kind


def cells_of(study: Study) -> list[Cell]:
    """The models that a study makes, in an order in which every start and part comes first; the seed is named where it varies."""
    several = len(study.training.seeds) > 1

    def name(method: str, seed: int, arm: str = "") -> str:
        stem = f"{method}.{arm}" if arm else method
        return f"{stem}-seed{seed}" if several else stem

    def trained(method: str, seed: int, arm: str = "") -> Cell:
        start = name("sft-preferred", seed, arm) if method == "dpo-sft" else None
        return Cell(name(method, seed, arm), method, seed, start, arm)

    seeds = study.training.seeds
    own = [trained(m, seed) for m in METHODS if m in study.methods and m not in MERGES for seed in seeds]
    merges = [m for m in MERGES if m in study.methods]
    parts = [
        trained(m, s, arm) for arm in (ARMS if merges else ()) for m in ("sft-preferred", "dpo-sft") for s in seeds
    ]
    merged = [
        Cell(name(m, seed), m, seed, parts=tuple(name("dpo-sft", seed, arm) for arm in ARMS))
        for m in merges
        for seed in seeds
    ]
    return [*own, *parts, *merged]


def cells_by_method(study: Study) -> dict[str, list[str]]:
    """Names of the evaluated cells of each method."""
    found: dict[str, list[str]] = {}
    for cell in cells_of(study):
        if cell.evaluated:
            found.setdefault(cell.method, []).append(cell.name)
    return found


@dataclass(frozen=True)
class Context:
    """Study, run folder, the models that lie on this machine, and where to report.

    ``keys`` are the secrets of endpoints by the name of the environment variable that the study gives; ``tally`` counts
    what the endpoints of a stage do; into ``timing`` a stage writes the seconds that it spent over all its attempts.
    """

    study: Study
    run: RunFolder
    cache: Path
    models: Mapping[str, ResolvedModel]
    say: Callable[[str], None]
    progress: Callable[[str, int], Callable[[int, int], None]]
    keys: Mapping[str, str] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    timing: dict[str, float] = field(default_factory=dict)

    def budget(self, store: CallStore) -> Budget | None:
        """The study's cap on dollars; what the run has cost before counts."""
        cap = self.study.budget.max_cost
        return None if cap is None else Budget(cap, store.spent())

    def read(self, stage: str, file: str, row: type[Row]) -> list[Row]:
        """Rows that an earlier stage wrote."""
        return read_rows(self.run.stage_folder(stage) / file, row)

    def write(self, stage: str, file: str, rows: Sequence[Row], row: type[Row]) -> Path:
        """Write rows of this stage; returns the file."""
        path = self.run.stage_folder(stage) / file
        write_rows(path, rows, row)
        return path

    def output(self, stage: str, file: str) -> Path | None:
        """A file that a finished stage names among its outputs; None where it wrote none (a leftover does not count)."""
        path = self.run.stage_folder(stage) / file
        done = stage in self.run.manifest["stages"]
        return path if done and str(path.relative_to(self.run.path)) in self.run.outputs_of(stage) else None

    def prompts(self, prompt_set: str | None = None, split: str | None = None) -> list[Prompt]:
        """The run's prompts, of one set and one split where named."""
        return [
            p
            for p in self.read("prompts", "prompts.parquet", Prompt)
            if prompt_set in (None, p.set) and split in (None, p.split)
        ]

    def training_pool(self) -> list[Prompt]:
        """The run's prompts with those that were grown from its seeds."""
        grown = self.output("rephrase", "prompts.parquet")
        return [*self.prompts(), *(read_rows(grown, Prompt) if grown else ())]


def training_prompts(study: Study, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Train prompts that safety pairs and general pairs are made from, in the trained languages.

    No more than the mixture can use times `pairs.oversample` (some prompts give no pair), drawn evenly over languages
    and scopes (safety) or sets (general). General pairs need a reference answer. Of a kind whose pairs lie ready there are none.
    """
    train = [p for p in prompts if p.split == "train" and p.language in study.languages.train]
    safety = [p for p in train if p.set == "redteam"] if study.data.safety_pairs is None else []
    sets = study.pairs.general_sets if study.data.general_pairs is None else []
    general = [p for p in train if p.set in sets and p.reference]
    counts = tried(study)
    return _drawn(safety, counts["safety"], study.seed), _drawn(general, counts["general"], study.seed)


def tried(study: Study) -> dict[Kind, int]:
    """How many prompts (or ready pairs) of each kind are tried, at most: some give no pair."""
    counts = zip(KINDS, mixed_counts(study.pairs.total, study.mixture), strict=True)
    # One scope is about half of the prompts, or less: what is of the other scope makes no pair.
    of_scope = {"safety": 1 if study.pairs.scope == "all" else 2, "general": 1}
    return {kind: math.ceil(count * study.pairs.oversample * of_scope[kind]) for kind, count in counts}


def _drawn(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """`count` prompts, as even over (language, set, scope) as their numbers allow, in a seeded order."""
    taken: Counter[tuple[str, str, str | None]] = Counter()
    places: list[tuple[int, str, Prompt]] = []
    for prompt in sorted(prompts, key=lambda p: content_id("train", seed, p.id)):
        group = (prompt.language, prompt.set, prompt.scope)
        places.append((taken[group], content_id("place", seed, prompt.id), prompt))
        taken[group] += 1
    return [prompt for _, _, prompt in sorted(places, key=lambda place: place[:2])[:count]]


def training_settings(study: Study, method: str) -> dict[str, Any]:
    """The part of the study that changes one kind of training."""
    kind = "ift" if method == "ift" else method.split("-")[0]
    training = study.training
    shared = training.model_dump(include={"lora_rank", "lora_alpha", "batch_size", "max_tokens", "over_limit"})
    own = {"learning_rate": getattr(training, f"{kind}_learning_rate"), "epochs": getattr(training, f"{kind}_epochs")}
    # Left out where it is the default, as what was trained before there was a choice is the same.
    own |= training.model_dump(include={"precision"}, exclude_defaults=True)
    if kind == "dpo":
        own |= training.model_dump(include={"beta", "dpo_loss", "nll_weight"})
        own |= training.model_dump(include={"prefix_sharing"}, exclude_defaults=True)
    if method != "ift":
        own |= training.model_dump(include={"dev_checks", "held_out_share", "patience"})
    return shared | own


def evaluated_prompts(study: Study, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Test prompts of the tested languages, in a fixed order."""
    chosen = [p for p in prompts if p.split == "test" and p.language in study.languages.test]
    return sorted(chosen, key=lambda p: (p.set, p.language, p.id))


def dev_prompts(study: Study, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Dev red-team prompts and their benign twins in the trained languages."""
    sets = ("redteam", "benign")
    chosen = [p for p in prompts if p.split == "dev" and p.set in sets and p.language in study.languages.train]
    return sorted(chosen, key=lambda p: (p.set, p.language, p.id))
