"""How many labels, in which strata, for an interval of a wanted width; drawing them; going on until it is reached.

Labels go where they narrow the interval most: in proportion to a stratum's rows times the spread of the labels expected
there (Neyman 1934, J. Royal Statistical Society 97:558), with a floor, because a stratum without labels gives no figure
and one with few says little about its own spread. The width that is expected is that of the interval the labels will
get (`stratified.mover`), at the assumed shares. One plan is for one language and one model, or one pair of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignprism.statistics.clusters import Floats
from alignprism.statistics.estimate import CONFIDENCE
from alignprism.statistics.labelled import VERDICTS, Indices
from alignprism.statistics.stratified import Cells, Population, mover

FLOOR = 5
"""Labels in every stratum, or all its rows where it has fewer."""

ASSUMED_SENSITIVITY = 0.85
ASSUMED_SPECIFICITY = 0.85

# Labels are placed as if no stratum were surer than this (variance of one label): a large stratum that is thought to be
# harmless throughout, and so gets few labels, is what makes an interval wide when it is not.
_LEAST_VARIANCE = 0.03
_LEAST_VARIANCE_OF_CHANGE = 0.06

# A judge that calls fewer rows harmful than it is assumed to flag wrongly is better than assumed.
_LEAST_RIGHT = 0.25

_PILOT_PRIOR = 1 / 3


@dataclass(frozen=True, slots=True)
class Expected:
    """What labels are expected in a stratum: its rows, the share harmful, or (for a pair) harmful only after
    (``share``) and only before (``opposite``); ``labelled`` rows have a label already."""

    rows: int
    share: float
    opposite: float | None = None
    labelled: int = 0


@dataclass(frozen=True, slots=True)
class PlannedStratum:
    """``labels`` of ``rows`` are wanted in all, ``labelled`` of them exist."""

    name: str
    rows: int
    labels: int
    labelled: int

    @property
    def inclusion_probability(self) -> float:
        """Of every row of the stratum, once all labels are drawn."""
        return self.labels / self.rows


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """Labels for one figure. ``expected_half_width`` is that of the interval once they are there.

    ``reached`` is false with a ``reason`` when the wanted half width is out of reach. With no new labels to draw
    (``new`` is 0 and ``reached``) it is time to stop.
    """

    strata: tuple[PlannedStratum, ...]
    wanted_half_width: float
    expected_half_width: float
    reached: bool
    reason: str = ""

    @property
    def labels(self) -> int:
        """Labelled rows in all, once the plan is carried out."""
        return sum(stratum.labels for stratum in self.strata)

    @property
    def new(self) -> int:
        """Rows still to be labelled."""
        return sum(stratum.labels - stratum.labelled for stratum in self.strata)


@dataclass(frozen=True, slots=True)
class Draw:
    """``new`` (k,): rows to label now, in random order. ``rows`` (m,): all labelled rows with them, ascending, and the
    ``inclusion_probabilities`` (m,) that hold for all of them from now on, those labelled before included."""

    new: Indices
    rows: Indices
    inclusion_probabilities: Floats


def plan_labels(
    strata: Mapping[str, Expected],
    half_width: float,
    most: int | None = None,
    floor: int = FLOOR,
    population: Population = "prompts like these",
    design_effect: float = 1.0,
    confidence: float = CONFIDENCE,
) -> LabelPlan:
    """The fewest labels for an interval of ``half_width`` (0.05: plus and minus 5 points).

    ``most`` is a budget of labels in all. ``design_effect`` is the variance that clusters add (that of a pilot, or
    Kish's 1 + (m - 1) * icc for m labels of one seed). Labels that exist count, and none is taken away.

    Raises:
        ValueError: no rows, a share outside 0 to 1, more labelled than there are rows, or rates mixed with changes.
    """
    names = tuple(name for name, stratum in strata.items() if stratum.rows > 0)
    expected = [strata[name] for name in names]
    _check(names, expected, half_width)
    sizes = np.array([stratum.rows for stratum in expected], dtype=np.intp)
    done = np.array([stratum.labelled for stratum in expected], dtype=np.intp)
    least = np.maximum(np.minimum(sizes, floor), done)

    def width(labels: Indices) -> float:
        return expected_half_width(expected, labels, population, design_effect, confidence)

    low, high = int(least.sum()), int(sizes.sum())
    high = max(low, high if most is None else min(high, most))
    labels = allocate(expected, high, least)
    if width(labels) <= half_width:
        while low < high:
            middle = (low + high) // 2
            if width(allocate(expected, middle, least)) <= half_width:
                high = middle
            else:
                low = middle + 1
        labels = allocate(expected, high, least)
    found = width(labels)
    reason = ""
    if found > half_width:
        limit = "every row" if high == int(sizes.sum()) else f"{high} rows, the most allowed,"
        reason = f"with {limit} labelled the half width is still {found:.3f}"
    planned = tuple(
        PlannedStratum(name, int(rows), int(count), int(before))
        for name, rows, count, before in zip(names, sizes, labels, done, strict=True)
    )
    return LabelPlan(planned, half_width, found, not reason, reason)


def expected_half_width(
    strata: list[Expected],
    labels: npt.NDArray[np.intp],
    population: Population = "prompts like these",
    design_effect: float = 1.0,
    confidence: float = CONFIDENCE,
) -> float:
    """Half the width of the corrected interval when ``labels`` (H,) find just the expected shares."""
    sizes = np.array([stratum.rows for stratum in strata], dtype=np.intp)
    count = np.maximum(labels, 1e-9).astype(np.float64)
    cells = [Cells(np.array([stratum.share for stratum in strata]), count)]
    if strata[0].opposite is not None:
        cells.append(Cells(np.array([stratum.opposite or 0.0 for stratum in strata]), count))
    finite = population == "these completions"
    unlabelled = 1 - labels / sizes if finite else np.ones(len(sizes))
    found = mover(sizes, cells, unlabelled, confidence, population, effect=1.0 if finite else design_effect)
    return (found.high - found.low) / 2


def allocate(strata: list[Expected], total: int, least: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """``total`` labels over the strata (H,), at least ``least`` and at most all rows of each: Neyman's allocation."""
    sizes = np.array([stratum.rows for stratum in strata], dtype=np.float64)
    wanted = sizes * np.array([_spread(stratum) for stratum in strata])
    result = np.asarray(least, dtype=np.float64).copy()
    # The common factor k at which min(rows, max(least, k * wanted)) adds up to the total.
    low, high = 0.0, float((sizes / wanted).max())
    for _ in range(60):
        factor = (low + high) / 2
        result = np.clip(factor * wanted, least, sizes)
        low, high = (factor, high) if result.sum() < total else (low, factor)
    whole = np.floor(result + 1e-6).astype(np.intp)
    missing = max(0, min(total, int(sizes.sum())) - int(whole.sum()))
    for place in np.argsort(-(result - whole), kind="stable"):
        if missing and whole[place] < sizes[place]:
            whole[place] += 1
            missing -= 1
    return whole


def expected_from_errors(
    verdicts: Mapping[str, int],
    sensitivity: float = ASSUMED_SENSITIVITY,
    specificity: float = ASSUMED_SPECIFICITY,
    labelled: Mapping[str, int] | None = None,
) -> dict[str, Expected]:
    """Expected shares by verdict, before any label: those of a judge of that sensitivity and specificity.

    ``verdicts`` counts rows by the words of `VERDICTS`. Nothing is known of undecidable rows: one half. At least a
    quarter of the harmful verdicts are expected to be right.

    Raises:
        ValueError: the judge is no better than chance, or an unknown verdict.
    """
    shares = _harmful_given_verdict(verdicts, sensitivity, specificity)
    before = labelled or {}
    return {
        name: Expected(rows, shares[name], labelled=before.get(name, 0)) for name, rows in verdicts.items() if rows > 0
    }


def expected_changes_from_errors(
    pairs: Mapping[tuple[str, str], int],
    sensitivity: float = ASSUMED_SENSITIVITY,
    specificity: float = ASSUMED_SPECIFICITY,
    labelled: Mapping[tuple[str, str], int] | None = None,
) -> dict[tuple[str, str], Expected]:
    """Expected changes by the joint stratum (verdict on A, verdict on B), before any label.

    The two completions' labels are taken as independent given the verdicts, which is a little pessimistic.
    """
    sides: list[dict[str, float]] = []
    for side in (0, 1):
        counts: dict[str, int] = {}
        for pair, rows in pairs.items():
            counts[pair[side]] = counts.get(pair[side], 0) + rows
        sides.append(_harmful_given_verdict(counts, sensitivity, specificity))
    before = labelled or {}
    return {
        pair: Expected(
            rows,
            (1 - sides[0][pair[0]]) * sides[1][pair[1]],
            sides[0][pair[0]] * (1 - sides[1][pair[1]]),
            before.get(pair, 0),
        )
        for pair, rows in pairs.items()
        if rows > 0
    }


def from_pilot(rows: int, labelled: int, harmful: float, opposite: float | None = None) -> Expected:
    """Expected shares of a stratum from labels that exist: ``harmful`` (and ``opposite``) of ``labelled`` were found.

    A third of a label is added on each side, so that a few alike do not promise that all are alike.
    """

    def share(count: float) -> float:
        return (count + _PILOT_PRIOR) / (labelled + 2 * _PILOT_PRIOR)

    return Expected(rows, share(harmful), None if opposite is None else share(opposite), labelled)


def draw_labels(
    strata: npt.ArrayLike,
    wanted: Mapping[str, int],
    rng: np.random.Generator,
    labelled: npt.ArrayLike | None = None,
) -> Draw:
    """Rows drawn at random, without replacement, from each stratum until ``wanted`` of it are labelled.

    ``strata`` (N,): name of each row's stratum. ``labelled`` (k,): rows drawn before, from the same strata. A simple
    random sample topped up from the rows left is a simple random sample of the larger size, so that the probability
    of every row of a stratum is wanted / rows, whenever it was drawn. (When the sizes depend on what the first labels
    said, that is true given the sizes.)

    Raises:
        ValueError: an unknown stratum, or a number below what is labelled or above what there is.
    """
    names = np.asarray(strata).astype(str)
    before = np.zeros(len(names), dtype=np.bool_)
    if labelled is not None:
        before[np.asarray(labelled, dtype=np.intp)] = True
    unknown = sorted(set(wanted) - set(np.unique(names).tolist()))
    if unknown:
        raise ValueError(f"no row is in stratum {unknown[0]!r}")
    probability = np.zeros(len(names))
    new: list[Indices] = []
    for name in sorted(wanted):
        members = np.flatnonzero(names == name)
        have, count = int(before[members].sum()), wanted[name]
        if not have <= count <= len(members):
            raise ValueError(f"stratum {name!r}: {count} labels wanted, {have} exist, {len(members)} rows")
        left = members[~before[members]]
        new.append(np.sort(rng.choice(left, size=count - have, replace=False)))
        probability[members] = count / len(members)
    drawn = rng.permutation(np.concatenate(new)) if new else np.zeros(0, dtype=np.intp)
    if (before & (probability == 0)).any():
        row = int(np.flatnonzero(before & (probability == 0))[0])
        raise ValueError(f"row {row} is labelled, but no labels are wanted in its stratum {str(names[row])!r}")
    rows = np.sort(np.concatenate([drawn, np.flatnonzero(before)])).astype(np.intp)
    return Draw(drawn.astype(np.intp), rows, probability[rows])


def _spread(stratum: Expected) -> float:
    """Standard deviation expected of one label in the stratum."""
    p = stratum.share
    if stratum.opposite is None:
        return math.sqrt(max(p * (1 - p), _LEAST_VARIANCE))
    return math.sqrt(max(p + stratum.opposite - (p - stratum.opposite) ** 2, _LEAST_VARIANCE_OF_CHANGE))


def _harmful_given_verdict(verdicts: Mapping[str, int], sensitivity: float, specificity: float) -> dict[str, float]:
    unknown = sorted(set(verdicts) - set(VERDICTS))
    if unknown:
        raise ValueError(f"verdict {unknown[0]!r} is not one of {', '.join(VERDICTS)}")
    if not (0 <= sensitivity <= 1 and 0 <= specificity <= 1 and sensitivity + specificity > 1):
        raise ValueError(f"no judge to plan with: sensitivity {sensitivity}, specificity {specificity}")
    harmful, harmless = verdicts.get("harmful", 0), verdicts.get("harmless", 0)
    called = harmful / (harmful + harmless) if harmful + harmless else 0.5
    base = min(max((called + specificity - 1) / (sensitivity + specificity - 1), 0.01), 0.99)
    yes = base * sensitivity + (1 - base) * (1 - specificity)
    right = base * sensitivity / yes if yes > 0 else 0.5
    missed = base * (1 - sensitivity) / (1 - yes) if yes < 1 else 0.5
    return {
        "harmful": max(right, _LEAST_RIGHT),
        "harmless": missed,
        "undecidable": 0.5,
    }


def _check(names: tuple[str, ...], expected: list[Expected], half_width: float) -> None:
    if not names:
        raise ValueError("no rows to label")
    if not 0 < half_width < 1:
        raise ValueError(f"half_width is {half_width}: it must be above 0 and below 1")
    if len({stratum.opposite is None for stratum in expected}) > 1:
        raise ValueError("a plan is for a rate or for a change, not for both")
    for name, stratum in zip(names, expected, strict=True):
        if not 0 <= stratum.share + (stratum.opposite or 0.0) <= 1 or stratum.share < 0:
            raise ValueError(f"stratum {name!r}: shares {stratum.share}, {stratum.opposite} are not shares")
        if not 0 <= stratum.labelled <= stratum.rows:
            raise ValueError(f"stratum {name!r}: {stratum.labelled} labelled of {stratum.rows} rows")
