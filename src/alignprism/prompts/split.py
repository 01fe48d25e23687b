"""Train, dev and test by cluster: what shares a seed or is a near-duplicate stays together, and nothing moves later.

A cluster is drawn by the hash of its first seed (in the order of the rows) and the split's number, so that appended rows
move none, whatever their strata: an assignment that no addition can move depends on nothing but the cluster itself, so
it keeps the shares of every language, scope and category in expectation and no closer. Exact shares need a memory:
``exact`` fills the stratum that is furthest behind, and `previous` (the split that an earlier call gave) stays as it was.
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
    """A split for every row; None where a new row is set aside, because it joins clusters of different splits."""

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
    roots = joined(len(seeds), [*own, *links])
    members: dict[int, list[int]] = defaultdict(list)
    for row, root in enumerate(roots.tolist()):
        members[root].append(row)
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
        elif exact or previous is not None:
            waiting.append(root)
        else:
            split = _drawn(seeds[root], shares, number)
            for row in rows:
                assigned.splits[row] = split
    _fill(waiting, members, seeds, strata, shares, number, assigned)
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
