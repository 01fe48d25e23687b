"""Our decoding loop gives the tokens that transformers' generate gives, whatever the lengths in a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from alignprism.models import template
from alignprism.models.decoding import decode_batch
from alignprism.models.local import LocalEngine, load
from alignprism.models.protocol import Decoding, Request
from alignprism.models.spec import ResolvedModel


def _generated(engine: LocalEngine, prompts: list[str], new_tokens: int) -> list[list[int]]:
    """Greedy ids by transformers, one prompt at a time: no padding, no batch."""
    stop = template.stop_ids(engine.tokenizer)
    result = []
    for prompt in prompts:
        ids = torch.tensor([template.prompt_ids(engine.tokenizer, prompt)])
        out = engine.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=sorted(stop),
            pad_token_id=0,
        )[0, ids.shape[1] :].tolist()
        result.append(out[: next((n for n, token in enumerate(out) if token in stop), len(out))])
    return result


def _ours(engine: LocalEngine, prompts: list[str], new_tokens: int) -> list[list[int]]:
    rows = decode_batch(
        engine.model,
        [template.prompt_ids(engine.tokenizer, prompt) for prompt in prompts],
        decoding=Decoding(max_new_tokens=new_tokens),
        stop=template.stop_ids(engine.tokenizer),
        pad_id=0,
    )
    return [row.ids for row in rows]


@pytest.mark.parametrize("kind", ["tiny_gemma", "tiny_llama"])
def test_a_mixed_length_batch_gives_the_tokens_of_generate(kind: str, request: pytest.FixtureRequest) -> None:
    engine = tiny.engine(request.getfixturevalue(kind))
    expected = _generated(engine, tiny.PROMPTS, 40)  # well beyond the sliding window of 8
    assert _ours(engine, tiny.PROMPTS, 40) == expected


def test_rows_that_end_leave_the_batch_without_touching_the_others(tiny_gemma: Path) -> None:
    engine = tiny.engine(tiny_gemma)
    free = _ours(engine, tiny.PROMPTS, 20)
    # Whatever the rows say early on becomes a stop token: many rows end, at different steps.
    stop = frozenset({free[0][3], free[1][6], free[4][1], *template.stop_ids(engine.tokenizer)})
    rows = decode_batch(
        engine.model,
        [template.prompt_ids(engine.tokenizer, prompt) for prompt in tiny.PROMPTS],
        decoding=Decoding(max_new_tokens=20),
        stop=stop,
        pad_id=0,
    )
    for row, ids in zip(rows, free, strict=True):
        end = next((n for n, token in enumerate(ids) if token in stop), None)
        assert row.ids == ids[:end]
        assert row.truncated == (end is None)
    assert any(not row.truncated for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gemma_folder", "smollm2_folder"])
def test_the_embedded_models_say_what_generate_says(kind: str, request: pytest.FixtureRequest) -> None:
    model, tokenizer = load(ResolvedModel("m", request.getfixturevalue(kind), None, "d"), device="cpu")
    engine = LocalEngine(model, tokenizer, "m", "d", None)
    prompts = tiny.PROMPTS[:5]
    assert _ours(engine, prompts, 8) == _generated(engine, prompts, 8)


def test_batch_size_changes_no_greedy_answer(tiny_gemma: Path) -> None:
    engine = tiny.engine(tiny_gemma)
    small = tiny.complete(engine, tiny.requests(), Decoding(max_new_tokens=10, batch_size=2))
    large = tiny.complete(engine, tiny.requests(), Decoding(max_new_tokens=10, batch_size=64))
    assert small == large
    assert [answer.request_id for answer in small] == [request.id for request in tiny.requests()]


def test_sampling_repeats_with_its_seed_and_differs_between_samples_and_seeds(tiny_gemma: Path) -> None:
    engine = tiny.engine(tiny_gemma)
    first = tiny.complete(engine, tiny.requests(), tiny.SAMPLED)
    assert first == tiny.complete(engine, tiny.requests(), tiny.SAMPLED)
    assert [(a.request_id, a.sample) for a in first[:4]] == [("p0", 0), ("p0", 1), ("p0", 2), ("p1", 0)]
    assert len({answer.text for answer in first[:3]}) == 3
    other = tiny.complete(
        engine, tiny.requests(), Decoding(max_new_tokens=12, temperature=0.9, top_p=0.9, seed=4, samples=3)
    )
    assert [a.text for a in first] != [a.text for a in other]


def test_a_sample_does_not_depend_on_its_batch_neighbours(tiny_gemma: Path) -> None:
    engine = tiny.engine(tiny_gemma)
    together = tiny.complete(engine, tiny.requests(), tiny.SAMPLED)
    alone = tiny.complete(engine, tiny.requests()[4:5], tiny.SAMPLED)
    assert alone == [answer for answer in together if answer.request_id == "p4"]


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_sampled_frequencies_are_the_models_probabilities(tiny_llama: Path, top_p: float) -> None:
    engine = tiny.engine(tiny_llama)
    ids = template.prompt_ids(engine.tokenizer, "Name a river.")
    with torch.inference_mode():
        p = (engine.model(torch.tensor([ids])).logits[0, -1].double() / 1.5).softmax(0).numpy()
    order = np.argsort(-p)
    inside = order[: int(np.searchsorted(p[order].cumsum(), top_p)) + 1]  # the smallest set that reaches top_p
    wanted = np.zeros_like(p)
    wanted[inside] = p[inside] / p[inside].sum()
    n = 4000
    decoding = Decoding(max_new_tokens=1, temperature=1.5, top_p=top_p, batch_size=n)
    rows = decode_batch(engine.model, [ids] * n, decoding=decoding, stop=frozenset({-1}), pad_id=0, seeds=range(n))
    seen = np.bincount([row.ids[0] for row in rows], minlength=len(p)) / n
    assert seen[wanted == 0].sum() == 0
    assert np.abs(seen - wanted).max() < 4 * np.sqrt(0.25 / n)


def test_the_same_prompt_twice_is_asked_once_and_answered_twice(tiny_gemma: Path) -> None:
    twice = [Request("a", "Name a river."), Request("b", "Name a river.")]
    a, b = tiny.complete(tiny.engine(tiny_gemma), twice, Decoding(max_new_tokens=6))
    assert (a.request_id, b.request_id, a.text) == ("a", "b", b.text)


def test_likelihood_is_the_sum_over_completion_and_end_of_turn(tiny_gemma: Path) -> None:
    engine = tiny.engine(tiny_gemma)
    pairs = [("Name a river.", "Loire"), ("नमस्ते", "नदी और पहाड़"), ("x", ""), ("Why?", "Because of the wind.")]
    for (prompt, completion), score in zip(pairs, engine.negative_log_likelihood(pairs), strict=True):
        before = template.prompt_ids(engine.tokenizer, prompt)
        after = template.completion_ids(engine.tokenizer, completion)
        with torch.inference_mode():
            logits = engine.model(torch.tensor([before + after])).logits[0].double().log_softmax(-1)
        expected = -sum(float(logits[len(before) + n - 1, token]) for n, token in enumerate(after))
        assert score.sum_nats == pytest.approx(expected, rel=1e-5)
        assert (score.tokens, score.characters) == (len(after), len(completion))


@pytest.mark.parametrize("layer", [0, 1, 2, -2, -1])
def test_hidden_states_are_those_of_transformers(tiny_gemma: Path, layer: int) -> None:
    engine = tiny.engine(tiny_gemma)
    texts = ["Name a river.", "नमस्ते दुनिया", "x"]
    means, lasts = (engine.hidden_states(texts, layer, pooling) for pooling in ("mean", "last"))
    for n, text in enumerate(texts):
        with torch.inference_mode():
            ids = torch.tensor([template.encode_rendered(engine.tokenizer, text)])
            states = engine.model(ids, output_hidden_states=True).hidden_states[layer][0].numpy()
        np.testing.assert_allclose(means[n], states.mean(0), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(lasts[n], states[-1], rtol=1e-3, atol=1e-5)
