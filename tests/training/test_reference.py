"""The stored reference: hit by content, resumable, never stale."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import random_examples, tiny_model

from alignprism.training.config import TrainingError
from alignprism.training.layout import collate
from alignprism.training.reference import compute_reference, read_store
from alignprism.training.scorer import Scorer

EXAMPLES = random_examples(9)


def test_log_probabilities_are_the_scorers(tmp_path: Path) -> None:
    model = tiny_model("cohere")
    reference = compute_reference("base", "d", model, EXAMPLES, tmp_path / "ref.jsonl")
    for example in EXAMPLES:
        batch = collate([(example.prompt_ids, example.chosen_ids), (example.prompt_ids, example.side("rejected"))], 0)
        with torch.no_grad():
            sums = Scorer(model)(batch).sums
        assert reference.pair(example) == pytest.approx(sums.tolist(), abs=1e-4)


def test_a_second_study_and_another_row_order_run_no_forward(tmp_path: Path) -> None:
    model, calls = tiny_model("llama"), []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    model.base_model.register_forward_pre_hook(lambda *_: calls.append(1))
    first = compute_reference("base", "d", model, EXAMPLES, tmp_path / "ref.jsonl")
    assert calls
    calls.clear()
    again = compute_reference("base", "d", model, EXAMPLES[::-1], tmp_path / "ref.jsonl", micro_batch_tokens=64)
    assert not calls and again.log_probs == first.log_probs


def test_other_weights_or_tokens_miss(tmp_path: Path) -> None:
    store = tmp_path / "ref.jsonl"
    compute_reference("base", "d", tiny_model("llama"), EXAMPLES, store)
    lines = len(store.read_text().splitlines())
    other = compute_reference("base", "e", tiny_model("llama", seed=1), EXAMPLES, store)
    assert len(store.read_text().splitlines()) == 2 * lines
    with pytest.raises(TrainingError, match="no log-probabilities of row"):
        other.pair(random_examples(1, seed=5)[0])


def test_an_interrupted_fill_resumes_to_the_same_figures(tmp_path: Path) -> None:
    model = tiny_model("gemma3")
    whole = compute_reference("base", "d", model, EXAMPLES, tmp_path / "whole.jsonl", micro_batch_tokens=64)
    torn = tmp_path / "torn.jsonl"
    data = (tmp_path / "whole.jsonl").read_bytes()
    torn.write_bytes(data[: len(data) // 2])  # in the middle of a line
    resumed = compute_reference("base", "d", model, EXAMPLES, torn, micro_batch_tokens=64)
    assert resumed.log_probs == whole.log_probs
    assert read_store(torn) == read_store(tmp_path / "whole.jsonl")


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    store = tmp_path / "ref.jsonl"
    store.write_text('{"key": "a", "log_prob": -1.0}\nnot json\n{"key": "b", "log_prob": -1.0}\n')
    with pytest.raises(TrainingError, match="line 2: damaged"):
        read_store(store)


@pytest.mark.parametrize("content", [b'{"prompt": "a", "chosen": "b", "rejected": "c"}', b"a,b\nc,d", b"{}\n{", b"x"])
def test_a_file_that_is_no_store_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    store = tmp_path / "pairs.jsonl"
    store.write_bytes(content)
    with pytest.raises(TrainingError, match="holds something else than reference log-probabilities"):
        compute_reference("base", "d", tiny_model("llama"), EXAMPLES, store)
    assert store.read_bytes() == content
    with pytest.raises(TrainingError, match="a folder, not a file"):
        read_store(tmp_path)


def test_a_store_torn_within_its_first_key_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "ref.jsonl"
    store.write_bytes(b'{"ke')
    reference = compute_reference("base", "d", tiny_model("llama"), EXAMPLES, store)
    assert read_store(store) == reference.log_probs


def test_a_reference_that_is_not_finite_names_the_row_and_is_not_stored(tmp_path: Path) -> None:
    model, store = tiny_model("llama"), tmp_path / "ref.jsonl"
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"row 'pair-\d+': its log-probability under the reference 'base' is nan"):
        compute_reference("base", "d", model, EXAMPLES, store)
    assert read_store(store) == {}
    store.write_text('{"key": "a", "log_prob": NaN}\n{"key": "b", "log_prob": -1.0}\n', encoding="utf-8")
    assert read_store(store) == {"b": -1.0}, "a figure that an earlier version stored is computed again"
