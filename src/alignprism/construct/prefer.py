"""Preference pairs: candidates ranked by the preference judge (safety), or by a documented order (general).

Safety (paper, section 2.2): the candidates of a prompt are the completions sampled from the generators and the safe
completion written for it. The judge scores each; the least harmful is chosen, the most harmful rejected.
General (paper, appendix C): chosen is the reference response, rejected the worst sampled completion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignprism.rows import Completion, Pair, Prompt, content_id


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer to a prompt.

    ``harm``: the preference judge's P(harmful); ``nll``: negative log-likelihood per character under the base (nats);
    ``reference`` marks the answer that came with the prompt.
    """

    text: str
    source: str
    harm: float
    on_language: bool
    degenerate: bool
    nll: float
    reference: bool


@dataclass(frozen=True, slots=True)
class Made:
    """Pairs, and how many prompts gave none and why."""

    pairs: list[Pair]
    dropped: Mapping[str, int]


def candidates_of(prompt: Prompt, completions: Sequence[Completion]) -> list[tuple[str, str, bool]]:
    """Distinct (text, source, is reference) candidates of a prompt, the reference first."""
    found: dict[str, tuple[str, str, bool]] = {}
    if prompt.reference:
        found[prompt.reference.strip()] = (prompt.reference, "reference", True)
    for completion in completions:
        text = completion.text.strip()
        if text:
            found.setdefault(text, (completion.text, completion.model, False))
    return list(found.values())


def safety_pairs(
    prompts: Sequence[Prompt],
    candidates: Mapping[str, Sequence[Candidate]],
    *,
    threshold: float,
    tie_margin: float,
    judge: str,
    seed: int,
) -> Made:
    """Best and worst candidate of each red-team prompt by the preference judge.

    Dropped and counted: ``one candidate``, ``tie`` (scores closer than `tie_margin`), ``chosen harmful`` (the best is
    still at or above the judge's `threshold`), ``chosen unusable`` (the best is degenerate or in another language).
    """
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    for prompt in prompts:
        ranked = sorted(candidates.get(prompt.id, ()), key=lambda c: (c.harm, not c.reference, c.text))
        usable = [c for c in ranked if c.on_language and not c.degenerate]
        if len(ranked) < 2:
            dropped["one candidate"] += 1
        elif not usable:
            dropped["chosen unusable"] += 1
        elif usable[0].harm >= threshold:
            dropped["chosen harmful"] += 1
        elif (gap := ranked[-1].harm - usable[0].harm) <= 0 or gap < tie_margin:
            dropped["tie"] += 1
        else:
            pairs.append(_pair(prompt, usable[0], ranked[-1], "safety", judge, seed))
    return Made(pairs, dict(dropped))


def general_pairs(prompts: Sequence[Prompt], candidates: Mapping[str, Sequence[Candidate]], *, seed: int) -> Made:
    """Reference response against the worst sampled completion.

    Worst, in this order: in another language, degenerate, least likely per character under the base model.
    """
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    for prompt in prompts:
        own = candidates.get(prompt.id, ())
        chosen = next((c for c in own if c.reference), None)
        sampled = sorted(
            (c for c in own if not c.reference), key=lambda c: (not c.on_language, c.degenerate, c.nll, c.text)
        )
        if chosen is None:
            dropped["no reference"] += 1
        elif not sampled:
            dropped["one candidate"] += 1
        else:
            pairs.append(_pair(prompt, chosen, sampled[-1], "general", "order: language, degenerate, likelihood", seed))
    return Made(pairs, dict(dropped))


def _pair(prompt: Prompt, chosen: Candidate, rejected: Candidate, kind: str, judge: str, seed: int) -> Pair:
    identity = content_id(prompt.id, chosen.text, rejected.text)
    coin = int(content_id("random side", seed, identity), 16) % 2
    return Pair(
        id=identity,
        prompt=prompt.text,
        chosen=chosen.text.strip(),
        rejected=rejected.text.strip(),
        prompt_id=prompt.id,
        seed_id=prompt.seed_id,
        language=prompt.language,
        kind="safety" if kind == "safety" else "general",
        scope=prompt.scope,
        categories=prompt.categories,
        chosen_source=chosen.source,
        rejected_source=rejected.source,
        chosen_score=chosen.harm,
        rejected_score=rejected.harm,
        judge=judge,
        licence=prompt.licence,
        redistribute=prompt.redistribute,
        random_side="chosen" if coin else "rejected",
    )
