"""`alignprism train`: a preference file, a start model and a folder are enough, and the same command goes on."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny_model import Bench, Said
from transformers import T5Config

from alignprism.models.identity import weights_digest
from alignprism.models.local import load, load_tokenizer
from alignprism.models.spec import ModelSpec, resolve
from alignprism.run_folder import RunFolder
from alignprism.stages.context import Context
from alignprism.stages.train import _reference
from alignprism.study import parse
from alignprism.train_file import FileTraining, execute, prepare
from alignprism.training.config import TrainConfig
from alignprism.training.reference import read_store, store_path

Record = dict[str, Any]
SETTINGS = ("--epochs", "2", "--batch-size", "3", "--lora-rank", "2", "--max-tokens", "120", "--learning-rate", "0.01")


def rows() -> list[Record]:
    """Eight good pairs in two languages, and four that are left out: too long, empty, equal, too long."""
    good = [
        {"prompt": f"Why {n}?", "chosen": f"Because of {n}.", "rejected": "No." * (n + 1), "language": "en"}
        for n in range(5)
    ]
    good += [{"prompt": f"لماذا {n}?", "chosen": f"{n}.", "rejected": "لا", "language": "ar"} for n in range(3)]
    bad = [("Long", "a" * 200, "b"), ("Empty", " ", "b"), ("Equal", "a", "a")]
    dropped = [{"prompt": p, "chosen": c, "rejected": r, "language": "en"} for p, c, r in bad]
    return [*good, *dropped, {"prompt": "س", "chosen": "a", "rejected": "b" * 200, "language": "ar"}]


def write(file: Path, records: list[Record]) -> Path:
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), file)
    else:
        file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def card_of(out: Path) -> Record:
    card: Record = json.loads((out / "alignprism.json").read_text(encoding="utf-8"))
    return card


def curve_of(out: Path) -> list[Record]:
    lines = (out / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", rows())


@pytest.fixture(scope="module")
def trained(bench: Bench, pairs: Path) -> tuple[Path, Said]:
    """One DPO training with the default store."""
    out = pairs.parent / "dpo"
    said = bench.call("train", "dpo", pairs, "--model", bench.model, "--out", out, *SETTINGS)
    assert said.code == 0, said.all
    return out, said


@pytest.fixture(scope="module")
def taught(bench: Bench, pairs: Path) -> Path:
    """One SFT training, whose adapter is where a DPO training starts."""
    out = pairs.parent / "sft"
    said = bench.call("train", "sft", pairs, "--model", bench.model, "--out", out, *SETTINGS)
    assert said.code == 0, said.all
    return out


# --- what a training leaves ------------------------------------------------------------------------------------------


def test_dpo_leaves_an_adapter_a_curve_and_a_card(trained: tuple[Path, Said], bench: Bench) -> None:
    out, _ = trained
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    curve = curve_of(out)
    assert [row["step"] for row in curve] == list(range(1, 7)), "2 epochs of 8 rows, 3 a step"
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=1e-4), "the reference is the start model"
    card = card_of(out)
    assert (card["method"], card["rows"], card["dropped"]) == ("dpo", 12, 4)
    assert card["trained_from"]["digest"] == card["reference"]["digest"] == weights_digest(bench.model)
    assert card["settings"]["learning_rate"] == 0.01 and card["settings"]["lora_rank"] == 2
    assert card["research_only"] is False
    result = card["result"]
    assert (result["steps"], result["kept_step"], result["folder"]) == (6, 6, "adapter")
    assert result["precision"] == "float32"
    assert isinstance(result["displacement"], float) and result["unshared"] is None
    counts = {
        row["language"]: [row[name] for name in ("rows", "kept", "over_limit", "empty", "identical")]
        for row in card["truncation"]
    }
    assert counts == {"ar": [4, 3, 1, 0, 0], "en": [8, 5, 1, 1, 1]}


def test_dpo_says_the_references_digest_and_what_was_left_out(trained: tuple[Path, Said], bench: Bench) -> None:
    said = trained[1].out
    assert f"reference: the start model, digest {weights_digest(bench.model)}" in said
    assert str(store_path(bench.cache, weights_digest(bench.model))) in said
    assert "12 rows, 4 left out" in said
    table = {line.split()[0]: line.split()[1:7] for line in said.splitlines() if line.startswith(("ar ", "en "))}
    assert table == {"ar": ["4", "3", "1", "0", "0", "0"], "en": ["8", "5", "1", "0", "1", "1"]}
    assert str(trained[0] / "adapter") in said and "6 steps" in said


def test_the_adapter_is_a_model_by_itself(trained: tuple[Path, Said], bench: Bench) -> None:
    start, _ = load(resolve(ModelSpec("start", str(bench.model)), bench.cache))
    model, tokenizer = load(resolve(ModelSpec("trained", str(trained[0] / "adapter")), bench.cache))
    ids = torch.tensor([tokenizer("Why?")["input_ids"]])
    assert not torch.equal(model(ids).logits, start(ids).logits)


def test_the_same_command_again_says_that_it_is_done(trained: tuple[Path, Said], pairs: Path, bench: Bench) -> None:
    before = state_of(trained[0])
    said = bench.call("train", "dpo", pairs, "--model", bench.model, "--out", trained[0], *SETTINGS)
    assert said.code == 0
    assert "everything was done before" in said.out and "12 rows, 4 left out" in said.out
    assert state_of(trained[0]) == before


def test_a_sweep_computes_the_reference_once(
    trained: tuple[Path, Said], pairs: Path, bench: Bench, tmp_path: Path
) -> None:
    store = store_path(bench.cache, weights_digest(bench.model))
    before = store.read_bytes()
    assert before.count(b"\n") == 16, "8 rows of two sides"
    more = ("--learning-rate", "0.002", "--beta", "0.3")
    said = bench.call("train", "dpo", pairs, "--model", bench.model, "--out", tmp_path / "out", *SETTINGS, *more)
    assert said.code == 0, said.all
    assert store.read_bytes() == before
    assert card_of(tmp_path / "out")["settings"]["beta"] == 0.3


def test_a_store_of_ones_own_is_used(pairs: Path, bench: Bench, tmp_path: Path) -> None:
    store, out = tmp_path / "own" / "store.jsonl", tmp_path / "out"
    options = ("--model", bench.model, "--out", out, "--reference-store", store, *SETTINGS)
    assert bench.call("train", "dpo", pairs, *options).code == 0
    assert len(store.read_text(encoding="utf-8").splitlines()) == 16


def test_a_store_that_another_training_holds_is_waited_for(pairs: Path, bench: Bench, tmp_path: Path) -> None:
    store, written = tmp_path / "store.jsonl", []

    def let_go() -> None:
        written.append(store.exists())
        fcntl.flock(held, fcntl.LOCK_UN)

    with (tmp_path / ".store.jsonl.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        release = threading.Timer(2.0, let_go)
        release.start()
        options = ("--model", bench.model, "--out", tmp_path / "out", "--reference-store", store, *SETTINGS)
        said = bench.call("train", "dpo", pairs, *options)
        release.join()
    assert said.code == 0, said.all
    assert written == [False] and len(store.read_text(encoding="utf-8").splitlines()) == 16


def test_parquet_and_conversations_train_to_the_same_bits(
    trained: tuple[Path, Said], bench: Bench, tmp_path: Path
) -> None:
    def talk(row: Record, side: str) -> list[Record]:
        return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]

    records = [{"language": r["language"], **{s: talk(r, s) for s in ("chosen", "rejected")}} for r in rows()]
    file = write(tmp_path / "pairs.parquet", records)
    said = bench.call("train", "dpo", file, "--model", bench.model, "--out", tmp_path / "out", *SETTINGS)
    assert said.code == 0, said.all
    name = "adapter/adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (trained[0] / name).read_bytes()


def test_a_run_that_loses_the_chosen_answers_says_so_at_its_end(pairs: Path, bench: Bench, tmp_path: Path) -> None:
    options = ("--model", bench.model, "--out", tmp_path / "out", *SETTINGS, "--learning-rate", "0.3")
    said = bench.call("train", "dpo", pairs, *options)
    assert said.code == 0, said.all
    result = card_of(tmp_path / "out")["result"]
    assert result["displacement"] < -0.25
    assert [f"Note: {text}" for text in result["warnings"]] == [x for x in said.out.splitlines() if "displacement" in x]


class Counting:
    """A reporter that remembers how often each bar moved: once a forward."""

    def __init__(self) -> None:
        self.moved: Counter[str] = Counter()

    def say(self, text: str) -> None:
        """Said to nobody."""

    def progress(self, title: str, total: int) -> Callable[[int, int], None]:
        def advance(done: int, of: int) -> None:
            self.moved[title.split(" of ")[0]] += 1

        return advance


@pytest.mark.parametrize("kind", ["file", "study"])
def test_fewer_positions_a_forward_hold_for_the_reference_too(
    kind: str, pairs: Path, bench: Bench, tmp_path: Path
) -> None:
    stores = {}
    for size in (64, 2048):
        counting, cache = Counting(), tmp_path / str(size)
        config = TrainConfig("dpo-ift", micro_batch_tokens=size, max_tokens=120, batch_size=8, lora_rank=2)
        spec = ModelSpec("start", str(bench.model))
        prepared = prepare(FileTraining(pairs, spec, tmp_path / f"out-{size}", config), cache, print)
        if kind == "file":
            execute(prepared, counting)
        else:
            context = Context(
                parse(f"models: {{base: {{source: {bench.model}}}}}"),
                RunFolder(tmp_path),
                cache,
                {},
                print,
                counting.progress,
            )
            weights, tokenizer = load(prepared.start)
            _reference(context, prepared.start, weights, tokenizer, prepared.examples, config)
        forwards = counting.moved["reference log-probabilities"]
        assert forwards >= 8 if size == 64 else forwards == 1, forwards
        stores[size] = read_store(prepared.reference_store)
    assert stores[64].keys() == stores[2048].keys(), "the size of a forward is no part of a key"
    assert stores[64] == pytest.approx(stores[2048], abs=1e-4)


# --- held-out rows and trackers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["sft", "dpo"])
def test_held_out_rows_choose_the_step_and_patience_ends_the_training(
    command: str, pairs: Path, bench: Bench, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rates = ("--epochs", "20", "--learning-rate", "0.3", "--schedule", "constant")
    options = (*SETTINGS, *rates, "--held-out-share", "0.4", "--held-out-every", "1", "--patience", "2")
    said = bench.call("train", command, pairs, "--model", bench.model, "--out", out, *options, "--dry-run")
    held_out = int(said.out.split("held out: ")[1].split()[0])
    planned = int(said.out.split(" steps of 3 rows")[0].split()[-1])
    kept = {"dpo": 8, "sft": 10}[command]  # of two more rows only the rejected side is bad
    assert 0 < held_out < kept and planned == 20 * math.ceil((kept - held_out) / 3)
    said = bench.call("train", command, pairs, "--model", bench.model, "--out", out, *options)
    assert said.code == 0, said.all
    result = card_of(out)["result"]
    assert (result["held_out_rows"], result["planned_steps"]) == (held_out, planned)
    assert result["steps"] == result["kept_step"] + 2 < planned, "two scores without a new best"
    assert f"the result is step {result['kept_step']}, the best on {held_out} held-out rows" in said.out
    assert f"ended before {planned} steps" in said.out


def test_a_tracker_that_is_not_installed_is_refused_before_any_work(
    pairs: Path, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    for name, told in (("mlflow", "pip install mlflow"), ("paper", "accepted: tensorboard, trackio, mlflow, wandb")):
        options = ("--model", bench.model, "--out", tmp_path / "out", "--tracker", name)
        said = bench.call("train", "sft", pairs, *options)
        assert said.code == 2 and f"--tracker {name}" in said.err and told in said.err
    assert not (tmp_path / "out").exists()


def test_a_tracker_is_no_part_of_what_a_training_is(
    taught: Path, pairs: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", ["tensorboard"])
    options = ("--model", bench.model, "--out", taught, *SETTINGS, "--tracker", "tensorboard")
    said = bench.call("train", "sft", pairs, *options)
    assert said.code == 0 and "everything was done before" in said.out


def test_memory_settings_are_no_part_of_what_a_training_is(
    trained: tuple[Path, Said], pairs: Path, bench: Bench
) -> None:
    less = ("--micro-batch-tokens", "64", "--gradient-checkpointing")
    said = bench.call("train", "dpo", pairs, "--model", bench.model, "--out", trained[0], *SETTINGS, *less)
    assert said.code == 0 and "everything was done before" in said.out


def test_out_of_memory_names_the_options_of_this_command(
    pairs: Path, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("alignprism.train_file.load", full)
    said = bench.call("train", "sft", pairs, "--model", bench.model, "--out", tmp_path / "out", *SETTINGS)
    assert said.code == 1 and "--micro-batch-tokens" in said.err and "training.micro" not in said.err


# --- sft, and from sft to dpo ----------------------------------------------------------------------------------------


def test_sft_on_the_chosen_sides_lowers_their_loss(taught: Path) -> None:
    curve = curve_of(taught)
    assert curve[-1]["loss"] < curve[0]["loss"]
    card = card_of(taught)
    assert (card["method"], card["reference"], card["rows"]) == ("sft-preferred", None, 12)


def test_sft_on_a_random_side_is_research_only(bench: Bench, pairs: Path, taught: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = bench.call("train", "sft", pairs, "--side", "random", "--model", bench.model, "--out", out, *SETTINGS)
    assert said.code == 0, said.all
    assert card_of(out)["method"] == "sft-random" and card_of(out)["research_only"] is True
    assert curve_of(out) != curve_of(taught)
    said = bench.call("train", "sft", pairs, "--model", out / "adapter", "--out", tmp_path / "on", *SETTINGS)
    assert said.code == 0, said.all
    assert card_of(tmp_path / "on")["research_only"] is True, "what is trained on top of it is so too"
    # The mark and the model card go with the adapter alone, wherever somebody copies it.
    shutil.copytree(out / "adapter", tmp_path / "copied")
    assert "Research only" in (tmp_path / "copied" / "README.md").read_text(encoding="utf-8")
    said = bench.call("train", "sft", pairs, "--model", tmp_path / "copied", "--out", tmp_path / "onto", *SETTINGS)
    assert said.code == 0 and card_of(tmp_path / "onto")["research_only"] is True, said.all


def test_rows_that_may_not_be_passed_on_bind_the_model_and_what_is_trained_on_it(
    bench: Bench, pairs: Path, taught: Path, tmp_path: Path
) -> None:
    assert "redistribute" not in card_of(taught), "nothing is known of these rows"
    told = write(tmp_path / "told.parquet", [row | {"redistribute": n != 1} for n, row in enumerate(rows())])
    out = tmp_path / "out"
    said = bench.call("train", "sft", told, "--model", bench.model, "--out", out, *SETTINGS)
    assert said.code == 0, said.all
    assert card_of(out)["redistribute"] is False
    said = bench.call("train", "dpo", pairs, "--model", out / "adapter", "--out", tmp_path / "on", *SETTINGS)
    assert said.code == 0, said.all
    assert card_of(tmp_path / "on")["redistribute"] is False


def test_rows_of_split_dev_or_test_are_said_and_not_learned(bench: Bench, tmp_path: Path) -> None:
    """By their own column, or by the prompts beside the file: pairs have no say in the split of their prompt."""
    splits = ["train", "Test", "validation", "", None, None]
    marked = [row | {"split": split} for row, split in zip(rows(), splits, strict=False)]
    file = write(tmp_path / "pairs.jsonl", marked)
    out = tmp_path / "out"
    said = bench.call("train", "dpo", file, "--model", bench.model, "--out", out, *SETTINGS, "--dry-run")
    assert said.code == 0 and "2 of 6 rows are of split dev or test" in said.out and "4 rows, 0 left out" in said.out
    prompts = [
        {"id": f"q{n}", "seed_id": f"s{n}", "text": "x", "language": "en", "split": "test" if n else "train"}
        for n in range(2)
    ]
    write(tmp_path / "prompts.parquet", prompts)
    named = ({"prompt_id": "q0", "seed_id": "s0"}, {"prompt_id": "q1"}, {"seed_id": "s1"}, {"prompt_id": "elsewhere"})
    file = write(tmp_path / "pairs.jsonl", [row | names for row, names in zip(rows(), named, strict=False)])
    said = bench.call("train", "sft", file, "--model", bench.model, "--out", out, *SETTINGS)
    assert said.code == 0 and "2 of 4 rows are of split dev or test" in said.out, said.all
    assert (card_of(out)["rows"], card_of(out)["dev_or_test_rows"]) == (2, 2)
    for split, told in (("test", "every row is of split dev or test"), ("unseen", "column split")):
        file = write(tmp_path / "pairs.jsonl", [row | {"split": split} for row in rows()])
        said = bench.call("train", "dpo", file, "--model", bench.model, "--out", tmp_path / "no", *SETTINGS)
        assert said.code == 2 and told in said.err and not (tmp_path / "no").exists()


def test_sft_looks_at_the_learned_side_only(bench: Bench, tmp_path: Path) -> None:
    """A rejected side that is empty, too long or equal keeps no row out of what is learned."""
    file = tmp_path / "pairs.csv"
    file.write_text(f"prompt,chosen,rejected\na,b,\nc,d,{'x' * 300}\ne,f,f\n", encoding="utf-8")
    said = bench.call("train", "sft", file, "--model", bench.model, "--out", tmp_path / "out", *SETTINGS)
    assert said.code == 0 and "3 rows, 0 left out" in said.out, said.all


def test_completions_are_cut_on_request_and_counted(bench: Bench, pairs: Path, tmp_path: Path) -> None:
    options = ("--model", bench.model, "--out", tmp_path / "out", *SETTINGS, "--over-limit", "cut")
    said = bench.call("train", "dpo", pairs, *options, "--micro-batch-tokens", "64", "--no-prefix-sharing")
    assert said.code == 0, said.all
    counts = {row["language"]: (row["kept"], row["cut"]) for row in card_of(tmp_path / "out")["truncation"]}
    assert counts == {"ar": (4, 1), "en": (6, 1)}
    assert card_of(tmp_path / "out")["result"]["unshared"] == "switched off"
    said = bench.call("train", "dpo", pairs, *options[:4], "--over-limit", "shorten")
    assert said.code == 2 and "accepted: drop, cut" in said.err


def test_the_last_weights_are_a_model_as_well(bench: Bench, pairs: Path, taught: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rates = ("--epochs", "20", "--learning-rate", "0.3", "--schedule", "constant")
    held_out = ("--held-out-share", "0.4", "--held-out-every", "1", "--patience", "2")
    start = ("--model", bench.model, "--adapter", taught / "adapter")
    said = bench.call("train", "dpo", pairs, *start, "--out", out, *SETTINGS, *rates, *held_out)
    assert said.code == 0 and "the last step's weights are in last/" in said.out, said.all
    ids = torch.tensor([[5, 6, 7]])
    models = [
        load(resolve(ModelSpec(name, str(out / name)), bench.cache))[0] for name in ("adapter-on-base", "last-on-base")
    ]
    assert not torch.equal(models[0](ids).logits, models[1](ids).logits)


def test_full_weights_from_messages_are_a_model_that_dpo_starts_from(bench: Bench, pairs: Path, tmp_path: Path) -> None:
    talks = [
        {"messages": [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["chosen"]}]}
        for r in rows()[:6]
    ]
    file, first, second = write(tmp_path / "talks.jsonl", talks), tmp_path / "first", tmp_path / "second"
    said = bench.call(
        "train", "sft", file, "--model", bench.model, "--out", first, *SETTINGS, "--lora-rank", "0", "--seed", "3"
    )
    assert said.code == 0, said.all
    assert (first / "model" / "model.safetensors").is_file() and not (first / "adapter").exists()
    assert [row["language"] for row in card_of(first)["truncation"]] == ["und"]
    said = bench.call("train", "dpo", pairs, "--model", first / "model", "--out", second, *SETTINGS)
    assert said.code == 0, said.all
    assert card_of(second)["reference"]["digest"] == weights_digest(first / "model")


def test_dpo_from_an_adapter_has_both_merged_as_start_and_reference(
    bench: Bench, pairs: Path, taught: Path, tmp_path: Path
) -> None:
    out, adapter = tmp_path / "out", taught / "adapter"
    said = bench.call("train", "dpo", pairs, "--model", bench.model, "--adapter", adapter, "--out", out, *SETTINGS)
    assert said.code == 0, said.all
    digest = weights_digest(bench.model, adapter)
    assert card_of(out)["reference"]["digest"] == digest != weights_digest(bench.model)
    assert f"reference: the start model, digest {digest}" in said.out
    assert curve_of(out)[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)

    start, tokenizer = load(resolve(ModelSpec("start", str(bench.model), str(adapter)), bench.cache))
    chain = PeftModel.from_pretrained(start, str(out / "adapter"))
    whole, _ = load(resolve(ModelSpec("trained", str(out / "adapter-on-base")), bench.cache))
    ids = torch.tensor([tokenizer("Why?")["input_ids"]])
    torch.testing.assert_close(whole(ids).logits, chain(ids).logits, atol=1e-4, rtol=1e-4)
    assert card_of(out)["result"]["folder"] == "adapter-on-base"


# --- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bits(bench: Bench, pairs: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ("train", "dpo", pairs, "--model", bench.model, *SETTINGS, "--epochs", "40", "--checkpoint-every", "5")
    process = bench.start(*options, "--out", killed)
    try:
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            curve = killed / "curve.jsonl"
            if curve.exists() and curve.read_bytes().count(b"\n") >= 12:
                break
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert (killed / "checkpoint.pt").is_file() and "result" not in card_of(killed)

    for out in (killed, whole):
        said = bench.call(*options, "--out", out)
        assert said.code == 0, said.all
    assert curve_of(killed) == curve_of(whole) and len(curve_of(whole)) == 120
    found, expected = (load_file(out / "adapter" / "adapter_model.safetensors") for out in (killed, whole))
    assert found.keys() == expected.keys() and all(found[name].equal(expected[name]) for name in expected)
    outcomes = [{k: v for k, v in card_of(out)["result"].items() if k != "seconds"} for out in (killed, whole)]
    assert outcomes[0] == outcomes[1]


def test_two_launched_processes_train_what_one_does(
    trained: tuple[Path, Said], pairs: Path, bench: Bench, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    launch = (
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "alignprism",
        "train",
        "dpo",
        pairs,
    )
    command = [sys.executable, "-m", *map(str, (*launch, "--model", bench.model, "--out", out, *SETTINGS))]
    environment = bench.environment() | {"ACCELERATE_USE_CPU": "true"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert "processes: 2, on cpu:0; strategy: data parallel (gloo)" in ran.stdout
    assert ran.stdout.count("steps, loss") == 1, "one process speaks for both"
    for ours, alone in zip(curve_of(out), curve_of(trained[0]), strict=True):
        assert ours["loss"] == pytest.approx(alone["loss"], abs=1e-5) and ours["tokens"] == alone["tokens"]


def test_a_stop_between_training_and_card_is_finished_without_training(
    trained: tuple[Path, Said], pairs: Path, bench: Bench, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained[0], out)
    card = card_of(out)
    (out / "alignprism.json").write_text(json.dumps({k: v for k, v in card.items() if k != "result"}))
    curve = (out / "curve.jsonl").stat().st_mtime_ns
    said = bench.call("train", "dpo", pairs, "--model", bench.model, "--out", out, *SETTINGS)
    assert said.code == 0, said.all
    assert card_of(out) == card and (out / "curve.jsonl").stat().st_mtime_ns == curve


# --- dry run ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(pairs: Path, bench: Bench, tmp_path: Path) -> None:
    store = tmp_path / "store.jsonl"
    options = ("--model", bench.other, "--out", tmp_path / "out", "--reference-store", store, *SETTINGS)
    said = bench.call("train", "dpo", pairs, *options, "--dry-run")
    assert said.code == 0, said.all
    assert list(tmp_path.iterdir()) == []
    assert "12 rows, 4 left out" in said.out and "too long" in said.out
    assert "6 steps of 3 rows; epochs: 2; held out: 0 rows. Nothing was done." in said.out
    # One token per byte and one for the end of the turn, both sides of 8 rows.
    tokens = {
        line.split()[0]: int(line.split()[7]) for line in said.out.splitlines() if line.startswith(("ar ", "en "))
    }
    kept = [row for row in rows()[:8] if row["language"] == "ar"]
    assert tokens["ar"] == sum(len(row[side].encode()) + 1 for row in kept for side in ("chosen", "rejected"))


# --- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "options", "told"),
    [
        ([{"prompt": "a", "chosen": "b"}], ("dpo",), "row 1: column rejected: missing"),
        ([{"chosen": "b", "rejected": "c"}], ("dpo",), "row 1: column prompt: missing"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--side", "random"), "row 1: column rejected: missing"),
        ([{"prompt": "a", "text": "b"}], ("sft",), "row 1: column chosen: missing; accepted: prompt with chosen"),
        ([{"prompt": "a", "chosen": " ", "rejected": "b"}], ("dpo",), "left out: 1 with an empty completion"),
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], ("dpo",), "1 with equal sides"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--side", "both"), "--side both: accepted: chosen, random"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--schedule", "step"), "use one of cosine, linear, constant"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--learning-rate", "0"), "learning_rate must be above 0"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--epochs", "many"), "--epochs"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--held-out-share", "1"), "held_out_share is a share of the rows"),
        (
            [{"prompt": "a", "chosen": "b"}],
            ("sft", "--held-out-share", "0.5"),
            "rows of one prompt or seed stay together",
        ),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--patience", "1"), "set held_out_share above 0 as well"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--betta", "1"), "--betta"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--beta", "1"), "--beta"),
        ([{"prompt": "a", "chosen": "b", "rejected": "c"}], ("dpo", "--loss", "hinge"), "loss 'hinge' is not known"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--adapter", "gone"), "'gone' is no folder here"),
        ([{"prompt": "a", "chosen": "b"}], ("sft", "--precision", "half"), "precision 'half' is not known"),
        (
            [{"prompt": "a", "chosen": "[{'role': 'assistant', 'content': 'b'}]"}],
            ("sft",),
            "column chosen: a list of messages written as one text",
        ),
        ([], ("sft",), "holds no rows"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(
    records: list[Record], options: tuple[str, ...], told: str, bench: Bench, tmp_path: Path
) -> None:
    file = write(tmp_path / "file.jsonl", records)
    command, *others = options
    said = bench.call("train", command, file, "--model", bench.model, "--out", tmp_path / "out", *others)
    assert said.code == 2, said.all
    assert told in " ".join(said.err.split()) and "Traceback" not in said.all
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_named(bench: Bench, tmp_path: Path) -> None:
    for name in ("gone.jsonl", "gone.parquet"):
        said = bench.call("train", "dpo", tmp_path / name, "--model", bench.model, "--out", tmp_path / "out")
        assert said.code == 2
        assert f"{tmp_path / name}: cannot be read (no such file)" in said.err


def test_a_file_named_as_the_store_is_left_alone(bench: Bench, pairs: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes(pairs.read_bytes().rstrip(b"\n"))
    before = mine.read_bytes()
    for store, told in ((mine, "holds something else than reference log-probabilities"), (tmp_path, "a folder, not a")):
        options = ("--model", bench.model, "--out", tmp_path / "out", "--reference-store", store)
        said = bench.call("train", "dpo", pairs, *options)
        assert said.code == 2 and told in said.err, said.all
    assert mine.read_bytes() == before and not (tmp_path / "out").exists()


def test_a_model_that_is_no_causal_one_is_named_before_any_work(bench: Bench, pairs: Path, tmp_path: Path) -> None:
    other = tmp_path / "t5"
    shutil.copytree(bench.model, other)
    T5Config(vocab_size=97, d_model=16, d_ff=32, num_layers=1, num_heads=2).save_pretrained(str(other))
    said = bench.call("train", "sft", pairs, "--model", other, "--out", tmp_path / "out")
    assert said.code == 2 and "T5Config is no causal language model" in said.err, said.all
    assert not (tmp_path / "out").exists()


def test_prompts_that_hold_a_template_already_are_noted(bench: Bench, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(resolve(ModelSpec("start", str(bench.model)), bench.cache))
    file = write(tmp_path / "file.jsonl", [{"prompt": f"{tokenizer.eos_token}a", "chosen": "b"}])
    said = bench.call("train", "sft", file, "--model", bench.model, "--out", tmp_path / "out", "--dry-run")
    assert said.code == 0 and "Note: 1 rows hold special tokens of the model" in said.out, said.all


def test_a_model_that_leads_nowhere_is_named(bench: Bench, pairs: Path, tmp_path: Path) -> None:
    said = bench.call("train", "dpo", pairs, "--model", "no/such/model", "--out", tmp_path / "out")
    assert said.code == 2
    assert "there is no folder no/such/model" in said.err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--beta", "0.2"), "beta: 0.1 there, 0.2 here"),
        (("--lora-rank", "4"), "lora_rank: 2 there, 4 here"),
        (("--max-tokens", "60"), "max_tokens: 120 there, 60 here"),
    ],
)
def test_the_folder_of_another_training_is_refused_before_any_work(
    change: tuple[str, ...], told: str, trained: tuple[Path, Said], pairs: Path, bench: Bench
) -> None:
    # digests.json may change: digests of files that are less than two seconds old are not kept there.
    folders = trained[0], bench.cache / "reference"
    before = [state_of(folder) for folder in folders]
    said = bench.call("train", "dpo", pairs, "--model", bench.model, "--out", trained[0], *SETTINGS, *change)
    assert said.code == 2
    assert f"belongs to another training ({told})" in said.err
    assert [state_of(folder) for folder in folders] == before


def test_a_folder_in_which_no_step_was_done_is_free_for_another_training(
    bench: Bench, pairs: Path, taught: Path, tmp_path: Path
) -> None:
    """What cannot begin (here an adapter of a model of other widths) is mended and run again, in the same folder."""
    adapter = shutil.copytree(taught / "adapter", tmp_path / "wider")
    weights = load_file(adapter / "adapter_model.safetensors")
    wider = {name: torch.cat([w, w], dim=1 if ".lora_A." in name else 0) for name, w in weights.items()}
    save_file(wider, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    out = tmp_path / "out"
    options = ("train", "dpo", pairs, "--model", bench.model, "--out", out, *SETTINGS)
    said = bench.call(*options, "--adapter", adapter)
    assert said.code != 0 and "wider" in said.err, said.all
    said = bench.call(*options, "--adapter", taught / "adapter")
    assert said.code == 0, said.all
    said = bench.call(*options)
    assert said.code == 2 and "belongs to another training" in said.err


def test_a_folder_in_which_another_command_trains_is_left_alone(bench: Bench, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        said = bench.call("train", "dpo", pairs, "--model", bench.model, "--out", out, *SETTINGS)
    assert said.code == 2 and "another alignprism is working in this folder" in said.err
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_a_folder_with_something_else_is_left_alone(bench: Bench, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    said = bench.call("train", "dpo", pairs, "--model", bench.model, "--out", tmp_path, *SETTINGS)
    assert said.code == 2
    assert "holds something else" in said.err
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine.txt"]


def test_no_text_of_a_row_is_in_an_error(bench: Bench, tmp_path: Path) -> None:
    secret = "kaqwex mobuxo"
    file = write(
        tmp_path / "file.jsonl", [{"id": "a", "prompt": [{"role": "user", "content": secret}] * 2, "chosen": 3}]
    )
    said = bench.call("train", "sft", file, "--model", bench.model, "--out", tmp_path / "out")
    assert said.code == 2
    assert secret not in said.all
