"""Candidates: from models, files, people and the prompt itself; what is none is set aside with its reason."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignprism.construct.candidates import WITHHELD, Written, candidates_of, completion_rows, supplied_candidates
from alignprism.models.protocol import Answer, Decoding, Failed, Outcome
from alignprism.models.scripted import ScriptedEngine
from alignprism.rows import Completion, Prompt, RowError, write_rows

PROMPT = Prompt("p", "Insult me.", "en", "redteam", "train", "s", "local", reference="No.")
HINDI = Prompt("h", "एक सवाल", "hi", "redteam", "train", "s2", "global")
FORBIDDEN = "In which year was the treaty against chemical weapons signed?"


def completion(text: str, model: str = "base", digest: str = "d") -> Completion:
    return Completion(f"id-{text}", "p", model, digest, text, 0, 3, False, 0.9, 0, call="k")


def file_of(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_candidates_are_distinct_not_empty_and_led_by_the_reference() -> None:
    found = candidates_of(PROMPT, [completion(text) for text in ("one", " No. ", "", "  ", "one ", "two")])
    assert [(w.text, w.source, w.origin) for w in found] == [
        ("No.", "reference", "reference"),
        ("one", "base", "model"),
        ("two", "base", "model"),
    ]
    assert (found[1].digest, found[1].completion, found[1].call) == ("d", "id-one", "k")


def test_supplied_answers_come_before_the_sampled_ones_and_a_model_without_weights_is_supplied() -> None:
    own = Written("mine", "a person", "human")
    found = candidates_of(replace(PROMPT, reference=None), [completion("x", digest="")], [own])
    assert [(w.text, w.origin) for w in found] == [("mine", "human"), ("x", "supplied")]


def test_a_failure_is_no_candidate_and_a_forbidden_answer_is_withheld() -> None:
    engine = ScriptedEngine("base", lambda *_: "", digest="d")
    outcomes: list[Outcome] = [
        Answer("p", 0, "fine", 1, False, call="k"),
        Answer("p", 1, FORBIDDEN, 9, False),
        Failed("p", 2, "timeout", "after 3 tries"),
    ]
    rows, aside = completion_rows(engine, outcomes, Decoding(temperature=0.9, samples=3, seed=4))
    assert [(row.text, row.sample, row.model_digest, row.seed, row.call) for row in rows] == [("fine", 0, "d", 4, "k")]
    assert [row.reason for row in aside] == [WITHHELD, "no answer: timeout"]
    assert not [row for row in aside if "chemical" in row.detail or "treaty" in row.detail]


def test_a_file_names_its_prompt_by_id_or_by_text(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        {"prompt_id": "p", "text": "one", "source": "Ana", "kind": "human", "licence": "own", "redistribute": True},
        {"prompt": "एक सवाल", "completion": "two", "model": "m", "model_digest": "w"},
        {"prompt": "Insult me.", "language": "en", "text": "three", "source": "s", "licence": "CC0-1.0"},
    )
    found = supplied_candidates(path, [PROMPT, HINDI])
    assert found.set_aside == []
    assert found.sources == {"Ana", "m", "s"}
    assert [(w.text, w.origin, w.redistribute) for w in found.by_prompt["p"]] == [
        ("one", "human", True),
        ("three", "supplied", False),
    ]
    assert [(w.origin, w.digest) for w in found.by_prompt["h"]] == [("model", "w")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt_id": "q"}, "no such prompt"),
        ({"prompt_id": None, "prompt": "Another."}, "no such prompt"),
        ({"prompt_id": None}, "column prompt: empty or missing; fill it in or leave the row out"),
        ({"prompt_id": None, "prompt": "Insult me.", "language": "fr"}, "no such prompt"),
        ({"text": "  "}, "column text: empty or missing; fill it in or leave the row out"),
        ({"text": 3}, "column text: a text is expected, not int"),
        ({"source": ""}, "column source: missing; say who wrote the answer (a model's or a person's name)"),
        ({"kind": "robot"}, "column kind: accepted: model, human, supplied"),
        ({"failure": "timeout"}, "column failure: the row holds no answer (timeout)"),
        ({"text": FORBIDDEN}, WITHHELD),
        ({"text": " first "}, "the same text as an earlier answer to its prompt"),
        ({"id": "1"}, "the same id as an earlier answer to its prompt"),
    ],
)
def test_a_row_that_is_no_candidate_is_set_aside_by_number(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    good = {"prompt_id": "p", "text": "first", "source": "s", "id": "1"}
    found = supplied_candidates(file_of(tmp_path, good, good | {"text": "second", "id": "2"} | row), [PROMPT])
    assert [w.text for w in found.by_prompt["p"]] == ["first"]
    assert [(aside.id, aside.reason) for aside in found.set_aside] == [(f"{tmp_path / 'answers.jsonl'}: row 2", reason)]


def test_a_text_that_stands_in_two_languages_needs_the_language(tmp_path: Path) -> None:
    twice = [PROMPT, replace(PROMPT, id="t", language="tl")]
    rows = [
        {"prompt": "Insult me.", "text": str(n), "source": "s", "language": code} for n, code in enumerate((None, "tl"))
    ]
    found = supplied_candidates(file_of(tmp_path, *rows), twice)
    assert {name: [w.text for w in own] for name, own in found.by_prompt.items()} == {"t": ["1"]}
    assert [aside.reason for aside in found.set_aside] == ["no such prompt"]


def test_our_own_completions_and_files_of_generate_are_such_files(tmp_path: Path) -> None:
    write_rows(tmp_path / "c.parquet", [completion("one"), replace(completion(""), failure="timeout")], Completion)
    found = supplied_candidates(tmp_path / "c.parquet", [PROMPT])
    assert found.by_prompt["p"] == [Written("one", "base", "model", "d", "id-one", "k", redistribute=False)]
    assert len(found.set_aside) == 1
    sampled = [
        {"id": "row 1", "prompt": "Insult me.", "completion": text, "model": "m", "model_digest": "w", "sample": n}
        for n, text in enumerate(("a", "b"))
    ]
    again = supplied_candidates(file_of(tmp_path, *sampled), [PROMPT])
    assert [w.text for w in again.by_prompt["p"]] == ["a", "b"]  # both have the prompt's id


@given(st.lists(st.tuples(st.sampled_from(["p", "h", "q", ""]), st.sampled_from(["a", "b", " a", "", FORBIDDEN]))))
def test_rows_in_are_candidates_and_rows_set_aside(rows: list[tuple[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        given_rows = [{"prompt_id": name, "text": text, "source": "s"} for name, text in rows]
        found = supplied_candidates(file_of(Path(folder), *given_rows), [PROMPT, HINDI])
    assert sum(map(len, found.by_prompt.values())) + len(found.set_aside) == len(rows)
    assert all(len({w.text.strip() for w in own}) == len(own) for own in found.by_prompt.values())


def test_a_damaged_line_costs_one_row(tmp_path: Path) -> None:
    good = json.dumps({"prompt_id": "p", "text": "one", "source": "Ana"}).encode()
    bad = b'{"prompt_id": "p", "text": "caf\xe9", "source": "s"}'
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"{broken\n" + good + b"\n" + bad + b"\n[1]\n")
    found = supplied_candidates(path, [PROMPT])
    assert [w.text for w in found.by_prompt["p"]] == ["one"]
    assert [aside.id for aside in found.set_aside] == [f"{path}: row {n}" for n in (1, 3, 4)]
    assert "byte 0xe9 is not of the file's encoding" in found.set_aside[1].reason
    assert found.set_aside[0].detail.startswith("not JSON")


@pytest.mark.parametrize("name", ["answers.csv", "answers.tsv", "answers.jsonl.gz"])
def test_other_tables_are_read_as_in_data_import(name: str, tmp_path: Path) -> None:
    path, tab = tmp_path / name, "\t" if name.endswith("tsv") else ","
    if name.endswith(".gz"):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(json.dumps({"prompt_id": "p", "text": "one, two", "source": "Ana"}) + "\n")
    else:
        rows = [["prompt_id", "text", "source"], ["p", '"one, two"', "Ana"], ["p", "too few"]]
        path.write_text("".join(tab.join(row) + "\r\n" for row in rows), encoding="utf-8")
    found = supplied_candidates(path, [PROMPT])
    assert [w.text for w in found.by_prompt["p"]] == ["one, two"]
    assert [aside.detail[:7] for aside in found.set_aside] == ([] if name.endswith(".gz") else ["2 cells"])


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(RowError, match=r"none\.jsonl: no such file"):
        supplied_candidates(tmp_path / "none.jsonl", [PROMPT])
