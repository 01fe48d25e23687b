"""Endpoints over real sockets: every row ends as an answer or a failure with its reason, and nothing is paid for twice."""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import asker
import loopback
import pytest

from alignprism.errors import Failure, InputError
from alignprism.models.cost import Budget
from alignprism.models.endpoint import EndpointEngine
from alignprism.models.extra import without_extra
from alignprism.models.protocol import Answer, Decoding, Failed, Message, Outcome, Request, in_order
from alignprism.models.settings import EndpointSettings, Price
from alignprism.models.store import Call, CallStore
from alignprism.stages.engines import completion_row

SHORT = Decoding(max_new_tokens=8)


def settings_of(*urls: str, **others: object) -> EndpointSettings:
    values = {"model": "tiny", "attempts": 2, "timeout_seconds": 5.0} | others
    return EndpointSettings.model_validate({"urls": list(urls), **values})


def prompts(count: int) -> list[Request]:
    return [Request(f"p{n}", f"prompt number {n}") for n in range(count)]


def ask(
    store: Path, settings: EndpointSettings, requests: list[Request], decoding: Decoding = SHORT, **options: object
) -> list[Outcome]:
    with CallStore(store) as calls, EndpointEngine(settings, "m", store=calls, **options) as engine:  # type: ignore[arg-type]
        return in_order(engine.complete(requests, decoding), requests, decoding.samples)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_answers_are_stored_with_all_that_was_said_and_never_asked_for_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with loopback.running("--log", str(log)) as url:
        first = ask(tmp_path / "calls.sqlite", settings_of(url), prompts(700))
        assert ask(tmp_path / "calls.sqlite", settings_of(url), prompts(700)) == first
    assert all(isinstance(o, Answer) and o.text.startswith("answer to ") and o.n_tokens == 5 for o in first)
    asked = Counter(log.read_text().splitlines())
    assert len(asked) == 700
    assert set(asked.values()) == {1}
    with CallStore(tmp_path / "calls.sqlite") as store:
        call = store.get_many([first[0].call])[first[0].call]
        assert (call.served, call.fingerprint, call.finish, call.parse) == ("tiny", "fp_1", "stop", "ok")
        assert (call.prompt_tokens, call.completion_tokens, call.attempts) == (12, 5, 1)
        assert b'"system_fingerprint"' in (store.raw_reply(call.key) or b"")
        assert {p.request_id for p in store.purposes()} == {f"p{n}" for n in range(700)}


def test_a_server_with_every_fault_leaves_an_answer_or_a_reason_in_every_row(tmp_path: Path) -> None:
    with loopback.running("--faults") as url:
        settings = settings_of(url, timeout_seconds=0.6)
        outcomes = ask(tmp_path / "calls.sqlite", settings, prompts(300))
        reasons = Counter(o.reason for o in outcomes if isinstance(o, Failed))
        assert set(reasons) == {
            "rate limited",
            "server error",
            "timeout",
            "cut reply",
            "invalid reply",
            "other model",
        }
        assert min(reasons.values()) > 10
        assert sum(isinstance(o, Answer) for o in outcomes) == 300 - sum(reasons.values())
        assert any(isinstance(o, Answer) and o.text == "" for o in outcomes)  # an empty answer is an answer
        with CallStore(tmp_path / "calls.sqlite") as store:
            failed = store.failures([o.call for o in outcomes])
            assert len(failed) == sum(reasons.values())
            assert {call.attempts for call in failed.values()} == {2}
            assert all(call.detail and not call.text for call in failed.values())
        assert all("prompt number" not in o.detail for o in outcomes if isinstance(o, Failed))


def test_faults_that_pass_are_tried_again_and_end_as_answers(tmp_path: Path) -> None:
    with loopback.running("--faults", "--heal", "1") as url:
        outcomes = ask(tmp_path / "calls.sqlite", settings_of(url, timeout_seconds=0.6, attempts=4), prompts(60))
    assert all(isinstance(o, Answer) for o in outcomes)


