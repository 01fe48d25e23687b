"""Stages of evaluation: greedy completions of the test prompts, likelihood of the references, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from alignprism.judging.judges import ready
from alignprism.judging.verdicts import judge
from alignprism.models.local import Decoding, LocalEngine, Request
from alignprism.rows import Completion, Prompt, ReferenceLikelihood, Verdict, content_id
from alignprism.stages.context import Context, evaluated_prompts
from alignprism.stages.engines import engine, model_of


def complete(context: Context, name: str) -> list[Path]:
    """Stage ``complete:MODEL``: one greedy completion of every test prompt, and the references' likelihood."""
    prompts = evaluated_prompts(context.study, context.prompts())
    model = model_of(context, name)
    stage = f"complete:{name}"
    advance = context.progress(f"completions of {name}", len(prompts))
    with engine(context, model) as loaded:
        rows = greedy(
            loaded, prompts, context.study.evaluation.max_new_tokens, context.study.evaluation.batch_size, advance
        )
        likelihoods = _likelihoods(loaded, prompts)
    return [
        context.write(stage, "completions.parquet", rows, Completion),
        context.write(stage, "likelihoods.parquet", likelihoods, ReferenceLikelihood),
    ]


def greedy(
    loaded: LocalEngine,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    batch_size: int,
    advance: Callable[[int, int], None] | None = None,
) -> list[Completion]:
    """Greedy completions as rows, in the order of the prompts."""
    decoding = Decoding(max_new_tokens=max_new_tokens, batch_size=batch_size)
    answers = loaded.complete([Request(p.id, p.text) for p in prompts], decoding, advance)
    return [
        Completion(
            id=content_id(loaded.digest, answer.request_id, "greedy", max_new_tokens),
            prompt_id=answer.request_id,
            model=loaded.name,
            model_digest=loaded.digest,
            text=answer.text,
            sample=answer.sample,
            n_tokens=answer.n_tokens,
            truncated=answer.truncated,
            temperature=0.0,
            seed=0,
        )
        for answer in answers
    ]


def _likelihoods(loaded: LocalEngine, prompts: Sequence[Prompt]) -> list[ReferenceLikelihood]:
    wanted = [(p, p.reference) for p in prompts if p.set == "general" and p.reference]
    found = loaded.negative_log_likelihood([(p.text, reference) for p, reference in wanted])
    return [
        ReferenceLikelihood(p.id, loaded.name, loaded.digest, row.sum_nats, row.tokens, row.characters)
        for (p, _), row in zip(wanted, found, strict=True)
    ]


def judge_completions(context: Context, name: str) -> list[Path]:
    """Stage ``judge:MODEL``: the evaluation judge's verdict on every completion."""
    completions = context.read(f"complete:{name}", "completions.parquet", Completion)
    advance = context.progress(f"verdicts on {name}", len(completions))
    head = ready(context.judges["evaluation"], context.cache)
    verdicts = judge(context.prompts(), completions, head, lambda done: advance(done, len(completions)))
    return [context.write(f"judge:{name}", "verdicts.parquet", verdicts, Verdict)]
