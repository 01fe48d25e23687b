"""Held-out rows choose the step, stop the run, and survive a kill; curves by language and the displacement alarm."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import random_examples, tiny_model, tiny_tokenizer
from transformers import PreTrainedModel

from alignprism.training.checkpoint import BEST_FILE, CHECKPOINT_FILE
from alignprism.training.config import TrainConfig, TrainingError
from alignprism.training.curve import (
    HELD_OUT_FILE,
    CurveRow,
    displacement,
    displacement_by_language,
    read_curve,
    read_lines,
)
from alignprism.training.loop import RESULT_FILE, Progress, TrainResult, train
from alignprism.training.plan import make_plan
from alignprism.training.reference import compute_reference

EXAMPLES = random_examples(24)
CONFIG = TrainConfig(
    "dpo-ift", learning_rate=2e-2, epochs=4, batch_size=4, lora_rank=4, held_out_share=0.3, held_out_every=2
)


def _train(config: TrainConfig, folder: Path, out: Path, report: object = None) -> TrainResult:
    model = tiny_model("llama")
    reference = compute_reference("base", "d", model, EXAMPLES, folder / "ref.jsonl") if config.preference else None
    return train(config, EXAMPLES, model, tiny_tokenizer(), out, reference, report=report)  # type: ignore[arg-type]


def test_held_out_rows_are_not_trained_on_and_no_prompt_is_on_both_sides(tmp_path: Path) -> None:
    twins = [dataclasses.replace(e, pair_id=f"{e.pair_id}-twin", chosen_ids=(9, 2)) for e in EXAMPLES]
    plan = make_plan(dataclasses.replace(CONFIG, method="sft-preferred"), [*EXAMPLES, *twins], tiny_tokenizer(), None)
    assert plan.held_out and {e.prompt_ids for e in plan.held_out}.isdisjoint(e.prompt_ids for e in plan.examples)
    more = make_plan(dataclasses.replace(CONFIG, method="sft-preferred"), EXAMPLES, tiny_tokenizer(), None)
    assert {e.pair_id for e in more.held_out} <= {e.pair_id for e in plan.held_out}, "new rows moved old ones"


def test_rows_of_one_seed_are_held_out_together() -> None:
    """Translations and rephrasings of a held-out prompt would make held-out accuracy follow that of training."""
    seeds = [dataclasses.replace(e, cluster=f"seed-{n % 8}") for n, e in enumerate(EXAMPLES)]
    plan = make_plan(dataclasses.replace(CONFIG, method="sft-preferred"), seeds, tiny_tokenizer(), None)
    assert plan.held_out and {e.cluster for e in plan.held_out}.isdisjoint(e.cluster for e in plan.examples)


@pytest.mark.parametrize("method", ["dpo-ift", "sft-preferred"])
def test_the_best_step_is_kept_and_patience_ends_the_run(tmp_path: Path, method: str) -> None:
    config = dataclasses.replace(CONFIG, method=method, epochs=20, patience=2)
    result = _train(config, tmp_path, tmp_path / "run")
    rows = read_lines(tmp_path / "run" / HELD_OUT_FILE)
    best = max(rows, key=lambda row: (row.get("accuracy", 0.0), -row["loss"]))
    assert result.kept_step == best["step"]
    assert result.steps == best["step"] + 2 * config.held_out_every < result.planned_steps
    # The weights are those of the best step: a run of the same plan that is cut there has them.
    kept = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    stopped: dict[str, object] = {}

    def at_best(progress: Progress) -> None:
        if progress.done == result.kept_step:
            stopped["at"] = progress.done
            raise KeyboardInterrupt

    again = dataclasses.replace(config, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        _train(again, tmp_path, tmp_path / "again", at_best)
    assert stopped
    whole = _train(again, tmp_path, tmp_path / "again")
    assert whole.kept_step == result.kept_step
    resumed = load_file(tmp_path / "again" / "adapter" / "adapter_model.safetensors")
    assert all(resumed[name].equal(kept[name]) for name in kept)


def test_the_weights_that_are_kept_are_evaluated(tmp_path: Path) -> None:
    """With patience the last check is never reached, and the best step lies between the checks."""
    config = dataclasses.replace(CONFIG, epochs=20, patience=2, evaluate_steps=(1, -1))
    asked: dict[int, dict[str, torch.Tensor]] = {}

    def evaluate(step: int, model: PreTrainedModel) -> dict[str, float]:
        asked[step] = {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}
        return {}

    model = tiny_model("llama")
    reference = compute_reference("base", "d", model, EXAMPLES, tmp_path / "ref.jsonl")
    result = train(config, EXAMPLES, model, tiny_tokenizer(), tmp_path / "run", reference, evaluate)
    assert result.steps < result.planned_steps and set(asked) == {1, result.kept_step}
    kept = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    found = {f"base_model.model.{name.replace('.default', '')}": p for name, p in asked[result.kept_step].items()}
    assert found.keys() == kept.keys() and all(found[name].equal(kept[name]) for name in kept)


def test_the_last_weights_are_kept_beside_the_best(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, epochs=20, patience=2)
    result = _train(config, tmp_path, tmp_path / "run")
    assert result.kept_step < result.steps
    best, last = (load_file(tmp_path / "run" / n / "adapter_model.safetensors") for n in ("adapter", "last"))
    assert any(not best[name].equal(last[name]) for name in best)
    plain = dataclasses.replace(CONFIG, held_out_share=0.0, epochs=1)
    _train(plain, tmp_path, tmp_path / "plain")
    assert not (tmp_path / "plain" / "last").exists(), "the result is the last step"


def test_no_kill_leaves_a_best_step_that_lies_after_the_checkpoint(tmp_path: Path) -> None:
    """A repeated step need not win again on a GPU, and its weights would be kept under another step's name."""
    config, seen = dataclasses.replace(CONFIG, checkpoint_every=1000), []

    def killed(progress: Progress) -> None:
        steps = [load_checkpoint_step(tmp_path / "run" / name) for name in (BEST_FILE, CHECKPOINT_FILE)]
        seen.append(steps)
        if progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(config, tmp_path, tmp_path / "run", killed)
    assert seen[-1][0] >= 2 and all(best <= checkpoint for best, checkpoint in seen)


