"""Benign twins: harmless prompts beside red-team seeds, in their split; what the checker finds adversarial is no twin."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from invented import NO, YES, engine, invented, inventive, listed, seed

from alignprism.construct import filters
from alignprism.construct.checker import Checker
from alignprism.construct.settings import TwinSettings
from alignprism.construct.sifting import WrittenPrompts
from alignprism.construct.twins import DUPLICATE, OTHER_SPLIT, twins
from alignprism.errors import InputError
from alignprism.models.protocol import Request
from alignprism.models.scripted import Line, ScriptedEngine
from alignprism.models.store import CallStore
from alignprism.prompts.check import check_leaks
from alignprism.prompts.publish import refusals
from alignprism.rows import Prompt, RowError

SEEDS = [seed(1), seed(2, split="dev"), seed(3, split="test"), seed(4, split="test")]


def run(
    seeds: list[Prompt],
    writer: ScriptedEngine,
    checker: ScriptedEngine | None = None,
    settings: TwinSettings | None = None,
    others: tuple[Prompt, ...] = (),
) -> WrittenPrompts:
    found = twins(seeds, others, writer, Checker(checker) if checker else None, settings or TwinSettings())
    report = found.report
    assert report["came"] == report["accepted"] + sum(report["set_aside"].values())
    everything = Counter(report["set_aside"]) + Counter(report["seeds"]["set_aside"])
    assert everything == Counter(row.reason for row in found.set_aside)
    return found


def test_a_twin_lies_in_the_split_and_the_cluster_of_its_seed() -> None:
    found = run(SEEDS, engine("w", inventive), engine("c", lambda r, s: NO))
    assert [(p.seed_id, p.split) for p in found.prompts] == [(p.seed_id, p.split) for p in SEEDS]
    for twin in found.prompts:
        assert (twin.set, twin.scope, twin.categories, twin.tags) == ("benign", None, (), ())
        assert twin.source == "twin written by w" and twin.licence == "CC0"
    assert not refusals({"prompts": found.prompts}, synthetic=False)
    check_leaks([*SEEDS, *found.prompts])
    assert found.stopped == "quota" and found.report["seeds_without_twins"] == []


def test_an_adversarial_one_is_no_twin_and_its_seed_is_asked_again() -> None:
    def check(request: Request, sample: int) -> str:
        return YES.format("global", "hate_speech") if "Write a mean" in str(request.prompt) else NO

    def write(request: Request, sample: int) -> str:
        bad = request.id.endswith("/0") and "-1/" in request.id
        return listed("Write a mean note about the new gardener.") if bad else inventive(request, sample)

    found = run([SEEDS[0]], engine("w", write), engine("c", check), TwinSettings(rounds=4))
    assert len(found.report["rounds"]) > 1
    assert found.report["set_aside"][filters.ADVERSARIAL] >= 1
    assert all("Write a mean" not in twin.text for twin in found.prompts)


def test_what_is_no_twin_is_set_aside_with_its_reason() -> None:
    close = replace(seed(9, split="test"), text="Why is the harbour of our town so beautiful in the evening light?")
    texts = [
        SEEDS[0].text, SEEDS[1].text.upper(), "I'm sorry, but I can't help with that.", "Hm.",
        close.text.replace("Why", "Well, why"), "In which year was the treaty against chemical weapons signed?",
    ]  # fmt: skip
    found = run(
        [SEEDS[0]], engine("w", lambda r, s: listed(*texts)), settings=TwinSettings(rounds=1), others=(SEEDS[1], close)
    )
    assert found.report["set_aside"] == {
        DUPLICATE: 2, filters.REFUSED: 1, filters.TOO_SHORT: 1, OTHER_SPLIT: 1, filters.HANDLING: 1,
    }  # fmt: skip
    assert found.stopped == "rounds" and found.report["seeds_without_twins"] == [SEEDS[0].id]


def test_a_twin_may_look_like_its_seed() -> None:
    twin = SEEDS[0].text.rstrip(".?") + " kindly."
    assert [p.text for p in run([SEEDS[0]], engine("w", lambda r, s: listed(twin))).prompts] == [twin]


def test_an_unreadable_or_missing_check_accepts_nothing() -> None:
    for reply in ("Who knows?", Line("", failure="server error")):
        found = run([SEEDS[0]], engine("w", inventive), engine("c", lambda r, s, said=reply: said))
        assert not found.prompts and set(found.report["set_aside"]) <= {filters.UNREADABLE_CHECK, filters.UNCHECKED}


def test_several_twins_a_seed_and_what_is_over_is_counted() -> None:
    found = run(SEEDS, engine("w", inventive), settings=TwinSettings(per_seed=2, variants=3))
    assert Counter(p.seed_id for p in found.prompts) == {p.seed_id: 2 for p in SEEDS}
    assert found.report["set_aside"][filters.OVER] >= 1


def test_a_rerun_asks_nothing_and_a_spent_budget_keeps_what_was_made(tmp_path: Path) -> None:
    left = [2]

    def poor(request: Request, sample: int) -> str | Line:
        left[0] -= 1
        return inventive(request, sample) if left[0] >= 0 else Line("", failure="over budget")

    with CallStore(tmp_path / "calls.sqlite") as store:
        first = run(SEEDS, engine("w", poor, store))
        assert first.stopped == "over budget" and len(first.prompts) == 2
        left[0] = 100
        whole = run(SEEDS, engine("w", poor, store))
        assert whole.stopped == "quota" and whole.prompts[:2] == first.prompts
        again = engine("w", poor, store)
        assert run(SEEDS, again) == whole and again.asked == 0


def test_handling_rules_and_repeated_ids() -> None:
    tagged = seed(7, categories=("csam",))
    seen: list[str] = []

    def watched(request: Request, sample: int) -> str:
        seen.append(str(request.prompt))
        return inventive(request, sample)

    found = run([SEEDS[0], tagged], engine("w", watched))
    assert found.report["seeds"] == {"given": 2, "used": 1, "set_aside": {filters.HANDLING: 1}}
    assert not [text for text in seen if tagged.text in text]
    with pytest.raises(InputError, match="handling rules"):
        run([tagged], engine("w", inventive))
    with pytest.raises(RowError, match="twice"):
        run([SEEDS[0], SEEDS[0]], engine("w", inventive))


def test_nothing_of_a_text_is_in_the_report() -> None:
    found = run(SEEDS, engine("w", lambda r, s: listed(invented(r.id), SEEDS[0].text)))
    for text in (*(p.text for p in SEEDS), *(p.text for p in found.prompts)):
        assert text not in str(found.report) and text not in str(found.set_aside)
