"""Preference pairs: candidates ranked by judges (safety), or by a documented order (general).

Safety (paper, section 2.2): the candidates of a prompt are the completions sampled from the generators, those supplied,
and the safe completion written for it; `construct.ranking` says which is chosen and which rejected.
General (paper, appendix C): chosen is the reference response, rejected the worst sampled completion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from alignprism.construct.candidates import Candidate, Written
from alignprism.construct.output import SetAside
from alignprism.construct.ranking import Choice, NoChoice
from alignprism.rows import Pair, Prompt, content_id

Rank = Callable[[Prompt, Sequence[Candidate]], Choice | NoChoice]
"""A ranking with its settings filled in: from the candidates of a prompt to a choice, or why there is none."""

ORDER = "order: language, degenerate, likelihood"


@dataclass(frozen=True, slots=True)
class RankedBy:
    """Who ranked, and by which rule: provenance of a pair."""

    judge: str
    judge_digest: str = ""
    ranking: str = "scores"
    comparer: str = ""
    comparer_digest: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """Pairs, and the prompts that gave none, with the reason of each."""

    pairs: list[Pair]
    set_aside: list[SetAside] = field(default_factory=list)

    @property
    def dropped(self) -> dict[str, int]:
        """How many prompts gave none, by reason."""
        return dict(Counter(row.reason for row in self.set_aside))


def ranked_pairs(
    prompts: Sequence[Prompt],
    candidates: Mapping[str, Sequence[Candidate]],
    rank: Rank,
    ranked_by: RankedBy,
    seed: int,
) -> Made:
    """The chosen and the rejected candidate of each prompt; a prompt without a choice is set aside with its reason.

    Red-team prompts, translated or not, make safety pairs; all others general ones.
    """
    made = Made([])
    for prompt in prompts:
        found = rank(prompt, candidates.get(prompt.id, ()))
        if isinstance(found, NoChoice):
            made.set_aside.append(SetAside(prompt.id, found.reason, language=prompt.language))
        else:
            made.pairs.append(_pair(prompt, found, kind_of(prompt), ranked_by, seed))
    return made


def kind_of(prompt: Prompt) -> Literal["safety", "general"]:
    """What pairs a prompt makes."""
    return "safety" if prompt.set in ("redteam", "translated") else "general"


def general_pairs(prompts: Sequence[Prompt], candidates: Mapping[str, Sequence[Candidate]], *, seed: int) -> Made:
    """Reference response against the worst sampled completion.

    Worst, in this order: in another language, degenerate, least likely per character under the base model.
    """
    made = Made([])
    for prompt in prompts:
        own = candidates.get(prompt.id, ())
        chosen = next((c for c in own if c.reference), None)
        sampled = sorted(
            (c for c in own if not c.reference), key=lambda c: (not c.on_language, c.degenerate, c.nll, c.text)
        )
        if chosen is None:
            made.set_aside.append(SetAside(prompt.id, "no reference", language=prompt.language))
        elif not sampled:
            made.set_aside.append(SetAside(prompt.id, "one candidate", language=prompt.language))
        else:
            choice = Choice(chosen, sampled[-1], None)
            made.pairs.append(_pair(prompt, choice, "general", RankedBy(ORDER, ranking="order"), seed))
    return made


def _pair(prompt: Prompt, choice: Choice, kind: Literal["safety", "general"], by: RankedBy, seed: int) -> Pair:
    chosen, rejected = choice.chosen.written, choice.rejected.written
    identity = content_id(prompt.id, chosen.text, rejected.text)
    coin = int(content_id("random side", seed, identity), 16) % 2
    return Pair(
        id=identity,
        prompt=prompt.text,
        chosen=chosen.text.strip(),
        rejected=rejected.text.strip(),
        prompt_id=prompt.id,
        seed_id=prompt.seed_id,
        language=prompt.language,
        kind=kind,
        scope=prompt.scope,
        categories=prompt.categories,
        chosen_source=chosen.source,
        rejected_source=rejected.source,
        chosen_score=choice.chosen.harm,
        rejected_score=choice.rejected.harm,
        judge=by.judge,
        licence=licence_of(prompt, chosen, rejected),
        redistribute=prompt.redistribute and chosen.redistribute and rejected.redistribute,
        random_side="chosen" if coin else "rejected",
        chosen_origin=chosen.origin,
        rejected_origin=rejected.origin,
        chosen_digest=chosen.digest,
        rejected_digest=rejected.digest,
        chosen_completion=chosen.completion,
        rejected_completion=rejected.completion,
        chosen_call=chosen.call,
        rejected_call=rejected.call,
        judge_digest=by.judge_digest,
        comparer=by.comparer,
        comparer_digest=by.comparer_digest,
        ranking=by.ranking,
        margin=choice.margin,
        split=prompt.split,
        tags=prompt.tags,
    )


def licence_of(prompt: Prompt, *sides: Written) -> str:
    """The prompt's licence, and those of supplied answers that have one of their own."""
    return "; ".join(dict.fromkeys(name for name in (prompt.licence, *(side.licence for side in sides)) if name))
