"""General pairs: the better of the translated and the regenerated answer is chosen; every row is a pair or has its reason."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from general_bench import ANSWERS, HINDI, LONG, SHORT, Bench, first_place, prompts

from alignprism.construct.general import MadeGeneral, general_pairs_of, strictest
from alignprism.construct.general_file import read_general
from alignprism.construct.translation_settings import GeneralSettings
from alignprism.errors import Failure, InputError
from alignprism.models.scripted import Line
from alignprism.models.store import CallStore
from alignprism.prompts.formats.format import make_pair
from alignprism.prompts.held_out import HELD_OUT
from alignprism.rows import Pair, Prompt, RowError, write_rows

EGG, LEAVES, MONTH = (text for text in HINDI if text.endswith("?"))
EGG_HI, LEAVES_HI, MONTH_HI = (HINDI[text] for text in (EGG, LEAVES, MONTH))


def made_by(bench: Bench, settings: GeneralSettings | None = None, **more: Any) -> MadeGeneral:
    found = general_pairs_of(more.pop("prompts", prompts()), ["hi"], bench.models(), settings, **more)
    report = found.report["by language"]["hi"]
    assert len(found.pairs) + len(found.set_aside) == report["prompts"]
    assert report["pairs"] == len(found.pairs)
    return found


def reasons(found: MadeGeneral) -> dict[str, str]:
    return {row.id: row.reason for row in found.set_aside}


def test_the_winner_is_chosen_and_the_pair_says_where_both_are_from() -> None:
    bench = Bench()
    found = made_by(bench, GeneralSettings(generator_licence="Apache-2.0"))
    won, lost = found.pairs
    assert (won.prompt, won.chosen, won.rejected) == (EGG_HI, LONG, HINDI["Put it in boiling water for eight minutes."])
    assert (won.chosen_source, won.rejected_source) == ("writer", "translated by nllb")
    assert (won.chosen_origin, won.rejected_origin) == ("model", "reference")
    assert (lost.chosen, lost.rejected) == (HINDI["The green colour fades in autumn."], SHORT)
    assert (lost.chosen_source, lost.rejected_source) == ("translated by nllb", "writer")
    for pair in found.pairs:
        assert (pair.kind, pair.language, pair.judge, pair.ranking, pair.scope) == (
            "general",
            "hi",
            "referee",
            "comparisons",
            None,
        )
        assert (pair.licence, pair.redistribute) == ("MIT and Apache-2.0", False)
        assert pair.prompt_id == f"{pair.seed_id}-hi" and pair.random_side in ("chosen", "rejected")
    assert reasons(found) == {"g2-hi": "tie"}


def test_the_report_gives_the_share_that_the_regenerated_answer_won() -> None:
    many = [
        replace(prompt, id=f"{prompt.id}.{n}", seed_id=f"{prompt.id}.{n}") for n in range(6) for prompt in prompts()
    ]
    found = made_by(Bench(), prompts=many)
    report = found.report["by language"]["hi"]
    decided, compared = report["regenerated won, of decided"], report["regenerated won, of compared"]
    assert (decided["estimate"], decided["n"], decided["interval"]) == (0.5, 12, "Wilson")
    assert (compared["n"], report["ties"], report["of them contradicting orders"]) == (18, 6, 0)
    assert compared["estimate"] == pytest.approx(6 / 18) and compared["low"] < 6 / 18 < compared["high"]


def test_a_judge_that_prefers_a_place_decides_nothing() -> None:
    found = made_by(Bench(judge=first_place))
    assert not found.pairs
    assert set(reasons(found).values()) == {"tie: the orders contradict each other"}
    assert found.report["by language"]["hi"]["of them contradicting orders"] == 3


@pytest.mark.parametrize("side", ["translated", "regenerated"])
def test_ties_may_be_given_to_a_side_by_a_rule_that_the_pair_shows(side: Any) -> None:
    found = made_by(Bench(), GeneralSettings(ties=side))
    tied = next(pair for pair in found.pairs if pair.seed_id == "g2")
    wanted = ANSWERS[MONTH_HI] if side == "regenerated" else HINDI["In many places it is January."]
    assert tied.chosen == wanted and tied.margin == 0.0
    assert found.report["by language"]["hi"]["chosen by the rule for ties"] == 1


def test_equal_answers_are_no_pair_whatever_the_rule() -> None:
    same = {EGG_HI: HINDI["Put it in boiling water for eight minutes."]}
    found = made_by(Bench(answers=same), GeneralSettings(ties="translated"))
    assert reasons(found) == {"g0-hi": "identical answers"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Line("", failure="timeout"), "no completion: timeout"),
        ("  ", "completion empty"),
        (Line("", filtered=True), "completion withheld by the provider"),
        (Line(LONG, truncated=True), "chosen cut at the length limit"),
        (
            "Boil some water in a pot and put the egg in for eight minutes, then cool it down.",
            "chosen in another language",
        ),
        ("अंडा अंडा अंडा अंडा अंडा अंडा अंडा अंडा अंडा अंडा अंडा अंडा", "chosen degenerate"),
        (f"{LONG} सामूहिक विनाश के हथियार भी ऐसे ही।", "handling"),
    ],
)
def test_a_winner_that_must_not_be_learned_makes_no_pair(answer: str | Line, reason: str) -> None:
    found = made_by(Bench(answers={EGG_HI: answer}))
    assert reasons(found)["g0-hi"] == reason
    assert [pair.seed_id for pair in found.pairs] == ["g1"]


def test_what_was_not_translated_is_not_answered_and_not_judged() -> None:
    bench = Bench(translations={EGG: "", HINDI_REFERENCE: "It fades."})
    found = made_by(bench)
    assert reasons(found) == {"g0-hi": "empty", "g1-hi": "reference: language", "g2-hi": "tie"}
    assert bench.asked[1:] == (1, 2)


HINDI_REFERENCE = "The green colour fades in autumn."


def test_an_unreadable_judge_makes_no_pair() -> None:
    found = made_by(Bench(judge=lambda request, sample: "Both are fine, the egg more so."))
    assert set(reasons(found).values()) == {"undecidable"}
    assert all("egg" not in row.detail for row in found.set_aside)
    assert found.report["by language"]["hi"]["undecidable"] == 3


def test_a_judge_that_gives_no_reply_is_told_from_one_that_cannot_be_read() -> None:
    found = made_by(Bench(judge=lambda request, sample: Line("", failure="timeout")))
    assert set(reasons(found).values()) == {"no verdict: timeout"}
    assert found.report["by language"]["hi"]["undecidable"] == 0


@pytest.mark.parametrize("stage", ["answers", "judge"])
def test_an_end_of_the_budget_stops_and_the_same_call_goes_on(stage: str, tmp_path: Path) -> None:
    over = Line("", failure="over budget")
    short = Bench(answers={EGG_HI: over}) if stage == "answers" else Bench(judge=lambda request, sample: over)
    with CallStore(tmp_path / "calls.sqlite") as store:
        for engine in (short.translator, short.generator, short.judge):
            engine.store = store
        with pytest.raises(Failure, match="the budget or the run ended"):
            made_by(short)
        again = Bench(store)
        first = made_by(again)
        assert again.asked == ((0, 1, 6) if stage == "answers" else (0, 0, 6))
        third = Bench(store)
        assert made_by(third) == first and third.asked == (0, 0, 0)


def test_terms_of_the_parts_hold_for_the_whole() -> None:
    assert strictest(("MIT", True), ("MIT", True)) == ("MIT", True)
    assert strictest(("MIT", True), ("", True)) == ("MIT and unknown", True)
    assert strictest(("CC-BY-4.0", True), ("Apache-2.0", False)) == ("CC-BY-4.0 and Apache-2.0", False)


# --- files -----------------------------------------------------------------------------------------------------------


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_of_every_kind_become_prompts_with_a_good_answer(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."},
        {
            "prompt": [{"role": "user", "content": "And?"}],
            "chosen": [{"role": "assistant", "content": "So."}],
            "language": "fr",
        },
        {"text": "Own?", "reference": "Mine.", "id": "own", "licence": "MIT"},
    ]
    found, aside = read_general(jsonl(tmp_path / "g.jsonl", rows), "en")
    assert [(p.text, p.reference, p.language, p.set) for p in found] == [
        ("Hi?", "Yes.", "en", "general"), ("And?", "So.", "fr", "general"), ("Own?", "Mine.", "en", "general"),
    ]  # fmt: skip
    assert not aside and found[2].id == "own"
    pair = make_pair(id="x", prompt="Hi?", chosen="Yes.", rejected="No.", language="en", prompt_id="p", seed_id="s", kind="general", licence="MIT", redistribute=True)  # fmt: skip
    write_rows(tmp_path / "pairs.parquet", [pair], Pair)
    ((own,), _) = read_general(tmp_path / "pairs.parquet")
    assert (own.id, own.seed_id, own.reference, own.licence) == ("p", "s", "Yes.", "MIT")


def test_rows_that_cannot_be_used_are_reported(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi?", "chosen": "Yes."},
        {"prompt": "Hi?", "chosen": "Sure.", "language": "en"},
        {"prompt": "Hi?", "chosen": "Sure.", "language": "en"},
        {"prompt": "", "chosen": "Sure.", "language": "en"},
        {"text": "No answer?", "language": "en", "id": "n"},
        {"text": "Held out?", "reference": "Yes.", "language": "en", "id": "h", "split": "test"},
    ]
    found, aside = read_general(jsonl(tmp_path / "g.jsonl", rows))
    assert len(found) == 1 and len(found) + len(aside) == len(rows)
    assert [row.reason for row in aside] == [
        "unreadable row",
        "prompt occurs before",
        "unreadable row",
        "no chosen answer",
        "split test",
    ]
    assert [row.detail.split(":")[0] for row in aside if row.reason == "unreadable row"] == ["language", "prompt"]
    assert all("Sure" not in json.dumps(asdict(row)) for row in aside)
    with pytest.raises(RowError, match="no rows"):
        read_general(jsonl(tmp_path / "empty.jsonl", []))


def test_a_pair_of_a_held_out_prompt_gives_no_prompt_whatever_it_lies_in(tmp_path: Path) -> None:
    row = {"chosen": "Yes.", "rejected": "No.", "language": "en"}
    rows = [
        row | {"prompt": "One?", "split": "test"},
        row | {"prompt": "Two?", "split": "train", "prompt_id": "p2"},
        row | {"prompt": "Three?", "split": "none such"},
        row | {"prompt": "Four?"},
    ]
    file = jsonl(tmp_path / "g.jsonl", rows)
    found, aside = read_general(file)
    assert [p.text for p in found] == ["Two?", "Four?"]
    assert [a.reason for a in aside] == ["split test", "unreadable row"]
    write_rows(tmp_path / "prompts.parquet", [Prompt("p2", "Two?", "en", "general", "test", "s")], Prompt)
    found, aside = read_general(file)
    assert [p.text for p in found] == ["Four?"]
    assert [a.reason for a in aside] == ["split test", HELD_OUT, "unreadable row"]
    pairs = [
        make_pair(id=name, prompt="Q?", chosen="Yes.", rejected="No.", language="en", prompt_id=name, seed_id=name, kind="general", split=split, licence="MIT", redistribute=True)
        for name, split in (("p1", "dev"), ("p2", "train"), ("p3", "train"))
    ]  # fmt: skip
    write_rows(tmp_path / "pairs.parquet", pairs, Pair)
    for path in (tmp_path / "pairs.parquet", tmp_path):
        found, aside = read_general(path)
        assert [p.id for p in found] == ["p3"] and [a.reason for a in aside] == ["split dev", HELD_OUT]


def test_tags_go_from_a_pair_to_the_pairs_made_of_its_prompt(tmp_path: Path) -> None:
    marked = [replace(prompt, tags=("synthetic-adversarial",)) for prompt in prompts()]
    pairs = made_by(Bench(), prompts=marked).pairs
    assert pairs and {pair.tags for pair in pairs} == {("synthetic-adversarial",)}
    write_rows(tmp_path / "pairs.parquet", pairs, Pair)
    assert {p.tags for p in read_general(tmp_path / "pairs.parquet")[0]} == {("synthetic-adversarial",)}


def test_nothing_to_compare_is_said_by_language() -> None:
    with pytest.raises(InputError, match="nothing to translate"):
        made_by(Bench(), prompts=[replace(prompt, reference=None) for prompt in prompts()])
