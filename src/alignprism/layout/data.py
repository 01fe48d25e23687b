"""Stages before training: prompts, instruction tuning, prompts grown from seeds, candidates, pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path

from alignprism import stages
from alignprism.construct.ranking import n_meetings
from alignprism.layout.plan import Plan, Stage, decoding_seconds, own_tokenizer, taught
from alignprism.models.protocol import Decoding
from alignprism.rows import Prompt, content_id, file_digest
from alignprism.stages import Sent
from alignprism.study import Study


def data_stages(layout: Plan, count: stages.Counts) -> Iterator[Stage]:
    """The stages that make what is trained on; without methods only prompts are read."""
    study, prompts = layout.study, layout.prompts
    # Whole rows: a corrected cluster, category or licence changes figures and exports as much as a text does.
    rows = content_id([asdict(prompt) for prompt in prompts])
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
                {
                    "model": layout.digests[name],
                    "training": stages.training_settings(study, "ift"),
                    "seed": study.seed,
                    **own_tokenizer(layout, name),
                },
                lambda context, name=name: stages.teach(context, name),  # type: ignore[misc]
                seconds=count.ift_tokens / stages.TRAIN_TOKENS_PER_SECOND,
            )
    if not study.methods:
        return
    stages.check_ready(study)
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
        seconds=sum(part.seconds or decoding_seconds(part) for part in sent),
    )


def _pair_stages(layout: Plan, arm: str) -> Iterator[Stage]:
    """Candidates and pairs of one arm."""
    study = stages.arm_study(layout.study, arm)
    prompts = [p for side in stages.training_prompts(study, layout.prompts) for p in side]
    asked = content_id([p.id for p in prompts])
    expected = [p for side in _expected(layout, study) for p in side]
    decoding = Decoding(max_new_tokens=study.pairs.max_new_tokens, temperature=1.0, samples=study.pairs.candidates)
    asked_of = tuple(
        stages.sent_prompts("training prompts", name, study.models[name], expected, decoding)
        for name in study.generators
    )
    judged_by = _ranking(layout, study)
    of_arm = f" ({arm} only)" if arm else ""
    grown = ("rephrase",) if study.rephrase is not None else ()
    yield Stage(
        stages.arm_stage("candidates", arm),
        f"Candidates: completions of the training prompts{of_arm}",
        ("prompts", *grown, *(stage for name in study.generators for stage in taught(study, name))),
        {
            "models": {name: layout.digests[name] for name in study.generators},
            "asked": asked,
            "pairs": study.pairs.model_dump(include={"candidates", "temperature", "max_new_tokens"}),
            "seed": study.seed,
        },
        lambda context: stages.sample_candidates(context, arm),
        sent=asked_of,
        seconds=sum(sent.seconds or decoding_seconds(sent) for sent in asked_of),
    )
    yield Stage(
        stages.arm_stage("pairs", arm),
        f"Preference pairs: rank, drop, mix{of_arm}",
        ("prompts", *grown, stages.arm_stage("candidates", arm), *taught(study, study.baseline)),
        {
            **_files(study, "safety_pairs", "general_pairs", "completions"),
            **({"apart_from": stages.apart_from(study)} if stages.ready_kinds(study) else {}),
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


def _ranking(layout: Plan, study: Study) -> tuple[Sent, ...]:
    """What the judges are shown that rank candidates into pairs and look at ready ones."""
    safety, general = _expected(layout, study)
    judge, longest = study.judges.as_settings("preference"), study.pairs.max_new_tokens
    supplied = stages.brought(study, [*safety, *general]).by_prompt
    each = -(-sum(map(len, supplied.values())) // max(len({prompt.id for prompt in [*safety, *general]}), 1))
    candidates = study.pairs.candidates * len(study.generators) + 1 + each
    text = "training prompts, their references and candidates"
    sent = [*stages.sent_to_judge(text, judge, [*safety, *general], candidates, longest)]
    if "safety" in stages.ready_kinds(study):
        sent += stages.sent_pairs("ready pairs, their chosen sides", judge, stages.tried(study)["safety"])
    comparer = study.judges.pairwise
    if study.pairs.ranking != "scores" and comparer is not None:
        text = "training prompts and their candidates, two at a time"
        sent.append(stages.sent_to_pairwise(text, comparer, safety * n_meetings(candidates), longest))
    return tuple(sent)


def _expected(layout: Plan, study: Study) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to estimate by: where seeds grow, they stand in turn for the prompts that are not written yet."""
    safety, general = stages.training_prompts(study, layout.prompts)
    if study.rephrase is None:
        return safety, general
    grown = len(stages.seeds_of(study, layout.prompts)) * study.rephrase.per_seed
    most = min(stages.tried(study)["safety"], len(safety) + grown)
    return list(islice(cycle(safety), most)), general


def _files(study: Study, *names: str) -> dict[str, str]:
    """Digests of the files that a study names in `data`, of those that it does."""
    files = {name: getattr(study.data, name) for name in names}
    return {name: file_digest(Path(file)) for name, file in files.items() if file is not None}