def load_checkpoint_step(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["step"]) if path.exists() else 0


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(TrainingError, match="held_out_share"):
        make_plan(
            dataclasses.replace(CONFIG, method="sft-preferred", held_out_share=0.999),
            EXAMPLES[:2],
            tiny_tokenizer(),
            None,
        )
    with pytest.raises(TrainingError, match="patience"):
        dataclasses.replace(CONFIG, held_out_share=0.0, patience=3)


def test_the_curve_adds_up_over_languages(tmp_path: Path) -> None:
    _train(dataclasses.replace(CONFIG, held_out_share=0.0), tmp_path, tmp_path / "run")
    for row in read_curve(tmp_path / "run"):
        rows = sum(figures["rows"] for figures in row.languages.values())
        assert set(row.languages) <= {"en", "hi"} and sum(f["tokens"] for f in row.languages.values()) == row.tokens
        assert sum(figures["chosen_tokens"] for figures in row.languages.values()) == row.chosen_tokens
        for name in (
            "loss", "chosen_log_prob", "rejected_log_prob", "reference_chosen_log_prob", "margin", "accuracy",
        ):  # fmt: skip
            mean = sum(f["rows"] * f[name] for f in row.languages.values()) / rows  # type: ignore[literal-required]
            assert getattr(row, name) == pytest.approx(mean, rel=1e-6, abs=1e-9), name


def test_likelihood_displacement_is_measured_and_warned_of(tmp_path: Path) -> None:
    model = tiny_model("llama")
    learned = TrainConfig("sft-preferred", learning_rate=1e-2, epochs=15, batch_size=8, lora_rank=0)
    train(learned, EXAMPLES, model, tiny_tokenizer(), tmp_path / "start")
    reference = compute_reference("start", "s", model, EXAMPLES, tmp_path / "ref.jsonl")
    start = model.state_dict()
    results = {}
    for rate in (1.0, 1e-6):  # steps far too large wreck what the start knows
        config = dataclasses.replace(CONFIG, held_out_share=0.0, learning_rate=rate, epochs=6)
        policy = tiny_model("llama")
        policy.load_state_dict(start)
        out = tmp_path / str(rate)
        results[rate] = train(config, EXAMPLES, policy, tiny_tokenizer(), out, reference)
        assert results[rate].displacement == displacement(read_curve(out))
    wrecked, calm = results.values()
    assert wrecked.displacement is not None and wrecked.displacement < -CONFIG.displacement_alarm
    assert "likelihood displacement" in wrecked.warnings[0]
    assert wrecked.displacement_by_language.keys() == {"en", "hi"}
    assert all(f"{code} {-fall:.2f}" in wrecked.warnings[1] for code, fall in wrecked.displacement_by_language.items())
    assert "by language" in wrecked.warnings[1] and "fewer than 10 rows" in wrecked.warnings[1]
    assert calm.warnings == [] and calm.displacement == pytest.approx(0.0, abs=1e-2)