def test_a_failure_is_asked_again_by_the_next_run_and_a_server_that_is_well_answers(tmp_path: Path) -> None:
    port = str(closed_port())
    with loopback.running("--faults", "--port", port) as url:
        first = ask(tmp_path / "calls.sqlite", settings_of(url, timeout_seconds=0.3, attempts=1), prompts(60))
    with loopback.running("--port", port) as url:
        second = ask(tmp_path / "calls.sqlite", settings_of(url), prompts(60))
    assert any(isinstance(o, Failed) for o in first)
    assert all(isinstance(o, Answer) for o in second)
    kept = [o for o in first if isinstance(o, Answer)]
    assert [o for o in second if o.call in {a.call for a in kept}] == kept


def test_filters_and_refusals_are_data_and_a_prompt_that_is_too_long_is_named(tmp_path: Path) -> None:
    asked = [Request("f", "[filter] x"), Request("r", "[refusal] x"), Request("l", "[long] x")]
    with loopback.running() as url:
        filtered, refused, long = ask(tmp_path / "calls.sqlite", settings_of(url), asked)
    assert isinstance(filtered, Answer) and filtered.filtered and filtered.text == ""
    assert isinstance(refused, Answer) and not refused.filtered and refused.text == "I can't help with that."
    assert isinstance(long, Failed) and long.reason == "prompt too long"


def test_samples_are_calls_of_their_own_and_plain_prompts_are_not_chats(tmp_path: Path) -> None:
    chat = [Request("c", [Message("system", "Be brief."), Message("user", "x")]), Request("d", "x")]
    sampled = Decoding(max_new_tokens=8, temperature=0.8, samples=3)
    with loopback.running() as url:
        outcomes = ask(tmp_path / "calls.sqlite", settings_of(url), [*chat, Request("p", "x", plain=True)], sampled)
    texts = {o.text for o in outcomes if isinstance(o, Answer)}
    assert len(texts) == len(outcomes) == 9  # the server's answer is a hash of the request, seed included


def test_identical_requests_are_one_call(tmp_path: Path) -> None:
    log = tmp_path / "log"
    same = [Request(f"p{n}", "the same prompt") for n in range(1200)]
    with loopback.running("--log", str(log), "--delay", "0.02") as url:
        outcomes = ask(tmp_path / "calls.sqlite", settings_of(url), same)
    assert len({o.call for o in outcomes}) == 1
    assert len(log.read_text().splitlines()) == 1
    with CallStore(tmp_path / "calls.sqlite") as store:
        assert len(list(store.purposes())) == 1200


def test_many_that_wait_for_one_call_leave_it_room_to_be_asked(tmp_path: Path) -> None:
    same = [Request(f"same {n}", "the same prompt") for n in range(200)]
    outcomes: list[Outcome] = []
    with loopback.running("--delay", "0.02") as url:
        settings, asked = settings_of(url, connections=1), [*prompts(60), *same]
        asking = threading.Thread(
            target=lambda: outcomes.extend(ask(tmp_path / "calls.sqlite", settings, asked)), daemon=True
        )
        asking.start()
        asking.join(60)  # it once waited for ever
    assert len(outcomes) == 260 and all(isinstance(o, Answer) for o in outcomes)


