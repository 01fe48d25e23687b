"""A study whose baseline is an adapter: it is checked first, asked in its own words, and left out of the names of bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_model import Bench

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
