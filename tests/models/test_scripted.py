"""The scripted engine plays through the real store, and `open_engine` finds the right engine or says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import loopback
import pytest
import tiny

from alignprism.errors import InputError
from alignprism.models.engines import is_this_machine, open_engine
from alignprism.models.protocol import Answer, Decoding, Failed, Request
from alignprism.models.scripted import Line, ScriptedEngine, scripted
from alignprism.models.settings import ModelSettings
from alignprism.models.store import CallStore


def test_a_script_is_asked_once_and_its_failures_are_no_answers(tmp_path: Path) -> None:
    def say(request: Request, sample: int) -> str | Line:
        return Line("", failure="timeout") if request.id == "p3" else f"{request.id} {sample}"

    requests = [Request(f"p{n}", f"prompt {n}") for n in range(6)]
    sampled = Decoding(temperature=1.0, samples=2)
    seen: list[tuple[int, int]] = []
    with CallStore(tmp_path / "c.sqlite") as store:
        engine = ScriptedEngine("s", say, digest="one", store=store)
        first = list(engine.complete(requests, sampled, lambda done, total: seen.append((done, total))))
        assert engine.asked == 12
        assert list(engine.complete(requests, sampled)) == first
        assert engine.asked == 14  # the two failures, again
        other = ScriptedEngine("s", lambda request, sample: "other", digest="two", store=store)
        assert {o.text for o in other.complete(requests, sampled) if isinstance(o, Answer)} == {"other"}
    assert [o.text for o in first if isinstance(o, Answer)][:2] == ["p0 0", "p0 1"]
    assert [(o.request_id, o.reason) for o in first if isinstance(o, Failed)] == [("p3", "timeout")] * 2
    assert seen == [(12, 12)]


def test_a_script_file_answers_by_id_or_prompt(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "text": "by id"},
        {"prompt": "hello", "text": "by prompt", "truncated": True},
        {"id": "s", "sample": 1, "text": "second"},
        {"id": "s", "sample": 0, "text": "first"},
        {"id": "f", "failure": "rate limited"},
        {"id": "e", "text": ""},
    ]
    file = tmp_path / "script.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with CallStore(tmp_path / "c.sqlite") as store:
        settings = ModelSettings(source=f"script:{file}")
        with open_engine(settings, "played", store=store, cache=tmp_path) as engine:
            asked = [Request("a", "x"), Request("b", "hello"), Request("f", "y"), Request("e", "z")]
            a, b, f, e = engine.complete(asked, Decoding())
            assert isinstance(a, Answer) and a.text == "by id"
            assert isinstance(b, Answer) and b.text == "by prompt" and b.truncated
            assert isinstance(f, Failed) and f.reason == "rate limited"
            assert isinstance(e, Answer) and e.text == ""
            two = engine.complete([Request("s", "q")], Decoding(temperature=1.0, samples=2))
            assert [o.text for o in two if isinstance(o, Answer)] == ["first", "second"]
            with pytest.raises(InputError, match="no row for request 'nobody'"):
                list(engine.complete([Request("nobody", "w")], Decoding()))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"text": "x"}, "neither id nor prompt"),
        ({"id": "a"}, "column text"),
        ({"id": "a", "failure": "tired"}, "accepted"),
    ],
)
def test_a_script_that_says_nothing_is_refused(line: dict[str, str], says: str, tmp_path: Path) -> None:
    file = tmp_path / "script.jsonl"
    file.write_text(json.dumps(line))
    with pytest.raises(InputError, match=says):
        scripted(file, "s")


def test_a_host_that_nobody_allowed_gets_nothing(tmp_path: Path) -> None:
    settings = ModelSettings.model_validate({"endpoint": {"urls": ["https://api.example.org/v1"], "model": "m"}})
    with CallStore(tmp_path / "c.sqlite") as store:
        with (
            pytest.raises(InputError, match=r"api\.example\.org.*allow_remote"),
            open_engine(settings, "far", store=store, cache=tmp_path),
        ):
            pass
        with (
            pytest.raises(InputError, match="KEY"),  # allowed: the next thing that is missing is said
            open_engine(
                settings.model_copy(
                    update={"endpoint": settings.endpoint.model_copy(update={"api_key_env": "KEY"})}  # type: ignore[union-attr]
                ),
                "far",
                store=store,
                cache=tmp_path,
                allow_remote=["API.example.org"],
            ),
        ):
            pass


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("10.0.0.1", False),
     ("localhost.example.org", False), ("0x7f.1", False)],
)  # fmt: skip
def test_only_loopback_is_this_machine(host: str, here: bool) -> None:
    assert is_this_machine(host) is here


def test_weights_and_endpoints_speak_one_protocol(tiny_gemma: Path, tmp_path: Path) -> None:
    requests, decoding = tiny.requests(), Decoding(max_new_tokens=2)
    with CallStore(tmp_path / "c.sqlite") as store, loopback.running() as url:
        served = {"endpoint": {"urls": [url], "model": "tiny"}}
        digests = set()
        for settings in (ModelSettings(source=str(tiny_gemma)), ModelSettings.model_validate(served)):
            with open_engine(settings, "m", store=store, cache=tmp_path) as engine:
                outcomes = list(engine.complete(requests, decoding))
                assert all(isinstance(o, Answer) for o in outcomes)
                assert {o.request_id for o in outcomes} == {r.id for r in requests}
                digests.add(engine.digest)
        assert len(digests) == 2
        assert len(store) == 2 * len(requests)