def test_a_dead_address_is_left_out_and_one_that_was_added_changes_no_identity(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with loopback.running("--log", str(log), "--delay", "0.01") as first:
        with loopback.running("--delay", "0.01") as second, CallStore(tmp_path / "calls.sqlite") as store:
            with EndpointEngine(settings_of(first), "m", store=store) as alone:
                digest = alone.digest
            both = EndpointEngine(settings_of(first, second, attempts=4), "m", store=store)
            with both as engine:
                assert engine.digest == digest
                outcomes = list(engine.complete(prompts(100), SHORT))
                before = len(log.read_text().splitlines())
                assert 20 < before < 80  # balanced
        # the second is gone now: what goes there fails and is asked of the first
        assert all(isinstance(o, Answer) for o in outcomes)


def test_an_address_that_dies_costs_no_answers(tmp_path: Path) -> None:
    with loopback.running("--delay", "0.02") as first, CallStore(tmp_path / "calls.sqlite") as store:
        with loopback.running("--delay", "0.02") as second:
            engine = EndpointEngine(settings_of(first, second, attempts=5), "m", store=store).__enter__()
            outcomes = iter(engine.complete(prompts(400), SHORT))
            some = [next(outcomes) for _ in range(50)]
        rest = list(outcomes)
        engine.close()
    assert all(isinstance(o, Answer) for o in [*some, *rest])
    assert len(some) + len(rest) == 400


def test_a_replica_that_is_down_at_the_start_stops_nothing_and_changes_no_identity(tmp_path: Path) -> None:
    ports, said = (str(closed_port()), str(closed_port())), list[str]()
    settings = settings_of(*(f"http://127.0.0.1:{port}/v1" for port in ports))
    with CallStore(tmp_path / "c.sqlite") as store:
        with (
            loopback.running("--port", ports[0]),
            loopback.running("--port", ports[1]),
            EndpointEngine(settings, "m", store=store) as engine,
        ):
            digest = engine.digest
        for up, down in (ports, ports[::-1]):
            with loopback.running("--port", up), EndpointEngine(settings, "m", store=store, say=said.append) as engine:
                assert engine.digest == digest
                assert all(isinstance(o, Answer) for o in engine.complete(prompts(30), SHORT))
            assert f"no answer from 127.0.0.1:{down}" in said.pop()


def test_a_replica_that_comes_back_takes_part_if_it_serves_the_same(tmp_path: Path) -> None:
    late, said = str(closed_port()), list[str]()
    for root, takes_part in (("/weights/tiny", True), ("/weights/other", False)):
        log, store_path = tmp_path / f"{takes_part}", tmp_path / f"{takes_part}.sqlite"
        with loopback.running("--delay", "0.1") as up, CallStore(store_path) as store:
            settings = settings_of(f"http://127.0.0.1:{late}/v1", up, connections=2)
            with (
                EndpointEngine(settings, "m", store=store, say=said.append) as engine,
                loopback.running("--port", late, "--root", root, "--log", str(log)),
            ):
                outcomes = list(engine.complete(prompts(80), SHORT))
        assert all(isinstance(o, Answer) for o in outcomes)
        assert bool(log.read_text()) == takes_part
    assert "serve different models" in said[-1] and "left out" in said[-1]


@pytest.mark.parametrize("trouble", [["--only", "502"], ["--only", "429"], ["--delay", "9"]])
def test_what_is_stored_can_be_read_while_a_gateway_gives_errors_or_nothing(trouble: list[str], tmp_path: Path) -> None:
    port, said = str(closed_port()), list[str]()
    with loopback.running("--port", port) as url:
        first = ask(tmp_path / "c.sqlite", settings_of(url), prompts(20))
    with loopback.running("--port", port, *trouble):
        settings = settings_of(url, timeout_seconds=0.3)
        assert ask(tmp_path / "c.sqlite", settings, prompts(20), say=said.append) == first
    assert "Stored answers of tiny are used" in said[0]


def test_a_provider_that_throttles_gets_less_at_once_and_every_row_is_answered(tmp_path: Path) -> None:
    with loopback.running("--throttle", "8", "--delay", "0.02") as url:
        settings = settings_of(url, attempts=12)
        outcomes = ask(tmp_path / "calls.sqlite", settings, prompts(80))
    assert all(isinstance(o, Answer) for o in outcomes)


def test_a_provider_without_quota_is_not_asked_for_the_rest(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with loopback.running("--quota", "100", "--log", str(log), "--delay", "0.01") as url:
        outcomes = ask(tmp_path / "calls.sqlite", settings_of(url), prompts(2000))
    failed = [o for o in outcomes if isinstance(o, Failed)]
    assert len(failed) == 2000 - 99  # the probe was the first of the hundred
    assert {o.reason for o in failed} == {"rate limited"}
    assert "insufficient_quota, asks to wait 3600 s" in failed[0].detail.replace("(", "").replace(")", "")
    assert log.read_text().count("quota") <= 64


@pytest.mark.parametrize(
    ("server", "change", "kind", "says"),
    [
        ([], {"model": "gpt-9"}, InputError, "does not know the model 'gpt-9'.*it knows tiny"),
        (["--key", "k"], {}, InputError, "401.*api_key_env"),
        (["--key", "k"], {"api_key_env": "K"}, InputError, "401.*the key in K is wrong"),
        ([], {"api_key_env": "ABSENT"}, InputError, "ABSENT .its key. is not set"),
        (None, {}, Failure, "cannot be reached.*is the server running"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_paid(
    server: list[str] | None, change: dict[str, object], kind: type[Exception], says: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    if server is None:
        with pytest.raises(kind, match=says):
            ask(tmp_path / "c.sqlite", settings_of(f"http://127.0.0.1:{closed_port()}/v1"), prompts(1))
        return
    with loopback.running("--log", str(log), *server) as url, pytest.raises(kind, match=says):
        ask(tmp_path / "c.sqlite", settings_of(url, **change), prompts(1), keys={"K": "wrong"})
    assert log.read_text() == ""


def test_two_addresses_of_different_weights_are_refused(tmp_path: Path) -> None:
    with (
        loopback.running() as one,
        loopback.running("--root", "/weights/other") as two,
        pytest.raises(InputError, match="serve different models"),
    ):
        ask(tmp_path / "c.sqlite", settings_of(one, two), prompts(1))


def test_identity_follows_weights_and_address_unless_the_user_names_the_weights(tmp_path: Path) -> None:
    digests = []
    with CallStore(tmp_path / "c.sqlite") as store:
        for root, named in (
            ("/a", None),
            ("/b", None),
            ("/a", "revision 1"),
            ("/a", "revision 1"),
            ("/b", "revision 1"),
        ):
            with (
                loopback.running("--root", root) as url,
                EndpointEngine(settings_of(url, weights=named), "m", store=store) as engine,
            ):
                digests.append(engine.digest)
    assert digests[2] == digests[3]  # other ports, the same weights by the user's word
    assert len(set(digests)) == 4


@pytest.mark.parametrize("gateway", [False, True])
def test_a_server_that_is_started_again_costs_no_answers_and_no_attempts(gateway: bool, tmp_path: Path) -> None:
    """Calls have two attempts here; the server is away for longer than two tries take."""
    port, said = str(closed_port()), list[str]()
    url = f"http://127.0.0.1:{port}/v1"
    settings = settings_of(url, connections=8, patience_seconds=30.0)
    with CallStore(tmp_path / "c.sqlite") as store:
        with loopback.running("--port", port, "--delay", "0.05"):
            engine = EndpointEngine(settings, "m", store=store, say=said.append).__enter__()
            outcomes = iter(engine.complete(prompts(200), SHORT))
            some = [next(outcomes) for _ in range(20)]
        if gateway:
            with loopback.running("--port", port, "--only", "503"):
                time.sleep(2.5)
        else:
            time.sleep(2.5)
        with loopback.running("--port", port):
            rest = list(outcomes)
        engine.close()
    assert len(some) + len(rest) == 200
    assert all(isinstance(o, Answer) for o in [*some, *rest])
    assert [line for line in said if "no server answers" in line]


def test_a_server_that_stays_away_fails_the_rest_once_patience_has_ended(tmp_path: Path) -> None:
    with CallStore(tmp_path / "c.sqlite") as store:
        with loopback.running("--delay", "0.05") as url:
            settings = settings_of(url, connections=8, patience_seconds=1.0)
            engine = EndpointEngine(settings, "m", store=store).__enter__()
            outcomes = iter(engine.complete(prompts(200), SHORT))
            some = [next(outcomes) for _ in range(20)]
        began = time.monotonic()
        rest = list(outcomes)
        engine.close()
    assert len(some) + len(rest) == 200
    assert {o.reason for o in rest if isinstance(o, Failed)} == {"connection"}
    assert time.monotonic() - began < 30.0


def test_a_request_that_its_server_never_survives_is_not_sent_for_ever(tmp_path: Path) -> None:
    """Others are answered in between, so that no outage lasts."""
    asked = [Request("bad", "[away] x"), *prompts(150)]
    with loopback.running("--delay", "0.05") as url, CallStore(tmp_path / "c.sqlite") as store:
        settings = settings_of(url, connections=2, patience_seconds=0.5)
        with EndpointEngine(settings, "m", store=store) as engine:
            outcomes = list(engine.complete(asked, SHORT))
    ended = [outcome.request_id for outcome in outcomes].index("bad")
    bad = outcomes.pop(ended)
    assert isinstance(bad, Failed) and bad.reason == "server error" and ended < 150
    assert all(isinstance(o, Answer) for o in outcomes)


def test_what_extra_sends_is_part_of_who_answers_and_the_calls_of_a_model_stay_its_own(tmp_path: Path) -> None:
    found: list[tuple[str, list[str], str]] = []
    with loopback.running() as url, CallStore(tmp_path / "c.sqlite") as store:
        for extra in ({}, {"top_k": 1}, {"top_k": 2}, {"top_k": 1}):
            with EndpointEngine(settings_of(url, extra=extra), "m", store=store) as engine:
                outcomes = in_order(engine.complete(prompts(1), SHORT), prompts(1), 1)
                row = completion_row(engine, outcomes[0], SHORT, "greedy")
                found.append((engine.digest, [o.call for o in outcomes], row.id))
        assert len(store) == 3, "the last one is answered from the store"
        assert {digest for *_, digest, _, _ in store.index()} == {found[0][0]}, "all of one model"
    assert found[1] == found[3]
    for part in range(3):
        assert len({str(entry[part]) for entry in found}) == 3
    assert {without_extra(digest) for digest, *_ in found} == {found[0][0]}


def test_what_is_stored_can_be_read_when_the_server_is_gone_and_nothing_else_can_be_asked(tmp_path: Path) -> None:
    with loopback.running() as url:
        first = ask(tmp_path / "c.sqlite", settings_of(url), prompts(20))
    said: list[str] = []
    assert ask(tmp_path / "c.sqlite", settings_of(url), prompts(20), say=said.append) == first
    assert "Stored answers of tiny are used" in said[0]
    with pytest.raises(Failure, match="cannot be reached"):
        ask(tmp_path / "c.sqlite", settings_of(url), prompts(21))


def test_a_reply_that_an_older_version_could_not_read_is_read_again_without_asking(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with loopback.running("--log", str(log)) as url, CallStore(tmp_path / "c.sqlite") as store:
        with EndpointEngine(settings_of(url), "m", store=store) as engine:
            first = list(engine.complete(prompts(2), SHORT))
            raw = store.raw_reply(first[0].call)
        for parse, asked in (("1: no choices", 3), ("0: no choices", 3)):  # this version's own verdict stands
            with CallStore(tmp_path / f"{asked} {parse[0]}.sqlite") as other:
                failed = Call(first[0].call, "d", "", 0, False, 0.1, "failed", "invalid reply", parse=parse, raw=raw)
                other.put_many([failed])
                with EndpointEngine(settings_of(url), "m", store=other) as engine:
                    assert list(engine.complete(prompts(1), SHORT)) == first[:1]
            assert len(log.read_text().splitlines()) == asked


def test_the_cap_holds_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    store_path = tmp_path / "c.sqlite"
    with loopback.running("--delay", "0.01") as url:
        settings = settings_of(url, price=Price(input=1000.0, output=1000.0), connections=8)
        one = (12 + 5) * 1000.0 / 1e6
        for cap, least, most in ((1.0, 40, 58), (1.0, 40, 58), (100.0, 200, 200)):
            with CallStore(store_path) as store:
                budget = Budget(cap, store.spent())
                with EndpointEngine(settings, "m", store=store, budget=budget) as engine:
                    outcomes = list(engine.complete(prompts(200), SHORT))
                assert store.spent() == pytest.approx(budget.spent)
                answered = sum(isinstance(o, Answer) for o in outcomes)
                assert least <= answered <= most
                assert store.spent() == pytest.approx(answered * one)
                assert store.spent() <= cap
                assert all(o.reason == "over budget" for o in outcomes if isinstance(o, Failed))
        with CallStore(store_path) as store, pytest.raises(InputError, match="price"):
            EndpointEngine(settings_of(url), "m", store=store, budget=Budget(1.0))


def test_memory_is_bounded_requests_are_taken_as_outcomes_are(tmp_path: Path) -> None:
    taken = 0

    def stream() -> object:
        nonlocal taken
        for request in prompts(20_000):
            taken += 1
            yield request

    with (
        loopback.running() as url,
        CallStore(tmp_path / "c.sqlite") as store,
        EndpointEngine(settings_of(url), "m", store=store) as engine,
    ):
        outcomes = iter(engine.complete(stream(), SHORT))  # type: ignore[arg-type]
        for _ in range(100):
            next(outcomes)
        time.sleep(0.5)
        assert taken < 6000
        outcomes.close()  # type: ignore[attr-defined]
        assert len(store) > 0


def interrupted(
    when: Callable[[], bool], *, engine: EndpointEngine, requests: list[Request], again: threading.Event | None = None
) -> None:
    """Ctrl-C in the main thread, which waits for answers, as soon as a condition holds, and once more after an event.

    Nothing here is timed: on a busy machine two signals that are sent a moment apart arrive as one.
    """
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        until(when)
        signal.pthread_kill(main, signal.SIGINT)
        if again is not None and again.wait(30):
            signal.pthread_kill(main, signal.SIGINT)

    pressing = threading.Thread(target=press)
    with pytest.raises(KeyboardInterrupt):
        pressing.start()
        list(engine.complete(requests, SHORT))
    pressing.join()


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_an_interrupted_caller_gets_what_was_in_flight_into_the_store(tmp_path: Path) -> None:
    log = tmp_path / "log"
    said: list[str] = []
    with loopback.running("--log", str(log), "--delay", "0.3") as url, CallStore(tmp_path / "c.sqlite") as store:
        with EndpointEngine(settings_of(url), "m", store=store, say=said.append) as engine:
            interrupted(lambda: lines(log) >= 20, engine=engine, requests=prompts(500))
        assert 20 <= lines(log) < 500
        assert len(store) == lines(log)  # all that was paid for is kept
        assert "in flight" in said[0]


def test_what_a_stop_gives_up_counts_for_the_next_cap_and_is_asked_again(tmp_path: Path) -> None:
    path, port, arrivals = tmp_path / "c.sqlite", str(closed_port()), tmp_path / "arrivals"
    price = Price(input=1000.0, output=1000.0)
    with loopback.running("--delay", "60", "--port", port, "--arrivals", str(arrivals)) as url:
        settings = settings_of(url, connections=8, timeout_seconds=120.0, price=price)
        with CallStore(path) as store:
            budget = Budget(100.0, store.spent())
            engine = EndpointEngine(settings, "m", store=store, budget=budget, grace_seconds=0.2)
            with engine:
                interrupted(lambda: lines(arrivals) == 8, engine=engine, requests=prompts(20))
    with CallStore(path) as store:
        assert store.spent() == pytest.approx(budget.spent)
        reasons = Counter((status, reason) for _, status, reason, *_ in store.index())
        assert reasons == {("failed", "interrupted"): 8}  # those in flight
        before = store.spent()
    with loopback.running("--port", port) as url:
        outcomes = ask(path, settings, prompts(20))
    assert all(isinstance(o, Answer) for o in outcomes)
    with CallStore(path) as store:
        assert store.spent() == pytest.approx(before + 20 * (12 + 5) * 1000.0 / 1e6)


def test_what_waits_for_its_next_try_at_a_stop_counts_too(tmp_path: Path) -> None:
    """Requests without a reply may have been charged; a stop comes while some sleep before they are sent again."""
    path, arrivals = tmp_path / "c.sqlite", tmp_path / "arrivals"
    with loopback.running("--faults", "--arrivals", str(arrivals)) as url:
        settings = settings_of(url, timeout_seconds=0.2, attempts=100, price=Price(output=1000.0))
        with CallStore(path) as store:
            budget = Budget(100.0)
            with EndpointEngine(settings, "m", store=store, budget=budget, grace_seconds=0.0) as engine:
                interrupted(lambda: lines(arrivals) > 150, engine=engine, requests=prompts(100))
    with CallStore(path) as store:
        assert store.spent() == pytest.approx(budget.spent)
        assert "interrupted" in {reason for _, _, reason, *_ in store.index()}


def test_a_run_that_is_stopped_twice_forgets_nothing_either(tmp_path: Path) -> None:
    """The second Ctrl-C ends the wait for what is in flight."""
    path, arrivals, waits = tmp_path / "c.sqlite", tmp_path / "arrivals", threading.Event()
    with loopback.running("--delay", "60", "--arrivals", str(arrivals)) as url, CallStore(path) as store:
        settings = settings_of(url, connections=4, timeout_seconds=120.0, price=Price(output=1000.0))
        budget = Budget(100.0)
        with EndpointEngine(settings, "m", store=store, budget=budget, say=lambda _: waits.set()) as engine:
            interrupted(lambda: lines(arrivals) == 4, engine=engine, requests=prompts(20), again=waits)
    with CallStore(path) as store:
        assert store.spent() == pytest.approx(budget.spent) and budget.spent > 0
        assert {reason for _, _, reason, *_ in store.index()} == {"interrupted"}


class FailsBesideTheCaller(CallStore):
    """A real store whose file can no longer be read in the thread that asks."""

    def failures(self, keys: Sequence[str]) -> dict[str, Call]:
        raise sqlite3.DatabaseError("database disk image is malformed")


def test_a_store_that_cannot_be_read_ends_the_run_with_its_error(tmp_path: Path) -> None:
    ended: list[BaseException] = []

    def run(url: str) -> None:
        with (
            FailsBesideTheCaller(tmp_path / "c.sqlite") as store,
            EndpointEngine(settings_of(url), "m", store=store) as e,
        ):
            try:
                list(e.complete(prompts(3), SHORT))
            except sqlite3.DatabaseError as error:
                ended.append(error)

    with loopback.running() as url:
        asking = threading.Thread(target=run, args=(url,), daemon=True)
        asking.start()
        asking.join(30)  # it once waited for ever
    assert [str(error) for error in ended] == ["database disk image is malformed"]


@pytest.mark.slow
def test_killed_again_and_again_no_answer_is_lost_doubled_or_asked_for_twice(tmp_path: Path) -> None:
    store_path, acknowledged, log = tmp_path / "c.sqlite", tmp_path / "acknowledged", tmp_path / "log"
    calls, draw = 1000, random.Random(4)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with loopback.running("--log", str(log), "--delay", "0.02") as url:
        command = [sys.executable, asker.__file__, url, str(store_path), str(acknowledged), str(calls)]
        for kill in range(5):
            there = acknowledged.stat().st_size if acknowledged.exists() else 0
            process = subprocess.Popen(command, env=environment)
            while process.poll() is None and (not acknowledged.exists() or acknowledged.stat().st_size == there):
                time.sleep(0.002)
            time.sleep(draw.uniform(0.0, 0.2))
            if kill < 4:
                process.send_signal(signal.SIGKILL)
            process.wait()
            asked = Counter(line.split()[0] for line in log.read_text().splitlines())
            with CallStore(store_path) as store:
                keys = [line.split()[0] for line in acknowledged.read_text().splitlines() if len(line) > 65]
                assert set(store.get_many(keys)) == set(keys)  # handed out only when it was on disk
                held = {
                    c.text.removeprefix("answer to ") for c in store.get_many([k for k, *_ in store.index()]).values()
                }
            if kill:
                assert all(asked[name] == before[name] for name in settled)  # noqa: F821  # set by the turn before
            before, settled = asked, held  # noqa: F841
    assert len(held) == calls
    assert len(asked) == calls
    assert sum(asked.values()) - calls <= 4 * 8 * 16  # only what was in flight at a kill, or not committed yet
