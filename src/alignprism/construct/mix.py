"""Mixing safety and general pairs in a chosen ratio: the same share in every language, seeded, without replacement.

Pairs are dealt one by one: which kind comes next follows from the mixture, which language from how many it has, so that
a mixture of fewer pairs is a part of one with more. Arms that differ in scope are dealt alike (`scope_arms`), so that
global-only and local-only have the same number of pairs of each kind in each language (paper, sections 2.3 and 4.4).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from alignprism.errors import InputError
from alignprism.rows import Pair, Scope, content_id

Kind = Literal["safety", "general"]
KINDS: tuple[Kind, ...] = ("safety", "general")
SCOPES: tuple[Scope, ...] = ("global", "local")

Available = Mapping[str, tuple[int, int]]
"""Number of safety and of general pairs by language."""


class MixtureError(InputError):
    """There are too few pairs of one kind for the mixture; the message names the short side."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Pairs of one language, kind and scope: how many there were, and how many were taken."""

    language: str
    kind: Kind
    scope: str
    available: int
    taken: int


@dataclass(frozen=True, slots=True)
class Mixed:
    """The pairs in a seeded order, and where they are from."""

    pairs: list[Pair]
    mixture: float
    cells: list[Cell]

    def summary(self) -> dict[str, Any]:
        """Numbers: asked for, taken, share by language, and every cell."""
        total, by_language = len(self.pairs), Counter(pair.language for pair in self.pairs)
        safety = Counter(pair.language for pair in self.pairs if pair.kind == "safety")
        return {
            "total": total,
            "mixture": self.mixture,
            "asked": dict(zip(KINDS, mixed_counts(total, self.mixture), strict=True)),
            "share_of_safety": {
                code: round(safety[code] / by_language[code], 4) if by_language[code] else None
                for code in sorted({cell.language for cell in self.cells})
            },
            "cells": [asdict(cell) for cell in self.cells],
        }


def mixed_counts(total: int, mixture: float) -> tuple[int, int]:
    """Number of safety and of general pairs: `mixture` is the share of safety pairs, halves are rounded up."""
    safety = math.floor(total * mixture + 0.5)
    return safety, total - safety


def mix(
    safety: Sequence[Pair],
    general: Sequence[Pair],
    total: int,
    mixture: float,
    seed: int,
    languages: Collection[str] | None = None,
) -> Mixed:
    """`total` pairs of which the share `mixture` is safety pairs, in every language as near as counts allow.

    Languages get the same number of pairs as far as they have them. Where the pairs of one kind in a language run out,
    the language gets fewer of the other kind too; only when nothing else is left do shares differ between languages
    (`Mixed.summary` gives them). With `languages` only pairs in these are used.

    Raises
    ------
    MixtureError
        one side has fewer pairs than the mixture asks for; or the mixture is no share.
    """
    if not 0 <= mixture <= 1:
        raise MixtureError(f"mixture {mixture:g}: a share of safety pairs is expected, from 0 to 1")
    sides = dict(zip(KINDS, (_in(safety, languages), _in(general, languages)), strict=True))
    queues = {kind: _queues(pairs, seed) for kind, pairs in sides.items()}
    taken = Counter(deal(available_pairs(safety, general, languages), total, mixture, seed))
    pairs = [pair for (kind, code), count in taken.items() for pair in queues[kind][code][:count]]
    shuffled = sorted(pairs, key=lambda pair: content_id("mix", seed, pair.id))
    return Mixed(shuffled, mixture, _cells(sides, shuffled))


def deal(available: Available, total: int, mixture: float, seed: int) -> list[tuple[Kind, str]]:
    """Kind and language of each of `total` pairs, one after the other; the first n of them are those of a total of n.

    Raises
    ------
    MixtureError
        see `mix`.
    """
    _refuse_short(available, total, mixture)
    order = sorted(available, key=lambda code: content_id("language", seed, code))
    kept = {code: mixed_counts(_most(*available[code], mixture), mixture) for code in order}
    given: dict[str, list[int]] = {code: [0, 0] for code in order}
    dealt: list[tuple[Kind, str]] = []
    for number in range(1, total + 1):
        side = 0 if mixed_counts(number, mixture)[0] > mixed_counts(number - 1, mixture)[0] else 1
        left = [code for code in order if given[code][side] < available[code][side]]
        # Within `kept` a language holds the mixture; beyond it, it takes what others lack.
        first = [code for code in left if given[code][side] < kept[code][side]] or left
        code = min(first, key=lambda code: (given[code][side], sum(given[code])))
        given[code][side] += 1
        dealt.append((KINDS[side], code))
    return dealt


