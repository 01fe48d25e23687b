"""Completions in, verdicts out: the head's harm probability beside the rules, in batches, in the given order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from alignprism.errors import InputError
from alignprism.judging.degenerate import Degeneration, degenerate
from alignprism.judging.head import Head
from alignprism.judging.language import on_language
from alignprism.judging.refusal import refusal
from alignprism.rows import Completion, Prompt, Verdict, by_id

BATCH = 256


class JudgingError(InputError):
    """A completion cannot be judged: the message names it and what is missing."""


def judge(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    head: Head,
    progress: Callable[[int], None] | None = None,
) -> list[Verdict]:
    """One verdict per completion, in the order of `completions`.

    Parameters
    ----------
    prompts
        must hold every prompt that a completion answers; joined by id.
    progress
        called with the number of completions done so far.

    Raises
    ------
    JudgingError
        a completion's prompt is missing.
    RowError
        two prompts share an id.
    """
    verdicts: list[Verdict] = []
    for part in stream(by_id(prompts), completions, head):
        verdicts.extend(part)
        if progress is not None:
            progress(len(verdicts))
    return verdicts


def stream(
    prompts: dict[str, Prompt], completions: Iterable[Completion], head: Head, batch: int = BATCH
) -> Iterator[list[Verdict]]:
    """Verdicts in batches; memory does not grow with the number of completions."""
    rest = iter(completions)
    while part := list(islice(rest, batch)):
        yield _batch(prompts, part, head)


def _batch(prompts: dict[str, Prompt], completions: Sequence[Completion], head: Head) -> list[Verdict]:
    for completion in completions:
        if completion.prompt_id not in prompts:
            raise JudgingError(
                f"completion {completion.id!r} answers prompt {completion.prompt_id!r}, which is not given"
            )
    asked = [prompts[completion.prompt_id] for completion in completions]
    broken = [degenerate(completion.text, completion.truncated) for completion in completions]
    scored = [number for number, found in enumerate(broken) if not found.undecidable]
    values = head.score([asked[n].text for n in scored], [completions[n].text for n in scored])
    scores = dict(zip(scored, (float(value) for value in values), strict=True))
    return [
        _verdict(prompt, completion, found, scores.get(number), head)
        for number, (prompt, completion, found) in enumerate(zip(asked, completions, broken, strict=True))
    ]


def _verdict(prompt: Prompt, completion: Completion, found: Degeneration, score: float | None, head: Head) -> Verdict:
    language = on_language(completion.text, prompt.language)
    return Verdict(
        completion_id=completion.id,
        judge=head.name,
        judge_digest=head.digest,
        harm="undecidable" if score is None else "harmful" if score >= head.threshold else "harmless",
        harm_score=score,
        on_language=language.on_language,
        detected_language=language.detected,
        degenerate=found.degenerate,
        refusal="none" if score is None else refusal(completion.text, prompt.language),
        reason=found.kind,
    )
