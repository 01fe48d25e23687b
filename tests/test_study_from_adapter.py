"""A study whose baseline is an adapter: it is checked first, asked in its own words, and left out of the names of bases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_model import Bench, Said, manifest

from alignprism.models.identity import weights_digest
from alignprism.models.spec import ResolvedModel
from alignprism.pipeline import plan
from alignprism.progress import ConsoleReporter
from alignprism.study import load

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<<{{ m['role'] }}>> {{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<<assistant>> {% endif %}"
)


def _adapter(bench: Bench, folder: Path, **settings: Any) -> Path:
    """An adapter of the tiny model that changes it a little, with the tokenizer and a chat template of its own."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(5)
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **settings)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(bench.model), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(bench.model)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("how", ["source", "adapter"])
def test_an_adapter_that_nothing_can_be_stacked_on_is_refused_before_anything_runs(
    how: str, bench: Bench, tmp_path: Path
) -> None:
    dora = _adapter(bench, tmp_path / "dora", use_dora=True)
    lines = {"source": f"    source: {dora}", "adapter": f"    source: {bench.model}\n    adapter: {dora}"}
    study = bench.study(tmp_path / "study", source=lines[how])
    for extra in (["--dry-run"], []):
        said = bench.call("run", study, "--run", tmp_path / "run", *extra)
        assert said.code == 2, said.all
        assert "models.base" in said.err and "dora/adapter_config.json" in said.err and "use_dora" in said.err
    assert not (tmp_path / "run" / "stages").exists()
    full = bench.call("run", study, "--run", tmp_path / "run", "--dry-run", "--set", "training.lora_rank=null")
    assert full.code == 0, "with full weights the adapter is merged, and nothing is stacked on it"


@pytest.fixture(scope="module")
def run(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study whose baseline is an adapter's folder; ``start`` beside it is that adapter."""
    folder = tmp_path_factory.mktemp("from-adapter")
    start = _adapter(bench, folder / "start")
    said = bench.call("run", bench.study(folder / "study", source=f"    source: {start}"), "--run", folder / "run")
    assert said.code == 0, said.all
    return folder / "run"


@pytest.mark.parametrize("cell", ["sft-preferred", "dpo-sft"])
def test_a_cell_is_asked_in_the_words_of_its_start(cell: str, run: Path, bench: Bench) -> None:
    from alignprism.models.local import load_tokenizer

    resolved = ResolvedModel(cell, bench.model, run / "models" / cell, "")
    assert load_tokenizer(resolved).chat_template == TEMPLATE
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        kept, own = (folder / name for folder in (run / "models" / cell, run.parent / "start"))
        assert kept.read_bytes() == own.read_bytes(), "byte for byte: what was asked meanwhile is no part of a digest"


def test_the_reference_is_the_cell_as_it_is_asked(run: Path, bench: Bench) -> None:
    digest = manifest(run)["models"]["sft-preferred"]["digest"]
    assert digest == weights_digest(bench.model, run / "models" / "sft-preferred")
    card = json.loads((run / "models" / "dpo-sft" / "alignprism.json").read_text(encoding="utf-8"))
    assert card["trained_from"]["digest"] == card["reference"]["digest"] == digest


@pytest.mark.parametrize("cell", ["sft-preferred", "dpo-sft"])
def test_a_cell_names_the_base_under_the_adapter_that_is_in_it(
    cell: str, run: Path, bench: Bench, tmp_path: Path
) -> None:
    settings = json.loads((run / "models" / cell / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == str(bench.model)
    said = bench.call("export", run, cell, tmp_path / "model")
    assert said.code == 0, said.all
    assert (tmp_path / "model" / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATE


def test_a_taught_model_names_its_own_base(bench: Bench, tmp_path: Path) -> None:
    other = f"    source: {bench.model}\n  chat:\n    source: {bench.other}\n    ift: train"
    study = bench.study(tmp_path / "study", source=other, methods="methods: []")
    said = bench.call("run", study, "--run", tmp_path / "run", "--set", "languages.test=[en]")
    assert said.code == 0, said.all
    settings = json.loads(
        (tmp_path / "run" / "models" / "chat-ift" / "adapter_config.json").read_text(encoding="utf-8")
    )
    assert settings["base_model_name_or_path"] == str(bench.other)


def test_what_was_trained_from_other_starts_is_the_same_as_before(
    run: Path, finished: tuple[Path, Said], bench: Bench, tmp_path: Path
) -> None:
    assert not list((finished[0] / "models").glob("*/tokenizer*")), "a cell on a base is asked with the base's files"
    plain = bench.study(tmp_path / "plain")
    assert not [name for name, settings in _settings(bench, plain).items() if "tokenizer" in settings]
    study = run.parent / "study" / "study.yaml"
    anew = {name for name, settings in _settings(bench, study).items() if "tokenizer" in settings}
    assert anew == {"train:sft-preferred", "train:dpo-sft"}
    assert not [name for name in _settings(bench, study, "training.lora_rank=null").values() if "tokenizer" in name]


def _settings(bench: Bench, study: Path, *overrides: str) -> dict[str, Any]:
    reporter = ConsoleReporter(Console(quiet=True))
    layout = plan(load(study, overrides), study.parent / "none", bench.cache, reporter, dry_run=True)
    return {stage.name: stage.settings for stage in layout.stages}
