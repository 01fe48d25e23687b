"""What calls cost: estimates, and a cap that what is in flight cannot pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import alignprism
from alignprism.errors import InputError
from alignprism.models.cost import Budget, dollars, estimate, estimate_tokens, prompt_tokens
from alignprism.models.protocol import Decoding, Message, Request
from alignprism.models.settings import Price

SAMPLE = Path(alignprism.__file__).parent / "sample" / "general"


def test_estimated_tokens_are_no_fewer_than_a_tokenizers_and_no_more_than_twice_as_many(gemma_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gemma_folder)
    for file in sorted(SAMPLE.glob("*.jsonl")):
        lines = file.read_text(encoding="utf-8").splitlines()
        texts = [str(json.loads(line)["prompt"]) for line in lines if line.strip()]
        real = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
        assert real * 0.9 <= sum(map(estimate_tokens, texts)) <= real * 2.0, file.name


def test_an_estimate_counts_samples_and_full_answers() -> None:
    requests = [Request("a", "word " * 54), Request("b", [Message("system", "x"), Message("user", "y")])]
    price = Price(input=2.0, output=10.0)
    found = estimate(requests, Decoding(max_new_tokens=100, temperature=1.0, samples=3), price)
    assert (found.calls, found.answer_tokens) == (6, 600)
    assert found.prompt_tokens == 3 * sum(prompt_tokens(r.prompt) for r in requests)
    assert found.most == pytest.approx((found.prompt_tokens * 2.0 + 6000.0) / 1e6)
    assert "6 calls" in str(found) and "at most $0.01" in str(found)
    assert "no price given" in str(estimate(requests, Decoding(), None))
    assert dollars(None, 5, 5) == 0.0


@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0.0, 1.0)), max_size=40), st.floats(0.0, 20.0))
def test_a_cap_is_never_passed_when_nothing_costs_more_than_it_may(
    calls: list[tuple[float, float]], cap: float
) -> None:
    budget, flying = Budget(cap), []
    for worst, share in calls:
        if budget.reserve(worst):
            flying.append((worst, worst * share))
        if len(flying) > 3:
            budget.settle(*flying.pop(0))
        assert budget.spent + sum(worst for worst, _ in flying) <= cap + 1e-9
    for entry in flying:
        budget.settle(*entry)
    assert budget.spent <= cap + 1e-9


def test_what_does_not_fit_now_may_fit_later_or_never() -> None:
    budget = Budget(1.0, spent=0.2)
    assert budget.reserve(0.7) is True
    assert budget.reserve(0.3) is None  # what is in flight may cost less
    budget.settle(0.7, 0.1)
    assert budget.reserve(0.3) is True
    assert budget.reserve(0.9) is False
    with pytest.raises(InputError, match="not negative"):
        Budget(float("nan"))
