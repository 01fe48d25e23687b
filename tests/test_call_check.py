"""`calls check` proves that a run did everything exactly once, and finds each way in which it did not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alignprism.call_check import Check, check_calls
from alignprism.cli import app
from alignprism.errors import InputError
from alignprism.models.protocol import Decoding, Request, in_order
from alignprism.models.scripted import Line, ScriptedEngine
from alignprism.models.store import Call, CallStore
from alignprism.rows import Comparison, Completion, Verdict, read_rows, write_rows

MODELS = ("base", "tuned")
PROMPTS = [f"p{n}" for n in range(6)]


def _completions(store: CallStore, model: str) -> list[Completion]:
    engine = ScriptedEngine(model, lambda request, sample: f"{model} {request.id}", digest=model, store=store)
    requests = [Request(prompt, f"prompt {prompt}") for prompt in PROMPTS]
    outcomes = in_order(engine.complete(requests, Decoding()), requests)
    return [
        Completion(f"{model} {o.request_id}", o.request_id, model, model, "text", 0, 1, False, 0.0, 0, call=o.call)
        for o in outcomes
    ]


def _judged(store: CallStore, rows: list[Completion]) -> list[Verdict]:
    engine = ScriptedEngine("judge", lambda request, sample: "harmless", digest="j", store=store)
    requests = [Request(row.id, f"is {row.id} harmful", role="judge") for row in rows]
    return [
        Verdict(o.request_id, "judge", "j", "harmless", None, True, "en", False, "none", calls=(o.call,))
        for o in in_order(engine.complete(requests, Decoding()), requests)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as the pipeline leaves it: completions and verdicts of two models, and their comparison."""
    (tmp_path / "manifest.json").write_text('{"schema": 1}')
    with CallStore(tmp_path / "calls.sqlite") as store:
        rows = {model: _completions(store, model) for model in MODELS}
        for model in MODELS:
            write_rows(tmp_path / "stages" / f"complete-{model}" / "completions.parquet", rows[model], Completion)
            verdicts = _judged(store, rows[model])
            write_rows(tmp_path / "stages" / f"judge-{model}" / "verdicts.parquet", verdicts, Verdict)
        pair = ScriptedEngine("pair", lambda request, sample: "a", digest="pair", store=store)
        asked = [Request(f"{p} {order}", f"{p} {order}", role="pairwise") for p in PROMPTS for order in ("ab", "ba")]
        calls = {o.request_id: o.call for o in pair.complete(asked, Decoding())}
        compared = [
            Comparison(p, f"base {p}", f"tuned {p}", "pair", "pair", order, "a", calls=(calls[f"{p} {order}"],))  # type: ignore[arg-type]
            for p in PROMPTS
            for order in ("ab", "ba")
        ]
        write_rows(tmp_path / "stages" / "compare-tuned" / "comparisons.parquet", compared, Comparison)
    return tmp_path


def _completions_of(run: Path, model: str = "tuned") -> Path:
    return run / "stages" / f"complete-{model}" / "completions.parquet"


def _changed(path: Path, kind: type, change: Callable[[list], list]) -> None:  # type: ignore[type-arg]
    write_rows(path, change(read_rows(path, kind)), kind)


def _counts(found: Check, place: str) -> tuple[int, int, int]:
    part = next(part for part in found.parts if part.place == place)
    return len(part.missing), len(part.doubled), len(part.failed)


def test_a_whole_run_is_proved(run: Path) -> None:
    found = check_calls(run)
    assert found.good
    assert (found.answers, found.failures, dict(found.unused)) == (36, 0, {})
    assert sum(part.done for part in found.parts) == sum(part.rows for part in found.parts) == 36
    result = CliRunner().invoke(app, ["calls", "check", str(run)])
    assert result.exit_code == 0
    assert "every answer is used" in result.stdout


@pytest.mark.parametrize(
    ("change", "place", "counts"),
    [
        (lambda rows: rows[1:], "complete-tuned/completions", (1, 0, 0)),
        (lambda rows: [*rows, replace(rows[0], id="other")], "complete-tuned/completions", (0, 1, 0)),
        (lambda rows: [replace(rows[0], call="0" * 64), *rows[1:]], "complete-tuned/completions", (1, 0, 0)),
        (lambda rows: [replace(rows[0], call=""), *rows[1:]], "complete-tuned/completions", (1, 0, 0)),
        (lambda rows: [replace(rows[0], call=rows[1].call), *rows[1:]], "complete-tuned/completions", (1, 0, 0)),
        (lambda rows: [replace(rows[0], failure="timeout"), *rows[1:]], "complete-tuned/completions", (0, 0, 1)),
    ],
)
def test_completions_that_are_not_there_exactly_once_are_found(
    change: Callable[[list[Completion]], list[Completion]], place: str, counts: tuple[int, int, int], run: Path
) -> None:
    _changed(_completions_of(run), Completion, change)
    found = check_calls(run)
    assert not found.good
    assert _counts(found, place) == counts
    result = CliRunner().invoke(app, ["calls", "check", str(run)])
    assert result.exit_code == 1
    assert "complete-tuned/completions, tuned:" in result.stdout


