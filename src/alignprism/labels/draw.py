"""Drawing completions for people to label: as few as the wanted width allows, in the strata of the verdicts, by language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignprism.labels.plan import Item, LabelPlan, PlanError, Stratum, item_name, read_plans
from alignprism.labels.sheet import Shown
from alignprism.labels.store import read_labels
from alignprism.labels.units import Unit, units_of
from alignprism.rows import Label, content_id
from alignprism.run_folder import now
from alignprism.statistics.label_plan import (
    Expected,
    draw_labels,
    expected_changes_from_errors,
    expected_from_errors,
    expected_half_width,
    from_pilot,
    plan_labels,
)

ASSUMED_ICC = 0.3
"""Correlation between prompts of one seed, until labels say otherwise."""

_PILOT = 5  # labels of a stratum that say more than the assumed errors of the judge


@dataclass(frozen=True, slots=True)
class LanguagePlan:
    """What one language needs: units, labels in all and already there, and the half width that they are expected to give."""

    language: str
    units: int
    wanted: int
    labelled: int
    half_width: float
    reached: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A plan, its sheet (only what is not labelled yet), and what each language needs."""

    plan: LabelPlan
    sheet: tuple[Shown, ...]
    languages: tuple[LanguagePlan, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """What is asked for: one model (its rate) or two (the change), how precisely, where, and at most how many labels."""

    models: tuple[str, ...]
    set: str
    width: float
    languages: tuple[str, ...]
    seed: int
    most: int | None = None


def draw(run: Path, manifest: Mapping[str, Any], draft: Draft) -> Drawn:
    """Draw the units of every language and name what is on the sheet.

    Labels that are there already count, where they were drawn for the same models from the same strata.

    Raises
    ------
    PlanError
        no verdicts yet, a language without prompts, or everything that is needed is labelled.
    """
    units = [u for u in units_of(run, manifest, draft.models, draft.set) if not any(c.failure for c in u.completions)]
    there = {unit.prompt.language for unit in units}
    missing = [code for code in draft.languages if code not in there]
    if missing:
        raise PlanError(f"{run}: no answered prompt of set {draft.set} in {', '.join(missing)}")
    judge = manifest["judges"]["evaluation"]
    before = _labelled_before(run, draft, units)
    made = now()
    identity = (
        f"p-{content_id(made, draft.models, draft.set, draft.width, draft.languages, draft.seed, judge['digest'])[:8]}"
    )
    rng = np.random.default_rng(draft.seed)
    strata: list[Stratum] = []
    items: list[Item] = []
    sheet: list[Shown] = []
    needs: list[LanguagePlan] = []
    for code in draft.languages:
        own = [unit for unit in units if unit.prompt.language == code]
        labelled = [n for n, unit in enumerate(own) if all(c.id in before for c in unit.completions)]
        plan = plan_labels(
            _expected([own[n].stratum for n in labelled], own, labelled, before, len(draft.models)),
            draft.width,
            most=draft.most,
            design_effect=_design_effect(own),
        )
        wanted = {stratum.name: stratum.labels for stratum in plan.strata}
        chosen = draw_labels([unit.stratum for unit in own], wanted, rng, labelled)
        strata += [Stratum(code, stratum.name, stratum.rows, stratum.labels) for stratum in plan.strata]
        for row, probability in zip(chosen.rows, chosen.inclusion_probabilities, strict=True):
            items += _items(identity, own[row], draft.models, float(probability))
        new = [shown for row in chosen.new for shown in _shown(identity, own[row])]
        sheet += [new[place] for place in rng.permutation(len(new))]
        needs.append(
            LanguagePlan(
                code, len(own), plan.labels, len(labelled), plan.expected_half_width, plan.reached, plan.reason
            )
        )
    population = {
        c.id: unit.stratum for unit in units if unit.prompt.language in draft.languages for c in unit.completions
    }
    made_plan = LabelPlan(
        identity, made, draft.seed, draft.width, draft.set, draft.models, judge["name"], judge["digest"],
        tuple(strata), tuple(items), population,
    )  # fmt: skip
    return Drawn(made_plan, tuple(sheet), tuple(needs))


def _labelled_before(run: Path, draft: Draft, units: Sequence[Unit]) -> dict[str, Label]:
    """Labels by completion that an earlier plan of the same models drew from the very strata of now."""
    strata = {c.id: unit.stratum for unit in units for c in unit.completions}
    drawn: set[str] = set()
    for plan in read_plans(run):
        same = plan.models == draft.models and plan.set == draft.set
        if same and all(strata.get(completion) == stratum for completion, stratum in plan.population.items()):
            drawn |= {item.completion_id for item in plan.items}
    return {label.completion_id: label for label in read_labels(run) if label.completion_id in drawn}


def _expected(
    strata: Sequence[str], own: Sequence[Unit], labelled: Sequence[int], before: Mapping[str, Label], models: int
) -> dict[str, Expected]:
    """What labels are expected in each stratum: from the labels there are, or from a judge's usual errors."""
    rows = Counter(unit.stratum for unit in own)
    have = Counter(strata)
    if models == 1:
        expected = dict(expected_from_errors(rows, labelled=have))
    else:
        pairs = {_pair(name): count for name, count in rows.items()}
        done = {_pair(name): count for name, count in have.items()}
        found = expected_changes_from_errors(pairs, labelled=done)
        expected = {"/".join(pair): value for pair, value in found.items()}
    for name in [name for name, count in have.items() if count >= _PILOT]:
        said = [
            tuple(before[c.id].harm == "harmful" for c in own[n].completions)
            for n in labelled
            if own[n].stratum == name
        ]
        after = sum(flags[-1] and not (len(flags) > 1 and flags[0]) for flags in said)
        only_before = sum(flags[0] and not flags[-1] for flags in said) if models == 2 else None
        expected[name] = from_pilot(rows[name], have[name], after, only_before)
    return expected


def _pair(stratum: str) -> tuple[str, str]:
    first, _, second = stratum.partition("/")
    return first, second


def _design_effect(own: Sequence[Unit]) -> float:
    """Kish's, for as many prompts per seed as there are."""
    per_seed = len(own) / max(1, len({unit.prompt.seed_id for unit in own}))
    return 1 + (per_seed - 1) * ASSUMED_ICC


def _items(identity: str, unit: Unit, models: Sequence[str], probability: float) -> list[Item]:
    return [
        Item(item_name(identity, c.id), c.id, unit.prompt.id, model, unit.prompt.language, unit.stratum, probability)
        for model, c in zip(models, unit.completions, strict=True)
    ]


def _shown(identity: str, unit: Unit) -> list[Shown]:
    """The rows of the sheet; two models that wrote the same are shown twice, because the sheet must not tell."""
    prompt = unit.prompt
    return [Shown(item_name(identity, c.id), prompt.language, prompt.text, c.text) for c in unit.completions]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the labels of a plan are in one language: the half width they are expected to give now, and how many more
    would reach the one asked for (0: stop; None: it cannot be reached)."""

    language: str
    labelled: int
    drawn: int
    half_width: float | None
    more: int | None


def standing(run: Path, manifest: Mapping[str, Any], plan: LabelPlan) -> list[Standing]:
    """Where the labelling of a plan stands, language by language, from what the labels said so far."""
    units = units_of(run, manifest, plan.models, plan.set)
    known = {label.completion_id: label for label in read_labels(run)}
    drawn = {item.completion_id for item in plan.items}
    found = []
    for code in plan.languages:
        own = [
            unit
            for unit in units
            if unit.prompt.language == code and all(c.id in plan.population for c in unit.completions)
        ]
        own = [Unit(u.prompt, u.completions, plan.population[u.completions[0].id]) for u in own]
        labelled = [n for n, u in enumerate(own) if all(c.id in known and c.id in drawn for c in u.completions)]
        count = sum(all(c.id in drawn for c in u.completions) for u in own)
        if not own:
            continue
        expected = _expected([own[n].stratum for n in labelled], own, labelled, known, len(plan.models))
        have = Counter(own[n].stratum for n in labelled)
        empty = [name for name in expected if not have[name]]
        effect = _design_effect(own)
        now_labels = np.array([have[name] for name in expected], dtype=np.intp)
        half = None if empty else expected_half_width(list(expected.values()), now_labels, design_effect=effect)
        wanted = plan_labels(expected, plan.width, design_effect=effect)
        more = 0 if half is not None and half <= plan.width else wanted.new if wanted.reached else None
        found.append(Standing(code, len(labelled), count, half, more))
    return found
