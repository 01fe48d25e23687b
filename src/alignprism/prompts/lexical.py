"""Near-duplicates by their letters: MinHash (Broder 1997) with banding finds candidates, exact Jaccard decides.

A text is the set of its character 5-grams, after NFKC, case folding, folding of white space and one spelling; grams of
characters need no word boundaries and so serve Thai and Chinese as they serve Spanish. Signatures are 64 minima of 16 bits, in 16
bands of 4: a pair of Jaccard 0.7 shares a band with probability 1 - (1 - 0.7^4)^16 = .988, one of 0.8 with .9998. Whoever
shares a band is compared with the 15 texts before it and with the band's first, first by signature, then exactly; so the
work is that of sorting, n log n, and a bucket of up to 16 is compared whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignprism.prompts.identify import same_language
from alignprism.prompts.serbian import TO_LATIN

GRAM = 5
HASHES = 64
BANDS = 16
CUT = 0.7
"""Jaccard similarity from which two texts of one language are near-duplicates."""

SLACK = 0.18  # three standard errors of a similarity of 0.7 estimated from 64 minima
_PAIRS_AT_ONCE = 1 << 17
_WINDOW = 15
_BYTES_PER_ROW = 64  # keys, order, runs and candidates of one band, while it is being worked on

Signatures = npt.NDArray[np.uint16]
Ints = npt.NDArray[np.int64]

_rng = np.random.default_rng(20_240_626)
_FACTORS = (_rng.integers(0, 1 << 32, HASHES, dtype=np.uint64) | 1).astype(np.uint32)
_SHIFTS = _rng.integers(0, 1 << 32, HASHES, dtype=np.uint64).astype(np.uint32)
_ARABIC_MARKS = re.compile("[\u0640\u064b-\u0652\u0670]")
_SERBIAN = str.maketrans(TO_LATIN)
_POWERS = np.array([pow(1_000_003, GRAM - 1 - n, 1 << 32) for n in range(GRAM)], np.uint32)


def normalise(text: str) -> str:
    """What two texts have in common when they are the same to a reader."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def folded(normalised: str, language: str) -> str:
    """A normalised text in one spelling: what two texts of a language have in common when they are read out alike.

    Arabic loses what a writer may leave out (vowel marks, tatweel), Serbian is read in Latin script. For comparing only:
    one text in two scripts is a leak between splits, but to other rules it is two.
    """
    if normalised.isascii():
        return normalised
    if _ARABIC_MARKS.search(normalised):
        normalised = " ".join(_ARABIC_MARKS.sub("", normalised).split())
    return normalised.translate(_SERBIAN) if same_language(language) == "sr" else normalised


def grams(normalised: str) -> frozenset[str]:
    """Character 5-grams; a shorter text is one gram."""
    if len(normalised) <= GRAM:
        return frozenset({normalised})
    return frozenset(normalised[n : n + GRAM] for n in range(len(normalised) - GRAM + 1))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over size of the union."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if one or other else 1.0


def signatures(normalised: Sequence[str]) -> Signatures:
    """MinHash signatures, shape (n, 64), of normalised texts."""
    if not normalised:
        return np.zeros((0, HASHES), np.uint16)
    padded = [text if len(text) >= GRAM else text.ljust(GRAM) for text in normalised]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    windows = lengths - (GRAM - 1)
    starts = np.cumsum(lengths) - lengths
    firsts = np.cumsum(windows) - windows
    # The window at place p of text t starts at code starts[t] + p.
    places = np.arange(int(windows.sum())) + np.repeat(starts - firsts, windows)
    hashed = np.zeros(len(places), np.uint32)
    for offset in range(GRAM):
        hashed += codes[places + offset] * _POWERS[offset]
    hashed = _mixed(hashed)
    result = np.empty((len(padded), HASHES), np.uint16)
    for number in range(HASHES):
        minima = np.minimum.reduceat(hashed * _FACTORS[number] + _SHIFTS[number], firsts)
        result[:, number] = minima & np.uint32(0xFFFF)
    return result


