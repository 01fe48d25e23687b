"""What a study comes to: its stages in the order in which they run, each with its settings, inputs and size.

Data goes one way: every stage reads the outputs of the stages it names. A stage's key is a hash over its settings and over
the bytes of its inputs (see `alignprism.pipeline.stage_key`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alignprism import stages
from alignprism.construct.ranking import n_meetings
from alignprism.judging.refusal_head import refusal_digest
from alignprism.judging.translation import translation_requests
from alignprism.labels.store import labels_digest
from alignprism.models.protocol import Decoding, Request
from alignprism.models.spec import ResolvedModel
from alignprism.rows import Prompt, content_id, file_digest
from alignprism.run_folder import RunFolder
from alignprism.stages import Cell, Context, JudgeEntry, Sent
from alignprism.study import Study
from alignprism.study.families import Member


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    ``settings`` holds everything of the study that can change the result; ``inputs`` names the stages it reads;
    ``work`` writes the outputs and returns their paths. ``sent`` (which text goes to whom) and ``seconds`` are estimates.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any]
    work: Callable[[Context], list[Path]]
    sent: tuple[Sent, ...] = ()
    seconds: float = 0.0

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


def all_stages(layout: Plan) -> Iterator[Stage]:
    """All stages of a study in the order in which they run."""
    count = stages.Counts.of(layout.study, layout.prompts)
    yield from _data_stages(layout, count)
    yield from _training_stages(layout, count)
    yield from _evaluation_stages(layout, count)
    yield from figure_stages(layout.study, layout.run, {role: entry.digest for role, entry in layout.judges.items()})


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
    for name in study.models:
        if study.models[name].ift == "train":
            yield Stage(
                f"ift:{name}",
                f"Instruction tuning of {name}",
                ("prompts",),
                {"model": layout.digests[name], "training": stages.training_settings(study, "ift"), "seed": study.seed},
                lambda context, name=name: stages.teach(context, name),  # type: ignore[misc]
                seconds=count.ift_tokens / stages.TRAIN_TOKENS_PER_SECOND,
            )
    if not study.methods:
        return
    if study.rephrase is not None:
        yield _rephrase_stage(layout)
    for arm in stages.arms_of(study):
        yield from _pair_stages(layout, arm)


def _rephrase_stage(layout: Plan) -> Stage:
    study = layout.study
    assert study.rephrase is not None
    seeds = stages.seeds_of(study, layout.prompts)
    sent = stages.sent_to_writer(study, seeds)
    return Stage(
        "rephrase",
        "Training prompts grown from the seeds",
        ("prompts",),
        {
            "models": layout.writers,
            "settings": study.rephrase.model_dump(exclude={"writer", "checker"}),
            "seeds": content_id([seed.id for seed in seeds]),
            "seed": study.seed,
        },
        stages.grow_seeds,
        sent=sent,
        seconds=sum(part.seconds or _decoding_seconds(part) for part in sent),
    )


def _pair_stages(layout: Plan, arm: str) -> Iterator[Stage]:
    """Candidates and pairs of one arm."""
    study = stages.arm_study(layout.study, arm)
    prompts = [p for side in stages.training_prompts(study, layout.prompts) for p in side]
    asked = content_id([p.id for p in prompts])
    decoding = Decoding(max_new_tokens=study.pairs.max_new_tokens, temperature=1.0, samples=study.pairs.candidates)
    asked_of = tuple(
        stages.sent_prompts("training prompts", name, study.models[name], prompts, decoding)
        for name in study.generators
    )
    candidates = study.pairs.candidates * len(study.generators) + 1
    judged_by = tuple(
        stages.sent_to_judge(
            "training prompts, their references and candidates",
            study.judges.as_settings("preference"),
            prompts,
            candidates,
            study.pairs.max_new_tokens,
        )
    )
    if study.pairs.ranking != "scores" and study.judges.pairwise is not None:
        safety, _ = stages.training_prompts(study, layout.prompts)
        judged_by += (
            stages.sent_to_pairwise(
                "training prompts and their candidates, two at a time",
                study.judges.pairwise,
                safety * n_meetings(candidates),
                study.pairs.max_new_tokens,
            ),
        )
    of_arm = f" ({arm} only)" if arm else ""
    grown = ("rephrase",) if study.rephrase is not None else ()
    yield Stage(
        stages.arm_stage("candidates", arm),
        f"Candidates: completions of the training prompts{of_arm}",
        ("prompts", *grown, *(stage for name in study.generators for stage in _taught(study, name))),
        {
            "models": {name: layout.digests[name] for name in study.generators},
            "asked": asked,
            **_files(study, "completions"),
            "pairs": study.pairs.model_dump(include={"candidates", "temperature", "max_new_tokens"}),
            "seed": study.seed,
        },
        lambda context: stages.sample_candidates(context, arm),
        sent=asked_of,
        seconds=sum(sent.seconds or _decoding_seconds(sent) for sent in asked_of),
    )
    yield Stage(
        stages.arm_stage("pairs", arm),
        f"Preference pairs: rank, drop, mix{of_arm}",
        ("prompts", *grown, stages.arm_stage("candidates", arm), *_taught(study, study.baseline)),
        {
            **_files(study, "safety_pairs", "general_pairs"),
            **({} if study.pairs.ranking == "scores" else {"comparer": layout.judges["pairwise"].digest}),
            "judge": layout.judges["preference"].digest,
            "base": layout.digests[study.baseline],
            "pairs": study.pairs.model_dump(),
            **study.training.model_dump(include={"max_tokens", "over_limit"}),
            "mixture": study.mixture,
            "seed": study.seed,
        },
        lambda context: stages.make_pairs(context, arm),
        sent=judged_by,
        seconds=sum(sent.seconds or sent.use.calls / stages.JUDGE_ROWS_PER_SECOND for sent in judged_by),
    )


def _files(study: Study, *names: str) -> dict[str, str]:
    """Digests of the files that a study names in `data`, of those that it does."""
    files = {name: getattr(study.data, name) for name in names}
    return {name: file_digest(Path(file)) for name, file in files.items() if file is not None}


def _training_stages(layout: Plan, count: stages.Counts) -> Iterator[Stage]:
    study = layout.study
    for cell in layout.cells:
        if cell.parts:
            yield Stage(
                f"train:{cell.name}",
                f"Merging {cell.name}",
                ("prompts", *(f"train:{part}" for part in cell.parts)),
                {
                    "base": layout.digests[study.baseline],
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
                "base": layout.digests[study.baseline],
                "method": cell.method,
                "seed": cell.seed,
                "training": stages.training_settings(study, cell.method),
                "max_new_tokens": study.evaluation.max_new_tokens,
            },
            lambda context, cell=cell: stages.train_cell(context, cell),  # type: ignore[misc]
            seconds=count.training_seconds(cell.method),
        )


def _evaluated(layout: Plan) -> list[str]:
    return [*stages.evaluated_models(layout.study), *(cell.name for cell in layout.cells if cell.evaluated)]


def _evaluation_stages(layout: Plan, count: stages.Counts) -> Iterator[Stage]:
    for name in _evaluated(layout):
        yield _completion_stage(layout, count, name)
        yield _verdict_stage(layout, name)
        if "preference" in layout.judges and layout.judges["preference"].digest != layout.judges["evaluation"].digest:
            yield _preference_stage(layout, name)
    if "pairwise" in layout.judges:
        for name in _evaluated(layout):
            if name != layout.study.baseline:
                yield _comparison_stage(layout, name)

    sentences = stages.sentences_of(layout.study)
    for name in _evaluated(layout) if sentences else ():
        yield _translation_stage(layout, name, list(translation_requests(sentences)))


def _made_by(layout: Plan, name: str) -> tuple[str, ...]:
    """The stage that makes an evaluated model, if one does."""
    return _taught(layout.study, name) if name in layout.study.models else (f"train:{name}",)


def _completion_stage(layout: Plan, count: stages.Counts, name: str) -> Stage:
    study = layout.study
    entry = study.models.get(name, study.models[study.baseline])
    decoding = stages.test_decoding(study)
    sent = stages.sent_prompts("test prompts", name, entry, stages.evaluated_prompts(study, layout.prompts), decoding)
    local = _decoding_seconds(sent) + count.likelihoods / stages.LIKELIHOODS_PER_SECOND
    sampled = {"samples": decoding.samples, "seed": decoding.seed} if decoding.temperature > 0 else {}
    return Stage(
        f"complete:{name}",
        f"Completions of {name}",
        ("prompts", *_made_by(layout, name)),
        {
            "model": layout.digests[name if name in study.models else study.baseline],
            "decoding": decoding.identity() | sampled,
            **({"batch": decoding.batch_size, "engine": entry.engine} if entry.endpoint is None else {}),
        },
        lambda context: stages.complete(context, name),
        sent=(sent,),
        seconds=sent.seconds or local,
    )


def _verdict_stage(layout: Plan, name: str) -> Stage:
    study = layout.study
    known = name in study.models
    test = stages.evaluated_prompts(study, layout.prompts)
    dev = [] if known else stages.dev_prompts(study, layout.prompts) * study.training.dev_checks
    sent = _judged(layout, "evaluation", "test prompts and completions", test, study.evaluation.samples)
    sent += _judged(layout, "evaluation", "dev prompts and completions", dev, 1) if dev else ()
    return Stage(
        f"judge:{name}",
        f"Verdicts on {name}",
        ("prompts", f"complete:{name}", *(() if known else (f"train:{name}",))),
        {"judge": layout.judges["evaluation"].digest, "refusal": refusal_digest()},
        lambda context: stages.judge_completions(context, name),
        sent=sent,
        seconds=_judging_seconds(sent),
    )


def _preference_stage(layout: Plan, name: str) -> Stage:
    study = layout.study
    test = [p for p in stages.evaluated_prompts(study, layout.prompts) if p.set == study.evaluation.primary.set]
    sent = _judged(layout, "preference", "test prompts and completions", test, study.evaluation.samples)
    return Stage(
        f"prefer:{name}",
        f"The preference judge on {name}",
        ("prompts", f"complete:{name}"),
        {
            "judge": layout.judges["preference"].digest,
            "refusal": refusal_digest(),
            "set": study.evaluation.primary.set,
        },
        lambda context: stages.judge_as_preferred(context, name),
        sent=sent,
        seconds=_judging_seconds(sent),
    )


def _comparison_stage(layout: Plan, name: str) -> Stage:
    study = layout.study
    assert study.judges.pairwise is not None
    prompts = [p for p in stages.evaluated_prompts(study, layout.prompts) if p.set == "general"]
    sent = stages.sent_to_pairwise(
        "general test prompts and two completions", study.judges.pairwise, prompts, study.evaluation.max_new_tokens
    )
    return Stage(
        f"compare:{name}",
        f"Comparisons of {name} with {study.baseline}",
        ("prompts", f"complete:{name}", f"complete:{study.baseline}"),
        {"judge": layout.judges["pairwise"].digest},
        lambda context: stages.compare(context, name),
        sent=(sent,),
        seconds=sent.seconds or _decoding_seconds(sent),
    )


def _translation_stage(layout: Plan, name: str, requests: list[Request]) -> Stage:
    study = layout.study
    entry = study.models.get(name, study.models[study.baseline])
    decoding = stages.translation_decoding(study)
    sent = stages.sent_texts("sentences to translate", name, entry, requests, decoding)
    return Stage(
        f"translate:{name}",
        f"Translations by {name}",
        ("prompts", *_made_by(layout, name)),
        {
            "model": layout.digests[name if name in study.models else study.baseline],
            "decoding": decoding.identity(),
            "asked": content_id([(request.id, request.prompt) for request in requests]),
            **({"batch": decoding.batch_size, "engine": entry.engine} if entry.endpoint is None else {}),
        },
        lambda context: stages.translate(context, name),
        sent=(sent,),
        seconds=sent.seconds or _decoding_seconds(sent),
    )


def _judged(
    layout: Plan, role: Literal["preference", "evaluation"], text: str, prompts: list[Prompt], answers: int
) -> tuple[Sent, ...]:
    study = layout.study
    judge = study.judges.as_settings(role)
    return tuple(stages.sent_to_judge(text, judge, prompts, answers, study.evaluation.max_new_tokens))


def _decoding_seconds(sent: Sent) -> float:
    return sent.use.answer_tokens / stages.DECODE_TOKENS_PER_SECOND


def _judging_seconds(sent: tuple[Sent, ...]) -> float:
    return sum(
        part.seconds
        or (_decoding_seconds(part) if part.use.answer_tokens else part.use.calls / stages.JUDGE_ROWS_PER_SECOND)
        for part in sent
    )


def figure_stages(study: Study, run: RunFolder, judges: Mapping[str, str]) -> list[Stage]:
    """The last two stages; `judges` are digests by role. They read the run folder alone, so that labels can be added to a
    finished run."""
    cells = stages.cells_of(study)
    evaluated = [*stages.evaluated_models(study), *(cell.name for cell in cells if cell.evaluated)]
    kinds = ["complete", "judge"]
    read = [f"{kind}:{name}" for name in evaluated for kind in kinds]
    if "preference" in judges and judges["preference"] != judges["evaluation"]:
        read += [f"prefer:{name}" for name in evaluated]
    if "pairwise" in judges:
        read += [f"compare:{name}" for name in evaluated if name != study.baseline]
    if study.evaluation.translation.data is not None:
        read += [f"translate:{name}" for name in evaluated]
    pairs = [stages.arm_stage("pairs", arm) for arm in stages.arms_of(study)] if cells else []
    grown = ["rephrase"] if study.rephrase is not None and cells else []
    made = [*grown, *pairs, *(f"train:{cell.name}" for cell in cells)]
    settings = {
        "study": study.model_dump(exclude={"budget", "allow_remote"}),
        "evaluated": evaluated,
        "labels": labels_digest(run.path),
    }
    return [
        Stage("results", "Figures", ("prompts", *made, *read), settings, stages.write_results, seconds=5),
        Stage("report", "The page", ("results",), {}, stages.write_report, seconds=5),
    ]
