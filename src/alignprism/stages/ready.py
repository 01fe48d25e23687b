"""Preference pairs that lie ready in a file, and answers that somebody brings: into the same stages as those made here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from alignprism.construct.candidates import Supplied, supplied_candidates
from alignprism.construct.filters import Embedded, across_reasons
from alignprism.construct.mix import KINDS, Kind
from alignprism.construct.near import NearIndex
from alignprism.construct.output import SetAside
from alignprism.construct.pair_inputs import check_pairs, read_pairs, refuse_harmful
from alignprism.construct.prefer import Made
from alignprism.judging.head import prompt_digest
from alignprism.judging.protocol import HarmJudge
from alignprism.prompts.held_out import HELD_OUT
from alignprism.prompts.meaning import embed
from alignprism.prompts.select import all_prompts
from alignprism.rows import Pair, Prompt, content_id
from alignprism.stages.context import Context, tried
from alignprism.stages.judges import known_to_judges
from alignprism.study import Study

NEAR_HELD_OUT = "near-duplicate of a held-out prompt"
SPARE = "more than the mixture tries"


def ready_kinds(study: Study) -> list[Kind]:
    """The kinds of pairs that the study's mixture asks for and has ready in files."""
    files = {"safety": study.data.safety_pairs, "general": study.data.general_pairs}
    return [kind for kind in KINDS if files[kind] is not None and tried(study)[kind]]


def check_ready(study: Study) -> None:
    """Stop before anything is paid for where a file of ready pairs holds none, or one of answers cannot be read.

    Raises
    ------
    InputError
        a file cannot be read, or holds no pair of its kind.
    """
    for kind in ready_kinds(study):
        check_pairs(_file_of(study, kind), kind)
    brought(study, ())


def _file_of(study: Study, kind: Kind) -> Path:
    file = study.data.safety_pairs if kind == "safety" else study.data.general_pairs
    assert file is not None
    return Path(file)


def ready_pairs(
    context: Context, study: Study, kind: Kind, judge: HarmJudge, within_limit: Callable[[Made], Made]
) -> Made:
    """The pairs of ``data.safety_pairs`` or ``data.general_pairs`` that may be trained on; the others with their reason.

    No pair of a dev or test prompt, or nearly one, or of its translation, is among them. Safety pairs are shown to the preference judge: a chosen
    side that it calls harmful, or cannot decide on, is refused. No more are tried than the mixture needs, of those that are
    `within_limit` of length.

    Raises
    ------
    InputError
        the file cannot be read, or holds no pair of the kind.
    PairsStopped
        the budget or the run ended before all were judged.
    """
    found = read_pairs(_file_of(study, kind), kind)
    aside = list(found.set_aside)
    held_out = _HeldOut(_held_out(study))
    known = known_to_judges(study)
    usable: list[Pair] = []
    for pair in found.pairs:
        reason = held_out.reason(pair) if pair.language in study.languages.train else "another language"
        if reason is None and (head := known.get(prompt_digest(pair.prompt))) is not None:
            reason = f"judge {head} was trained on its prompt"
        if reason is None:
            usable.append(pair)
        else:
            aside.append(SetAside(pair.id, reason))
    fitting = within_limit(Made(usable, aside))
    usable, aside = fitting.pairs, fitting.set_aside
    drawn = evenly(usable, tried(study)[kind], study.seed)
    names = {pair.id for pair in drawn}
    aside += [SetAside(pair.id, SPARE) for pair in usable if pair.id not in names]
    context.say(f"comparing the prompts of {len(drawn)} ready pairs with held-out prompts of other languages")
    drawn, known_elsewhere = apart_across(drawn, _held_out(study))
    aside += known_elsewhere
    if kind == "general" or not drawn:
        return Made(drawn, aside)
    checked = refuse_harmful(drawn, judge, context.progress("judging the chosen sides of ready pairs", len(drawn)))
    return Made(checked.pairs, [*aside, *checked.set_aside])


def apart_from(study: Study) -> str:
    """A digest of all that ready pairs are kept apart from: held-out prompts, and those that judges were trained on."""
    return content_id([(p.id, p.text) for p in _held_out(study)], sorted(known_to_judges(study)))


def _held_out(study: Study) -> list[Prompt]:
    # Those that `data.per_language` leaves out are held out as well: a later study may test on them.
    return [prompt for prompt in all_prompts(study) if prompt.split != "train"]


def evenly(pairs: Sequence[Pair], number: int, seed: int) -> list[Pair]:
    """At most so many pairs, as even over languages as their numbers allow, by seeded hash."""
    places: dict[str, count[int]] = defaultdict(count)
    ordered = sorted(pairs, key=lambda pair: content_id("ready", seed, pair.id))
    placed = [(next(places[pair.language]), content_id("place", seed, pair.id), pair) for pair in ordered]
    return [pair for _, _, pair in sorted(placed, key=lambda row: row[:2])[:number]]


def apart_across(pairs: Sequence[Pair], held_out: Sequence[Prompt]) -> tuple[list[Pair], list[SetAside]]:
    """Pairs whose prompt says something else than every held-out prompt of another language, and the others.

    By sentence vectors, as in ``construct rephrase`` (`filters.CUT_ACROSS`).
    """
    languages = {prompt.language for prompt in held_out}
    if all(languages <= {pair.language} for pair in pairs):
        return list(pairs), []
    asked = {
        (pair.language, pair.prompt): Prompt(
            pair.prompt_id, pair.prompt, pair.language, "redteam", "train", pair.seed_id
        )
        for pair in pairs
    }
    prompts = list(asked.values())
    vectors = embed([prompt.text for prompt in [*prompts, *held_out]])
    new, known = vectors[: len(prompts)], vectors[len(prompts) :]
    found = across_reasons(Embedded(prompts, new), Embedded((), vectors[:0]), Embedded(held_out, known))
    reasons = {(prompts[row].language, prompts[row].text): why for row, why in found.items()}
    aside = [
        SetAside(pair.id, *reasons[pair.language, pair.prompt])
        for pair in pairs
        if (pair.language, pair.prompt) in reasons
    ]
    return [pair for pair in pairs if (pair.language, pair.prompt) not in reasons], aside


class _HeldOut:
    """The dev and test prompts, to keep pairs apart from."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._ids = {prompt.id for prompt in prompts}
        self._seeds = {prompt.seed_id for prompt in prompts}
        self._index = NearIndex()
        self._index.add(prompts, "held out")

    def reason(self, pair: Pair) -> str | None:
        """Why a pair may not be trained on."""
        if pair.prompt_id in self._ids or pair.seed_id in self._seeds:
            return HELD_OUT
        asked = Prompt(pair.prompt_id, pair.prompt, pair.language, "redteam", "train", pair.seed_id)
        return NEAR_HELD_OUT if self._index.near(asked) else None


def brought(study: Study, prompts: Sequence[Prompt]) -> Supplied:
    """The answers of ``data.completions`` by the id of their prompt, and the rows that are none.

    Raises
    ------
    RowError
        the file cannot be read at all.
    """
    file = study.data.completions
    return Supplied({}, []) if file is None else supplied_candidates(Path(file), prompts)