def test_displacement_is_counted_in_tokens_of_the_chosen_sides() -> None:
    """Short refusals against long answers: a fall of 30 nats over 50 chosen tokens is .6 a token, whatever was rejected."""
    row = CurveRow(
        step=1, epoch=1.0, loss=0.6, chosen_log_prob=-80.0, rejected_log_prob=-300.0, reference_chosen_log_prob=-50.0,
        margin=1.0, accuracy=1.0, gradient_norm=1.0, learning_rate=1e-4, tokens=250, positions=300,
        languages={"en": {"rows": 1}}, seconds=1.0, chosen_tokens=50,
    )  # fmt: skip
    assert displacement([row]) == pytest.approx(-0.6)
    assert displacement([dataclasses.replace(row, chosen_tokens=None)]) is None


def _step(languages: dict[str, tuple[int, float, float, int]]) -> CurveRow:
    """A step with, by language: rows, log-probability of the chosen sides and of their reference, tokens."""
    rows = sum(n for n, *_ in languages.values())
    return CurveRow(
        step=1, epoch=1.0, loss=0.6, chosen_log_prob=sum(n * p for n, p, *_ in languages.values()) / rows, rejected_log_prob=-300.0,
        reference_chosen_log_prob=sum(n * r for n, _, r, _ in languages.values()) / rows, margin=1.0, accuracy=1.0,
        gradient_norm=1.0, learning_rate=1e-4, tokens=9, positions=9, seconds=1.0,
        languages={
            code: {"rows": n, "chosen_log_prob": p, "reference_chosen_log_prob": r, "chosen_tokens": tokens}
            for code, (n, p, r, tokens) in languages.items()
        },
        chosen_tokens=sum(tokens for *_, tokens in languages.values()),
    )  # fmt: skip


def test_a_language_that_falls_is_not_hidden_by_the_others_and_few_rows_are_not_told() -> None:
    row = _step({"en": (6, -40.0, -50.0, 300), "sw": (6, -62.0, -50.0, 120), "hi": (1, -90.0, -50.0, 20)})
    whole = displacement([row, row])
    assert whole is not None and whole > -0.25, "the whole hides what became of Swahili"
    # Two steps are a "quarter" of eight: 12 rows of English and Swahili, 2 of Hindi.
    steps = [_step({"en": (6, -50.0, -50.0, 300)})] * 6 + [row, row]
    assert displacement_by_language(steps) == {"en": pytest.approx(0.2), "sw": pytest.approx(-0.6)}


def test_curves_and_results_of_earlier_versions_are_read(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, held_out_share=0.0, epochs=1)
    out = tmp_path / "run"
    result = _train(config, tmp_path, out)
    curve = out / "curve.jsonl"
    rows = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for figures in row["languages"].values():
            del figures["reference_chosen_log_prob"], figures["chosen_tokens"]
    curve.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert displacement(read_curve(out)) == result.displacement and displacement_by_language(read_curve(out)) == {}
    kept = json.loads((out / RESULT_FILE).read_text(encoding="utf-8"))
    del kept["displacement_by_language"]
    (out / RESULT_FILE).write_text(json.dumps(kept), encoding="utf-8")
    assert _train(config, tmp_path, out) == dataclasses.replace(result, displacement_by_language={})


def test_the_curve_counts_the_chosen_tokens(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, held_out_share=0.0, epochs=1)
    _train(config, tmp_path, tmp_path / "run")
    assert sum(row.chosen_tokens or 0 for row in read_curve(tmp_path / "run")) == sum(
        len(e.chosen_ids) for e in EXAMPLES
    )


def test_sft_has_no_displacement(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, method="sft-preferred", held_out_share=0.0, epochs=1)
    result = _train(config, tmp_path, tmp_path / "run")
    assert result.displacement is None and result.displacement_by_language == {} and result.warnings == []


def test_a_tracker_gets_every_step_by_language(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the tracker of this test (extra: test)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = dataclasses.replace(CONFIG, held_out_share=0.0, trackers=("tensorboard",), epochs=1)
    result = _train(config, tmp_path, tmp_path / "run")
    events = next((tmp_path / "run").rglob("events.out.*"))
    found = EventAccumulator(str(events.parent)).Reload()
    assert [e.step for e in found.Scalars("loss")] == list(range(1, result.steps + 1))
    assert {"loss/en", "margin/hi", "tokens_per_second"} <= set(found.Tags()["scalars"])
