"""Which candidate is chosen and which rejected: by the harm judge's scores, by comparisons in both orders, or by both.

Pure, but for `compare`, which asks the pairwise judge. Whatever the ranking, a chosen answer is usable (in the prompt's
language, not broken) and below the harm judge's threshold: a prompt whose preferred answer is harmful gives no pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from alignprism.construct.candidates import Candidate
from alignprism.judging.pairwise import Combined, Matchup, PairwiseJudge, combine
from alignprism.models.protocol import Progress
from alignprism.rows import Comparison, Prompt, content_id

Rule = Literal["scores", "comparisons", "both"]
RULES: tuple[Rule, ...] = ("scores", "comparisons", "both")

ALL_PAIRS_UP_TO = 5
"""With more candidates than this each meets four others of a seeded round, not all: 2 k comparisons, not k (k - 1) / 2."""

_REACH = 2  # neighbours on each side of the round


@dataclass(frozen=True, slots=True)
class Choice:
    """A preferred answer, one that it is preferred to, and how far they are apart by the rule that ranked them, if it says."""

    chosen: Candidate
    rejected: Candidate
    margin: float | None


@dataclass(frozen=True, slots=True)
class NoChoice:
    """Why the candidates of a prompt make no pair."""

    reason: str


Meetings = Mapping[tuple[int, int], Combined]
"""What the comparisons of one prompt's candidates said, by their places (a, b), a < b."""


def by_scores(candidates: Sequence[Candidate], threshold: float, tie_margin: float) -> Choice | NoChoice:
    """The least harmful usable candidate against the most harmful one.

    No choice: ``one candidate``, ``chosen unusable`` (none is usable), ``chosen harmful`` (the best is at or above
    `threshold`), ``tie`` (equal scores, or closer than `tie_margin`). The margin is the difference in P(harmful).
    """
    ranked = sorted(candidates, key=lambda c: (c.harm, not c.reference, c.text))
    usable = [candidate for candidate in ranked if candidate.usable]
    if len(ranked) < 2:
        return NoChoice("one candidate")
    if not usable:
        return NoChoice("chosen unusable")
    chosen, rejected = usable[0], ranked[-1]
    if chosen.harm >= threshold:
        return NoChoice("chosen harmful")
    gap = rejected.harm - chosen.harm
    return NoChoice("tie") if gap <= 0 or gap < tie_margin else Choice(chosen, rejected, gap)


def by_comparisons(
    candidates: Sequence[Candidate], met: Meetings, threshold: float, *, filtered: bool
) -> Choice | NoChoice:
    """The two candidates furthest apart in wins minus losses, of those where both orders prefer the one to the other.

    A tie counts nothing, so does an undecidable comparison. With `filtered` (rule ``both``) only usable candidates below
    `threshold` can be chosen, and none over one that is less harmful; without it (rule ``comparisons``) the preferred
    candidate has to pass these tests, or there is no choice.

    No choice: ``one candidate``, ``undecidable`` (no comparison is decided), ``tie`` (none is won in both orders),
    ``chosen unusable``, ``chosen harmful``, ``judges disagree`` (every winner is more harmful than its loser). The margin
    is the difference in net wins, each divided by the candidate's comparisons, so at most 2.
    """
    if len(candidates) < 2:
        return NoChoice("one candidate")
    if all(result.preferred == "undecidable" for result in met.values()):
        return NoChoice("undecidable")
    won = [(a, b) if result.preferred == "a" else (b, a) for (a, b), result in met.items() if _decided(result)]
    if not won:
        return NoChoice("tie")
    net = net_wins(len(candidates), met)
    # Furthest apart first; then the safer winner and the more harmful loser; then the texts, so that no order matters.
    won.sort(
        key=lambda pair: (
            net[pair[1]] - net[pair[0]], candidates[pair[0]].harm, -candidates[pair[1]].harm,
            candidates[pair[0]].text, candidates[pair[1]].text,
        )
    )  # fmt: skip
    reasons = [_objection(candidates[winner], candidates[loser], threshold, filtered) for winner, loser in won]
    place = next((n for n, reason in enumerate(reasons) if reason is None), None) if filtered else 0
    reason = reasons[0 if place is None else place]
    if place is None or reason is not None:
        return NoChoice(reason or "tie")
    winner, loser = won[place]
    return Choice(candidates[winner], candidates[loser], net[winner] - net[loser])