def _mixed(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """MurmurHash3's finaliser: every bit of the input reaches every bit of the output."""
    values ^= values >> np.uint32(16)
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two rows, the earlier first, and their exact Jaccard similarity."""

    first: int
    second: int
    similarity: float


def near_pairs(
    signed: Signatures,
    group: npt.NDArray[np.integer],
    text_of: Callable[[int], str],
    cut: float = CUT,
    memory: int = 1 << 30,
) -> list[NearPair]:
    """Pairs of rows of one group (language) whose similarity is at least `cut`; enough of them to join every cluster.

    Parameters
    ----------
    signed
        signatures, shape (n, 64); may be mapped from a file.
    group
        shape (n,); rows of different groups are never compared, rows of a negative group with none.
    text_of
        the normalised text of a row.
    memory
        bytes that the working arrays of one band may take; with more rows a band is worked on in parts.
    """
    survivors: set[tuple[int, int]] = set()
    keys_of_bands = signed.view(np.uint64)
    parts = max(1, -(-len(signed) * _BYTES_PER_ROW // memory))
    for band in range(BANDS):
        for part in range(parts):
            for first, second in _candidates(keys_of_bands, band, group, part, parts):
                alike = _estimated(signed, first, second) >= cut - SLACK
                survivors.update(zip(first[alike].tolist(), second[alike].tolist(), strict=True))
    return _verified(survivors, text_of, cut)


def _candidates(
    keys_of_bands: npt.NDArray[np.uint64], band: int, group: npt.NDArray[np.integer], part: int, parts: int
) -> Iterator[tuple[Ints, Ints]]:
    """Rows of one bucket against the 15 before it and its first; the neighbour band's key orders a bucket."""
    odd = np.uint64(0x9E3779B97F4A7C15)
    keys = keys_of_bands[:, band] ^ (group.astype(np.uint64) * odd)
    rows = np.flatnonzero((group >= 0) & (keys % np.uint64(parts) == part)) if parts > 1 else np.flatnonzero(group >= 0)
    keys = keys[rows]
    order = np.lexsort((keys_of_bands[rows, (band + 1) % BANDS], keys))
    rows, keys = rows[order], keys[order]
    if len(rows) < 2:
        return
    joined = keys[1:] == keys[:-1]
    # Where a run of equal keys starts, for every row.
    begins = np.maximum.accumulate(np.where(np.concatenate(([True], ~joined)), np.arange(len(rows)), 0))
    far = np.flatnonzero(np.arange(len(rows)) - begins > _WINDOW)
    yield from _in_pieces(rows[begins[far]], rows[far], group)
    for distance in range(1, _WINDOW + 1):
        near = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not len(near):
            break
        yield from _in_pieces(rows[near], rows[near + distance], group)


def _in_pieces(one: Ints, other: Ints, group: npt.NDArray[np.integer]) -> Iterator[tuple[Ints, Ints]]:
    for start in range(0, len(one), _PAIRS_AT_ONCE):
        a, b = one[start : start + _PAIRS_AT_ONCE], other[start : start + _PAIRS_AT_ONCE]
        same = group[a] == group[b]
        yield np.minimum(a, b)[same], np.maximum(a, b)[same]


def _estimated(signed: Signatures, first: Ints, second: Ints) -> npt.NDArray[np.float64]:
    """Share of equal minima: an unbiased estimate of the Jaccard similarity."""
    return np.asarray((signed[first] == signed[second]).mean(axis=1))


def _verified(pairs: set[tuple[int, int]], text_of: Callable[[int], str], cut: float) -> list[NearPair]:
    found: list[NearPair] = []
    kept: dict[int, frozenset[str]] = {}
    last = -1
    for first, second in sorted(pairs):
        if first != last:
            kept, last = {first: grams(text_of(first))}, first
        similarity = jaccard(kept[first], grams(text_of(second)))
        if similarity >= cut:
            found.append(NearPair(first, second, similarity))
    return found
