"""Rows that pairs are made of: every row of a file is used or set aside with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.construct.pair_inputs import HARMFUL, check_pairs, read_pairs, read_training_prompts, refuse_harmful
from alignprism.construct.pairing import PairsStopped
from alignprism.errors import InputError
from alignprism.judging.protocol import HarmVerdict, Item
from alignprism.models.protocol import Progress
from alignprism.prompts.held_out import HELD_OUT
from alignprism.rows import Pair, Prompt, read_rows, write_rows

GOOD = {"prompt": "Q", "chosen": "good", "rejected": "bad", "language": "en"}
FORBIDDEN = "In which year was the treaty against chemical weapons signed?"


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rejected": "good"}, "column rejected: the same as chosen: no preference"),
        ({"rejected": " good "}, "chosen and rejected are the same"),
        ({"chosen": " "}, "column chosen: empty or missing; fill it in or leave the row out"),
        ({"rejected": None}, "column rejected: empty or missing; fill it in or leave the row out"),
        ({"chosen_score": 0.9}, HARMFUL),
        ({"kind": "general"}, "a general pair in a file of safety pairs"),
        ({"chosen": FORBIDDEN}, "handling rules (filter: mass-casualty weapon)"),
        ({}, "an id that occurs before"),
        ({"split": "test"}, "split test"),
        ({"split": "validation"}, "split dev"),
        (
            {"split": "elsewhere"},
            "column split: 'elsewhere'; accepted: train, dev, val, valid, validation, test, or empty",
        ),
        ({"tags": ["csam"]}, "handling rules (tag: csam)"),
        ({"chosen_score": True}, "column chosen_score: 'True' is not a number; leave it empty where it is not known"),
    ],
)
def test_a_row_that_is_no_honest_pair_is_set_aside_by_number(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    read = read_pairs(jsonl(tmp_path / "p.jsonl", [GOOD, GOOD | change]), "safety")
    assert [(pair.chosen, pair.kind) for pair in read.pairs] == [("good", "safety")]
    assert [row.reason for row in read.set_aside] == [reason]
    assert read.set_aside[0].id.startswith(f"{tmp_path / 'p.jsonl'}: row 2")


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_a_recorded_score_counts_also_as_the_text_of_a_cell(ending: str, tmp_path: Path) -> None:
    cells = [
        ("prompt", "chosen", "rejected", "language", "chosen_score"),
        ("Q", "kind", "bad", "en", "0.02"),
        ("Q", "odd", "bad", "en", ""),
        ("Q", "mean", "bad", "en", "0.98"),
        ("Q", "high", "bad", "en", "high"),
        ("Q", "none", "bad", "en", "nan"),
    ]
    path = tmp_path / f"p{ending}"
    path.write_text("\n".join(("," if ending == ".csv" else "\t").join(row) for row in cells), encoding="utf-8")
    read = read_pairs(path, "safety")
    assert [(pair.chosen, pair.chosen_score) for pair in read.pairs] == [("kind", 0.02), ("odd", None)]
    assert [row.reason for row in read.set_aside] == [
        HARMFUL,
        "column chosen_score: 'high' is not a number",
        "column chosen_score: 'nan' is not a number; leave it empty where it is not known",
    ]


def test_a_pair_of_a_prompt_that_is_held_out_beside_it_is_not_used(tmp_path: Path) -> None:
    known = [
        Prompt("a", "A", "en", "redteam", "train", "sa"),
        Prompt("b", "B", "en", "redteam", "test", "sb"),
        Prompt("c", "C", "en", "redteam", "dev", "sc"),
    ]
    write_rows(tmp_path / "prompts.parquet", known, Prompt)
    named = [("a", "sa"), ("b", "other"), ("new", "sc"), ("new", "new")]
    rows = [GOOD | {"prompt": f"Q{n}", "prompt_id": p, "seed_id": s} for n, (p, s) in enumerate(named)]
    (tmp_path / "alone").mkdir()
    (own, *_) = read_pairs(jsonl(tmp_path / "alone" / "p.jsonl", rows), "safety").pairs
    table = [replace(own, id=f"{n}", prompt_id=p, seed_id=s) for n, (p, s) in enumerate(named)]
    write_rows(tmp_path / "pairs.parquet", table, Pair)
    for path in (tmp_path, tmp_path / "pairs.parquet", jsonl(tmp_path / "p.jsonl", rows)):
        read = read_pairs(path, "safety")
        assert [pair.prompt_id for pair in read.pairs] == ["a", "new"]
        assert [row.reason for row in read.set_aside] == [HELD_OUT, HELD_OUT]
    (tmp_path / "prompts.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"prompts\.parquet: not a readable Parquet file"):
        read_pairs(tmp_path, "safety")


def test_a_general_pair_is_not_refused_for_its_score(tmp_path: Path) -> None:
    assert len(read_pairs(jsonl(tmp_path / "p.jsonl", [GOOD | {"chosen_score": 0.9}]), "general").pairs) == 1


def test_our_own_tables_and_folders_come_back_whole(tmp_path: Path) -> None:
    (pair,) = read_pairs(jsonl(tmp_path / "p.jsonl", [GOOD | {"scope": "local", "licence": "X"}]), "safety").pairs
    rich = replace(
        pair,
        tags=("synthetic-adversarial", "mild"),
        margin=0.5,
        ranking="both",
        comparer="j",
        chosen_digest="d",
        chosen_score=0.1,
    )
    write_rows(tmp_path / "pairs.parquet", [rich], Pair)
    assert read_pairs(tmp_path / "pairs.parquet", "safety").pairs == [rich]
    assert read_pairs(tmp_path, "safety").pairs == [rich]


def test_a_table_from_before_pairs_had_provenance_is_read(tmp_path: Path) -> None:
    (pair,) = read_pairs(jsonl(tmp_path / "p.jsonl", [GOOD]), "safety").pairs
    write_rows(tmp_path / "new.parquet", [pair], Pair)
    table = pq.read_table(tmp_path / "new.parquet")
    first = table.column_names.index("random_side")
    pq.write_table(table.select(table.column_names[: first + 1]), tmp_path / "old.parquet")
    assert read_pairs(tmp_path / "old.parquet", "safety").pairs == [pair]
    assert read_rows(tmp_path / "old.parquet", Pair) == [pair]


def test_a_file_without_one_usable_pair_is_wrong_input_that_names_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no safety pair can be used of 1 rows; the first, .*p.jsonl: row 1: column chosen"
    ):
        read_pairs(jsonl(tmp_path / "p.jsonl", [GOOD | {"chosen": ""}]), "safety")
    with pytest.raises(InputError, match="language"):
        read_pairs(jsonl(tmp_path / "q.jsonl", [{k: v for k, v in GOOD.items() if k != "language"}]), "safety")


texts = st.sampled_from(["a", "b", "", " a", FORBIDDEN, None, 3])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_rows_in_are_pairs_and_rows_set_aside(sides: list[tuple[Any, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        rows = [GOOD | {"chosen": chosen, "rejected": rejected} for chosen, rejected in sides]
        try:
            read = read_pairs(jsonl(Path(folder) / "p.jsonl", rows), "safety")
        except InputError as error:
            assert f"of {len(rows)} rows" in str(error)
            return
    assert len(read.pairs) + len(read.set_aside) == len(rows)
    assert all(pair.chosen.strip() != pair.rejected.strip() != "" for pair in read.pairs)


class Judge:
    """Calls what says so harmful, and cannot decide on what is odd, for a reason."""

    name, digest = "judge", "d"

    def __init__(self, reason: str = "unreadable") -> None:
        self.reason = reason

    def judge(self, items: Sequence[Item], progress: Progress | None = None) -> Iterator[HarmVerdict]:
        said: dict[str, Any] = {"mean": "harmful", "odd": "undecidable"}
        for item in items:
            harm = said.get(item.completion, "harmless")
            yield HarmVerdict(item.id, harm, score=0.2, reason=self.reason if harm == "undecidable" else "")

    def check(self, languages: object) -> None:
        """Any language."""


def test_a_harmful_chosen_side_is_refused_and_an_undecided_one_is_not_taken_for_harmless(tmp_path: Path) -> None:
    rows = [GOOD | {"chosen": text, "rejected": "r"} for text in ("kind", "mean", "odd")]
    read = read_pairs(jsonl(tmp_path / "p.jsonl", rows), "safety")
    judged = refuse_harmful(read.pairs, Judge())
    assert [(pair.chosen, pair.chosen_score) for pair in judged.pairs] == [("kind", 0.2)]
    assert [row.reason for row in judged.set_aside] == [HARMFUL, "chosen not judged"]
    with pytest.raises(PairsStopped, match="1 chosen sides were not judged"):
        refuse_harmful(read.pairs, Judge("no reply: over budget"))


def test_a_file_is_read_until_one_pair_can_be_used_and_named_if_none_can(tmp_path: Path) -> None:
    good = {"prompt": "One?", "chosen": "Kind.", "rejected": "Rude.", "language": "en"}
    check_pairs(jsonl(tmp_path / "a.jsonl", [good | {"chosen": " "}, good]), "safety")
    with pytest.raises(InputError, match=r"no safety pair can be used of 1 rows; the first, .*row 1: column chosen"):
        check_pairs(jsonl(tmp_path / "b.jsonl", [good | {"chosen": " "}]), "safety")


def test_only_train_prompts_become_pairs_and_the_others_are_counted(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "One.", "language": "en", "split": "train"},
        {"id": "b", "text": "Two.", "language": "en", "split": "test"},
        {"id": "c", "text": "Three.", "language": "fr", "split": "train"},
        {"id": "d", "text": FORBIDDEN, "language": "en", "split": "train"},
        {"id": "e", "text": "", "language": "en", "split": "train"},
    ]
    given_rows = read_training_prompts(jsonl(tmp_path / "p.jsonl", rows), ["en"])
    assert [prompt.id for prompt in given_rows.prompts] == ["a"]
    assert given_rows.counts == {
        "read": 5, "used": 1, "another language": 1, "handling rules": 1, "split test": 1, "unreadable row": 1,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"no prompt of split train .*2 another language"):
        read_training_prompts(jsonl(tmp_path / "q.jsonl", [rows[0], rows[2]]), ["hi"])
