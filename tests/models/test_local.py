"""What the local engine promises each row: the right prompt, an exact end, true log-probabilities, or a reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor

from alignprism.models import template, units
from alignprism.models.local import LocalEngine
from alignprism.models.protocol import Answer, Decoding, Failed, Message, Outcome, Request, in_order
from alignprism.models.store import CallStore

GREEDY = Decoding(max_new_tokens=24, batch_size=4)


@pytest.fixture(scope="module")
def engine(tiny_gemma: Path) -> LocalEngine:
    return tiny.engine(tiny_gemma)


def _answers(engine: LocalEngine, requests: list[Request], decoding: Decoding = GREEDY) -> list[Answer]:
    outcomes = tiny.complete(engine, requests, decoding)
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Answer)]


def _greedy(engine: LocalEngine, ids: list[int], steps: int) -> list[int]:
    """One prompt alone, the whole text run through the model for every token: no cache, no padding, no batch."""
    start = len(ids)
    with torch.inference_mode():
        while len(ids) - start < steps:
            ids = [*ids, int(engine.model(torch.tensor([ids])).logits[0, -1].argmax())]
    return ids[start:]


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_a_conversation_is_shown_through_the_chat_template(engine: LocalEngine) -> None:
    turns = [Message("user", "Name a river."), Message("assistant", "Loire"), Message("user", "Another?")]
    text = "<bos>User: Name a river.\nAssistant:\nLoire<eos>\nUser: Another?\nAssistant:\n"
    ids = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
    (answer,) = _answers(engine, [Request("c", turns)], Decoding(max_new_tokens=6))
    assert answer.text == template.decode(engine.tokenizer, _until_end(_greedy(engine, ids, 6)))


def test_a_plain_prompt_is_continued_as_it_stands(engine: LocalEngine) -> None:
    ids = [engine.tokenizer.bos_token_id, *engine.tokenizer("The river", add_special_tokens=False)["input_ids"]]
    plain, chat = _answers(engine, [Request("p", "The river", plain=True), Request("q", "The river")])
    assert plain.text == template.decode(engine.tokenizer, _until_end(_greedy(engine, ids, 24)))
    assert plain.text != chat.text


def _until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(1)] if 1 in ids else ids  # 1 is <eos>


def test_the_generation_configuration_may_name_more_ends(engine: LocalEngine, tiny_gemma: Path, tmp_path: Path) -> None:
    """GLM-4's models end an answer with the next turn's opening, which only generation_config.json says."""
    end = engine.tokenizer.eos_token_id
    prompt = template.prompt_ids(engine.tokenizer, "Name a river.")
    ids = _until_end(_greedy(engine, prompt, 12))
    folder = Path(shutil.copytree(tiny_gemma, tmp_path / "copy"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [end, ids[3]]}))
    (answer,) = _answers(tiny.engine(folder), [Request("r", "Name a river.")])
    assert answer.text == template.decode(engine.tokenizer, ids[: ids.index(ids[3])])
    assert not answer.truncated
    assert template.end_of_turn_id(tiny.engine(folder).tokenizer) == end  # what training teaches


# --- stop strings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 3, 5])
@pytest.mark.parametrize("where", [0.0, 0.4, 0.8])
def test_a_stop_string_ends_the_answer_and_is_no_part_of_it(engine: LocalEngine, length: int, where: float) -> None:
    """Every character is a token of its own here, so that the longer stop strings span tokens."""
    free = _answers(engine, tiny.requests())
    (long, *_) = sorted(free, key=lambda answer: -len(_plain_part(answer.text)))
    part = _plain_part(long.text)
    at = int(where * (len(part) - length))
    stop = part[at : at + length]
    stopped = _answers(engine, tiny.requests(), Decoding(max_new_tokens=24, batch_size=4, stop=(stop, "never said")))
    assert any(answer.text != other.text for answer, other in zip(stopped, free, strict=True))
    for answer, other in zip(stopped, free, strict=True):
        assert answer.text == other.text.split(stop)[0]
        assert answer.truncated == (other.truncated and stop not in other.text)
        if stop in other.text:
            (request,) = (request for request in tiny.requests() if request.id == answer.request_id)
            ids = _greedy(engine, template.prompt_ids(engine.tokenizer, request.prompt), answer.n_tokens)
            assert template.decode(engine.tokenizer, ids) == answer.text
            assert template.decode(engine.tokenizer, ids[:-1]) != answer.text or not ids


def _plain_part(text: str) -> str:
    """The longest run of ASCII: a cut inside other characters would be no text."""
    return max("".join(c if c.isascii() else "\x00" for c in text).split("\x00"), key=len)


# --- log-probabilities -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_log_probs_are_those_of_the_models_own_distribution(engine: LocalEngine, temperature: float) -> None:
    decoding = Decoding(max_new_tokens=10, batch_size=3, log_probs=True, temperature=temperature, seed=5)
    items = []
    for unit in units.Asking(engine.tokenizer, "t", "d", {}, None, None)._units(tiny.requests(), decoding):
        items += zip(unit.keys, unit.prompts, engine.write(unit, decoding), strict=True)
    assert len(items) == len(tiny.PROMPTS)
    for _, prompt, written in items:
        assert written.log_probs is not None
        assert len(written.log_probs) == written.n_tokens
        assert written.tokens is not None
        assert "".join(written.tokens) == written.text
        answer = engine.tokenizer(written.text, add_special_tokens=False)["input_ids"]
        if "\ufffd" in written.text or len(answer) != written.n_tokens:
            continue  # special tokens and half characters are not spelled by the text
        with torch.inference_mode():
            logits = engine.model(torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
        expected = [float(logits[len(prompt) + n - 1, token]) for n, token in enumerate(answer)]
        assert written.log_probs == pytest.approx(expected, abs=1e-4)


def test_log_probs_and_their_tokens_come_back_from_the_store(engine: LocalEngine, tmp_path: Path) -> None:
    decoding = Decoding(max_new_tokens=6, log_probs=True)
    with CallStore(tmp_path / "calls.sqlite") as store:
        stored = LocalEngine(engine.model, engine.tokenizer, "tiny", "d", store)
        first = _answers(stored, tiny.requests(), decoding)
        assert _answers(stored, tiny.requests(), decoding) == first == _answers(engine, tiny.requests(), decoding)
    assert all(len(answer.tokens or ()) == len(answer.log_probs or ()) == answer.n_tokens for answer in first)


def test_log_probs_stay_with_the_kept_tokens_of_a_stopped_answer(engine: LocalEngine) -> None:
    free = _answers(engine, tiny.requests(), Decoding(max_new_tokens=24, log_probs=True))
    (long, *_) = sorted(free, key=lambda answer: -len(_plain_part(answer.text)))
    stop = _plain_part(long.text)[2:4]
    (stopped,) = _answers(
        engine,
        [request for request in tiny.requests() if request.id == long.request_id],
        Decoding(max_new_tokens=24, log_probs=True, stop=(stop,)),
    )
    assert stopped.log_probs is not None
    assert long.log_probs is not None
    assert stopped.log_probs == pytest.approx(long.log_probs[: stopped.n_tokens], abs=1e-5)


# --- rows that cannot be answered ------------------------------------------------------------------------------------


def _only(outcomes: list[Outcome], kind: type) -> dict[str, Outcome]:
    return {outcome.request_id: outcome for outcome in outcomes if isinstance(outcome, kind)}


def test_a_prompt_that_is_too_long_fails_alone_and_says_so(engine: LocalEngine, tmp_path: Path) -> None:
    asked = [*tiny.requests(), Request("long", "x" * 600)]
    with CallStore(tmp_path / "calls.sqlite") as store:
        stored = LocalEngine(engine.model, engine.tokenizer, "tiny", "d", store)
        outcomes = tiny.complete(stored, asked, GREEDY)
        (failed,) = _only(outcomes, Failed).values()
        assert isinstance(failed, Failed)
        assert (failed.request_id, failed.reason) == ("long", "prompt too long")
        assert "512 tokens" in failed.detail
        assert "xxx" not in failed.detail
        assert store.failures([failed.call])[failed.call].error == "prompt too long"
        assert len(store) == len(tiny.PROMPTS)
    assert list(_only(outcomes, Answer).values()) == tiny.complete(engine, tiny.requests(), GREEDY)


def test_turns_that_the_template_refuses_fail_alone(tiny_gemma: Path) -> None:
    engine = tiny.engine(tiny_gemma)
    engine.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}"
        "{{ m.content }}{{ eos_token }}{% endfor %}"
    )
    asked = [Request("system", [Message("system", "Be brief."), Message("user", "Hi")]), Request("fine", "Hi")]
    refused, fine = tiny.complete(engine, asked, GREEDY)
    assert isinstance(refused, Failed)
    assert refused.reason == "refused request"
    assert "no system turn here" in refused.detail
    assert isinstance(fine, Answer)


@pytest.fixture
def small_memory(engine: LocalEngine) -> Iterator[list[int]]:
    """The model on a device whose memory holds 240 positions of input: what a real one raises, without the device."""
    seen: list[int] = []

    def allocate(_: object, __: object, inputs: dict[str, Tensor]) -> None:
        seen.append(inputs["attention_mask"].numel())
        if seen[-1] > 240:
            raise torch.OutOfMemoryError("tried to allocate more than there is")

    handle = engine.model.register_forward_pre_hook(allocate, with_kwargs=True)
    yield seen
    handle.remove()


def test_without_memory_for_all_rows_fewer_are_decoded_at_once(
    engine: LocalEngine, small_memory: list[int], tmp_path: Path
) -> None:
    asked = [*tiny.requests(), Request("big", "y" * 230)]
    with CallStore(tmp_path / "calls.sqlite") as store:
        stored = LocalEngine(engine.model, engine.tokenizer, "tiny", "d", store)
        outcomes = tiny.complete(stored, asked, Decoding(max_new_tokens=4, batch_size=16))
        assert max(small_memory) > 240  # it did run out
        (failed,) = _only(outcomes, Failed).values()
        assert isinstance(failed, Failed)
        assert (failed.request_id, failed.reason) == ("big", "out of memory")
        assert len(store) == len(tiny.PROMPTS)
        again = tiny.complete(stored, asked, Decoding(max_new_tokens=4, batch_size=16))
    small_memory.clear()
    assert again == outcomes


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoding", [Decoding(max_new_tokens=30), tiny.SAMPLED], ids=["greedy", "sampled"])
def test_rows_that_join_late_are_answered_as_if_alone(engine: LocalEngine, decoding: Decoding) -> None:
    """Two rows at a time: most prompts join a batch that is under way, with other widths and a full sliding window."""
    alone = [_answers(engine, [request], decoding) for request in tiny.requests()]
    for size in (2, 7):
        together = _answers(engine, tiny.requests(), replace(decoding, batch_size=size))
        assert together == [answer for answers in alone for answer in answers]


def test_requests_may_come_one_by_one_and_are_read_in_windows(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "WINDOW", 4)
    read: list[str] = []

    def source() -> Iterator[Request]:
        for request in tiny.requests():
            read.append(request.id)
            yield request

    outcomes = iter(engine.complete(source(), GREEDY))
    first = next(outcomes)
    assert len(read) == 4  # no more than a window was fetched before the first outcome
    assert in_order([first, *outcomes], tiny.requests()) == tiny.complete(engine, tiny.requests(), GREEDY)


def test_progress_counts_every_completion_once(engine: LocalEngine) -> None:
    seen: list[tuple[int, int]] = []
    list(engine.complete(tiny.requests(), tiny.SAMPLED, lambda done, total: seen.append((done, total))))
    assert seen[-1] == (30, 30)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_a_call_was_made_for_is_kept(engine: LocalEngine, tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        stored = LocalEngine(engine.model, engine.tokenizer, "tiny", "d", store)
        asked = [Request("a", "Name a river."), Request("b", "Name a river.", role="judge")]
        list(stored.complete(asked, GREEDY))
        list(stored.complete([Request("c", "Name a river.")], GREEDY))
        assert {(p.request_id, p.role, p.model) for p in store.purposes()} == {
            ("a", "completion", "tiny"),
            ("b", "judge", "tiny"),
            ("c", "completion", "tiny"),
        }
        assert len(store) == 1
