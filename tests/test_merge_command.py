"""`alignprism merge`: two sources and their base become one model with a card, or nothing."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import Bench, Said, write_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignprism.cli import merge
from alignprism.models.identity import weights_digest
from alignprism.models.local import load
from alignprism.models.spec import ModelSpec, resolve
from alignprism.training.merge import DEFAULTS, slerp, ties

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def adapters(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Three adapters of the tiny model: trained on answers, on other answers, and on sides drawn at random."""
    folder = tmp_path_factory.mktemp("adapters")
    file = folder / "pairs.jsonl"
    rows = [{"prompt": f"Why {n}?", "chosen": f"Because of {n}.", "rejected": "No." * (n + 1)} for n in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, options in (("one", ("--seed", "1")), ("two", ("--seed", "2")), ("random", ("--side", "random"))):
        settings = ("--epochs", "2", "--batch-size", "3", "--lora-rank", "2", "--learning-rate", "0.02")
        said = bench.call(
            "train",
            "sft",
            file,
            "--model",
            bench.model,
            "--out",
            folder / name,
            "--max-tokens",
            "120",
            *settings,
            *options,
        )
        assert said.code == 0, said.all
    return folder / "one" / "adapter", folder / "two" / "adapter", folder / "random" / "adapter"


def call(
    bench: Bench, method: str, base: Path | str, first: Path | str, second: Path | str, out: Path, *more: str
) -> Said:
    return bench.call("merge", method, "--base", base, "--first", first, "--second", second, "--out", out, *more)


def card_of(out: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((out / "alignprism.json").read_text(encoding="utf-8"))
    return card


def state_of(source: Path, bench: Bench) -> State:
    model, _ = load(resolve(ModelSpec("model", str(source)), bench.cache))
    return dict(model.state_dict())


# --- full models -----------------------------------------------------------------------------------------------------


def test_slerp_of_full_models_is_a_folder_that_transformers_loads(bench: Bench, tmp_path: Path) -> None:
    third, out = write_tiny_model(tmp_path / "three", 2), tmp_path / "out"
    said = call(bench, "slerp", bench.model, bench.other, third, out, "--t", "0.3")
    assert said.code == 0, said.all
    merged = AutoModelForCausalLM.from_pretrained(out)
    a, b = state_of(bench.other, bench), state_of(third, bench)
    for name, tensor in merged.state_dict().items():
        torch.testing.assert_close(tensor, slerp(a[name], b[name], 0.3))
    text = "Why?"
    assert (
        AutoTokenizer.from_pretrained(out)(text)["input_ids"] == AutoTokenizer.from_pretrained(third)(text)["input_ids"]
    )
    card = card_of(out)
    assert (card["method"], card["settings"], card["acts_on"]) == ("slerp", {"t": 0.3}, "weights")
    assert [card[role]["digest"] for role in ("base", "first", "second")] == [
        weights_digest(folder) for folder in (bench.model, bench.other, third)
    ]
    assert card["result"] == {"kind": "model", "digest": weights_digest(out)}
    assert card["research_only"] is False
    assert card["result"]["digest"] in said.out and str(out / "README.md") in said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "three"], "nothing half written is left"


def test_ties_of_full_models_takes_its_settings(bench: Bench, tmp_path: Path) -> None:
    third, out = write_tiny_model(tmp_path / "three", 2), tmp_path / "out"
    options = ("--density", "0.4", "--weights", "1", "2", "--scale", "0.8")
    said = call(bench, "ties", bench.model, bench.other, third, out, *options)
    assert said.code == 0, said.all
    start, a, b = (state_of(folder, bench) for folder in (bench.model, bench.other, third))
    for name, tensor in state_of(out, bench).items():
        deltas = [a[name] - start[name], b[name] - start[name]]
        torch.testing.assert_close(tensor, start[name] + ties(deltas, 0.4, (1, 2), 0.8))
    assert card_of(out)["settings"] == {"density": 0.4, "weights": [1.0, 2.0], "scale": 0.8}


def test_the_model_card_names_base_method_settings_and_digests_and_the_bases_terms_go_along(
    bench: Bench, tmp_path: Path
) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    shutil.copytree(bench.model, base)
    (base / "LICENSE").write_text("the terms")
    (base / "alignprism.json").write_text(json.dumps({"licence": "Terms of Somebody"}))
    assert call(bench, "slerp", base, bench.model, bench.other, out).code == 0
    card, text = card_of(out), (out / "README.md").read_text(encoding="utf-8")
    assert text.startswith(
        f'---\nbase_model: "{base}"\nlibrary_name: transformers\ntags: [alignprism, merge, slerp]\n---\n'
    )
    assert all(card[role]["digest"] in text for role in ("base", "first", "second", "result"))
    assert "SLERP of weights; t 0.5" in text
    assert "licence and terms of the base model apply to this one too (Terms of Somebody)" in text
    assert "Research only" not in text and (out / "LICENSE").read_text() == "the terms"


# --- adapters --------------------------------------------------------------------------------------------------------


def test_slerp_of_two_adapters_is_an_adapter_of_the_base(
    bench: Bench, adapters: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    one, two, _ = adapters
    out = tmp_path / "out"
    said = call(bench, "slerp", bench.model, one, two, out, "--t", "0.25")
    assert said.code == 0, said.all
    assert "both models are LoRA adapters of the base" in said.out
    start, a, b, merged = (state_of(source, bench) for source in (bench.model, one, two, out))
    for name, tensor in merged.items():
        expected = slerp(a[name] - start[name], b[name] - start[name], 0.25)
        torch.testing.assert_close(tensor - start[name], expected, atol=1e-5, rtol=1e-3)
    alone = AutoModelForCausalLM.from_pretrained(out)  # the adapter says where its base is
    ids = torch.tensor([AutoTokenizer.from_pretrained(out)("Why?")["input_ids"]])
    ours, _ = load(resolve(ModelSpec("merged", str(out)), bench.cache))
    torch.testing.assert_close(alone.eval()(ids).logits, ours(ids).logits, atol=1e-4, rtol=1e-4)
    card = card_of(out)
    assert (card["acts_on"], card["second"]["digest"]) == ("deltas", weights_digest(bench.model, two))
    assert card["result"] == {"kind": "adapter", "digest": weights_digest(bench.model, out)}
    assert "library_name: peft" in (out / "README.md").read_text(encoding="utf-8")


def test_ties_of_two_adapters_applies_them_to_the_base_and_says_so(
    bench: Bench, adapters: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    one, two, _ = adapters
    out = tmp_path / "out"
    said = call(bench, "ties", bench.model, one, two, out, "--density", "0.5")
    assert said.code == 0, said.all
    for role in ("first", "second"):
        assert f"{role} is a LoRA adapter: applying it to its base, in float32" in said.out
    start, a, b = (state_of(source, bench) for source in (bench.model, one, two))
    merged = AutoModelForCausalLM.from_pretrained(out)
    assert merged.dtype == torch.float32
    for name, tensor in merged.state_dict().items():
        torch.testing.assert_close(tensor, start[name] + ties([a[name] - start[name], b[name] - start[name]], 0.5))
    card = card_of(out)
    assert card["first"] == {"name": str(one), "digest": weights_digest(bench.model, one)}
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "the temporary models are gone"


def test_adapters_of_one_base_under_two_names_stay_an_adapter(
    bench: Bench, adapters: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(bench.model, tmp_path / "copy")
    shutil.copytree(adapters[1], tmp_path / "two")
    config = tmp_path / "two" / "adapter_config.json"
    content = json.loads(config.read_text()) | {"base_model_name_or_path": str(tmp_path / "copy")}
    config.write_text(json.dumps(content))
    out = tmp_path / "out"
    assert call(bench, "slerp", bench.model, adapters[0], tmp_path / "two", out).code == 0
    assert card_of(out)["result"]["kind"] == "adapter"
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(bench.model)


def test_an_adapter_and_a_full_model_are_merged_as_full_models(
    bench: Bench, adapters: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = call(bench, "slerp", bench.model, adapters[0], bench.other, out, "--t", "0")
    assert said.code == 0 and "first is a LoRA adapter" in said.out
    expected = state_of(adapters[0], bench)
    for name, tensor in state_of(out, bench).items():
        torch.testing.assert_close(tensor, expected[name])


def test_the_base_may_be_an_adapter_too(bench: Bench, adapters: tuple[Path, Path, Path], tmp_path: Path) -> None:
    start, one, two = adapters
    whole, between = tmp_path / "ties", tmp_path / "slerp"
    said = call(bench, "ties", start, two, two, whole, "--density", "1")
    assert said.code == 0, said.all
    assert "base is a LoRA adapter" in said.out
    expected = state_of(two, bench)
    for name, tensor in state_of(whole, bench).items():
        torch.testing.assert_close(tensor, expected[name])
    assert card_of(whole)["base"]["digest"] == weights_digest(bench.model, start)

    said = call(bench, "slerp", start, one, two, between)
    assert said.code == 0, said.all
    begun, a, b, merged = (state_of(source, bench) for source in (start, one, two, between))
    for name, tensor in merged.items():
        expected_change = slerp(a[name] - begun[name], b[name] - begun[name], 0.5)
        torch.testing.assert_close(tensor - begun[name], expected_change, atol=1e-4, rtol=1e-2)
    card = card_of(between)
    assert card["result"] == {"kind": "adapter", "digest": weights_digest(bench.model, between)}
    assert (card["acts_on"], card["base"]["digest"]) == ("deltas", weights_digest(bench.model, start))


def test_what_is_merged_with_a_research_only_model_is_research_only_too(
    bench: Bench, adapters: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    one, two, drawn = adapters
    out, again = tmp_path / "out", tmp_path / "again"
    said = call(bench, "slerp", bench.model, one, drawn, out)
    assert said.code == 0, said.all
    assert card_of(out)["research_only"] is True and "research-only" in said.out
    assert "**Research only.**" in (out / "README.md").read_text(encoding="utf-8")
    assert call(bench, "ties", bench.model, out, two, again).code == 0
    assert card_of(again)["research_only"] is True


def test_rows_that_may_not_be_passed_on_are_remembered(bench: Bench, tmp_path: Path) -> None:
    first, out = tmp_path / "first", tmp_path / "out"
    shutil.copytree(bench.other, first)
    (first / "alignprism.json").write_text(json.dumps({"research_only": False, "redistribute": False}))
    assert call(bench, "slerp", bench.model, first, bench.other, out).code == 0
    assert card_of(out)["redistribute"] is False and card_of(out)["research_only"] is False
    assert "Not to be passed on" in (out / "README.md").read_text(encoding="utf-8")


# --- use, and wrong input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["model", "adapter"])
def test_evaluate_takes_the_result(kind: str, bench: Bench, adapters: tuple[Path, Path, Path], tmp_path: Path) -> None:
    inputs = adapters[:2] if kind == "adapter" else (bench.other, bench.model)
    out = tmp_path / "out"
    assert call(bench, "slerp", bench.model, *inputs, out).code == 0
    judges = ("--set", "judges.preference=e5-harm-v1", "--set", "allow_shared_judge=true")
    said = bench.call(
        "evaluate", "--baseline", f"base={bench.model}", "--model", f"merged={out}", *judges,
        "--set", "data.per_language=1", "--run", tmp_path / "run", "--dry-run",
    )  # fmt: skip
    assert said.code == 0, said.all
    assert "merged" in said.out and "model calls" in said.out


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("slerp", ("--t", "1.5"), "t is the way from the first model (0) to the second (1), in [0, 1], not 1.5"),
        ("slerp", ("--density", "0.5"), "--density"),
        ("ties", ("--density", "2"), "density is the share of each delta that stays, in [0, 1], not 2.0"),
        ("ties", ("--weights", "0", "0"), "not all 0"),
        ("ties", ("--weights", "1", "much"), "--weights"),
        ("ties", ("--scale", "nan"), "scale must be a finite number"),
        ("slerp", ("--base", "no/such/model"), "model 'base': there is no folder no/such/model"),
        ("ties", ("--second", "embedded:nothing"), "there is no embedded model 'nothing'"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(
    method: str, options: tuple[str, ...], told: str, bench: Bench, tmp_path: Path
) -> None:
    said = call(bench, method, bench.model, bench.other, bench.other, tmp_path / "out", *options)
    assert said.code == 2, said.all
    assert told in " ".join(said.err.split()) and "Traceback" not in said.all
    assert list(tmp_path.iterdir()) == []


def test_models_that_do_not_fit_are_wrong_input(bench: Bench, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(bench.other, other)
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(5)
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    said = call(bench, "slerp", bench.model, bench.other, other, tmp_path / "out")
    assert said.code == 2, said.all
    assert "model.norm.weight is [5]" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_an_adapter_that_cannot_be_applied_is_a_failure(
    bench: Bench, adapters: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for source, copy in zip(adapters, (one, two), strict=False):
        shutil.copytree(source, copy)
    config = json.loads((one / "adapter_config.json").read_text())
    (one / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    weights = two / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    for first, told in ((one, "this one sets use_dora"), (two, "not a whole safetensors file")):
        said = call(bench, "slerp", bench.model, first, adapters[2], tmp_path / "out")
        assert said.code == 1, said.all
        assert told in said.err and "Traceback" not in said.all
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_folder_with_something_in_it_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    said = call(bench, "slerp", bench.model, bench.other, bench.other, tmp_path)
    assert said.code == 2
    assert "exists and is not empty" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("method", ["slerp", "ties"])
def test_the_commands_defaults_are_the_librarys(method: str) -> None:
    parameters = inspect.signature(getattr(merge, method)).parameters.values()
    given = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    assert given == DEFAULTS[method]
