"""What a written prompt must pass, in order; each rule has its reason, and the first that fails is counted.

Language and personal data are found by the rules of `alignprism data check`, so that a prompt which passes here passes there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from unicodedata import east_asian_width

import numpy as np

from alignprism.construct.checker import Opinion
from alignprism.construct.near import NearIndex
from alignprism.construct.writing import REFUSED
from alignprism.judging.degenerate import degenerate
from alignprism.judging.refusal import refusal
from alignprism.prompts.handling import forbidden
from alignprism.prompts.meaning import NEIGHBOURS, Floats, centred, margins
from alignprism.prompts.row_checks import check_prompt
from alignprism.rows import Prompt

HANDLING = "handling rules"
DEGENERATE = "degenerate"
TOO_SHORT, TOO_LONG = "too short", "too long"
LANGUAGE = "another language"
HIDDEN = "hidden characters"
PERSONAL = "personal data"
ACROSS = "says the same as a dev or test prompt in another language"
CUT = "cut at the length limit"
OVER = "over the quota"
UNCHECKED = "not checked"
UNREADABLE_CHECK = "checker: unreadable"
NOT_ADVERSARIAL = "checker: not adversarial"
ADVERSARIAL = "checker: adversarial"
OTHER_SCOPE = "checker: another scope"
OTHER_CATEGORY = "checker: another category"

MIN_COMPANY = 2 * NEIGHBOURS
CUT_ACROSS = 1.05
"""Margin from which a new prompt says the same as one of another language; stricter than `prompts.meaning.CUT`, as it is
asked of each new prompt against every language. Chosen on PolyRefuse (en, fr, ar), as is `COSINE_ACROSS`; `benchmarks/data.py`
measures on MultiJail how many translations they find and how many other prompts they take for one."""
COSINE_ACROSS = 0.4
"""Least cosine of the centred vectors beside it: among a few dozen prompts the best match stands out from the others,
whether or not it says the same."""

_SIBLINGS = 0.02  # several new prompts may say what one held-out prompt says: each this close to the nearest counts

Why = tuple[str, str]
"""A reason, to be counted, and its detail. Never a text."""

_FOUND = {"language": LANGUAGE, "hidden-character": HIDDEN, "personal-data": PERSONAL}


def handling_reason(prompt: Prompt) -> Why | None:
    """The handling rules over all that would be sent with a prompt; no setting switches them off."""
    tags = (*prompt.categories, *prompt.tags)
    for text in (prompt.text, prompt.explanation or ""):
        found = forbidden(text, tags)
        if found is not None:
            return HANDLING, found
    return None


def text_reason(prompt: Prompt, min_characters: int, max_characters: int) -> Why | None:
    """Why a written prompt cannot be used, by its text alone; None if it can.

    Wide characters (Chinese, Japanese, Korean) count twice: they say about as much as two of an alphabet.
    """
    size = sum(2 if east_asian_width(character) in "WF" else 1 for character in prompt.text)
    rules: tuple[Callable[[], Why | None], ...] = (
        lambda: handling_reason(prompt),
        lambda: (REFUSED, "") if refusal(prompt.text, prompt.language) == "full" else None,
        lambda: (DEGENERATE, found.kind) if (found := degenerate(prompt.text)).degenerate else None,
        lambda: (TOO_SHORT, str(size)) if size < min_characters else None,
        lambda: (TOO_LONG, str(size)) if size > max_characters else None,
        lambda: _row_reason(prompt),
    )
    return next((why for rule in rules if (why := rule()) is not None), None)


def _row_reason(prompt: Prompt) -> Why | None:
    for finding in check_prompt("", 0, prompt):
        # Joiners that Hindi and Persian need are warnings; what hides or turns text is an error.
        if finding.check in _FOUND and (finding.check != "hidden-character" or finding.severity == "error"):
            return _FOUND[finding.check], finding.evidence
    return None


def near_reason(prompt: Prompt, index: NearIndex) -> Why | None:
    """Why a prompt is no new one: the same or nearly the same text is known. Held-out prompts are named before others."""
    found = index.near(prompt)
    if not found:
        return None
    worst = min(found, key=lambda near: (_ORDER.index(near.kind), -near.similarity))
    kind = "duplicate" if worst.similarity == 1.0 else "near-duplicate"
    return f"{kind} of a {worst.kind} prompt", f"{worst.prompt.id} ({worst.similarity:.2f})"


_ORDER = ("test", "dev", "training", "new")


def kind_of(prompt: Prompt) -> str:
    """What a known prompt is called in a reason."""
    return "training" if prompt.split == "train" else prompt.split


@dataclass(frozen=True, slots=True)
class Embedded:
    """Prompts and their sentence vectors, shape (n, d)."""

    prompts: Sequence[Prompt]
    vectors: Floats

    def of(self, code: str) -> list[int]:
        """The rows of a language."""
        return [row for row, prompt in enumerate(self.prompts) if prompt.language == code]


def across_reasons(new: Embedded, seeds: Embedded, held_out: Embedded, least: float = COSINE_ACROSS) -> dict[int, Why]:
    """Rows of `new` that say the same as a dev or test prompt of another language, by the margin of `prompts.meaning`
    and, at the `least`, by their cosine.

    A language is centred and margins are taken in company: of the seeds and the held-out prompts of its own, since the few
    new prompts of a round say nothing of how near unlike texts lie. Languages in which there is too little company, or too
    few held-out prompts of another, are not compared.
    """
    languages = [p.language for part in (new, seeds, held_out) for p in part.prompts]
    names = sorted(set(languages))
    moved = centred(
        np.concatenate([new.vectors, seeds.vectors, held_out.vectors]), np.array([names.index(c) for c in languages])
    )
    start, held = len(new.prompts), len(new.prompts) + len(seeds.prompts)
    found: dict[int, Why] = {}
    for code, other in permutations(names, 2):
        mine, theirs = new.of(code), held_out.of(other)
        rows = [*mine, *(start + row for row in seeds.of(code)), *(held + row for row in held_out.of(code))]
        if not mine or len(rows) < MIN_COMPANY or len(theirs) < MIN_COMPANY:
            continue
        margin = margins(moved[rows], moved[[held + row for row in theirs]])
        nearest = margin.max(axis=0)
        for place, row in enumerate(mine):
            best = int(margin[place].argmax())
            known, value = held_out.prompts[theirs[best]], float(margin[place, best])
            cosine = float(moved[row] @ moved[held + theirs[best]])
            close = value >= CUT_ACROSS and value >= nearest[best] - _SIBLINGS and cosine >= least
            if close and known.seed_id != new.prompts[row].seed_id:
                found.setdefault(row, (ACROSS, f"{known.id} (margin {value:.3f})"))
    return found


def uncompared(seeds: Sequence[Prompt], held_out: Sequence[Prompt], embedded: bool) -> list[str]:
    """Languages not (always) compared: nothing was embedded, or there are too few seeds and held-out prompts.

    A language is compared as soon as one other language has enough held-out prompts.
    """
    own, theirs = (Counter(p.language for p in prompts) for prompts in (seeds, held_out))
    enough = {code for code, count in theirs.items() if count >= MIN_COMPANY}
    few = {code for code in own if own[code] + theirs[code] < MIN_COMPANY}
    return sorted(code for code in own if not embedded or code in few or not enough - {code})


def adversarial_reason(opinion: Opinion, seed: Prompt) -> Why | None:
    """Why a checker's opinion speaks against a rephrasing of `seed`: it must seek the same kind of harm."""
    if opinion.adversarial is None:
        return _no_opinion(opinion)
    if not opinion.adversarial:
        return NOT_ADVERSARIAL, ""
    if seed.scope is not None and opinion.scope != seed.scope:
        return OTHER_SCOPE, f"{opinion.scope} instead of {seed.scope}"
    if seed.categories and not set(opinion.categories) & set(seed.categories):
        return OTHER_CATEGORY, f"{', '.join(opinion.categories)} instead of {', '.join(seed.categories)}"
    return None


def harmless_reason(opinion: Opinion) -> Why | None:
    """Why a checker's opinion speaks against a benign twin."""
    if opinion.adversarial is None:
        return _no_opinion(opinion)
    return (ADVERSARIAL, ", ".join(opinion.categories)) if opinion.adversarial else None


def _no_opinion(opinion: Opinion) -> Why:
    return (UNREADABLE_CHECK if opinion.problem.startswith("unreadable") else UNCHECKED), opinion.problem
