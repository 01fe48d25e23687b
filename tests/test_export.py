"""``export`` writes a model that loads with transformers alone, and refuses what must not leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import Bench, Said, copy_of, manifest

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
    about = (to / "README.md").read_text(encoding="utf-8")
    assert "\nlibrary_name: transformers\n" in about and "peft" not in about, "the adapter is merged"
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


@pytest.fixture(scope="module")
def bound(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose base learned rejected answers, and rows that may not be passed on, in another run."""
    folder = tmp_path_factory.mktemp("bound")
    base = copy_of(bench.model, folder / "base")
    card = {"method": "sft-random", "research_only": True, "redistribute": False, "licences": ["theirs alone"]}
    (base / "alignprism.json").write_text(json.dumps(card), encoding="utf-8")
    study = bench.study(
        folder / "study", source=f"    source: {base}\n    ift: train", methods="methods: [sft-preferred]"
    )
    said = bench.call("run", study, "--run", folder / "run", "--set", "languages.test=[en]")
    assert said.code == 0, said.all
    return folder / "run"


@pytest.mark.parametrize("cell", ["base-ift", "sft-preferred"])
def test_what_binds_the_base_binds_every_model_that_is_trained_from_it(
    cell: str, bound: Path, finished: tuple[Path, Said], bench: Bench, tmp_path: Path
) -> None:
    card = json.loads((bound / "models" / cell / "alignprism.json").read_text(encoding="utf-8"))
    assert card["research_only"] is True and card["redistribute"] is False
    assert "theirs alone" in card["licences"]
    said = bench.call("export", bound, cell, tmp_path / "model")
    assert said.code == 2 and "never exported" in said.err
    free = json.loads((finished[0] / "models" / "dpo-sft" / "alignprism.json").read_text(encoding="utf-8"))
    assert free["research_only"] is False and free["redistribute"] is True


def test_a_base_that_has_changed_since_is_not_what_was_trained(
    finished: tuple[Path, Said], copied: Path, bench: Bench, tmp_path: Path
) -> None:
    """The base is found by its name; the manifest says what it was."""
    config = copied / "models" / "dpo-sft" / "adapter_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == str(bench.model)
    config.write_text(json.dumps(settings | {"base_model_name_or_path": str(bench.other)}), encoding="utf-8")
    said = bench.call("export", copied, "dpo-sft", tmp_path / "model")
    recorded = manifest(finished[0])["models"]["dpo-sft"]["digest"]
    assert said.code == 2 and recorded[:12] in said.err and "files have changed since" in said.err
    assert not list(tmp_path.glob("*model*"))


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_the_terms_of_the_base_go_with_the_model(weights: str, bench: Bench, tmp_path: Path) -> None:
    base = copy_of(bench.model, tmp_path / "base")
    terms = {"LICENSE": "theirs", "NOTICE.md": "by them", "GEMMA_TERMS.html": "as they say"}
    for name, text in terms.items():
        (base / name).write_text(text, encoding="utf-8")
    study = bench.study(tmp_path / "study", source=f"    source: {base}", methods="methods: [sft-preferred]")
    extra = ("--set", "training.lora_rank=null") if weights == "full" else ()
    said = bench.call("run", study, "--run", tmp_path / "run", "--set", "languages.test=[en]", *extra)
    assert said.code == 0, said.all
    said = bench.call("export", tmp_path / "run", "sft-preferred", tmp_path / "model")
    assert said.code == 0, said.all
    for folder in (tmp_path / "run" / "models" / "sft-preferred", tmp_path / "model"):
        assert {name: (folder / name).read_text(encoding="utf-8") for name in terms} == terms


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
