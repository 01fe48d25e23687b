"""Prompts in other languages: each into every target language, checked, and translated back to see what was lost.

The quality of a translation is the chrF++ of its back-translation against the original (Popović 2017, WMT, "chrF++: words
helping character n-grams"): it is low where either way went wrong, so a low one says "look", not "bad".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from alignprism.construct.output import SetAside
from alignprism.construct.translation_checks import back_counts, problem_of, unusual_lengths
from alignprism.construct.translation_rows import Row, first_row, texts_of
from alignprism.construct.translation_settings import TranslateSettings
from alignprism.construct.translators import (
    REFERENCE,
    NotTranslated,
    Text,
    Translated,
    Translation,
    Translator,
    refuse_unfinished,
)
from alignprism.errors import InputError
from alignprism.judging.translation import metrics
from alignprism.languages import script_of
from alignprism.models.protocol import Progress
from alignprism.models.translation_codes import code_of, targets_of
from alignprism.rows import Prompt, by_id, content_id
from alignprism.statistics import Estimate, corpus_score

Bar = Callable[[str, int], Progress]
"""Called with a title and a number of calls; gives what is called as they are done."""


@dataclass(frozen=True, slots=True)
class TranslatedSet:
    """Prompts in the target languages, what was set aside, and the report.

    Every prompt and target is in one of the two; rows of a translation file that cannot be used are set aside as well.
    """

    prompts: list[Prompt]
    set_aside: list[SetAside]
    report: Mapping[str, Any]


def translate_prompts(
    prompts: Sequence[Prompt],
    targets: Sequence[str],
    translator: Translator,
    back: Translator | None = None,
    settings: TranslateSettings | None = None,
    *,
    as_set: str = "translated",
    bar: Bar | None = None,
) -> TranslatedSet:
    """Every prompt in every target language (codes such as ``hi``, ``sr-Latn``), as prompts of the set `as_set`.

    Set aside, with the reason: what the handling rules keep out, before or after; what was not translated; empty, degenerate
    or unchanged texts; texts in another language (the rule of ``data check``); lengths unlike the language's; and, with a
    translator `back`, what its back-translation shows to be unlike the original.

    Raises
    ------
    InputError
        a target is unknown to a translator, is named twice, or there is nothing to translate.
    Failure
        the budget or the run ended before all was asked; what was answered is kept.
    """
    chosen, bar = settings or TranslateSettings(), bar or (lambda title, total: lambda done, all_: None)
    wanted = targets_of(targets)
    by_id(prompts)
    rows = [first_row(prompt, target, chosen) for target in wanted for prompt in prompts]
    _check_directions(rows, wanted, translator, back)
    rows = _with_translations(rows, translator, chosen, bar)
    rows = [_checked(row) for row in rows]
    rows = [row for target in wanted for row in _of_usual_length([r for r in rows if r.target == target], chosen)]
    scores: dict[str, Estimate] = {}
    if back is not None:
        rows, scores = _with_scores(rows, wanted, back, chosen, bar)
    made = [_prompt_of(row, as_set, translator.name) for row in rows if not row.reason]
    aside = [*translator.set_aside, *(SetAside(row.id, row.reason, row.detail) for row in rows if row.reason)]
    return TranslatedSet(made, aside, _report(rows, wanted, translator, back, scores, chosen, as_set))


# --- before and after the calls --------------------------------------------------------------------------------------


def _check_directions(
    rows: Sequence[Row], targets: Sequence[str], translator: Translator, back: Translator | None
) -> None:
    directions = {(row.prompt.language, row.target) for row in rows if row.waiting}
    if not directions:
        reasons = Counter(row.reason for row in rows)
        most = reasons.most_common(1)[0][0] if reasons else "there are no prompts"
        raise InputError(f"nothing to translate into {', '.join(targets)}: {most}")
    translator.check(directions)
    if back is not None:
        back.check({(target, source) for source, target in directions})


def _with_translations(rows: list[Row], translator: Translator, settings: TranslateSettings, bar: Bar) -> list[Row]:
    asked = [row for row in rows if row.waiting]
    texts = [text for row in asked for text in texts_of(row, settings)]
    found: dict[tuple[str, str], Translation] = {}
    for said in translator.translate(texts, bar(f"translations by {translator.name}", len(texts))):
        found[said.id, said.target] = said
    _refuse_unfinished(found.values(), "translations")
    return [_filled(row, found, settings) if row.waiting else row for row in rows]


def _filled(row: Row, found: Mapping[tuple[str, str], Translation], settings: TranslateSettings) -> Row:
    said = found[row.prompt.id, row.target]
    if isinstance(said, NotTranslated):
        return row.out(said.reason, said.detail)
    row = replace(row, text=said.text)
    if not settings.references:
        return row
    answer = found[row.prompt.id + REFERENCE, row.target]
    if isinstance(answer, NotTranslated):
        return row.out(f"reference: {answer.reason}", answer.detail)
    return replace(row, reference=answer.text)


def _checked(row: Row) -> Row:
    """The tests of one translation by itself, the prompt's before the reference's."""
    if not row.waiting:
        return row
    problem = problem_of(row.text, row.prompt.text, row.target)
    if problem:
        return row.out(*problem)
    if row.reference is not None:
        problem = problem_of(row.reference, row.prompt.reference or "", row.target)
        if problem:
            return row.out(f"reference: {problem[0]}", problem[1])
    return row


def _of_usual_length(rows: list[Row], settings: TranslateSettings) -> list[Row]:
    """One language's rows without those that are much longer or shorter than is usual in it."""
    asked = [row for row in rows if row.waiting]
    lengths = [(len(row.prompt.text), len(row.text)) for row in asked]
    times = unusual_lengths(lengths, settings.max_length_ratio)
    odd = {row.prompt.id: one for row, one in zip(asked, times, strict=True) if one is not None}
    return [
        row.out("length", f"{odd[row.prompt.id]:.1f} times what is usual in {row.target}")
        if row.prompt.id in odd
        else row
        for row in rows
    ]


