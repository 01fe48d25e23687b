"""Publishing: what may not leave does not, what leaves says what it is, and the hub's own library reads it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import pyzipper
import yaml

from alignprism.errors import InputError
from alignprism.prompts.data_card import agreement
from alignprism.prompts.findings import Finding, Findings
from alignprism.prompts.formats.format import supplied
from alignprism.prompts.publish import new_canary, publish
from alignprism.rows import Completion, Label, Pair, Prompt, Rating

CANARY = "alignprism-canary test 0000"
OURS = Prompt(
    "a", "Sag etwas Unfreundliches.", "de", "redteam", "test", "s1", "local", ("profanity",), source="us",
    licence="CC-BY-4.0", redistribute=True,
)  # fmt: skip
SECOND = dataclasses.replace(OURS, id="b", text="Say it.", language="en", split="train", seed_id="s2", scope="global")
PAIR = Pair(
    "x", "Say it.", "No.", "Yes.", "b", "s2", "en", "safety", "global", (), "m", "n", None, None, "", "CC-BY-4.0", True, "chosen"
)  # fmt: skip


def answer_to(prompt: str) -> Completion:
    return supplied(
        id=f"c-{prompt}", prompt_id=prompt, model="m", text="An answer.", licence="CC0-1.0", redistribute=True
    )


ANSWER = answer_to("a")


def tables(**change: Any) -> dict[str, list[Any]]:
    return {"prompts": [OURS, SECOND], "completions": [], "pairs": [PAIR], "labels": [], "ratings": []} | change


def metadata(folder: Path) -> dict[str, Any]:
    _, block, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


def test_parquet_is_read_by_datasets_with_the_cards_configurations(tmp_path: Path) -> None:
    publish(tables(), tmp_path / "out", "Our set", "parquet", CANARY)
    found = datasets.load_dataset(str(tmp_path / "out"), "prompts", cache_dir=str(tmp_path / "cache"))
    assert {split: [row["id"] for row in rows] for split, rows in found.items()} == {"test": ["a"], "train": ["b"]}
    assert found["test"][0]["canary"] == CANARY
    block = metadata(tmp_path / "out")
    assert (block["license"], block["language"]) == ("cc-by-4.0", ["de", "en"])
    assert [c["config_name"] for c in block["configs"]] == ["prompts", "pairs"]


@pytest.mark.parametrize(
    ("form", "name", "columns"),
    [
        ("aya", "prompts", {"prompt", "harm_category", "global_or_local"}),
        ("trl", "pairs", {"prompt", "chosen", "rejected"}),
    ],
)
def test_json_lines_under_published_column_names(tmp_path: Path, form: Any, name: str, columns: set[str]) -> None:
    publish(tables(), tmp_path / "out", "Our set", form, CANARY)
    files = sorted((tmp_path / "out" / "data" / name).iterdir())
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").split("\n") if line]
    assert rows and all(columns <= row.keys() and row["canary"] == CANARY for row in rows)
    assert datasets.load_dataset(str(tmp_path / "out"), name, cache_dir=str(tmp_path / "cache"))


def test_a_datasets_folder_loads_from_disk(tmp_path: Path) -> None:
    publish(tables(), tmp_path / "out", "Our set", "datasets", CANARY)
    found = datasets.load_from_disk(str(tmp_path / "out" / "prompts"))
    assert {split: len(rows) for split, rows in found.items()} == {"test": 1, "train": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"redistribute": False}, r"1 prompts: not to be redistributed \(licence: CC-BY-4.0\)"),
        ({"tags": ("csam",)}, r"never published \(tag: csam\)"),
        ({"tags": ("synthetic-adversarial",)}, "--include-synthetic publishes such rows"),
    ],
)
def test_rows_that_must_not_leave_stop_it_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    rows = tables(prompts=[OURS, dataclasses.replace(SECOND, **change)])
    with pytest.raises(InputError, match=said):
        publish(rows, tmp_path / "out", "Our set", "parquet", CANARY)
    assert list(tmp_path.iterdir()) == []
    assert publish(rows, tmp_path / "out", "Our set", "parquet", CANARY, leave_out=True)["prompts"] == 1


def test_a_pair_of_a_rephrased_prompt_leaves_no_sooner_than_the_prompt(tmp_path: Path) -> None:
    marked = dataclasses.replace(PAIR, tags=("synthetic-adversarial",))
    alone = tables(prompts=[], pairs=[marked])
    with pytest.raises(InputError, match=r"1 pairs: rephrased by a model .*--include-synthetic"):
        publish(alone, tmp_path / "out", "n", "parquet", CANARY)
    with pytest.raises(InputError, match="no row may be"):
        publish(alone, tmp_path / "out", "n", "trl", CANARY, leave_out=True)
    assert publish(alone, tmp_path / "out", "n", "trl", CANARY, synthetic=True) == {"pairs": 1}


def test_what_repeats_or_answers_a_prompt_that_is_left_out_is_left_out_too(tmp_path: Path) -> None:
    for number, change in enumerate([{"tags": ("synthetic-adversarial",)}, {"redistribute": False}]):
        rows = tables(
            prompts=[OURS, dataclasses.replace(SECOND, **change)], completions=[ANSWER, answer_to("b")],
            ratings=[Rating("c-b", "completion", "r", "toxicity", 1.0, licence="CC0-1.0", redistribute=True)],
        )  # fmt: skip
        out = tmp_path / f"{number}"
        assert publish(rows, out, "n", "parquet", CANARY, leave_out=True) == {"prompts": 1, "completions": 1}
        assert all(SECOND.text.encode() not in file.read_bytes() for file in out.rglob("*.*"))


@pytest.mark.parametrize("form", ["parquet", "datasets", "trl"])
def test_pairs_and_answers_lie_in_the_split_of_their_prompt(tmp_path: Path, form: Any) -> None:
    pairs = [
        PAIR,
        dataclasses.replace(PAIR, id="y", prompt_id="a"),
        dataclasses.replace(PAIR, id="z", prompt_id="gone", seed_id="s1"),
        dataclasses.replace(PAIR, id="w", prompt_id="gone", seed_id="gone", split="dev"),
    ]
    ratings = [Rating("c-a", "completion", "r", "toxicity", 1.0, licence="CC0-1.0", redistribute=True)]
    rows = tables(pairs=pairs, completions=[ANSWER, answer_to("b")], ratings=ratings)
    publish(rows, tmp_path / "out", "n", form, CANARY)
    if form == "trl":
        lines = [(f.stem, json.loads(x)) for f in (tmp_path / "out/data/pairs").iterdir() for x in f.open()]
        assert {row["id"]: (split, row["split"]) for split, row in lines} == {
            "x": ("train", "train"), "y": ("test", "test"), "z": ("test", "test"), "w": ("dev", "dev"),
        }  # fmt: skip
        return

    def found(name: str) -> dict[str, set[str]]:
        if form == "datasets":
            parts = datasets.load_from_disk(str(tmp_path / "out" / name))
        else:
            parts = datasets.load_dataset(str(tmp_path / "out"), name, cache_dir=str(tmp_path / "cache"))
        return {split: {row.get("id") or row["subject_id"] for row in part} for split, part in parts.items()}

    assert found("pairs") == {"train": {"x"}, "test": {"y", "z"}, "dev": {"w"}}
    assert found("completions") == {"test": {"c-a"}, "train": {"c-b"}}
    assert found("ratings") == {"test": {"c-a"}}


def test_a_split_is_known_from_a_prompt_that_is_left_out(tmp_path: Path) -> None:
    refused = dataclasses.replace(OURS, redistribute=False)
    of_seed = dataclasses.replace(PAIR, prompt_id="translation", seed_id="s1")
    publish(tables(prompts=[refused, SECOND], pairs=[of_seed]), tmp_path / "out", "n", "trl", CANARY, leave_out=True)
    assert [file.name for file in (tmp_path / "out" / "data" / "pairs").iterdir()] == ["test.jsonl"]


def test_labels_and_ratings_leave_only_with_their_subject(tmp_path: Path) -> None:
    refused = dataclasses.replace(SECOND, redistribute=False)
    ratings = [
        Rating(p.id, "prompt", "r", "toxicity", 1.0, licence="CC-BY-4.0", redistribute=True) for p in (OURS, SECOND)
    ]
    rows = tables(prompts=[OURS, refused], ratings=ratings, labels=[Label("gone", "x", "harmful", 1.0)], pairs=[])
    assert publish(rows, tmp_path / "out", "n", "parquet", CANARY, leave_out=True) == {"prompts": 1, "ratings": 1}


def test_rtp_lx_is_never_republished(tmp_path: Path, shared_data: Path, slice_of: Any, importing: Any) -> None:
    found = importing(slice_of(shared_data / "rtp_lx", 3), "rtp-lx", redistribute=True, licence="MIT").tables
    with pytest.raises(InputError, match="not to be redistributed"):
        publish(found, tmp_path / "out", "n", "parquet", CANARY)
    with pytest.raises(InputError, match="no row may be"):
        publish(found | {"labels": []}, tmp_path / "out", "n", "parquet", CANARY, leave_out=True)


def test_an_encrypted_archive_opens_with_the_password_and_only_with_it(tmp_path: Path) -> None:
    publish(tables(), tmp_path / "out", "Our set", "aya", CANARY, password=b"a long password")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "data.zip"]
    assert OURS.text.encode() not in (tmp_path / "out" / "data.zip").read_bytes()
    with pyzipper.AESZipFile(tmp_path / "out" / "data.zip") as archive:
        with pytest.raises(RuntimeError):
            archive.read("data/prompts/test.jsonl")
        archive.setpassword(b"a long password")
        assert json.loads(archive.read("data/prompts/test.jsonl"))["prompt"] == OURS.text
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "a long password" not in card and "AES-256" in card
    assert "configs" not in metadata(tmp_path / "out")


def test_the_card_counts_and_warns_and_says_what_is_missing_without_showing_a_prompt(tmp_path: Path) -> None:
    ratings = [
        Rating("a", "prompt", f"r{n}", "toxicity", v, licence="CC-BY-4.0", redistribute=True)
        for n, v in enumerate((1.0, 1.0, 3.0))
    ]
    with Findings(None) as findings:
        findings.add(Finding("", "balance", "note", "no prompt of scope local", "en"))
    publish(
        tables(ratings=ratings), tmp_path / "out", "Our set", "parquet", CANARY, findings=findings, about="About us."
    )
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for said in (
        "Content warning", "- prompts: 2", "| de (German) | local | test | 1 |", "Seeds that lie in two: 0",
        "| toxicity | 0.333 | 3 |", "| CC-BY-4.0 | us | 2 |", "en: no prompt of scope local", CANARY, "About us.",
    ):  # fmt: skip
        assert said in card, said
    assert OURS.text not in card and PAIR.chosen not in card.split("Canary")[0].split("## ")[0]


def test_agreement_is_over_pairs_of_annotators_of_one_text() -> None:
    rated = [Rating("a", "prompt", "1", "s", 1.0), Rating("a", "prompt", "2", "s", 1.0), Rating("b", "prompt", "1", "s", 1.0), Rating("b", "prompt", "2", "s", 2.0)]  # fmt: skip
    assert agreement(rated) == {"s": (0.5, 2)}


def test_a_canary_is_new_each_time() -> None:
    assert new_canary("x") != new_canary("x")


def test_aya_has_no_place_for_a_row_without_scope(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column scope: a: empty"):
        publish(tables(prompts=[dataclasses.replace(OURS, scope=None)]), tmp_path / "out", "n", "aya", CANARY)
