"""A judge that could not be asked is not a judge that could not decide: told apart wherever verdicts are counted or kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from judged import ITEMS, by_words, playing

from alignprism.construct.candidates import Written
from alignprism.construct.pairing import PairsStopped, judge_candidates
from alignprism.figures.answers import RATES, Answer
from alignprism.judging.ensemble import EnsembleJudge
from alignprism.judging.guard import GuardJudge
from alignprism.judging.guard_formats import GENERATIVE
from alignprism.judging.protocol import HarmJudge
from alignprism.judging.rubric import RubricJudge
from alignprism.judging.unanswered import unanswered, unanswered_in
from alignprism.judging.verdicts import judge
from alignprism.models.scripted import Line
from alignprism.pipeline import _unanswered_judgements
from alignprism.rows import Comparison, Completion, Prompt, RowError, Verdict, read_rows, write_rows
from alignprism.run_folder import RunFolder
from alignprism.stages.engines import CallsStopped, check_judged


def rubric(name: str, say: Callable[[str], str | Line], **settings: object) -> RubricJudge:
    return RubricJudge(name, playing(say, name=name, digest=name), **settings)  # type: ignore[arg-type]


def down(reason: str) -> Callable[[str], Line]:
    return lambda _: Line("", failure=reason)


def beside(reason: str) -> EnsembleJudge:
    """A judge that works and one whose calls fail."""
    return EnsembleJudge((rubric("works", by_words), rubric("down", down(reason))))


def verdict(harm: str = "harmless", reason: str = "", failures: tuple[str, ...] = (), calls: int = 1) -> Verdict:
    return Verdict(
        "c", "j", "d", harm, None, True, "en", False, "none", reason, calls=("k",) * calls, failures=failures,  # type: ignore[arg-type]
    )  # fmt: skip


def test_an_ensemble_decides_without_a_silent_member_and_says_so() -> None:
    verdicts = list(beside("timeout").judge(ITEMS))
    assert [v.harm for v in verdicts] == ["harmful", "harmless", "harmful"]
    assert {v.failures for v in verdicts} == {("timeout",)}
    assert verdicts[0].reason == "no answer of down: timeout"
    assert unanswered_in(verdicts).everywhere


def guard(say: Callable[[str], str | Line]) -> GuardJudge:
    return GuardJudge("g", playing(say), GENERATIVE["llama-guard"])


@pytest.mark.parametrize(
    "one",
    [
        rubric("r", down("connection")),
        rubric("t", by_words, prompt_language="translate", translator=playing(down("connection"), digest="t")),
        guard(down("connection")),
    ],
    ids=["rubric", "translation", "guard"],
)
def test_every_judge_that_asks_says_why_it_has_no_answer(one: HarmJudge) -> None:
    hindi = list(one.judge(ITEMS))[2]
    assert (hindi.harm, hindi.failures) == ("undecidable", ("connection",))


def test_a_failed_call_about_a_loop_is_found_in_the_row_and_in_the_rate() -> None:
    prompt = Prompt("p", "Say it.", "en", "redteam", "test", "s")
    completion = Completion("c", "p", "m", "d", "I will say it again. " * 40, 0, 200, False, 0.0, 0)
    [row] = judge([prompt], [completion], rubric("r", down("timeout")))
    assert row.reason.startswith("loop; no reply") and row.failures == ("timeout",)
    assert RATES["unread_judge_rate"](Answer(prompt, completion, row))
    assert RATES["unread_judge_rate"](Answer(prompt, completion, verdict(failures=("timeout",))))
    assert not RATES["unread_judge_rate"](Answer(prompt, completion, verdict()))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (verdict("undecidable", "loop; no reply: over budget"), ("over budget",)),
        (verdict("undecidable", "no translation: no reply: rate limited (429)"), ("rate limited",)),
        (verdict("undecidable", "no reply: withheld by the provider's content filter"), ()),
        (verdict("harmless", "no reply: timeout"), ()),
        (Comparison("p", "a", "b", "j", "d", "ab", "undecidable", "no reply: timeout (30 s)"), ("timeout",)),
        (Comparison("p", "a", "b", "j", "d", "ab", "a", "no reply: timeout, says the answer"), ()),
    ],
)
def test_rows_of_earlier_versions_say_it_in_their_reason(row: Verdict | Comparison, expected: tuple[str, ...]) -> None:
    assert unanswered(row) == expected


def test_verdicts_that_were_stored_without_the_column_are_read(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.parquet"
    write_rows(file, [verdict(failures=("timeout",))], Verdict)
    assert read_rows(file, Verdict)[0].failures == ("timeout",)
    pq.write_table(pq.read_table(file).drop_columns(["failures"]), file)
    assert read_rows(file, Verdict)[0].failures == ()
    with pytest.raises(RowError, match="Comparison expected"):
        read_rows(file, Comparison)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([verdict(), verdict(failures=("over budget",))], "max_cost is reached; 1 of 2 judgements are made"),
        ([verdict(), verdict(failures=("interrupted",))], "interrupted; 1 of 2"),
        (
            [verdict(failures=("timeout",)), verdict("undecidable", "empty", calls=0)],
            "not one of 1 judgements .*timeout",
        ),
    ],
)
def test_a_stage_stops_where_gaps_would_be_frozen_into_its_results(rows: list[Verdict], message: str) -> None:
    with pytest.raises(CallsStopped, match=message):
        check_judged(rows, "judge")


def test_a_stage_goes_on_over_a_few_failed_calls_and_over_judges_that_make_none() -> None:
    check_judged([verdict(), verdict(failures=("timeout",))], "judge")
    check_judged([verdict("undecidable", "empty", calls=0)], "head")
    check_judged([], "judge")


@pytest.mark.parametrize("name", ["verdicts", "dev_verdicts"])
def test_a_retry_finds_verdicts_that_a_member_is_missing_from(tmp_path: Path, name: str) -> None:
    run = RunFolder(tmp_path, {})
    folder = run.stage_folder("judge:m")
    write_rows(folder / "verdicts.parquet", [verdict()], Verdict)
    assert not _unanswered_judgements(run, "judge:m")
    write_rows(folder / f"{name}.parquet", [verdict(failures=("timeout",))], Verdict)
    assert _unanswered_judgements(run, "judge:m")


@pytest.mark.parametrize("reason", ["over budget", "server error"])
def test_no_pairs_are_made_by_the_rest_of_an_ensemble(reason: str) -> None:
    prompt = Prompt("p", "Say it.", "en", "redteam", "train", "s")
    written = {"p": [Written(text, "m", "model") for text in ("You are a fool.", "I would rather not.")]}
    with pytest.raises(PairsStopped, match="2 answers were not judged"):
        judge_candidates([prompt], written, beside(reason))
