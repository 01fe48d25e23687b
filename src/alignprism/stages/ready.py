"""Preference pairs that lie ready in a file, and answers that somebody brings: into the same stages as those made here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from alignprism.construct.candidates import Supplied, supplied_candidates
from alignprism.construct.filters import MIN_COMPANY, Embedded, Why, across_reasons, uncompared
from alignprism.construct.mix import KINDS, Kind, mixed_counts
from alignprism.construct.near import NearIndex
from alignprism.construct.output import SetAside
from alignprism.construct.pair_inputs import check_pairs, read_pairs, refuse_harmful
from alignprism.construct.prefer import Made
from alignprism.judging.head import prompt_digest
from alignprism.judging.protocol import HarmJudge
from alignprism.prompts.held_out import HELD_OUT
from alignprism.prompts.meaning import Floats, embed
from alignprism.prompts.select import all_prompts
from alignprism.rows import Pair, Prompt, content_id
from alignprism.stages.context import Context, tried
from alignprism.stages.judges import known_to_judges
from alignprism.study import Study

NEAR_HELD_OUT = "near-duplicate of a held-out prompt"
SPARE = "more than the mixture tries"

_FEWEST_AT_ONCE = 32  # of the later rounds: models that are opened for one pair at a time cost more than they judge


@dataclass(frozen=True, slots=True)
class Ready:
    """Ready pairs that may be trained on, the others with their reason, and what was not compared.

    ``uncompared`` are the languages whose prompts were not (always) compared with held-out prompts of other languages,
    because one side has too few (`filters.uncompared`).
    """

    made: Made
    uncompared: tuple[str, ...] = ()


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
) -> Ready:
    """The pairs of ``data.safety_pairs`` or ``data.general_pairs`` that may be trained on; the others with their reason.

    No pair of a dev or test prompt, or nearly one, or of its translation, is among them. Safety pairs are shown to the preference judge: a chosen
    side that it calls harmful, or cannot decide on, is refused. Of those that are `within_limit` of length as many are tried
    as the mixture tries; more only while what is left of them is too few for it.

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
            aside.append(SetAside(pair.id, reason, language=pair.language))
    fitting = within_limit(Made(usable, aside))
    return _sifted(context, study, kind, judge, fitting)


def _sifted(context: Context, study: Study, kind: Kind, judge: HarmJudge, fitting: Made) -> Ready:
    """The dear tests, vectors and the judge, round after round until enough have passed or none is left."""
    waiting = evenly(fitting.pairs, len(fitting.pairs), study.seed)
    kept, aside = list[Pair](), list(fitting.set_aside)
    across, enough, size = Across(_held_out(study)), _enough(study, kind), tried(study)[kind]
    while waiting and len(kept) < enough:
        batch, waiting = waiting[:size], waiting[size:]
        context.say(f"comparing the prompts of {len(batch)} ready pairs with held-out prompts of other languages")
        batch, known_elsewhere = across.apart(batch)
        aside += known_elsewhere
        if kind == "safety" and batch:
            progress = context.progress("judging the chosen sides of ready pairs", len(batch))
            checked = refuse_harmful(batch, judge, progress)
            batch, aside = checked.pairs, [*aside, *checked.set_aside]
        kept += batch
        size = max(enough - len(kept), _FEWEST_AT_ONCE)
    if across.uncompared:
        context.say(
            f"ready {kind} pairs in {', '.join(across.uncompared)}: a translation of a held-out prompt would not be seen; "
            f"comparing needs {MIN_COMPANY} prompts of the language, and {MIN_COMPANY} held-out ones of another"
        )
    return Ready(
        Made(kept, [*aside, *(SetAside(pair.id, SPARE, language=pair.language) for pair in waiting)]), across.uncompared
    )


def _enough(study: Study, kind: Kind) -> int:
    """How many pairs are to pass: what the mixture uses; where later steps drop some of them, all that it tries."""
    if study.pairs.scope != "all" or study.pairs.match_lengths:
        return tried(study)[kind]
    return mixed_counts(study.pairs.total, study.mixture)[KINDS.index(kind)]


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


class Across:
    """The held-out prompts by their meaning, to keep pairs apart from those of other languages.

    By sentence vectors, as in ``construct rephrase`` (`filters.CUT_ACROSS`). A prompt is compared once; what was compared
    before is company for later prompts, as few prompts alone say nothing of how near unlike texts lie.
    """

    def __init__(self, held_out: Sequence[Prompt]) -> None:
        self._held_out = held_out
        self._languages = {prompt.language for prompt in held_out}
        self._known: Embedded | None = None
        self._seen: dict[tuple[str, str], Prompt] = {}
        self._vectors: list[Floats] = []
        self._reasons: dict[tuple[str, str], Why] = {}
        self._uncompared: set[str] = set()

    @property
    def uncompared(self) -> tuple[str, ...]:
        """Languages of which some prompts were not compared with every other language: there were too few."""
        return tuple(sorted(self._uncompared))

    def apart(self, pairs: Sequence[Pair]) -> tuple[list[Pair], list[SetAside]]:
        """Pairs whose prompt says something else than every held-out prompt of another language, and the others."""
        new = {
            (pair.language, pair.prompt): Prompt(
                pair.prompt_id, pair.prompt, pair.language, "redteam", "train", pair.seed_id
            )
            for pair in pairs
            if (pair.language, pair.prompt) not in self._seen and self._languages - {pair.language}
        }
        if new:
            self._compare(new)
        aside = [
            SetAside(pair.id, *self._reasons[pair.language, pair.prompt], pair.language)
            for pair in pairs
            if (pair.language, pair.prompt) in self._reasons
        ]
        return [pair for pair in pairs if (pair.language, pair.prompt) not in self._reasons], aside

    def _compare(self, new: Mapping[tuple[str, str], Prompt]) -> None:
        if self._known is None:
            self._known = Embedded(self._held_out, embed([prompt.text for prompt in self._held_out]))
        prompts = list(new.values())
        vectors = embed([prompt.text for prompt in prompts])
        before = Embedded(list(self._seen.values()), np.concatenate([*self._vectors, vectors[:0]]))
        for row, why in across_reasons(Embedded(prompts, vectors), before, self._known).items():
            self._reasons[prompts[row].language, prompts[row].text] = why
        self._seen |= new
        self._vectors.append(vectors)
        few = uncompared(list(self._seen.values()), self._held_out, True)
        self._uncompared |= set(few) & {prompt.language for prompt in prompts}


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
