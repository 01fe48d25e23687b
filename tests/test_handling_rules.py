"""The handling rules over a whole run: what is kept out stays out, what must not leave does not, texts are not shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_model import Bench, Said, fragments, manifest, texts_of

from alignprism.rows import Completion, Pair, Prompt, read_rows
from alignprism.stages.train import check_chosen
from alignprism.training.config import TrainingError

# Mild on purpose: the first is caught by its tag, the second by the filter's words.
TAGGED = "A placeholder sentence about a quiet lighthouse keeper."
FILTERED = "In which year was the treaty against chemical weapons signed?"

STUDY = """\
name: own
languages:
  train: [en]
  test: [en]
data:
  redteam: own.jsonl
  translated: null
  benign: null
  per_language: 6
models:
  base:
    source: {model}
methods: [sft-random, sft-preferred]
judges:
  preference: e5-harm-v1
  evaluation: e5-harm-v1
allow_shared_judge: true
mixture: 0.25
pairs:
  total: 4
  tie_margin: 0
  max_new_tokens: 6
training:
  sft_epochs: 1
  batch_size: 2
  max_tokens: 900
  dev_checks: 0
evaluation:
  max_new_tokens: 6
  bootstrap: 200
"""


def own_rows() -> list[dict[str, object]]:
    """English sample prompts as a file of one's own, without leave to pass them on, and two forbidden ones a split."""
    from alignprism.prompts.read import read_sample

    sample = [p for p in read_sample("redteam") if p.language == "en"]
    rows: list[dict[str, object]] = []
    for split, count in (("train", 4), ("test", 2)):
        chosen = [p for p in sample if p.split == split][:count]
        rows += [{"id": p.id, "text": p.text, "reference": p.reference, "split": split} for p in chosen]
        rows += [
            {"id": f"tagged-{split}", "text": f"{TAGGED} {split}", "split": split, "categories": ["csam"]},
            {"id": f"filtered-{split}", "text": f"{FILTERED} {split}", "split": split},
        ]
    return [row | {"language": "en", "licence": "research only", "redistribute": False} for row in rows]


