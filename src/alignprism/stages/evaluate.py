"""Stages of evaluation: greedy completions of the test prompts, likelihood of the references, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from alignprism.judging.judges import ready
from alignprism.judging.verdicts import judge
from alignprism.models.local import LocalEngine
from alignprism.models.protocol import Decoding, Request, in_order
from alignprism.rows import Completion, Prompt, ReferenceLikelihood, Verdict, by_id, read_rows
from alignprism.stages.context import Context, evaluated_prompts
from alignprism.stages.data import write_json
from alignprism.stages.engines import completion_row, engine, model_of


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
    requests = [Request(p.id, p.text) for p in prompts]
    outcomes = in_order(loaded.complete(requests, decoding, advance), requests)
    return [completion_row(loaded, outcome, decoding, "greedy", max_new_tokens) for outcome in outcomes]


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
    advance = context.progress(f"verdicts on {name}", len(completions) + len(checkpoints))
    head = ready(context.judges["evaluation"], context.cache)
    prompts = context.prompts()
    verdicts = judge(prompts, completions, head, lambda done: advance(done, len(completions) + len(checkpoints)))
    files = [context.write(stage, "verdicts.parquet", verdicts, Verdict)]
    if checkpoints:
        found = judge(prompts, checkpoints, head)
        advance(len(completions) + len(checkpoints), len(completions) + len(checkpoints))
        files.append(context.write(stage, "dev_verdicts.parquet", found, Verdict))
        rows = checkpoint_figures(by_id(prompts), checkpoints, found)
        files.append(write_json(context.run.stage_folder(stage) / "dev.json", rows))
    return files


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
