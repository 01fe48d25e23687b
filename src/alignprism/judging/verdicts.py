"""Completions in, verdicts out: any judge of harm beside the rules (language, degeneration, refusal), in the given order.

A completion that is a failure, empty or gibberish is undecidable with its reason and is not sent to the judge: there is
nothing to judge, and a paid call would say no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from alignprism.errors import InputError
from alignprism.judging.degenerate import degenerate
from alignprism.judging.head import Head
from alignprism.judging.judges import HeadJudge
from alignprism.judging.language import LanguageVerdict, on_language
from alignprism.judging.protocol import HarmJudge, HarmVerdict, Item
from alignprism.judging.refusal_head import refusals_of
from alignprism.rows import Completion, Prompt, Refusal, Verdict, by_id

BATCH = 2048
"""Completions that are with the judge at once: enough to keep a server busy, few enough for memory."""


class JudgingError(InputError):
    """A completion cannot be judged: the message names it and what is missing."""


def judge(
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    harm_judge: HarmJudge | Head,
    progress: Callable[[int], None] | None = None,
) -> list[Verdict]:
    """One verdict per completion, in the order of `completions`.

    Parameters
    ----------
    prompts
        must hold every prompt that a completion answers; joined by id.
    harm_judge
        any judge; a loaded head counts as one.
    progress
        called with the number of completions done so far.

    Raises
    ------
    JudgingError
        a completion's prompt is missing.
    InputError
        the judge cannot be spoken to in a prompt's language.
    RowError
        two prompts share an id.
    """
    known = by_id(prompts)
    _check_prompts(known, completions)
    verdicts: list[Verdict] = []
    reported = 0

    def advance(done: int) -> None:
        nonlocal reported
        if progress is not None and len(verdicts) + done > reported:
            reported = len(verdicts) + done
            progress(reported)

    for part in stream(known, completions, harm_judge, progress=advance):
        verdicts.extend(part)
        advance(0)
    return verdicts


def stream(
    prompts: Mapping[str, Prompt],
    completions: Iterable[Completion],
    harm_judge: HarmJudge | Head,
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> Iterator[list[Verdict]]:
    """Verdicts in batches; memory does not grow with the number of completions.

    `progress` is called with the number of completions done within the batch.
    """
    for part in stream_explained(prompts, completions, harm_judge, batch, progress):
        yield [verdict for verdict, _ in part]


def stream_explained(
    prompts: Mapping[str, Prompt],
    completions: Iterable[Completion],
    harm_judge: HarmJudge | Head,
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> Iterator[list[tuple[Verdict, str]]]:
    """As `stream`, each verdict with the judge's own short reason: a text, so no part of the row that is kept."""
    asked = HeadJudge(harm_judge) if isinstance(harm_judge, Head) else harm_judge
    asked.check({prompt.language for prompt in prompts.values()})
    rest = iter(completions)
    while part := list(islice(rest, batch)):
        _check_prompts(prompts, part)
        yield _batch(prompts, part, asked, progress)


def _check_prompts(prompts: Mapping[str, Prompt], completions: Iterable[Completion]) -> None:
    for completion in completions:
        if completion.prompt_id not in prompts:
            raise JudgingError(
                f"completion {completion.id!r} answers prompt {completion.prompt_id!r}, which is not given"
            )


def nothing_to_judge(completion: Completion) -> str:
    """Why a completion is undecidable before any judge sees it; empty where there is something to judge."""
    if completion.failure:
        return f"no answer: {completion.failure}"
    found = degenerate(completion.text, completion.truncated)
    if found.undecidable:
        return "withheld by the provider's content filter" if completion.filtered else found.kind
    return ""


def _batch(
    prompts: Mapping[str, Prompt],
    completions: Sequence[Completion],
    harm_judge: HarmJudge,
    progress: Callable[[int], None] | None,
) -> list[tuple[Verdict, str]]:
    reasons = [nothing_to_judge(completion) for completion in completions]
    names = _distinct([completion.id for completion in completions])
    items = [
        item_of(prompts[completion.prompt_id], completion, name)
        for name, completion, reason in zip(names, completions, reasons, strict=True)
        if not reason
    ]
    skipped = len(completions) - len(items)

    def advance(done: int, total: int) -> None:
        if progress is not None:
            progress(len(completions) if done >= total else skipped * done // max(total, 1) + done)

    said = {found.item_id: found for found in harm_judge.judge(items, advance)}
    declined = refusals_of([item.completion for item in items], [item.language for item in items])
    refusals = dict(zip((item.id for item in items), declined, strict=True))
    judge_name, digest = harm_judge.name, harm_judge.digest
    result = []
    for name, completion, reason in zip(names, completions, reasons, strict=True):
        found = HarmVerdict(name, "undecidable", reason=reason) if reason else said[name]
        verdict = _verdict(
            prompts[completion.prompt_id], completion, found, judge_name, digest, refusals.get(name, "none")
        )
        result.append((verdict, found.explanation))
    return result


def _distinct(ids: Sequence[str]) -> list[str]:
    """The ids as they are; one that stands there again (a completion judged twice) gets a number."""
    seen: Counter[str] = Counter()
    result = []
    for name in ids:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}~{seen[name]}")
    return result


def item_of(prompt: Prompt, completion: Completion, name: str | None = None) -> Item:
    """A completion as a judge of harm is given it."""
    return Item(
        name or completion.id, prompt.text, completion.text, prompt.language, prompt.seed_id or prompt.id, prompt.scope
    )


def _verdict(
    prompt: Prompt, completion: Completion, said: HarmVerdict, judge_name: str, digest: str, refuses: Refusal
) -> Verdict:
    if completion.failure:
        language, broken, kind = LanguageVerdict(None, None), False, ""
    else:
        language = on_language(completion.text, prompt.language) if prompt.language else LanguageVerdict(None, None)
        found = degenerate(completion.text, completion.truncated)
        broken, kind = found.degenerate, found.kind
    reasons = dict.fromkeys(reason for reason in (kind, said.reason) if reason)
    return Verdict(
        completion_id=completion.id,
        judge=judge_name,
        judge_digest=digest,
        harm=said.harm,
        harm_score=said.score,
        on_language=language.on_language,
        detected_language=language.detected,
        degenerate=broken,
        refusal=refuses,
        reason="; ".join(reasons),
        category=said.category,
        calls=said.calls,
        failures=said.failures,
    )
