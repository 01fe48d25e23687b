"""Stages that ask, judge and compare models, and the last two, which make figures and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from alignprism import stages
from alignprism.judging.refusal_head import refusal_digest
from alignprism.judging.translation import translation_requests
from alignprism.labels.store import labels_digest
from alignprism.layout.plan import Plan, Stage, decoding_seconds, taught
from alignprism.models.protocol import Request
from alignprism.rows import Prompt, content_id
from alignprism.run_folder import RunFolder
from alignprism.stages import Sent
from alignprism.study import Study


def evaluation_stages(layout: Plan, count: stages.Counts) -> Iterator[Stage]:
    """Completions and verdicts of every compared model, then comparisons and translations."""
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


def _evaluated(layout: Plan) -> list[str]:
    return [*stages.evaluated_models(layout.study), *(cell.name for cell in layout.cells if cell.evaluated)]


def _made_by(layout: Plan, name: str) -> tuple[str, ...]:
    """The stage that makes an evaluated model, if one does."""
    return taught(layout.study, name) if name in layout.study.models else (f"train:{name}",)


def _completion_stage(layout: Plan, count: stages.Counts, name: str) -> Stage:
    study = layout.study
    entry = study.models.get(name, study.models[study.baseline])
    decoding = stages.test_decoding(study)
    sent = stages.sent_prompts("test prompts", name, entry, stages.evaluated_prompts(study, layout.prompts), decoding)
    local = decoding_seconds(sent) + count.likelihoods / stages.LIKELIHOODS_PER_SECOND
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
        seconds=sent.seconds or decoding_seconds(sent),
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
        seconds=sent.seconds or decoding_seconds(sent),
    )


def _judged(
    layout: Plan, role: Literal["preference", "evaluation"], text: str, prompts: list[Prompt], answers: int
) -> tuple[Sent, ...]:
    study = layout.study
    judge = study.judges.as_settings(role)
    return tuple(stages.sent_to_judge(text, judge, prompts, answers, study.evaluation.max_new_tokens))


def _judging_seconds(sent: tuple[Sent, ...]) -> float:
    return sum(
        part.seconds
        or (decoding_seconds(part) if part.use.answer_tokens else part.use.calls / stages.JUDGE_ROWS_PER_SECOND)
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
