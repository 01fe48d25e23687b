"""Figures of a run: from prompts, completions and verdicts to one row per figure. Pure; nothing is read or written.

Every rate is taken over all prompts of its slice and clustered by seed prompt; every change is paired over the same
prompts. A method trained with several seeds gets one more model under the method's own name, whose rows are the
(prompt, training seed) pairs, still clustered by seed prompt.
"""

from alignprism.figures.answers import (
    MEAN_OF_LANGUAGES,
    PAIRED,
    POOLED,
    UNDECIDABLE_HARMFUL,
    UNDECIDABLE_HARMLESS,
    Answer,
    Settings,
    Slice,
    pooled_seeds,
    slices,
)
from alignprism.figures.families import find
from alignprism.figures.whole import Further, figures

__all__ = [
    "MEAN_OF_LANGUAGES",
    "PAIRED",
    "POOLED",
    "UNDECIDABLE_HARMFUL",
    "UNDECIDABLE_HARMLESS",
    "Answer",
    "Further",
    "Settings",
    "Slice",
    "figures",
    "find",
    "pooled_seeds",
    "slices",
]