def test_verdicts_and_orders_that_are_missing_or_doubled_are_found(run: Path) -> None:
    _changed(run / "stages" / "judge-base" / "verdicts.parquet", Verdict, lambda rows: [*rows[1:], rows[1]])
    _changed(run / "stages" / "compare-tuned" / "comparisons.parquet", Comparison, lambda rows: rows[1:])
    found = check_calls(run)
    assert _counts(found, "judge-base/verdicts") == (1, 1, 0)
    assert _counts(found, "compare-tuned/comparisons") == (1, 0, 0)
    assert dict(found.unused) == {("judge", "judge"): 1, ("pairwise", "pair"): 1}


def test_an_asked_judge_decides_nothing_without_a_call(run: Path) -> None:
    file = run / "stages" / "judge-base" / "verdicts.parquet"
    _changed(file, Verdict, lambda rows: [replace(rows[0], calls=(), harm="undecidable"), *rows[1:]])
    assert check_calls(run).good  # nothing to judge
    _changed(file, Verdict, lambda rows: [replace(rows[0], harm="harmful"), *rows[1:]])
    assert _counts(check_calls(run), "judge-base/verdicts") == (1, 0, 0)
    _changed(file, Verdict, lambda rows: [replace(row, calls=(), harm="harmful") for row in rows])
    assert check_calls(run).good  # a head is not asked


def test_checkpoints_are_no_stored_calls_but_none_is_there_twice(run: Path) -> None:
    row = Completion("c", "p0", "tuned@4", "d", "text", 0, 1, False, 0.0, 0, call="1" * 64)
    file = run / "stages" / "train-tuned" / "completions.parquet"
    write_rows(file, [row], Completion)
    assert check_calls(run).good
    write_rows(file, [row, replace(row, id="again")], Completion)
    assert _counts(check_calls(run), "train-tuned/completions") == (0, 1, 0)


def test_a_failed_call_behind_a_verdict_and_several_fingerprints_are_told(run: Path) -> None:
    with CallStore(run / "calls.sqlite") as store:
        engine = ScriptedEngine("judge", lambda request, sample: Line("", failure="timeout"), digest="j", store=store)
        failed = next(iter(engine.complete([Request("x", "new", role="judge")], Decoding())))
        store.put_many(Call(f"k{n}", "api", "t", 1, False, 0.1, served="m", fingerprint=f"fp{n % 2}") for n in range(4))
    _changed(
        run / "stages" / "judge-base" / "verdicts.parquet",
        Verdict,
        lambda rows: [replace(rows[0], calls=(failed.call,)), *rows[1:]],
    )
    found = check_calls(run)
    assert _counts(found, "judge-base/verdicts") == (0, 0, 1)
    assert found.failures == 1
    assert {digest: dict(names) for digest, names in found.several.items()} == {"api": {"m fp0": 2, "m fp1": 2}}
    assert "m fp0 (2), m fp1 (2)" in CliRunner().invoke(app, ["calls", "check", str(run)]).stdout


def test_a_purged_run_is_told_as_such(run: Path) -> None:
    with CallStore(run / "calls.sqlite") as store:
        store.purge_texts()
    found = check_calls(run)
    assert (found.answers, found.purged, found.good) == (0, 36, False)


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no calls\.sqlite"):
        check_calls(tmp_path)
    CallStore(tmp_path / "calls.sqlite").close()
    with pytest.raises(InputError, match="no rows"):
        check_calls(tmp_path)


@pytest.mark.parametrize("prefix", ["", "g_"])
def test_files_are_checked_by_what_their_own_command_wrote_with_or_without_a_prefix(
    tmp_path: Path, prefix: str
) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        made = _completions(store, "base")
        said = _judged(store, made)
    rows = [
        {
            "id": row.prompt_id,
            **{f"{prefix}{name}": getattr(row, name) for name in ("model", "sample", "failure", "call")},
        }
        for row in made
    ]
    _lines(tmp_path / "completions.jsonl", rows)
    assert check_calls(tmp_path).good
    _lines(tmp_path / "completions.jsonl", [rows[0] | {f"{prefix}call": "0" * 64}, *rows[1:]])
    assert _counts(check_calls(tmp_path), "completions.jsonl") == (1, 0, 0)
    _lines(tmp_path / "completions.jsonl", rows)

    elsewhere = [row | {f"{prefix}call": "1" * 64} for row in rows]  # answers that another folder's store holds
    judged = [row | {"v_judge": "j", "v_calls": list(v.calls)} for row, v in zip(elsewhere, said, strict=True)]
    _lines(tmp_path / "verdicts.jsonl", judged)
    found = check_calls(tmp_path)
    assert found.good and not found.unused
    assert {part.place for part in found.parts} == {"completions.jsonl", "verdicts.jsonl (verdicts)"}
    _lines(tmp_path / "verdicts.jsonl", [judged[0] | {"v_calls": ["0" * 64]}, *judged[1:]])
    assert _counts(check_calls(tmp_path), "verdicts.jsonl (verdicts)") == (1, 0, 0)


def _lines(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
