"""The stages of a run: their order, what is already done, what it will cost.

Data goes one way: every stage reads the outputs of the stages it names and writes files that appear whole or not at
all. A stage's key is a hash over its settings and over the bytes of its inputs, so that running again does what is
missing and nothing else, and a change redoes exactly what depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from alignprism import stages
from alignprism.judging.head import Head, prompt_digest
from alignprism.models.embedded import describe, embedded
from alignprism.models.identity import weights_digest
from alignprism.models.spec import ModelSpec, ResolvedModel, resolve
from alignprism.prompts.select import select_prompts
from alignprism.rows import Prompt, content_id, write_atomic
from alignprism.run_folder import RunFolder, open_run, read_manifest
from alignprism.stages import Cell
from alignprism.study import Study, StudyError, dump

STAGE_VERSION = 3
"""Raised when a stage's code changes its result for the same inputs."""


class Reporter(Protocol):
    """What the pipeline tells while it works; the command line draws it."""

    def say(self, text: str) -> None:
        """One line of text."""

    def stage(self, number: int, total: int, title: str, done: bool) -> None:
        """A stage begins, or is already done."""

    def progress(self, title: str, total: int) -> Callable[[int, int], None]:
        """A bar of `total` units; the function returned is called with (done, total)."""


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    ``settings`` holds everything of the study that can change the result; ``inputs`` names the stages it reads;
    ``work`` writes the outputs and returns their paths. ``calls`` and ``seconds`` are estimates for the dry run.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any]
    work: Callable[[stages.Context], list[Path]]
    calls: int = 0
    seconds: float = 0.0
    text: str = ""


@dataclass
class Plan:
    """What a study comes to: resolved models, judges, prompts and stages in order."""

    study: Study
    run: RunFolder
    prompts: list[Prompt]
    models: dict[str, ResolvedModel]
    judges: dict[str, Head]
    stages: list[Stage]
    cells: list[Cell]
    fetches: list[str]


@dataclass
class Outcome:
    """Which stages ran and which were already done, with what had to be set aside."""

    ran: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)


def plan(study: Study, folder: Path, cache: Path, reporter: Reporter, *, dry_run: bool = False) -> Plan:
    """Resolve models and judges, read and check the prompts, and lay out the stages.

    A dry run writes nothing: no run folder is made, and an embedded model that is not in the cache yet is not fetched
    but listed in ``fetches``.

    Raises
    ------
    StudyError, RowError, ModelError, RunFolderError
        each says what is wrong and where; nothing has been computed then.
    """
    if study.judges.pairwise is not None:
        raise StudyError(
            f"judges.pairwise: {study.judges.pairwise!r}: no pairwise judge can be asked yet (judges behind an endpoint "
            "come with a later version); set it to null, the win rate is then given as not available, with its reason"
        )
    judges = {role: Head.load(getattr(study.judges, role)) for role in ("preference", "evaluation")}
    if judges["preference"].digest == judges["evaluation"].digest and not study.allow_shared_judge:
        raise StudyError(
            "judges: preference and evaluation judge are the same weights under two names; name two different judges, "
            "or set allow_shared_judge: true (the page will say so)"
        )
    prompts, _ = select_prompts(study)
    _refuse_trained_judges(study, judges, prompts)
    run = open_run(folder, create=not dry_run)
    missing = missing_models(study, cache) if dry_run else []
    models = {
        name: ResolvedModel(name, Path(), None, "not fetched")
        if missing
        else resolve(ModelSpec(name, entry.source, entry.adapter), cache, reporter.say)
        for name, entry in study.models.items()
    }
    cells = stages.cells_of(study)
    layout = Plan(study, run, prompts, models, judges, [], cells, missing)
    layout.stages = list(_stages(layout))
    return layout