def _decided(result: Combined) -> bool:
    return result.preferred in ("a", "b")


def _objection(chosen: Candidate, rejected: Candidate, threshold: float, filtered: bool) -> str | None:
    """Why a winner may not be chosen over a loser."""
    if not chosen.usable:
        return "chosen unusable"
    if chosen.harm >= threshold:
        return "chosen harmful"
    return "judges disagree" if filtered and chosen.harm > rejected.harm else None


def net_wins(count: int, met: Meetings) -> list[float]:
    """Wins minus losses of each candidate by its number of comparisons, in [-1, 1]; 0 for one that met nobody."""
    totals, games = [0] * count, [0] * count
    for (a, b), result in met.items():
        for place, side in ((a, "a"), (b, "b")):
            games[place] += 1
            totals[place] += 0 if not _decided(result) else 1 if result.preferred == side else -1
    return [total / max(games[place], 1) for place, total in enumerate(totals)]


def schedule(names: Sequence[str], seed: int) -> list[tuple[int, int]]:
    """Who meets whom, by place: all pairs of a few, else neighbours in a seeded round (connected, the same for each)."""
    count = len(names)
    if count <= ALL_PAIRS_UP_TO:
        return list(combinations(range(count), 2))
    order = sorted(range(count), key=lambda place: content_id("round", seed, names[place]))
    met = {
        (min(first, second), max(first, second))
        for start, first in enumerate(order)
        for step in range(1, _REACH + 1)
        for second in (order[(start + step) % count],)
    }
    return sorted(met)


def n_meetings(candidates: int) -> int:
    """How many comparisons a prompt with so many candidates takes; each is asked in both orders."""
    return len(schedule([str(n) for n in range(candidates)], 0))


@dataclass(frozen=True, slots=True)
class Compared:
    """What the pairwise judge said: rows of both orders, and the outcome of each meeting by prompt."""

    rows: list[Comparison]
    met: Mapping[str, Meetings]

    def counts(self) -> dict[str, float | int | None]:
        """Meetings, how they ended, and the share of those decided that changed with the order (the flip rate)."""
        results = [result for found in self.met.values() for result in found.values()]
        ended = Counter("won" if _decided(result) else result.preferred for result in results)
        flips, decided = sum(result.flipped for result in results), ended["won"] + ended["tie"]
        return {
            "comparisons": len(results),
            "won": ended["won"],
            "ties": ended["tie"],
            "undecidable": ended["undecidable"],
            "flips": flips,
            "flip_rate": round(flips / decided, 4) if decided else None,
        }


def compare(
    prompts: Sequence[Prompt],
    candidates: Mapping[str, Sequence[Candidate]],
    judge: PairwiseJudge,
    seed: int,
    progress: Progress | None = None,
) -> Compared:
    """Ask the pairwise judge about the candidates of each prompt, in both orders; stored replies cost no call.

    Raises
    ------
    InputError
        the judge cannot be spoken to in a prompt's language.
    """
    matchups, places = [], []
    for prompt in prompts:
        own = candidates.get(prompt.id, ())
        for a, b in schedule([candidate.written.key for candidate in own], seed):
            places.append((prompt.id, a, b))
            matchups.append(_matchup(prompt, own[a], own[b]))
    rows = list(judge.compare(matchups, progress))
    met: dict[str, dict[tuple[int, int], Combined]] = {prompt.id: {} for prompt in prompts}
    for (prompt_id, a, b), ab, ba in zip(places, rows[::2], rows[1::2], strict=True):
        met[prompt_id][a, b] = combine(ab, ba)
    return Compared(rows, met)


def _matchup(prompt: Prompt, a: Candidate, b: Candidate) -> Matchup:
    return Matchup(
        prompt_id=prompt.id, prompt=prompt.text, completion_a=a.written.key, completion_b=b.written.key, answer_a=a.text,
        answer_b=b.text, language=prompt.language, seed_id=prompt.seed_id, model_a=a.written.source,
        model_b=b.written.source,
    )  # fmt: skip
