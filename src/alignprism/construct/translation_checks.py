"""What can be seen of a translation without reading it: its language, its length, and what its back-translation lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np

from alignprism.judging.degenerate import degenerate
from alignprism.judging.translation import metrics, translation_scores
from alignprism.languages import script_of
from alignprism.models.translation_codes import code_of
from alignprism.prompts.handling import forbidden
from alignprism.prompts.identify import SCRIPT_SHARE, share_in
from alignprism.prompts.lexical import normalise
from alignprism.prompts.row_checks import check_prompt
from alignprism.rows import Prompt
from alignprism.statistics.clusters import Floats

FEWEST_FOR_LENGTH = 10
"""Below this many translations into a language its usual length is not known, and lengths are not tested."""


def problem_of(text: str, source: str, target: str) -> tuple[str, str] | None:
    """Reason and detail of what is wrong with a translation; None if nothing is."""
    if not text.strip():
        return "empty", ""
    barred = forbidden(text)
    if barred is not None:
        return "handling", barred
    if normalise(text) == normalise(source):
        return "the same as the source", ""
    broken = degenerate(text).kind
    if broken and not degenerate(source).degenerate:
        return "degenerate", broken
    if not in_script(text, target):
        return "script", f"most letters are not in {script_of(target)}"
    row = Prompt("", text, code_of(target), "translated", "train", "", locale=target)
    said = next((finding.evidence for finding in check_prompt("", 0, row) if finding.check == "language"), None)
    return ("language", said) if said is not None else None


def in_script(text: str, target: str) -> bool:
    """Whether a text is in the script that a target names; where it names none, or one that is not tested, it is."""
    script = script_of(target)
    share = share_in(text, script) if script is not None else None
    return share is None or share >= SCRIPT_SHARE


def unusual_lengths(lengths: Sequence[tuple[int, int]], factor: float) -> list[float | None]:
    """For (characters of the source, of the translation) of one language: how many times longer than usual, where that is odd.

    Usual is the median of the ratios; odd is more than `factor` times longer or shorter. With few rows none is.
    """
    ratios = [translation / source for source, translation in lengths]
    if len(ratios) < FEWEST_FOR_LENGTH:
        return [None] * len(ratios)
    usual = median(ratios)
    times = [ratio / usual for ratio in ratios]
    return [one if abs(math.log(one)) > math.log(factor) else None for one in times]


def back_counts(backs: Sequence[str], originals: Sequence[str], languages: Sequence[str]) -> Floats:
    """chrF++'s counts of back-translations against their originals, shape (n, 24); `languages` are the originals'."""
    metric = metrics()[0]
    counts = np.zeros((len(backs), 24))
    for code in sorted(set(languages)):
        own = [number for number, language in enumerate(languages) if language == code]
        counts[own] = translation_scores([backs[n] for n in own], [originals[n] for n in own], code, metric)
    return counts