def _refuse_trained_judges(study: Study, judges: dict[str, Head], prompts: Sequence[Prompt]) -> None:
    """A judge that was trained on a prompt of the study knows the answer: refuse it."""
    for role, head in judges.items():
        seen = [p.id for p in prompts if prompt_digest(p.text) in head.training_prompt_digests]
        if seen:
            raise StudyError(
                f"judges.{role}: {getattr(study.judges, role)!r} was trained on {len(seen)} prompts of this study (the first: "
                f"{seen[0]!r}); name another judge, or take the prompts out"
            )


def missing_models(study: Study, cache: Path) -> list[str]:
    """What a run would have to fetch first: the descriptions of embedded models that are not in the cache."""
    sources = {entry.source for entry in study.models.values() if entry.source.startswith("embedded:")}
    return [describe(source) for source in sorted(sources) if not (cache / "models" / embedded(source).name).is_dir()]


def _stages(layout: Plan) -> Iterator[Stage]:
    """All stages of a study in the order in which they run."""
    count = stages.Counts.of(layout.study, layout.prompts)
    yield from _data_stages(layout, count)
    yield from _training_stages(layout, count)
    yield from _evaluation_stages(layout, count)
    yield from _figure_stages(layout)


def _taught(study: Study, name: str) -> tuple[str, ...]:
    """The stage that a model of the study needs before it can be used: its instruction tuning, if it has one."""
    return (f"ift:{name}",) if study.models[name].ift == "train" else ()


def _data_stages(layout: Plan, count: stages.Counts) -> Iterator[Stage]:
    study, prompts = layout.study, layout.prompts
    rows = content_id([(p.id, p.text, p.split, p.reference) for p in prompts])
    yield Stage(
        "prompts",
        "Prompts: read, check, split",
        (),
        {"languages": study.languages.model_dump(), "data": study.data.model_dump(), "rows": rows},
        stages.write_prompts,
    )
    for name, model in layout.models.items():
        if study.models[name].ift == "train":
            yield Stage(
                f"ift:{name}",
                f"Instruction tuning of {name}",
                ("prompts",),
                {"model": model.digest, "training": stages.training_settings(study, "ift"), "seed": study.seed},
                lambda context, name=name: stages.teach(context, name),  # type: ignore[misc]
                seconds=count.ift_tokens / stages.TRAIN_TOKENS_PER_SECOND,
            )
    if not study.methods:
        return
    for arm in stages.arms_of(study):
        yield from _pair_stages(layout, arm)


def _pair_stages(layout: Plan, arm: str) -> Iterator[Stage]:
    """Candidates and pairs of one arm."""
    study = stages.arm_study(layout.study, arm)
    count = stages.Counts.of(study, layout.prompts)
    asked = content_id([p.id for side in stages.training_prompts(study, layout.prompts) for p in side])
    of_arm = f" ({arm} only)" if arm else ""
    yield Stage(
        stages.arm_stage("candidates", arm),
        f"Candidates: completions of the training prompts{of_arm}",
        ("prompts", *(stage for name in study.generators for stage in _taught(study, name))),
        {
            "models": {name: layout.models[name].digest for name in study.generators},
            "asked": asked,
            "pairs": study.pairs.model_dump(include={"candidates", "temperature", "max_new_tokens"}),
            "seed": study.seed,
        },
        lambda context: stages.sample_candidates(context, arm),
        calls=count.candidates,
        seconds=count.candidates * study.pairs.max_new_tokens / stages.DECODE_TOKENS_PER_SECOND,
        text="training prompts to " + ", ".join(study.generators) + " (on this machine)",
    )
    yield Stage(
        stages.arm_stage("pairs", arm),
        f"Preference pairs: rank, drop, mix{of_arm}",
        ("prompts", stages.arm_stage("candidates", arm), *_taught(study, study.baseline)),
        {
            "judge": layout.judges["preference"].digest,
            "base": layout.models[study.baseline].digest,
            "pairs": study.pairs.model_dump(),
            **study.training.model_dump(include={"max_tokens", "over_limit"}),
            "mixture": study.mixture,
            "seed": study.seed,
        },
        lambda context: stages.make_pairs(context, arm),
        calls=count.candidates,
        seconds=count.candidates / stages.JUDGE_ROWS_PER_SECOND,
        text=f"training prompts and candidates to {study.judges.preference} (on this machine)",
    )


