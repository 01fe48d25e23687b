"""Comparisons to figures: win rates in both conventions, flips, place and length, by pair of models and language.

Pure. Every figure is a row of `alignprism.rows.Figure`: ``model`` is b, ``baseline`` a, and rates are b's. Undecidable comparisons
are in no win rate; their share stands beside it, and so do the bounds with them counted as losses and as wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from alignprism.errors import InputError
from alignprism.judging.pairwise import Combined, Matchup, Order, Preferred, combine
from alignprism.rows import Comparison, Figure, content_id
from alignprism.statistics import (
    Estimate,
    bradley_terry,
    flip_rate,
    length_controlled_win_rate,
    position_bias,
    rate,
    win_rates,
)

BOTH_ORDERS = "b over a, both orders"
TIES_HALF = f"{BOTH_ORDERS}, ties half"
TIES_DROPPED = f"{BOTH_ORDERS}, ties dropped"
EQUAL_LENGTH = f"{BOTH_ORDERS}, ties half, at equal length"
AS_LOSSES = f"{TIES_HALF}, undecidable counted as losses"
AS_WINS = f"{TIES_HALF}, undecidable counted as wins"
STRENGTH = "chance to beat the baseline, Bradley-Terry, ties half"

_CODES = {"a": -1, "tie": 0, "b": 1}
_TURNED: Mapping[Preferred, Preferred] = {"a": "b", "b": "a", "tie": "tie", "undecidable": "undecidable"}


@dataclass(frozen=True, slots=True)
class Judged:
    """One matchup with what its judge said in both orders."""

    matchup: Matchup
    ab: Comparison
    ba: Comparison

    @property
    def outcome(self) -> Combined:
        """Both orders together."""
        return combine(self.ab, self.ba)


def judged(matchups: Sequence[Matchup], comparisons: Sequence[Comparison]) -> list[Judged]:
    """Matchups joined with their two comparisons.

    Raises
    ------
    InputError
        a comparison is missing.
    """
    rows = {(c.prompt_id, c.completion_a, c.completion_b, c.order): c for c in comparisons}
    found = []
    for matchup in matchups:
        place = (matchup.prompt_id, matchup.completion_a, matchup.completion_b)
        if (*place, "ab") not in rows or (*place, "ba") not in rows:
            raise InputError(f"prompt {matchup.prompt_id!r}: its comparison in one of the two orders is missing")
        found.append(Judged(matchup, rows[*place, "ab"], rows[*place, "ba"]))
    return found


def pairwise_figures(rows: Sequence[Judged], judge: str, bootstrap: int, seed: int) -> list[Figure]:
    """All figures: for each pair of models (in the orientation that is met first) and language, and over all languages.

    With more than two models, `strength` of each against the first row's ``model_a`` as well.
    """
    figures: list[Figure] = []
    pairs: dict[tuple[str, str], list[Judged]] = {}
    for row in rows:
        a, b = row.matchup.model_a, row.matchup.model_b
        if (b, a) in pairs:
            pairs[b, a].append(_turned(row))
        else:
            pairs.setdefault((a, b), []).append(row)
    for (a, b), found in pairs.items():
        languages = sorted({row.matchup.language for row in found})
        for code in [*languages, None] if len(languages) > 1 else languages:
            slice_ = [row for row in found if code in (None, row.matchup.language)]
            base = Figure("", "", b, a, language=code, set="pairwise", judge=judge)
            figures.extend(_slice(slice_, base, bootstrap, seed))
    if len({model for pair in pairs for model in pair}) > 2:
        figures.extend(_strengths(rows, judge, bootstrap, seed))
    return figures


def _turned(row: Judged) -> Judged:
    """The same comparison with a and b exchanged; the order in which answers were shown stays what it was."""
    m = row.matchup
    matchup = replace(
        m, completion_a=m.completion_b, completion_b=m.completion_a, answer_a=m.answer_b, answer_b=m.answer_a,
        model_a=m.model_b, model_b=m.model_a,
    )  # fmt: skip
    return Judged(matchup, _turned_row(row.ba, "ab"), _turned_row(row.ab, "ba"))


def _turned_row(row: Comparison, order: Order) -> Comparison:
    return replace(
        row, completion_a=row.completion_b, completion_b=row.completion_a, order=order, preferred=_TURNED[row.preferred]
    )


def _slice(rows: Sequence[Judged], base: Figure, bootstrap: int, seed: int) -> Iterator[Figure]:
    outcomes = [row.outcome for row in rows]
    clusters = np.array([row.matchup.seed_id for row in rows])

    def rng(name: str) -> np.random.Generator:
        return np.random.default_rng(int(content_id(seed, base.model, base.baseline, base.language, name), 16))

    def figure(metric: str, estimand: str, found: Estimate) -> Figure:
        return _figure(replace(base, metric=metric, estimand=estimand), found)

    def share(chosen: Callable[[Combined], bool]) -> Estimate:
        return rate([chosen(outcome) for outcome in outcomes], clusters)

    decided = np.array([outcome.preferred != "undecidable" for outcome in outcomes])
    results = np.array([_CODES.get(outcome.preferred, 0) for outcome in outcomes])
    won = win_rates(results[decided], clusters[decided], rng("win"), resamples=bootstrap)
    yield figure("win_rate", TIES_HALF, won.ties_half)
    yield figure("win_rate", TIES_DROPPED, won.ties_dropped)
    yield figure("win_rate", EQUAL_LENGTH, _at_equal_length(rows, results, clusters, decided, base.language is None))
    if not decided.all():
        for name, value in ((AS_LOSSES, -1), (AS_WINS, 1)):
            bound = win_rates(np.where(decided, results, value), clusters, rng(name), resamples=bootstrap)
            yield figure("win_rate", name, bound.ties_half)
    yield figure("win_share", BOTH_ORDERS, share(lambda o: o.preferred == "b"))
    yield figure("tie_share", BOTH_ORDERS, share(lambda o: o.preferred == "tie"))
    yield figure("loss_share", BOTH_ORDERS, share(lambda o: o.preferred == "a"))
    yield figure("undecidable_rate", BOTH_ORDERS, share(lambda o: o.preferred == "undecidable"))
    yield figure("identical_rate", BOTH_ORDERS, share(lambda o: not o.asked))
    asked = np.array([outcome.asked for outcome in outcomes]) & decided
    flipped = np.array([outcome.flipped for outcome in outcomes])
    yield figure(
        "flip_rate", "changed with the order, of those asked and decided", flip_rate(flipped[asked], clusters[asked])
    )
    first, second, twice = _places([row for row, kept in zip(rows, asked, strict=True) if kept])
    yield figure(
        "position_bias",
        "first shown - second shown",
        position_bias(first, second, twice, rng("place"), resamples=bootstrap),
    )


def _at_equal_length(
    rows: Sequence[Judged],
    results: npt.NDArray[np.int64],
    clusters: npt.NDArray[np.str_],
    decided: npt.NDArray[np.bool_],
    pooled: bool,
) -> Estimate:
    lengths = np.array([(len(row.matchup.answer_a), len(row.matchup.answer_b)) for row in rows]).reshape(-1, 2)[decided]
    languages = np.array([row.matchup.language for row in rows])[decided] if pooled else None
    return length_controlled_win_rate(results[decided], lengths[:, 0], lengths[:, 1], clusters[decided], languages)


def _places(rows: Sequence[Judged]) -> tuple[list[bool], list[bool], list[str]]:
    """Whether the first and whether the second shown answer was preferred, one entry per comparison, and its cluster."""
    shown = [(c, row.matchup.seed_id) for row in rows for c in (row.ab, row.ba)]
    first = [c.preferred == c.order[0] for c, _ in shown]
    second = [c.preferred == c.order[1] for c, _ in shown]
    return first, second, [seed for _, seed in shown]


def _strengths(rows: Sequence[Judged], judge: str, bootstrap: int, seed: int) -> Iterator[Figure]:
    kept = [row for row in rows if row.outcome.preferred != "undecidable"]
    baseline = rows[0].matchup.model_a
    models = {model for row in rows for model in (row.matchup.model_a, row.matchup.model_b)}
    compared = {model for row in kept for model in (row.matchup.model_a, row.matchup.model_b)}
    if compared == models:
        strengths = bradley_terry(
            [row.matchup.model_a for row in kept],
            [row.matchup.model_b for row in kept],
            [_CODES[row.outcome.preferred] for row in kept],
            [row.matchup.seed_id for row in kept],
            baseline,
            np.random.default_rng(int(content_id(seed, "strength", baseline), 16)),
            resamples=bootstrap,
        )
        found = {strength.model: strength.win_probability for strength in strengths}
    else:
        reason = f"no decided comparison of {', '.join(sorted(models - compared))}"
        found = dict.fromkeys(sorted(models), Estimate(None, None, None, len(kept), 0, reason=reason))
    for model, estimate in found.items():
        yield _figure(Figure("strength", STRENGTH, model, baseline, set="pairwise", judge=judge), estimate)


def _figure(base: Figure, found: Estimate) -> Figure:
    return replace(
        base, n=found.n, clusters=found.clusters, estimate=found.estimate, low=found.low, high=found.high,
        interval=found.interval, reason=found.reason, p=found.p_value, correction="none: no human labels",
    )  # fmt: skip
