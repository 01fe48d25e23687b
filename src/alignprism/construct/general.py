"""General preference data in every language (paper, appendix C): the translated answer against one written natively.

Prompts and their chosen answers are translated; a generator answers the translated prompts in their own language; a judge
compares both, in both orders; the winner is chosen. The paper's own generator won in 42.8 % to 79.8 % of cases (table 6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from alignprism.construct.output import SetAside
from alignprism.construct.translate import Bar, translate_prompts
from alignprism.construct.translation_settings import GeneralSettings
from alignprism.construct.translators import Translator, refuse_unfinished
from alignprism.judging.degenerate import degenerate
from alignprism.judging.language import on_language
from alignprism.judging.pairwise import Matchup, PairwiseJudge, combine
from alignprism.models.protocol import Answer, Engine, Failed, Outcome, Request, in_order
from alignprism.models.translation_codes import code_of
from alignprism.prompts.handling import forbidden
from alignprism.rows import Comparison, Pair, Prompt, content_id
from alignprism.statistics import rate

TRANSLATED, REGENERATED = "translated", "regenerated"
_NO_REPLY = "no reply: "  # what the reason of a judge that did not answer begins with (`judging.asking.no_reply`)


@dataclass(frozen=True, slots=True)
class GeneralModels:
    """Ways to open what is asked, one after the other, so that two large models need not be in memory at once.

    ``back`` translates back for the quality of the translations: another translator, ``same``, or None (not measured).
    """

    translator: Callable[[], AbstractContextManager[Translator]]
    generator: Callable[[], AbstractContextManager[Engine]]
    judge: Callable[[], AbstractContextManager[PairwiseJudge]]
    back: Callable[[], AbstractContextManager[Translator]] | None = None
    back_is_translator: bool = False


@dataclass(frozen=True, slots=True)
class MadeGeneral:
    """Pairs, what was set aside, and the report. Every prompt and target language is in one of the first two."""

    pairs: list[Pair]
    set_aside: list[SetAside]
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Row:
    """A translated prompt on its way to a pair. ``prompt.reference`` is the translated answer."""

    prompt: Prompt
    answer: Answer | None = None
    reason: str = ""
    detail: str = ""
    preferred: str = ""
    """`TRANSLATED`, `REGENERATED` or ``tie``, where both orders could be read."""
    flipped: bool = False
    by_rule: bool = False
    pair: Pair | None = None


@dataclass(frozen=True, slots=True)
class _Who:
    """Names and digests of all who had a part in the pairs."""

    translator: tuple[str, str]
    generator: tuple[str, str]
    judge: tuple[str, str]


def general_pairs_of(
    prompts: Sequence[Prompt],
    targets: Sequence[str],
    models: GeneralModels,
    settings: GeneralSettings | None = None,
    *,
    bar: Bar | None = None,
) -> MadeGeneral:
    """Pairs in every target language from prompts whose ``reference`` is the chosen answer.

    Set aside, with the reason: what `translate_prompts` sets aside; prompts that the generator did not answer; ties and
    undecidable comparisons (unless `settings.ties` says whom they go to); and winners that are degenerate, cut, in another
    language or kept out by the handling rules.

    Raises
    ------
    InputError
        see `translate_prompts`, and a judge that has no template for a language.
    Failure
        the budget or the run ended before all was asked; what was answered is kept.
    """
    chosen, bar = settings or GeneralSettings(), bar or (lambda title, total: lambda done, all_: None)
    translation = chosen.translation.model_copy(update={"references": True})
    with ExitStack() as stack:
        translator = stack.enter_context(models.translator())
        back = translator if models.back_is_translator else stack.enter_context(models.back()) if models.back else None
        made = translate_prompts(prompts, targets, translator, back, translation, as_set="general", bar=bar)
        translated_by = (translator.name, translator.digest)
    with models.generator() as generator:
        rows = _regenerated(made.prompts, generator, chosen, bar)
        generated_by = (generator.name, generator.digest)
    with models.judge() as judge:
        rows = _compared(rows, judge, chosen, bar)
        who = _Who(translated_by, generated_by, (judge.name, judge.digest))
    rows = [_paired(row, who, chosen) for row in rows]
    aside = [*made.set_aside, *(SetAside(row.prompt.id, row.reason, row.detail) for row in rows if row.reason)]
    return MadeGeneral(
        [row.pair for row in rows if row.pair is not None], aside, _report(rows, made.report, who, chosen)
    )


def _regenerated(prompts: Sequence[Prompt], generator: Engine, settings: GeneralSettings, bar: Bar) -> list[_Row]:
    """An answer of the generator to each prompt, or why there is none."""
    requests = [Request(prompt.id, prompt.text) for prompt in prompts]
    progress = bar(f"completions by {generator.name}", len(requests))
    outcomes = in_order(generator.complete(requests, settings.decoding(), progress), requests)
    failed = [f"no answer: {outcome.reason}" for outcome in outcomes if isinstance(outcome, Failed)]
    refuse_unfinished(failed, "completions")
    return [_answered(prompt, outcome) for prompt, outcome in zip(prompts, outcomes, strict=True)]


def _answered(prompt: Prompt, outcome: Outcome) -> _Row:
    if isinstance(outcome, Failed):
        return _Row(prompt, reason=f"no completion: {outcome.reason}", detail=outcome.detail)
    if not outcome.text.strip():
        return _Row(prompt, reason="completion withheld by the provider" if outcome.filtered else "completion empty")
    return _Row(prompt, outcome)


def _compared(rows: Sequence[_Row], judge: PairwiseJudge, settings: GeneralSettings, bar: Bar) -> list[_Row]:
    """What the judge says of both answers, in both orders; ties go where the settings send them."""
    matchups = [_matchup(row.prompt, row.answer) for row in rows if row.answer is not None]
    found = list(judge.compare(matchups, bar(f"comparisons by {judge.name}", len(matchups))))
    refuse_unfinished([one.reason.replace(_NO_REPLY, "no answer: ").partition(" (")[0] for one in found], "comparisons")
    both = iter(zip(found[::2], found[1::2], strict=True))
    return [_decided(row, *next(both), settings) if row.answer is not None else row for row in rows]


def _matchup(prompt: Prompt, answer: Answer) -> Matchup:
    return Matchup(
        prompt_id=prompt.id, prompt=prompt.text, completion_a=TRANSLATED, completion_b=REGENERATED,
        answer_a=prompt.reference or "", answer_b=answer.text, language=prompt.language, seed_id=prompt.seed_id,
        model_a=TRANSLATED, model_b=REGENERATED,
    )  # fmt: skip


def _decided(row: _Row, ab: Comparison, ba: Comparison, settings: GeneralSettings) -> _Row:
    both = combine(ab, ba)
    if both.preferred == "undecidable":
        why = next(order.reason for order in (ab, ba) if order.preferred == "undecidable")
        if why.startswith(_NO_REPLY):
            return replace(row, reason=f"no verdict: {why.removeprefix(_NO_REPLY).partition(' (')[0]}")
        return replace(row, reason="undecidable", detail=why if why.startswith("unparsable") else "")
    if not both.asked:
        return replace(row, reason="identical answers", preferred="tie")
    if both.preferred != "tie":
        return replace(row, preferred=TRANSLATED if both.preferred == "a" else REGENERATED)
    row = replace(row, preferred="tie", flipped=both.flipped, by_rule=settings.ties != "drop")
    if row.by_rule:
        return row
    return replace(row, reason="tie: the orders contradict each other" if both.flipped else "tie")


def planned_comparisons(prompts: Sequence[Prompt], targets: Sequence[str]) -> list[Matchup]:
    """Comparisons as long as those to come, for an estimate: the chosen answer stands for both sides."""
    return [
        Matchup(
            prompt_id=f"{prompt.id}-{target}", prompt=prompt.text, completion_a=TRANSLATED, completion_b=REGENERATED,
            answer_a=prompt.reference or "", answer_b=f"{prompt.reference} .", language=code_of(target),
            seed_id=prompt.seed_id,
        )
        for target in targets
        for prompt in prompts
    ]  # fmt: skip


# --- pairs -----------------------------------------------------------------------------------------------------------


def _paired(row: _Row, who: _Who, settings: GeneralSettings) -> _Row:
    """The row with its pair, or with what is wrong with the winner."""
    if row.reason or row.answer is None:
        return row
    winner = settings.ties if row.by_rule else row.preferred
    sides = {TRANSLATED: (row.prompt.reference or "").strip(), REGENERATED: row.answer.text.strip()}
    loser = REGENERATED if winner == TRANSLATED else TRANSLATED
    problem = _problem(row, sides[winner], sides[loser], cut=winner == REGENERATED and row.answer.truncated)
    if problem:
        return replace(row, reason=problem[0], detail=problem[1])
    return replace(row, pair=_pair(row, winner, loser, sides, who, settings))


def _problem(row: _Row, chosen: str, rejected: str, *, cut: bool) -> tuple[str, str] | None:
    barred = forbidden(chosen) or forbidden(rejected)
    if barred is not None:
        return "handling", barred
    if cut:
        return "chosen cut at the length limit", ""
    broken = degenerate(chosen).kind
    if broken:
        return "chosen degenerate", broken
    spoken = on_language(chosen, row.prompt.language)
    if spoken.on_language is False:
        return "chosen in another language", spoken.detected or "another script"
    return None


def _pair(row: _Row, winner: str, loser: str, sides: Mapping[str, str], who: _Who, settings: GeneralSettings) -> Pair:
    prompt, answer = row.prompt, row.answer
    call = answer.call if answer is not None else ""
    names = {TRANSLATED: prompt.source, REGENERATED: who.generator[0]}
    digests = {TRANSLATED: who.translator[1], REGENERATED: who.generator[1]}
    origins = {TRANSLATED: "reference", REGENERATED: "model"}
    calls = {TRANSLATED: "", REGENERATED: call}
    licence, redistribute = strictest(
        (prompt.licence, prompt.redistribute), (settings.generator_licence, settings.generator_redistribute)
    )
    identity = content_id(prompt.id, sides[winner], sides[loser])
    coin = int(content_id("random side", settings.seed, identity), 16) % 2
    return Pair(
        id=identity, prompt=prompt.text, chosen=sides[winner], rejected=sides[loser], prompt_id=prompt.id,
        seed_id=prompt.seed_id, language=prompt.language, kind="general", scope=None, categories=prompt.categories,
        chosen_source=names[winner], rejected_source=names[loser], chosen_score=None, rejected_score=None,
        judge=who.judge[0], licence=licence, redistribute=redistribute, random_side="chosen" if coin else "rejected",
        chosen_origin=origins[winner], rejected_origin=origins[loser], chosen_digest=digests[winner],
        rejected_digest=digests[loser], chosen_call=calls[winner], rejected_call=calls[loser], comparer=who.judge[0],
        comparer_digest=who.judge[1], ranking="comparisons", margin=0.0 if row.by_rule else 1.0,
        split=prompt.split, tags=prompt.tags,
    )  # fmt: skip


def strictest(*terms: tuple[str, bool]) -> tuple[str, bool]:
    """The terms that hold for something made of parts: every licence among them, and passed on only if all may be."""
    licences = dict.fromkeys(licence or "unknown" for licence, _ in terms)
    return " and ".join(licences), all(redistribute for _, redistribute in terms)


# --- the report ------------------------------------------------------------------------------------------------------


def _report(
    rows: Sequence[_Row], translation: Mapping[str, Any], who: _Who, settings: GeneralSettings
) -> dict[str, Any]:
    by_language = {}
    for target, counted in translation["by language"].items():
        mine = [row for row in rows if row.prompt.id.endswith(f"-{target}")]
        compared = [row for row in mine if row.preferred]
        decided = [row for row in compared if row.preferred != "tie"]
        aside = Counter(row.reason for row in mine if row.reason)
        by_language[target] = {
            "prompts": counted["prompts"],
            "translated": len(mine),
            "compared": len(compared),
            "pairs": sum(row.pair is not None for row in mine),
            "regenerated won, of decided": _share(decided),
            "regenerated won, of compared": _share(compared),
            "ties": sum(row.preferred == "tie" for row in compared),
            "of them contradicting orders": sum(row.flipped for row in compared),
            "undecidable": aside.get("undecidable", 0),
            "chosen by the rule for ties": sum(row.by_rule and row.pair is not None for row in mine),
            "set aside": dict(sorted(aside.items())),
        }
    return {
        "generator": dict(zip(("name", "digest"), who.generator, strict=True)),
        "judge": dict(zip(("name", "digest"), who.judge, strict=True)),
        "settings": settings.model_dump(),
        "translation": dict(translation),
        "by language": by_language,
    }


def _share(rows: Sequence[_Row]) -> dict[str, Any]:
    """How often the regenerated answer won, with its interval."""
    return asdict(rate([row.preferred == REGENERATED for row in rows], [row.prompt.seed_id for row in rows]))