def _training_stages(layout: Plan, count: stages.Counts) -> Iterator[Stage]:
    study = layout.study
    for cell in layout.cells:
        if cell.parts:
            yield Stage(
                f"train:{cell.name}",
                f"Merging {cell.name}",
                ("prompts", *(f"train:{part}" for part in cell.parts)),
                {
                    "base": layout.models[study.baseline].digest,
                    "method": cell.method,
                    "merging": study.merging.model_dump(),
                },
                lambda context, cell=cell: stages.merge_cell(context, cell),  # type: ignore[misc]
                seconds=60,
            )
            continue
        start = (f"train:{cell.start}",) if cell.start else _taught(study, study.baseline)
        yield Stage(
            f"train:{cell.name}",
            f"Training {cell.name}",
            ("prompts", stages.arm_stage("pairs", cell.arm), *start),
            {
                "base": layout.models[study.baseline].digest,
                "method": cell.method,
                "seed": cell.seed,
                "training": stages.training_settings(study, cell.method),
                "max_new_tokens": study.evaluation.max_new_tokens,
            },
            lambda context, cell=cell: stages.train_cell(context, cell),  # type: ignore[misc]
            calls=count.dev * study.training.dev_checks,
            seconds=count.training_seconds(cell.method),
        )


def _evaluated(layout: Plan) -> list[str]:
    return [*layout.study.models, *(cell.name for cell in layout.cells if cell.evaluated)]


def _evaluation_stages(layout: Plan, count: stages.Counts) -> Iterator[Stage]:
    study = layout.study
    for name in _evaluated(layout):
        known = name in study.models
        yield Stage(
            f"complete:{name}",
            f"Completions of {name}",
            ("prompts", *(_taught(study, name) if known else (f"train:{name}",))),
            {
                "model": layout.models[name if known else study.baseline].digest,
                "decoding": study.evaluation.max_new_tokens,
                "batch": study.evaluation.batch_size,
            },
            lambda context, name=name: stages.complete(context, name),  # type: ignore[misc]
            calls=count.test,
            seconds=count.test * study.evaluation.max_new_tokens / stages.DECODE_TOKENS_PER_SECOND
            + count.likelihoods / stages.LIKELIHOODS_PER_SECOND,
            text=f"test prompts to {name} (on this machine)",
        )
        yield Stage(
            f"judge:{name}",
            f"Verdicts on {name}",
            ("prompts", f"complete:{name}", *(() if known else (f"train:{name}",))),
            {"judge": layout.judges["evaluation"].digest},
            lambda context, name=name: stages.judge_completions(context, name),  # type: ignore[misc]
            calls=count.test + (0 if known else count.dev * study.training.dev_checks),
            seconds=(count.test + (0 if known else count.dev * study.training.dev_checks))
            / stages.JUDGE_ROWS_PER_SECOND,
            text=f"test prompts and completions to {study.judges.evaluation} (on this machine)",
        )


def _figure_stages(layout: Plan) -> Iterator[Stage]:
    evaluated = _evaluated(layout)
    read = [f"{kind}:{name}" for name in evaluated for kind in ("complete", "judge")]
    pairs = [stages.arm_stage("pairs", arm) for arm in stages.arms_of(layout.study)] if layout.cells else []
    made = [*pairs, *(f"train:{cell.name}" for cell in layout.cells)]
    settings = {"study": layout.study.model_dump(exclude={"budget"}), "evaluated": evaluated}
    yield Stage("results", "Figures", ("prompts", *made, *read), settings, stages.write_results, seconds=5)
    yield Stage("report", "The page", ("results",), {}, stages.write_report, seconds=5)


def stage_key(stage: Stage, run: RunFolder) -> str:
    """The stage's key: version, name, settings and the bytes of its inputs (which must be done)."""
    inputs = {name: dict(run.outputs_of(name)) for name in stage.inputs}
    return content_id(STAGE_VERSION, stage.name, stage.settings, inputs)


