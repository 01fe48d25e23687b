"""What the quickstart does not show: full weights instead of LoRA, and a base that is first taught (`ift: train`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import Bench, Said, copy_of, manifest, results

from alignprism import __version__
from alignprism.rows import Pair, read_rows


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
    models = manifest(run)["models"]
    starts = [models[cell]["trained_from"] for cell in ("base-ift", "sft-preferred", "dpo-sft")]
    assert starts == ["base", "base-ift", "sft-preferred"]
    first_loss = results(run)["curves"]["dpo-sft"][0]["loss"]
    assert first_loss == pytest.approx(0.6931, abs=1e-3)
    digests = {name: entry["digest"] for name, entry in manifest(run)["models"].items()}
    assert len(set(digests.values())) == len(digests)
    assert "nothing to compute" in bench.call("run", study, "--run", run, *extra).all


def test_models_of_safety_and_of_general_pairs_are_merged_and_compared(bench: Bench, tmp_path: Path) -> None:
    study = bench.study(tmp_path / "study", methods="methods: [merge-slerp, merge-ties]", total="  total: 2")
    run = tmp_path / "run"
    said = bench.call("run", study, "--run", run)
    assert said.code == 0, said.all
    cells = {"sft-preferred.general", "dpo-sft.general", "sft-preferred.safety", "dpo-sft.safety"}
    assert {path.name for path in (run / "models").iterdir()} == cells | {"merge-slerp", "merge-ties"}
    found = results(run)
    assert found["models"] == ["base", "merge-slerp", "merge-ties"], "the merged parts are not evaluated"
    assert set(found["curves"]) == cells
    assert found["pairs"]["safety"]["used"] == found["pairs"]["general"]["used"] == 2
    for arm, kind in (("general", "general"), ("safety", "safety")):
        kinds = {pair.kind for pair in read_rows(run / "stages" / f"pairs-{arm}" / "pairs.parquet", Pair)}
        assert kinds == {kind}
    slerp, ties = (run / "models" / name for name in ("merge-slerp", "merge-ties"))
    assert (slerp / "adapter_config.json").is_file() and (ties / "config.json").is_file()
    card = json.loads((ties / "alignprism.json").read_text(encoding="utf-8"))
    assert manifest(run)["models"]["merge-ties"]["merged_from"] == card["parts"]
    assert "Merged by alignprism" in (ties / "README.md").read_text(encoding="utf-8")
    assert card["merged"]["settings"]["density"] == 0.2 and card["parts"] == ["dpo-sft.general", "dpo-sft.safety"]
    digests = {name: entry["digest"] for name, entry in manifest(run)["models"].items()}
    assert len({digests["base"], digests["merge-slerp"], digests["merge-ties"]}) == 3
    assert "nothing to compute" in bench.call("run", study, "--run", run).all
    more = bench.call("run", study, "--run", run, "--set", "merging.t=0.8", "--dry-run")
    done = [line.split("done", 1)[1].strip() for line in more.out.splitlines() if line.strip().startswith("done")]
    assert "Training dpo-sft.safety" in done
    assert not [title for title in done if title.startswith("Merging")], (
        "another merge setting merges again, trains nothing"
    )


def test_rows_of_instruction_tuning_that_are_left_out_are_counted_with_their_reason(
    bench: Bench, tmp_path: Path
) -> None:
    source = f"    source: {bench.model}\n    ift: train"
    study = bench.study(tmp_path / "study", source=source, methods="methods: [sft-preferred]")
    run, extra = tmp_path / "run", ("--set", "training.max_tokens=260", "--set", "data.per_language=null")
    said = bench.call("run", study, "--run", run, *extra, "--set", "languages.test=[en]")
    assert said.code == 0, said.all
    limit = results(run)["truncation"]["instruction tuning of base"]
    dropped, rows = (sum(report[key] for report in limit) for key in ("over_limit", "rows"))
    assert 0 < dropped < rows
    assert f"base-ift: {dropped} of {rows} rows are left out: {dropped} over 260 tokens a side" in " ".join(
        said.out.split()
    )


def test_a_training_that_loses_the_chosen_answers_says_so_everywhere_and_its_card_says_how_it_was_made(
    bench: Bench, finished: tuple[Path, Said], tmp_path: Path
) -> None:
    adapter = copy_of(finished[0] / "models" / "sft-preferred", tmp_path / "laid-over")
    (adapter / "alignprism.json").write_text(json.dumps({"redistribute": False, "licences": ["theirs alone"]}))
    study = bench.study(
        tmp_path / "study",
        source=f"    source: {bench.model}\n    adapter: {adapter}",
        methods="methods: [sft-preferred, dpo-ift, dpo-sft]",
    )
    # SFT teaches the chosen answers; steps of DPO far too large lose them.
    changes = ("sft_learning_rate=0.05", "sft_epochs=20", "dpo_learning_rate=1.0", "dpo_epochs=8")
    run, extra = tmp_path / "run", [part for change in changes for part in ("--set", f"training.{change}")]
    said = bench.call("run", study, "--run", run, *extra, "--set", "languages.test=[en]")
    assert said.code == 0, said.all
    folder = run / "models" / "dpo-sft"
    card = json.loads((folder / "alignprism.json").read_text(encoding="utf-8"))
    (warning,) = card["result"]["warnings"]
    assert "likelihood displacement" in warning
    assert said.out.count(f"dpo-sft: {warning}") == 2, "once while it runs, once with the outcome"
    found = manifest(run)["models"]
    assert found["dpo-sft"]["warnings"] == [warning] and "warnings" not in found["sft-preferred"]
    starts = {name: found[name]["trained_from"] for name in ("sft-preferred", "dpo-ift", "dpo-sft")}
    assert starts == {"sft-preferred": "base", "dpo-ift": "base", "dpo-sft": "sft-preferred"}
    warned = {"kind": "training", "text": f"dpo-sft: {warning}"}
    assert warned in results(run)["headline"]["warnings"]
    assert (run / "report.html").read_text(encoding="utf-8").count(f"dpo-sft: {warning}") == 1

    settings = card["settings"]
    assert (settings["learning_rate"], settings["epochs"], settings["beta"], settings["seed"]) == (1.0, 8, 0.1, 0)
    assert {"loss", "lora_rank", "lora_alpha", "batch_size", "max_tokens", "over_limit"} <= settings.keys()
    assert card["data"] == {"redteam": "sample", "general": "sample", "benign": "sample"}
    assert (card["rows"], card["dropped"], card["alignprism"]) == (4, 0, __version__)
    assert set(card["languages"]) <= {"en", "ar"} and card["redistribute"] is False
    assert card["result"]["kept_step"] == card["result"]["steps"] and "seconds" not in card["result"]
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert f"from {bench.model} with the adapter {adapter}." in text
    assert "**Not to be passed on.**" in text and f"**Warning.** {warning}" in text
    assert "- learning_rate: 1.0" in text and "- dropped: 0" in text
