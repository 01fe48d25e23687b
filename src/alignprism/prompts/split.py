"""Train, dev and test by cluster: what shares a seed or is a near-duplicate stays together, and nothing moves later.

Seeds are taken in the order of their first rows. A seed goes where most of its near-duplicates of earlier seeds lie; without any, it is drawn by its
hash and the split's number. So appended seeds move none; a row that would join two splits is set aside. An assignment that no addition can move looks at nothing else, so it keeps the shares of every language, scope and
category in expectation and no closer. Exact shares need a memory: ``exact`` fills the stratum that is furthest behind, and
`previous` (the split that an earlier call gave) stays as it was.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from alignprism.errors import InputError
from alignprism.prompts.clusters import joined
from alignprism.rows import Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
SHARES: dict[Split, float] = {"train": 0.5, "dev": 0.125, "test": 0.375}

Stratum = tuple[str, str, str]
"""Language, scope, category."""


@dataclass(slots=True)
class Assigned:
    """A split for every row; None where a row is set aside, because it joins earlier seeds of different splits."""

    splits: list[Split | None]
    clusters: int
    bridges: list[int] = field(default_factory=list)
    """Row numbers that are set aside."""
    kept_leaks: list[tuple[int, int]] = field(default_factory=list)
    """Rows of the previous split that are linked and lie in different splits: they were not moved."""


def read_shares(written: str) -> dict[Split, float]:
    """``train=0.5,dev=0.125,test=0.375`` as numbers.

    Raises
    ------
    InputError
        another name, no number, or a sum other than 1.
    """
    shares: dict[Split, float] = dict.fromkeys(SPLITS, 0.0)
    for entry in written.split(","):
        name, _, number = entry.strip().partition("=")
        if name not in SPLITS:
            raise InputError(f"--shares {entry}: accepted: train, dev, test, as train=0.5,dev=0.125,test=0.375")
        try:
            shares[name] = float(number)
        except ValueError as error:
            raise InputError(f"--shares {entry}: {number!r} is not a number") from error
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise InputError(f"--shares {written}: the shares are {sum(shares.values()):g} together; they have to be 1")
    return shares


def assign(
    seeds: Sequence[str],
    strata: Sequence[Sequence[Stratum]],
    links: Iterable[tuple[int, int]],
    shares: Mapping[Split, float] = SHARES,
    number: int = 0,
    previous: Mapping[int, Split] | None = None,
    exact: bool = False,
) -> Assigned:
    """A split for every row.

    Parameters
    ----------
    seeds, strata
        the seed of every row, and the strata it counts in.
    links
        pairs of row numbers that have to stay together, beside those of one seed.
    number
        another number draws another split.
    previous
        row number to its split of an earlier call; these rows are not moved.
    exact
        fill strata to their shares instead of drawing by hash alone; stable only with `previous`.
    """
    first: dict[str, int] = {}
    own = [(first.setdefault(seed, row), row) for row, seed in enumerate(seeds)]
    linked = list(links)
    roots = joined(len(seeds), [*own, *linked])
    members: dict[int, list[int]] = defaultdict(list)
    for row, root in enumerate(roots.tolist()):
        members[root].append(row)
    if previous is None and not exact:
        return _in_order(seeds, linked, shares, number, len(members))
    before = previous or {}
    assigned = Assigned([None] * len(seeds), len(members))
    waiting: list[int] = []
    for root, rows in members.items():
        old = {before[row] for row in rows if row in before}
        if len(old) > 1:
            _keep_apart(rows, before, assigned)
        elif old:
            (split,) = old
            for row in rows:
                assigned.splits[row] = split
        else:
            waiting.append(root)
    _fill(waiting, members, seeds, strata, shares, number, assigned)
    return assigned


def _in_order(
    seeds: Sequence[str], links: Sequence[tuple[int, int]], shares: Mapping[Split, float], number: int, clusters: int
) -> Assigned:
    """Seed after seed, each with all its rows, looking back only: what comes later changes nothing before."""
    assigned = Assigned([None] * len(seeds), clusters)
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, seed in enumerate(seeds):
        rows_of[seed].append(row)
    order = {seed: place for place, seed in enumerate(rows_of)}
    earlier: dict[int, list[int]] = defaultdict(list)
    for one, other in links:
        if order[seeds[one]] != order[seeds[other]]:
            later, before = sorted((one, other), key=lambda row: order[seeds[row]], reverse=True)
            earlier[later].append(before)
    through: dict[int, set[Split]] = {}
    for seed, rows in rows_of.items():
        near: dict[int, set[Split]] = {}
        for row in rows:
            # A row that was set aside still says what lies beyond it.
            splits = (({split} if (split := assigned.splits[b]) else through[b]) for b in earlier[row])
            near[row] = set().union(*splits)
        counted = Counter(split for found in near.values() for split in sorted(found))
        own = counted.most_common(1)[0][0] if counted else _drawn(seed, shares, number)
        for row in rows:
            if near[row] - {own}:
                assigned.bridges.append(row)
                through[row] = near[row] | {own}
            else:
                assigned.splits[row] = own
    assigned.bridges.sort()
    return assigned


def _keep_apart(rows: Sequence[int], before: Mapping[int, Split], assigned: Assigned) -> None:
    old = [row for row in rows if row in before]
    for row in old:
        assigned.splits[row] = before[row]
        if before[row] != before[old[0]]:
            assigned.kept_leaks.append((old[0], row))
    assigned.bridges += [row for row in rows if row not in before]


def _fraction(seed: str, number: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{number}\x1f{seed}".encode()).digest()[:8]) / 2**64


def _drawn(seed: str, shares: Mapping[Split, float], number: int) -> Split:
    at = _fraction(seed, number)
    edges = np.cumsum([shares[split] for split in SPLITS])
    place = int(np.searchsorted(edges, at, side="right"))
    # Rounding may leave the last edge below 1.
    return SPLITS[min(place, max(n for n, split in enumerate(SPLITS) if shares[split] > 0))]


def _fill(
    waiting: Sequence[int], members: Mapping[int, Sequence[int]], seeds: Sequence[str],
    strata: Sequence[Sequence[Stratum]], shares: Mapping[Split, float], number: int, assigned: Assigned,
) -> None:  # fmt: skip
    """Clusters in the order of their hashes, each to the split that is furthest behind in the strata of its rows."""
    if not waiting:
        return
    have: dict[Split, Counter[Stratum]] = {split: Counter() for split in SPLITS}
    for row, split in enumerate(assigned.splits):
        if split is not None:
            have[split].update(strata[row])
    for root in sorted(waiting, key=lambda r: (_fraction(seeds[r], number), seeds[r])):
        own: Counter[Stratum] = Counter(s for row in members[root] for s in strata[row])

        def behind(split: Split, own: Counter[Stratum] = own) -> float:
            gap = 0.0
            for stratum, count in own.items():
                total = sum(have[other][stratum] for other in SPLITS) + count
                gap += count * (shares[split] * total - have[split][stratum]) / total
            return gap

        open_splits = [split for split in SPLITS if shares[split] > 0]
        chosen = max(open_splits, key=behind)
        have[chosen].update(own)
        for row in members[root]:
            assigned.splits[row] = chosen


def realised(splits: Sequence[Split | None], strata: Sequence[Sequence[Stratum]]) -> dict[Stratum, dict[str, int]]:
    """Rows of every stratum by split, to be shown."""
    counts: dict[Stratum, Counter[str]] = defaultdict(Counter)
    for split, own in zip(splits, strata, strict=True):
        for stratum in own:
            counts[stratum][split or "set aside"] += 1
    return {stratum: dict(found) for stratum, found in sorted(counts.items())}
