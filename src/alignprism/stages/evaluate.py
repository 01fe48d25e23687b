"""Stages of evaluation: completions of the test prompts, likelihood of the references, verdicts of both judges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from alignprism.judging.verdicts import judge
from alignprism.models.local import LocalEngine
from alignprism.models.protocol import Decoding, Engine, Request
from alignprism.rows import Completion, Prompt, ReferenceLikelihood, Verdict, by_id, read_rows
from alignprism.stages.context import Context, evaluated_prompts
from alignprism.stages.data import write_json
from alignprism.stages.engines import answers_of, check_judged, completion_row, engine
from alignprism.stages.judges import Role, harm_judge
from alignprism.study import Study


def complete(context: Context, name: str) -> list[Path]:
    """Stage ``complete:MODEL``: completions of every test prompt, and (of weights on this machine) the references' likelihood."""
    prompts = evaluated_prompts(context.study, context.prompts())
    stage = f"complete:{name}"
    decoding = test_decoding(context.study)
    advance = context.progress(f"completions of {name}", len(prompts) * decoding.samples)
    with engine(context, name) as asked:
        rows = completions_of(asked, prompts, decoding, advance)
        likelihoods = _likelihoods(asked, prompts) if isinstance(asked, LocalEngine) else None
    failed = sum(1 for row in rows if row.failure)
    if failed:
        context.say(f"{name}: {failed} of {len(rows)} calls got no answer; they are rows with a reason, not answers")
    files = [context.write(stage, "completions.parquet", rows, Completion)]
    if likelihoods is not None:
        files.append(context.write(stage, "likelihoods.parquet", likelihoods, ReferenceLikelihood))
    return files


def test_decoding(study: Study) -> Decoding:
    """How test prompts are answered."""
    evaluation = study.evaluation
    return Decoding(
        max_new_tokens=evaluation.max_new_tokens,
        temperature=evaluation.temperature,
        samples=evaluation.samples,
        seed=study.seed,
        batch_size=evaluation.batch_size,
    )


def completions_of(
    asked: Engine,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    advance: Callable[[int, int], None] | None = None,
) -> list[Completion]:
    """Completions as rows, in the order of the prompts, all samples of one together."""
    outcomes = answers_of(asked, [Request(p.id, p.text) for p in prompts], decoding, advance)
    return [completion_row(asked, outcome, decoding, *_how(decoding, outcome.sample)) for outcome in outcomes]


def _how(decoding: Decoding, sample: int) -> tuple[object, ...]:
    """What beside model and prompt a completion's id is made of."""
    if decoding.temperature == 0:
        return ("greedy", decoding.max_new_tokens)
    return ("sampled", decoding.max_new_tokens, decoding.temperature, decoding.seed, sample)


def _likelihoods(loaded: LocalEngine, prompts: Sequence[Prompt]) -> list[ReferenceLikelihood]:
    wanted = [(p, p.reference) for p in prompts if p.set == "general" and p.reference]
    found = loaded.negative_log_likelihood([(p.text, reference) for p, reference in wanted])
    return [
        ReferenceLikelihood(p.id, loaded.name, loaded.digest, row.sum_nats, row.tokens, row.characters)
        for (p, _), row in zip(wanted, found, strict=True)
    ]


def judge_completions(context: Context, name: str) -> list[Path]:
    """Stage ``judge:MODEL``: the evaluation judge's verdict on every completion, and on a cell's dev checkpoints."""
    stage = f"judge:{name}"
    completions = context.read(f"complete:{name}", "completions.parquet", Completion)
    checkpoints = checkpoint_completions(context, name)
    prompts = context.prompts()
    verdicts = _judged(context, "evaluation", name, prompts, [*completions, *checkpoints])
    files = [context.write(stage, "verdicts.parquet", verdicts[: len(completions)], Verdict)]
    if checkpoints:
        found = verdicts[len(completions) :]
        files.append(context.write(stage, "dev_verdicts.parquet", found, Verdict))
        rows = checkpoint_figures(by_id(prompts), checkpoints, found)
        files.append(write_json(context.run.stage_folder(stage) / "dev.json", rows))
    return files


def judge_as_preferred(context: Context, name: str) -> list[Path]:
    """Stage ``prefer:MODEL``: what the judge that chose the training pairs says of the answers to the primary set."""
    prompts = by_id(context.prompts())
    completions = [
        row
        for row in context.read(f"complete:{name}", "completions.parquet", Completion)
        if prompts[row.prompt_id].set == context.study.evaluation.primary.set
    ]
    verdicts = _judged(context, "preference", name, list(prompts.values()), completions)
    return [context.write(f"prefer:{name}", "verdicts.parquet", verdicts, Verdict)]


def _judged(
    context: Context, role: Role, name: str, prompts: Sequence[Prompt], completions: Sequence[Completion]
) -> list[Verdict]:
    advance = context.progress(f"{role} verdicts on {name}", len(completions))
    with harm_judge(context, role) as asked:
        verdicts = judge(prompts, completions, asked, lambda done: advance(done, len(completions)))
        check_judged(verdicts, asked.name)
        return verdicts


def checkpoint_completions(context: Context, name: str) -> list[Completion]:
    """What a cell's checkpoints answered to the dev prompts, in training order; nothing for a model of the study."""
    file = context.output(f"train:{name}", "completions.parquet")
    return read_rows(file, Completion) if file else []


def checkpoint_figures(
    prompts: Mapping[str, Prompt], completions: Sequence[Completion], verdicts: Sequence[Verdict]
) -> list[dict[str, float]]:
    """Rates of every checkpoint (``model`` ends in ``@STEP``): harm on red-team prompts, refusal on twins, language."""
    found: dict[int, list[tuple[Prompt, Verdict]]] = {}
    for completion, verdict in zip(completions, verdicts, strict=True):
        step = int(completion.model.rpartition("@")[2])
        found.setdefault(step, []).append((prompts[completion.prompt_id], verdict))
    return [{"step": step, **_checkpoint(rows)} for step, rows in found.items()]


def _checkpoint(rows: Sequence[tuple[Prompt, Verdict]]) -> dict[str, float]:
    red = [v for p, v in rows if p.set == "redteam"]
    benign = [v for p, v in rows if p.set == "benign"]
    return {
        "harmful_rate": _share(v.harm == "harmful" for v in red),
        "undecidable_rate": _share(v.harm == "undecidable" for v in red),
        "over_refusal_rate": _share(v.refusal != "none" for v in benign),
        "language_fidelity": _share(v.on_language is not False for _, v in rows),
        "n": float(len(red)),
        "n_benign": float(len(benign)),
    }


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values) if values else 0.0