# --- back-translation ------------------------------------------------------------------------------------------------


def _with_scores(
    rows: list[Row], targets: Sequence[str], back: Translator, settings: TranslateSettings, bar: Bar
) -> tuple[list[Row], dict[str, Estimate]]:
    """Rows with the chrF++ of their back-translation, low ones set aside; and each language's corpus score before that."""
    asked = [row for row in rows if row.waiting]
    texts = [Text(row.id, row.text, row.target, row.prompt.language) for row in asked]
    said = list(back.translate(texts, bar(f"back-translations by {back.name}", len(texts))))
    _refuse_unfinished(said, "back-translations")
    found = {(row.prompt.id, row.target): one for row, one in zip(asked, said, strict=True)}
    metric = metrics()[0]
    scores: dict[str, Estimate] = {}
    result: list[Row] = []
    for target in targets:
        mine = [row for row in rows if row.target == target]
        pairs = [(r.prompt, t.text) for r in mine if isinstance(t := found.get((r.prompt.id, target)), Translated)]
        originals = [prompt for prompt, _ in pairs]
        counts = back_counts([text for _, text in pairs], [p.text for p in originals], [p.language for p in originals])
        rng = np.random.default_rng(int(content_id("back-translation", settings.seed, target), 16))
        scores[target] = corpus_score(counts, [prompt.seed_id for prompt in originals], metric.score, rng)
        by_row = {prompt.id: metric.score(count) for prompt, count in zip(originals, counts, strict=True)}
        result += [_scored(row, found.get((row.prompt.id, target)), by_row, settings) for row in mine]
    return result, scores


def _scored(row: Row, back: Translation | None, scores: Mapping[str, float], settings: TranslateSettings) -> Row:
    if not row.waiting or back is None:
        return row
    if isinstance(back, NotTranslated):
        return row.out(f"back-translation: {back.reason}", back.detail)
    score = scores[row.prompt.id]
    row = replace(row, score=score)
    return row.out("back-translation unlike", f"chrF++ {score:.2f}") if score < settings.min_chrf else row


def _refuse_unfinished(said: Any, what: str) -> None:
    refuse_unfinished([one.reason for one in said if isinstance(one, NotTranslated)], what)


# --- what comes out --------------------------------------------------------------------------------------------------


def _prompt_of(row: Row, as_set: str, name: str) -> Prompt:
    old = row.prompt
    as_it_is = row.kept and row.text == old.text
    english = old.text if old.language == "en" else old.semantic_translation
    return replace(
        old,
        id=row.id,
        text=row.text,
        language=code_of(row.target),
        set=as_set,
        locale=old.locale if as_it_is else row.target if script_of(row.target) else None,
        source=old.source if row.kept else f"translated by {name}",
        reference=row.reference,
        literal_translation=old.literal_translation if row.kept else None,
        semantic_translation=english,
    )


def _report(
    rows: Sequence[Row],
    targets: Sequence[str],
    translator: Translator,
    back: Translator | None,
    scores: Mapping[str, Estimate],
    settings: TranslateSettings,
    as_set: str,
) -> dict[str, Any]:
    by_language = {}
    for target in targets:
        mine = [row for row in rows if row.target == target]
        aside = Counter(row.reason for row in mine if row.reason)
        by_language[target] = {
            "prompts": len(mine),
            "translated": sum(row.waiting for row in mine),
            "taken as they are": sum(row.kept for row in mine),
            "set aside": dict(sorted(aside.items())),
            "chrf++ of back-translations": asdict(scores[target]) if target in scores else None,
            "quantiles of chrf++ by row": _quantiles([row.score for row in mine if row.score is not None]),
        }
    return {
        "translator": {"name": translator.name, "digest": translator.digest, **translator.account()},
        "back-translator": None if back is None else {"name": back.name, "digest": back.digest},
        "quality": metrics()[0].signature if back is not None else "not measured: no back-translator",
        "set": as_set,
        "settings": settings.model_dump(),
        "by language": by_language,
    }


def _quantiles(scores: Sequence[float]) -> dict[str, float] | None:
    if not scores:
        return None
    return {str(share): round(float(np.quantile(scores, share)), 4) for share in (0.1, 0.5, 0.9)}
