"""``export`` writes a model that loads with transformers alone, and refuses what must not leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import Bench, Said

from alignprism.models.local import load
from alignprism.models.spec import ModelSpec, resolve


def test_the_exported_folder_loads_with_transformers_alone_and_is_the_trained_model(
    finished: tuple[Path, Said], bench: Bench, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    to = tmp_path / "model"
    said = bench.call("export", finished[0], "dpo-sft", to)
    assert said.code == 0, said.all
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(to), AutoTokenizer.from_pretrained(to)
    ids = torch.tensor([tokenizer("A quiet harbour.")["input_ids"]])
    trained, _ = load(resolve(ModelSpec("x", str(finished[0] / "models" / "dpo-sft")), bench.cache))
    base, _ = load(resolve(ModelSpec("y", str(bench.model)), bench.cache))
    with torch.no_grad():
        given, wanted, before = (model(ids).logits for model in (plain.eval(), trained, base))
    torch.testing.assert_close(given, wanted)
    assert not torch.allclose(given, before)
    card = json.loads((to / "alignprism.json").read_text(encoding="utf-8"))
    assert card["method"] == "dpo-sft" and card["redistribute"] is True
    assert (to / "README.md").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "nothing half written is left"


@pytest.mark.parametrize(
    ("changed", "said_why"),
    [
        ({"research_only": True, "method": "sft-random"}, "research-only"),
        ({"redistribute": False, "licences": ["research only"]}, "may not be redistributed (licences: research only)"),
    ],
)
def test_a_model_that_must_not_leave_is_refused(
    changed: dict[str, object], said_why: str, copied: Path, bench: Bench, tmp_path: Path
) -> None:
    card = copied / "models" / "dpo-sft" / "alignprism.json"
    card.write_text(json.dumps(json.loads(card.read_text(encoding="utf-8")) | changed), encoding="utf-8")
    said = bench.call("export", copied, "dpo-sft", tmp_path / "model")
    assert said.code == 2
    assert said_why in said.err
    assert not (tmp_path / "model").exists()


def test_an_unknown_model_lists_those_there_are(finished: tuple[Path, Said], bench: Bench, tmp_path: Path) -> None:
    said = bench.call("export", finished[0], "dpo", tmp_path / "model")
    assert said.code == 2
    assert "there is: dpo-sft, sft-preferred" in said.err


def test_an_existing_folder_is_not_written_into(finished: tuple[Path, Said], bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    said = bench.call("export", finished[0], "dpo-sft", tmp_path)
    assert said.code == 2
    assert "exists" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_run_of_another_place_is_no_run(bench: Bench, tmp_path: Path) -> None:
    said = bench.call("export", tmp_path, "dpo-sft", tmp_path / "model")
    assert said.code == 2
    assert "not a run folder" in said.err