@pytest.fixture(scope="module")
def own(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    folder = tmp_path_factory.mktemp("own")
    lines = "".join(json.dumps(row) + "\n" for row in own_rows())
    (folder / "own.jsonl").write_text(lines, encoding="utf-8")
    said = bench.call("run", bench.study(folder, STUDY), "--run", folder / "run")
    assert said.code == 0, said.all
    return folder / "run", said


def test_a_forbidden_prompt_is_set_aside_and_counted(own: tuple[Path, Said]) -> None:
    run, said = own
    aside = json.loads((run / "stages" / "prompts" / "set_aside.json").read_text(encoding="utf-8"))
    assert {row["id"]: row["reason"] for row in aside} == {
        "tagged-train": "tag: csam",
        "tagged-test": "tag: csam",
        "filtered-train": "filter: mass-casualty weapon",
        "filtered-test": "filter: mass-casualty weapon",
    }
    assert "4 prompts were set aside" in said.out
    document = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert "handling" in [warning["kind"] for warning in document["headline"]["warnings"]]


def test_a_forbidden_prompt_reaches_no_stage_and_no_model(own: tuple[Path, Said]) -> None:
    run, _ = own
    ids = {row.id for row in read_rows(run / "stages" / "prompts" / "prompts.parquet", Prompt)}
    for file in run.glob("stages/*/completions.parquet"):
        ids |= {row.prompt_id for row in read_rows(file, Completion)}
    ids |= {row.prompt_id for row in read_rows(run / "stages" / "pairs" / "pairs.parquet", Pair)}
    assert len(ids) > 6
    assert not {name for name in ids if name.startswith(("tagged", "filtered"))}
    for file in (path for path in run.rglob("*") if path.is_file()):
        data = file.read_bytes()
        assert TAGGED.encode() not in data and FILTERED.encode() not in data, file


def test_no_study_key_switches_the_rules_off() -> None:
    from alignprism.study import keys

    assert not [name for name, _ in keys() if any(word in name for word in ("handling", "forbid", "filter", "unsafe"))]


def test_licence_travels_into_pairs_and_cards(own: tuple[Path, Said]) -> None:
    run, _ = own
    pairs = read_rows(run / "stages" / "pairs" / "pairs.parquet", Pair)
    safety = [pair for pair in pairs if pair.kind == "safety"]
    assert safety and all((p.licence, p.redistribute) == ("research only", False) for p in safety)
    card = json.loads((run / "models" / "sft-preferred" / "alignprism.json").read_text(encoding="utf-8"))
    assert card["redistribute"] is False and "research only" in card["licences"]


def test_sft_random_is_marked_research_only(own: tuple[Path, Said]) -> None:
    run, _ = own
    card = json.loads((run / "models" / "sft-random" / "alignprism.json").read_text(encoding="utf-8"))
    assert card["research_only"] is True
    assert "Research only" in (run / "models" / "sft-random" / "README.md").read_text(encoding="utf-8")


def test_what_is_said_never_holds_a_text(own: tuple[Path, Said], finished: tuple[Path, Said]) -> None:
    for run, said in (own, finished):
        pieces = fragments([text for kind in texts_of(run).values() for text in kind])
        assert len(pieces) > 20
        assert not [piece for piece in pieces if piece in said.all]


def test_a_pair_whose_chosen_side_is_judged_harmful_stops_training(finished: tuple[Path, Said]) -> None:
    pairs = read_rows(finished[0] / "stages" / "pairs" / "pairs.parquet", Pair)
    check_chosen(pairs, threshold=0.999)
    place = next(n for n, pair in enumerate(pairs) if pair.kind == "safety")
    pairs[place] = replace(pairs[place], chosen_score=0.8)
    with pytest.raises(TrainingError, match=f"row {place + 1} .*chosen side is judged harmful") as caught:
        check_chosen(pairs, threshold=0.5)
    assert pairs[place].id in str(caught.value)
    assert not [piece for piece in fragments([pairs[place].chosen, pairs[place].prompt]) if piece in str(caught.value)]


MARK = "quietlighthousekeeper"


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "quietlighthousekeeper", "language": "xx"}',
        '{"text": "quietlighthousekeeper"}',
        '{"text": "quietlighthousekeeper", "language": "en", "scope": "wide"}',
        '{"text": "quietlighthousekeeper", "language": "en", "categories": ["unknown"]}',
        '{"text": "quietlighthousekeeper", "language": "en", "split": "later"}',
        '{"text": "quietlighthousekeeper", "language": "en",',
        '{"text": "quietlighthousekeeper \\ud800", "language": "en"}',
        '["quietlighthousekeeper"]',
    ],
)
def test_an_error_in_a_data_file_names_the_row_not_its_text(line: str, bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text(f"{line}\n", encoding="utf-8")
    said = bench.call("run", bench.study(tmp_path, STUDY), "--run", tmp_path / "run")
    assert said.code == 2
    assert "own.jsonl: row 1" in said.err
    assert MARK not in said.all
    assert not (tmp_path / "run").exists()


def test_a_prompt_too_long_for_a_model_is_named_not_shown(bench: Bench, tmp_path: Path) -> None:
    row = {"id": "long-1", "text": f"{MARK} " * 300, "language": "en", "split": "test"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    said = bench.call(
        "evaluate",
        *("--baseline", bench.model, "--model", bench.other, "--prompts", tmp_path / "own.jsonl"),
        *("--benign", "none", "--general", "none", "--run", tmp_path / "run"),
        *("--set", "judges.preference=e5-harm-v1", "--set", "allow_shared_judge=true"),
    )
    assert said.code == 1
    assert "'long-1'" in said.err and "shorten or leave out" in said.err
    assert MARK not in said.all


def test_the_hosts_that_text_goes_to_are_said_before(finished: tuple[Path, Said], bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", bench.study(tmp_path), "--run", tmp_path / "run", "--dry-run")
    assert "No text leaves this machine" in said.out
    assert manifest(finished[0])["judges"]["evaluation"]["name"] in said.out
