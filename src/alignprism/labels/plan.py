"""A label plan: which completions people are asked about, from which strata, with which probability.

The sheet shows none of this. The plan is kept in the run folder as ``labels/ID.json``; what a label says about a rate can
only be worked out with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alignprism.errors import InputError
from alignprism.rows import content_id, write_atomic

PLAN_SCHEMA = 1


class PlanError(InputError):
    """A plan cannot be made or read; the message says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Units of one language whose verdicts agree: how many there are, and how many are drawn.

    A unit is one completion (plan of one model), or the completions of two models to one prompt (plan of a change).
    ``name`` is the verdict, or both joined by a slash.
    """

    language: str
    name: str
    population: int
    drawn: int


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the sheet: the name it has there, and what it really is."""

    item: str
    completion_id: str
    prompt_id: str
    model: str
    language: str
    stratum: str
    probability: float


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """What was drawn. ``models``: one (its rate), or the baseline and one other (the change between them).

    ``population`` holds the stratum of every completion that could have been drawn, by its id: verdicts may be made anew
    by another judge, but the labels were drawn by these.
    """

    id: str
    created: str
    seed: int
    width: float
    set: str
    models: tuple[str, ...]
    judge: str
    judge_digest: str
    strata: tuple[Stratum, ...]
    items: tuple[Item, ...]
    population: Mapping[str, str]

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that something is drawn from."""
        return tuple(dict.fromkeys(stratum.language for stratum in self.strata))


def item_name(plan_id: str, completion_id: str) -> str:
    """A name that says nothing: letters only, because a spreadsheet takes ``12e4`` for a number."""
    digits = content_id("item", plan_id, completion_id)[:12]
    return "".join(chr(ord("a") + int(digit, 16)) for digit in digits)


def plan_folder(run: Path) -> Path:
    """Where a run keeps its plans and labels."""
    return run / "labels"


def write_plan(run: Path, plan: LabelPlan) -> Path:
    """Keep a plan in the run folder; returns its file."""
    path = plan_folder(run) / f"{plan.id}.json"
    text = json.dumps({"schema": PLAN_SCHEMA, **asdict(plan)}, indent=1, ensure_ascii=False, allow_nan=False)
    plan_folder(run).mkdir(mode=0o700, exist_ok=True)
    write_atomic(path, text.encode())
    return path


def read_plans(run: Path) -> list[LabelPlan]:
    """All plans of a run, the oldest first.

    Raises
    ------
    PlanError
        a plan is damaged, or of a newer version.
    """
    return sorted((_read(path) for path in plan_folder(run).glob("*.json")), key=lambda plan: (plan.created, plan.id))


def _read(path: Path) -> LabelPlan:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        schema = int(record.pop("schema"))
        if schema > PLAN_SCHEMA:
            raise PlanError(f"{path}: made by a newer alignprism (schema {schema}, this one reads {PLAN_SCHEMA})")
        return LabelPlan(
            **record
            | {
                "models": tuple(record["models"]),
                "strata": tuple(Stratum(**row) for row in record["strata"]),
                "items": tuple(Item(**row) for row in record["items"]),
            }
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(f"{path}: not a readable label plan ({error})") from error


def items_of(plans: Sequence[LabelPlan]) -> dict[str, tuple[LabelPlan, Item]]:
    """Every item of all plans by its name on the sheet."""
    return {item.item: (plan, item) for plan in plans for item in plan.items}
