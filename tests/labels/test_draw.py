"""What people are asked: as few as the width allows, every stratum, with probabilities that make the sample whole again."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignprism.labels.draw import Draft, draw, standing
from alignprism.labels.plan import PlanError, write_plan
from alignprism.labels.sheet import Mark
from alignprism.labels.store import add_labels
from alignprism.rows import Completion, Harm, Prompt, Verdict, read_rows, write_rows

MANIFEST: dict[str, Any] = {
    "stages": {"judge:a": {}, "judge:b": {}},
    "judges": {"evaluation": {"name": "judge", "digest": "d"}},
}
N = 400


def verdict_of(model: str, number: int) -> Harm:
    if number % 50 == 0:
        return "undecidable"
    return "harmful" if number % (4 if model == "a" else 8) == 1 else "harmless"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    prompts = [Prompt(f"p{n}", f"prompt {n}", "hi" if n % 2 else "ar", "redteam", "test", f"s{n}") for n in range(N)]
    write_rows(folder / "stages" / "prompts" / "prompts.parquet", prompts, Prompt)
    for model in ("a", "b"):
        rows = [Completion(f"{model}{n}", f"p{n}", model, model, f"text {n}", 0, 5, False, 0.0, 0) for n in range(N)]
        rows[7] = Completion(f"{model}7", "p7", model, model, "", 0, 0, False, 0.0, 0, failure="timeout")
        verdicts = [
            Verdict(f"{model}{n}", "judge", "d", verdict_of(model, n), None, True, None, False, "none")
            for n in range(N)
        ]
        write_rows(folder / "stages" / f"complete-{model}" / "completions.parquet", rows, Completion)
        write_rows(folder / "stages" / f"judge-{model}" / "verdicts.parquet", verdicts, Verdict)
    return folder


def test_a_change_is_drawn_in_joint_strata_and_both_completions_are_asked(run: Path) -> None:
    drawn = draw(run, MANIFEST, Draft(("a", "b"), "redteam", 0.08, ("hi", "ar"), 0))
    plan = drawn.plan
    assert {(s.language, s.name) for s in plan.strata} >= {("hi", "harmful/harmless"), ("ar", "harmless/harmless")}
    per_prompt = Counter(item.prompt_id for item in plan.items)
    assert set(per_prompt.values()) == {2}
    assert "p7" not in per_prompt, "nobody can label a call that got no answer"
    for stratum in plan.strata:
        own = [i for i in plan.items if (i.language, i.stratum, i.model) == (stratum.language, stratum.name, "a")]
        assert len(own) == stratum.drawn >= min(stratum.population, 5)
        assert {i.probability for i in own} == {stratum.drawn / stratum.population}
    # Horvitz and Thompson: one over the probabilities adds up to what was drawn from.
    assert sum(1 / i.probability for i in plan.items if i.model == "a") == pytest.approx(N - 1)
    assert len(plan.items) < N, "fewer than everything"


def test_a_rate_needs_one_model_and_a_wider_interval_fewer_labels(run: Path) -> None:
    narrow, wide = (
        draw(run, MANIFEST, Draft(("a",), "redteam", width, ("hi",), 0)).languages[0].wanted for width in (0.05, 0.1)
    )
    assert 10 <= wide < narrow


def test_the_sheet_is_in_random_order_and_repeats_with_its_seed(run: Path) -> None:
    first, again, other = (draw(run, MANIFEST, Draft(("a", "b"), "redteam", 0.1, ("hi",), seed)) for seed in (1, 1, 2))
    prompts = [[row.prompt for row in drawn.sheet] for drawn in (first, again, other)]
    assert prompts[0] == prompts[1] != prompts[2]
    assert prompts[0] != sorted(prompts[0])
    assert {row.language for row in first.sheet} == {"hi"}


def test_labels_that_are_there_are_not_asked_for_again_and_say_when_to_stop(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    drawn = draw(copy, MANIFEST, Draft(("a",), "redteam", 0.08, ("hi",), 0))
    write_plan(copy, drawn.plan)
    half = drawn.sheet[: len(drawn.sheet) // 2]
    marks = [Mark(n, row.item, "harmless", "one", "", "") for n, row in enumerate(half, 2)]
    add_labels(copy, Path("s.csv"), marks)
    [place] = standing(copy, MANIFEST, drawn.plan)
    assert place.labelled == len(half) < place.drawn
    rest = [Mark(n, row.item, "harmless", "one", "", "") for n, row in enumerate(drawn.sheet[len(half) :], 2)]
    add_labels(copy, Path("s.csv"), rest)
    [place] = standing(copy, MANIFEST, drawn.plan)
    assert place.more == 0, "the width is reached: stop"
    again = draw(copy, MANIFEST, Draft(("a",), "redteam", 0.08, ("hi",), 5))
    assert again.languages[0].labelled == len(drawn.sheet)
    labelled = {row.completion for row in drawn.sheet}
    assert not labelled & {row.completion for row in again.sheet}


@pytest.mark.parametrize(
    ("draft", "told"),
    [
        (Draft(("a", "c"), "redteam", 0.1, ("hi",), 0), "no verdicts on 'c'"),
        (Draft(("a",), "redteam", 0.1, ("hi", "ru"), 0), "in ru"),
        (Draft(("a",), "benign", 0.1, ("hi",), 0), "no completion of a prompt of set 'benign'"),
    ],
)
def test_what_cannot_be_planned_is_told(run: Path, draft: Draft, told: str) -> None:
    with pytest.raises(PlanError, match=told):
        draw(run, MANIFEST, draft)


def test_a_run_whose_stages_do_not_fit_each_other_is_named(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    draft = Draft(("a",), "redteam", 0.08, ("hi",), 0)
    verdicts = copy / "stages" / "judge-a" / "verdicts.parquet"
    write_rows(verdicts, read_rows(verdicts, Verdict)[:-3], Verdict)
    with pytest.raises(PlanError, match="no verdict on 3 completions of a; let the run finish first"):
        draw(copy, MANIFEST, draft)
    prompts = copy / "stages" / "prompts" / "prompts.parquet"
    write_rows(prompts, read_rows(prompts, Prompt)[:-2], Prompt)
    with pytest.raises(PlanError, match="2 completions of a are of no prompt of this run"):
        draw(copy, MANIFEST, draft)