def pending(layout: Plan) -> list[Stage]:
    """The stages that running would do: not done, or behind one that is not."""
    todo: list[Stage] = []
    names: set[str] = set()
    for stage in layout.stages:
        ready = not names.intersection(stage.inputs)
        run = layout.run
        if not ready or run.damaged(stage.name) or not run.done(stage.name, stage_key(stage, run)):
            todo.append(stage)
            names.add(stage.name)
    return todo


def execute(layout: Plan, cache: Path, reporter: Reporter) -> Outcome:
    """Do what is missing, in order. Interrupting loses at most the batch or step in hand."""
    outcome = Outcome()
    run, study = layout.run, layout.study
    with _locked(run.path):
        # Another process may have worked here since the plan was made.
        run.manifest = read_manifest(run.path / "manifest.json")
        _freeze(layout)
        write_atomic(run.path / "study.yaml", dump(study).encode())
        context = stages.Context(study, run, cache, layout.models, layout.judges, reporter.say, reporter.progress)
        for number, stage in enumerate(layout.stages, 1):
            for name in run.damaged(stage.name):
                aside = run.set_aside(name)
                outcome.set_aside.append(name)
                reporter.say(f"{run.path / name} was changed or damaged: set aside as {aside.name}, made again")
            key = stage_key(stage, run)
            done = run.done(stage.name, key)
            reporter.stage(number, len(layout.stages), stage.title, done)
            if done:
                outcome.skipped.append(stage.name)
                continue
            run.begin(stage.name, key)
            started = time.monotonic()
            outputs = stage.work(context)
            # One save for both: a kill between them would lose an evaluation from the count.
            _note(layout, stage.name)
            run.record(stage.name, key, outputs, time.monotonic() - started)
            outcome.ran.append(stage.name)
    return outcome


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process per run folder."""
    import fcntl

    with (path / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudyError(f"{path}: another alignprism is working in this run folder; wait for it to end") from error
        yield


def _freeze(layout: Plan) -> None:
    """Fix the test prompts by hash before the first training; a later change is refused."""
    from alignprism.prompts.check import frozen_hash

    manifest = layout.run.manifest
    digest = frozen_hash(layout.prompts)
    if manifest["test"]["hash"] not in (None, digest) and manifest["test"]["evaluations"]:
        raise StudyError(
            f"{layout.run.path}: the test prompts differ from those this run was frozen with; changing them after an "
            "evaluation would let results choose the test. Name a new run folder"
        )
    manifest["test"]["hash"] = digest
    manifest["models"] |= {
        name: {
            "source": layout.study.models[name].source,
            "adapter": layout.study.models[name].adapter,
            "digest": model.digest,
        }
        for name, model in layout.models.items()
    }
    manifest["judges"] = {
        role: {"name": getattr(layout.study.judges, role), "digest": head.digest}
        for role, head in layout.judges.items()
    }
    manifest["seeds"] = {"study": layout.study.seed, "training": layout.study.training.seeds}
    layout.run.save()


def _note(layout: Plan, stage: str) -> None:
    """Count each evaluation on the test prompts, and enter what each trained model is."""
    kind, _, name = stage.partition(":")
    manifest = layout.run.manifest
    if kind == "complete":
        manifest["test"]["evaluations"].append({"model": name, "prompts": manifest["test"]["hash"][:16]})
    if kind in ("train", "ift"):
        base = layout.models[name if kind == "ift" else layout.study.baseline]
        folder = layout.run.cell_folder(stages.taught_name(name) if kind == "ift" else name)
        adapter = folder if (folder / "adapter_config.json").is_file() else None
        digest = weights_digest(base.folder if adapter else folder, adapter)
        manifest["models"][folder.name] = {
            "source": f"models/{folder.name}",
            "trained_from": base.name,
            "digest": digest,
        }


def estimate_minutes(todo: Sequence[Stage]) -> float:
    """Estimated minutes of the stages, from rough speeds of two cores without a GPU (see `stages.context`)."""
    return sum(stage.seconds for stage in todo) / 60