def largest_total(available: Available, mixture: float) -> int:
    """The most pairs that the mixture can have, over all languages together."""
    return _most(sum(n for n, _ in available.values()), sum(n for _, n in available.values()), mixture)


def _most(safety: int, general: int, mixture: float) -> int:
    """The largest total whose two sides fit."""
    ends = [(count + 1) / share for count, share in ((safety, mixture), (general, 1 - mixture)) if share > 0]
    total = min(math.ceil(min(ends)), safety + general)
    while any(asked > there for asked, there in zip(mixed_counts(total, mixture), (safety, general), strict=True)):
        total -= 1
    return total


def _refuse_short(available: Available, total: int, mixture: float) -> None:
    for side, (name, count) in enumerate(zip(KINDS, mixed_counts(total, mixture), strict=True)):
        by_language = {code: counts[side] for code, counts in available.items()}
        if sum(by_language.values()) < count:
            listed = ", ".join(f"{code} {n}" for code, n in sorted(by_language.items(), key=lambda item: item[1]))
            raise MixtureError(
                f"mixture {mixture:.4g} of {total} pairs needs {count} {name} pairs, but only {sum(by_language.values())} "
                f"were made ({listed or 'no language has any'}): the {name} side is short. Set the total (pairs.total, --total) to at most "
                f"{largest_total(available, mixture)}, change mixture, or sample more"
            )


def scope_arms(
    safety: Sequence[Pair],
    general: Sequence[Pair],
    total: int | None,
    mixture: float,
    seed: int,
    languages: Collection[str] | None = None,
) -> dict[Scope, Mixed]:
    """A mixture with safety pairs of global harm only, and one of local harm only, at equal size.

    Both have the same number of pairs of each kind in each language, and the same general pairs. `total` None: as many
    as both can have.

    Raises
    ------
    MixtureError
        the smaller scope has fewer pairs than the mixture asks for.
    """
    equal = {scope: equal_scope(safety, scope, seed) for scope in SCOPES}
    size = largest_total(available_pairs(equal["global"], general, languages), mixture) if total is None else total
    return {scope: mix(pairs, general, size, mixture, seed, languages) for scope, pairs in equal.items()}


def equal_scope(safety: Sequence[Pair], scope: Scope, seed: int) -> list[Pair]:
    """The safety pairs of one scope, in each language no more than the other scope has, by seeded hash.

    What one scope has more of is left out, so that studies of either scope are of one size.
    """
    counts = Counter((pair.language, pair.scope) for pair in safety)
    own = _queues([pair for pair in safety if pair.scope == scope], seed)
    return [pair for code, queue in own.items() for pair in queue[: min(counts[code, other] for other in SCOPES)]]


def available_pairs(
    safety: Sequence[Pair], general: Sequence[Pair], languages: Collection[str] | None = None
) -> dict[str, tuple[int, int]]:
    """How many pairs of each kind there are, by language."""
    own = {kind: _in(pairs, languages) for kind, pairs in zip(KINDS, (safety, general), strict=True)}
    counts = {kind: Counter(pair.language for pair in pairs) for kind, pairs in own.items()}
    return {
        code: (counts["safety"][code], counts["general"][code])
        for code in sorted({p.language for ps in own.values() for p in ps})
    }


def _in(pairs: Iterable[Pair], languages: Collection[str] | None) -> list[Pair]:
    return [pair for pair in pairs if languages is None or pair.language in languages]


def _queues(pairs: Iterable[Pair], seed: int) -> dict[str, list[Pair]]:
    """Pairs by language in the order in which they are drawn."""
    queues: dict[str, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: content_id("draw", seed, pair.id)):
        queues[pair.language].append(pair)
    return dict(queues)


def _cells(sides: Mapping[Kind, Sequence[Pair]], taken: Sequence[Pair]) -> list[Cell]:
    available = Counter((pair.language, kind, pair.scope or "") for kind, pairs in sides.items() for pair in pairs)
    used = Counter((pair.language, pair.kind, pair.scope or "") for pair in taken)
    return [Cell(*place, available[place], used[place]) for place in sorted(available)]
