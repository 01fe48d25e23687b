"""Files in TRL's formats: every published form of a row is the same text, and what cannot be used is named by its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer

from alignprism.models import template
from alignprism.models.protocol import Message
from alignprism.rows import RowError
from alignprism.training.examples import Text, make_examples
from alignprism.training.preference_file import Need, read_texts

Record = dict[str, Any]


def user(text: str) -> Record:
    return {"role": "user", "content": text}


def model(text: str) -> Record:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be kind."}
TALK = [user("Hi"), model("Hello"), user("Why?")]
TALK_TURNS = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Why?"))


def jsonl(folder: Path, *records: Record) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def parquet(folder: Path, *records: Record) -> Path:
    path = folder / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(list(records)), path)
    return path


FORMS: dict[str, Record] = {
    "plain": {"prompt": "Why?", "chosen": "yes", "rejected": "no"},
    "explicit": {"prompt": [user("Why?")], "chosen": [model("yes")], "rejected": [model("no")]},
    "implicit": {"chosen": [user("Why?"), model("yes")], "rejected": [user("Why?"), model("no")]},
    "plain prompt beside whole conversations": {
        "prompt": "Why?",
        "chosen": [user("Why?"), model("yes")],
        "rejected": [user("Why?"), model("no")],
    },
    "prompt repeated in the sides": {
        "prompt": [user("Why?")],
        "chosen": [user("Why?"), model("yes")],
        "rejected": [user("Why?"), model("no")],
    },
    "messages beside a plain prompt": {"prompt": "Why?", "chosen": [model("yes")], "rejected": [model("no")]},
}


@pytest.mark.parametrize("write", [jsonl, parquet])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_pair_is_the_same_text(form: str, write: Any, tmp_path: Path) -> None:
    (text,) = read_texts(write(tmp_path, FORMS[form]), "pair")
    assert (text.id, text.prompt, text.chosen, text.rejected) == ("row-1", "Why?", "yes", "no")
    assert text.language == "und"


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": TALK, "chosen": [model("yes")], "rejected": [model("no")]},
        {"chosen": [*TALK, model("yes")], "rejected": [*TALK, model("no")]},
        {"prompt": "Hi", "chosen": [*TALK, model("yes")], "rejected": [*TALK, model("no")]},
    ],
)
def test_a_conversation_of_several_turns_is_the_prompt(record: Record, tmp_path: Path) -> None:
    (text,) = read_texts(jsonl(tmp_path, record), "pair")
    assert (text.prompt, text.chosen, text.rejected) == (TALK_TURNS, "yes", "no")


def test_a_system_message_is_a_turn_of_the_prompt(tmp_path: Path) -> None:
    (text,) = read_texts(jsonl(tmp_path, {"messages": [SYSTEM, user("Why?"), model("yes")]}), "completion")
    assert text.prompt == (Message("system", "Be kind."), Message("user", "Why?"))


@pytest.mark.parametrize(
    ("record", "chosen", "rejected"),
    [
        ({"prompt": "Why?", "completion": "yes"}, "yes", None),
        ({"prompt": [user("Why?")], "completion": [model("yes")]}, "yes", None),
        ({"messages": [user("Why?"), model("yes")]}, "yes", None),
        ({"prompt": "Why?", "chosen": "yes"}, "yes", None),
        ({"prompt": "Why?", "chosen": "yes", "rejected": None}, "yes", None),
        ({"prompt": "Why?", "chosen": "yes", "rejected": "no", "messages": None}, "yes", "no"),
    ],
)
def test_sft_reads_completions_messages_and_the_chosen_side(
    record: Record, chosen: str, rejected: str | None, tmp_path: Path
) -> None:
    (text,) = read_texts(jsonl(tmp_path, record), "completion")
    assert (text.prompt, text.chosen, text.rejected) == ("Why?", chosen, rejected)


def test_id_and_language_are_taken_where_they_are(tmp_path: Path) -> None:
    plain = FORMS["plain"]
    rows = [plain | {"id": 7, "language": "hi"}, plain | {"id": "b", "language": ""}, plain | {"id": None}]
    texts = read_texts(jsonl(tmp_path, *rows), "pair")
    assert [(t.id, t.language) for t in texts] == [("7", "hi"), ("b", "und"), ("row-3", "und")]


def test_a_row_is_numbered_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"\n{json.dumps(FORMS['plain'])}\n\n{json.dumps(FORMS['plain'])}\n", encoding="utf-8")
    assert [text.id for text in read_texts(path, "pair")] == ["row-2", "row-4"]


def test_the_random_side_is_drawn_from_the_row_and_the_rows_own_comes_first(tmp_path: Path) -> None:
    rows = [{"id": n, "prompt": "Why?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(400)]
    drawn = {text.id: text.random_side for text in read_texts(jsonl(tmp_path, *rows), "pair")}
    assert 150 < list(drawn.values()).count("rejected") < 250
    again = read_texts(jsonl(tmp_path, *reversed(rows)), "pair")
    assert {text.id: text.random_side for text in again} == drawn
    own = read_texts(jsonl(tmp_path, *(row | {"random_side": "rejected"} for row in rows)), "pair")
    assert {text.random_side for text in own} == {"rejected"}
    alone = read_texts(jsonl(tmp_path, *(row | {"rejected": None} for row in rows)), "completion")
    assert {text.random_side for text in alone} == {"chosen"}


def test_empty_and_equal_sides_are_texts_that_are_counted_when_tokens_are_made(tmp_path: Path) -> None:
    rows = [
        FORMS["plain"],
        {"prompt": "a", "chosen": " ", "rejected": "b"},
        {"prompt": "a", "chosen": "b", "rejected": "b"},
    ]
    rows.append({"chosen": [user("a"), model("b")], "rejected": [user("a"), model("b")]})
    examples, (report,) = make_examples(read_texts(jsonl(tmp_path, *rows), "pair"), tiny_tokenizer(), 64)
    assert [example.pair_id for example in examples] == ["row-1"]
    assert (report.rows, report.empty, report.identical) == (4, 1, 2)


BAD: list[tuple[Need, Record, str, str]] = [
    ("pair", {"prompt": "a", "chosen": "b"}, "rejected", "missing"),
    ("pair", {"prompt": "a", "rejected": "b"}, "chosen", "missing"),
    ("pair", {"chosen": "b", "rejected": "c"}, "prompt", "missing"),
    ("pair", {"chosen": [model("b")], "rejected": [model("c")]}, "prompt", "missing"),
    ("pair", {"prompt": "a", "chosen": None, "rejected": "c"}, "chosen", "missing"),
    ("pair", {"prompt": "a", "chosen": 3, "rejected": "c"}, "chosen", "not int"),
    ("pair", {"prompt": "  ", "chosen": "b", "rejected": "c"}, "prompt", "empty"),
    ("pair", {"prompt": [], "chosen": "b", "rejected": "c"}, "prompt", "an empty list"),
    ("pair", {"prompt": [user("a"), model("b")], "chosen": "b", "rejected": "c"}, "prompt", "not of the user"),
    ("pair", {"prompt": [SYSTEM], "chosen": "b", "rejected": "c"}, "prompt", "role system"),
    ("pair", {"prompt": ["a"], "chosen": "b", "rejected": "c"}, "prompt", "message 1: an object"),
    ("pair", {"prompt": [{"role": "tool", "content": "a"}], "chosen": "b", "rejected": "c"}, "prompt", "one of system"),
    ("pair", {"prompt": [{"role": "user", "content": [{}]}], "chosen": "b", "rejected": "c"}, "prompt", "a string"),
    ("pair", {"prompt": "a", "chosen": [user("b")], "rejected": "c"}, "chosen", "role user"),
    ("pair", {"prompt": "a", "chosen": [model("b") | {"tool_calls": [1]}], "rejected": "c"}, "chosen", "calls of tools"),
    ("pair", {"chosen": [*TALK, model("b")], "rejected": [user("Hi"), model("c")]}, "rejected", "those of chosen"),
    ("pair", {"prompt": "b", "chosen": [user("a"), model("b")], "rejected": "c"}, "prompt", "differs"),
    ("pair", {"prompt": [user("b")], "chosen": [user("a"), model("b")], "rejected": "c"}, "prompt", "differs"),
    ("pair", FORMS["plain"] | {"language": 3}, "language", "not int"),
    ("pair", FORMS["plain"] | {"images": ["x.png"]}, "images", "text alone"),
    ("pair", FORMS["plain"] | {"chosen": [model("half \ud83d")]}, "chosen", "not Unicode text"),
    ("completion", {"prompt": "a"}, "chosen", "accepted: prompt with chosen or completion, or messages"),
    ("completion", {"messages": [user("a")]}, "messages", "role user"),
    ("completion", {"messages": "a"}, "messages", "not str"),
    ("completion", {"completion": "a"}, "prompt", "missing"),
]  # fmt: skip


@pytest.mark.parametrize(("need", "record", "column", "why"), BAD)
def test_a_row_that_cannot_be_used_is_named_by_file_row_and_column(
    need: Need, record: Record, column: str, why: str, tmp_path: Path
) -> None:
    path = jsonl(tmp_path, FORMS["plain"], record)
    with pytest.raises(RowError) as caught:
        read_texts(path, need)
    assert str(caught.value).startswith(f"{path}: row 2: column {column}: ")
    assert why in str(caught.value)


def test_an_id_that_occurs_twice_names_both_rows(tmp_path: Path) -> None:
    rows = [FORMS["plain"] | {"id": name} for name in ("a", "b", "a")]
    with pytest.raises(RowError, match=r"row 3: column id: 'a' is that of row 1 too"):
        read_texts(jsonl(tmp_path, *rows), "pair")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.jsonl", b"{", "row 1: not JSON"),
        ("a.parquet", b"PAR1 no more", "not a readable Parquet file"),
        ("a.txt", b"", "accepted: .jsonl"),
        ("a.jsonl", None, "no such file"),
        ("a.parquet", None, "no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes | None, told: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RowError) as caught:
        read_texts(tmp_path / name, "pair")
    assert str(caught.value).startswith(f"{tmp_path / name}: ") and told in str(caught.value)


CONTENT = st.text(st.characters(min_codepoint=33, max_codepoint=100), min_size=1, max_size=6)


@settings(deadline=None)
@given(
    turns=st.lists(CONTENT, min_size=1, max_size=5).filter(lambda x: len(x) % 2 == 1), chosen=CONTENT, rejected=CONTENT
)
def test_a_conversation_is_rendered_as_trl_renders_it(
    turns: list[str], chosen: str, rejected: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from trl.data_utils import apply_chat_template

    prompt = [user(turn) if number % 2 == 0 else model(turn) for number, turn in enumerate(turns)]
    record = {"prompt": prompt, "chosen": [model(chosen)], "rejected": [model(rejected)]}
    folder = tmp_path_factory.getbasetemp() / "rendered"
    folder.mkdir(exist_ok=True)
    (text,) = read_texts(jsonl(folder, record), "pair")
    tokenizer = tiny_tokenizer()
    theirs = apply_chat_template(record, tokenizer)
    assert template.render(tokenizer, text.prompt) == theirs["prompt"]
    for side in (text.chosen, text.rejected or ""):
        ours = template.prompt_ids(tokenizer, text.prompt) + template.completion_ids(tokenizer, side)
        whole = theirs["prompt"] + theirs["chosen" if side == text.chosen else "rejected"]
        assert ours == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_a_template_that_refuses_a_turn_names_the_row(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + str(tokenizer.chat_template)
    )
    rows = [FORMS["plain"], {"prompt": [SYSTEM, user("a")], "chosen": "b", "rejected": "c"}]
    texts: list[Text] = read_texts(jsonl(tmp_path, *rows), "pair")
    with pytest.raises(template.TemplateError, match=r"row 'row-2'.*refuses the turns system, user \(System role"):
        make_examples(texts, tokenizer, 64)
