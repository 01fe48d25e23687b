"""What the quickstart does not show: full weights instead of LoRA, and a base that is first taught (`ift: train`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import Bench, manifest, results


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_a_taught_base_is_trained_evaluated_and_goes_on_unchanged(bench: Bench, tmp_path: Path, weights: str) -> None:
    source = f"    source: {bench.model}\n    ift: train"
    study = bench.study(tmp_path / "study", source=source)
    extra = ["--set", "training.lora_rank=null"] if weights == "full" else []
    run = tmp_path / "run"
    said = bench.call("run", study, "--run", run, *extra)
    assert said.code == 0, said.all
    for cell in ("base-ift", "sft-preferred", "dpo-sft"):
        folder = run / "models" / cell
        assert (folder / ("config.json" if weights == "full" else "adapter_config.json")).is_file()
        assert manifest(run)["models"][cell]["digest"]
    first_loss = results(run)["curves"]["dpo-sft"][0]["loss"]
    assert first_loss == pytest.approx(0.6931, abs=1e-3)
    digests = {name: entry["digest"] for name, entry in manifest(run)["models"].items()}
    assert len(set(digests.values())) == len(digests)
    assert "nothing to compute" in bench.call("run", study, "--run", run, *extra).all
