"""The engine for servers that speak the OpenAI interface: vLLM, SGLang, Ollama, llama.cpp, commercial ones.

Outside it is a plain iterator. Inside, an event loop in a thread of its own asks, and the caller's thread takes requests in
and hands outcomes out, so that a slow caller delays no reply and an interrupted one loses none. An answer is in the store
before it is handed out. Memory is bounded: no more than a window of requests is between the two threads.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp

from alignprism.errors import Failure, InputError
from alignprism.models import probe
from alignprism.models.addresses import FIRST_REST_SECONDS, LONGEST_REST_SECONDS
from alignprism.models.asking import Asker
from alignprism.models.cost import Budget
from alignprism.models.extra import without_extra
from alignprism.models.protocol import Decoding, Outcome, Progress, Request
from alignprism.models.scripted import outcome_of
from alignprism.models.settings import EndpointSettings
from alignprism.models.store import Call, CallStore, Purpose
from alignprism.models.tally import Say, Tally
from alignprism.models.wire import Item

_CHUNK = 500  # requests that are looked up in the store at once
_WINDOW = 4000  # requests between the two threads
_GRACE_SECONDS = 10.0
_NOTICE_SECONDS = 0.5
"""Nothing is waited for longer at a time: a Ctrl-C that comes just as Python begins to wait is not noticed before it ends."""

Result = TypeVar("Result")


class EndpointEngine:
    """A model behind an endpoint. A context manager: on entry the endpoint is probed, on exit its connections close.

    `keys` are values by the names of environment variables. `say` is given lines for people; `tally` counts what was done.
    Whoever stops early waits `grace_seconds` for the answers in flight; what is given up then is stored as ``interrupted``
    with what it may have cost, and asked again by the next run.

    Raises (on entry)
    -----------------
    InputError
        no value for ``api_key_env``; a cap without a price; the server does not know the model or refuses the key.
    Failure
        no server answers at any address, and the store does not know from before what it served.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        name: str,
        *,
        store: CallStore,
        keys: Mapping[str, str] | None = None,
        budget: Budget | None = None,
        say: Say = lambda _: None,
        tally: Tally | None = None,
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        self.name = name
        self.grace_seconds = grace_seconds
        self.settings = settings
        self.store = store
        self.tally = tally or Tally()
        self._say = say
        self._budget = budget
        self._headers = _headers(settings, name, keys or {})
        if budget is not None and settings.price is None:
            raise InputError(f"model {name!r}: a cap on cost needs its price (price: {{input: ..., output: ...}})")
        self._probed: probe.Probed | None = None
        self._digest = ""
        self._up = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"calls of {name}", daemon=True)
        self._session: aiohttp.ClientSession | None = None
        self._asker: Asker | None = None

    @property
    def digest(self) -> str:
        """The identity of what answers (see `alignprism.models.probe`)."""
        if not self._digest:
            raise RuntimeError("an endpoint's identity is known once it is entered")
        return self._digest

    @property
    def called(self) -> str:
        """The model in the keys of its calls, which hold what ``extra`` sends in a place of its own (see `wire.Item.of`)."""
        return without_extra(self.digest)

    @property
    def served(self) -> str:
        """The name that the server says it serves."""
        return "" if self._probed is None else self._probed.served

    # --- opening and closing -----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._session = self._in_loop(self._open())
            try:
                self._probed = self._probe()
            except probe.Unreachable as error:
                known = probe.remembered([self.store.served_before(u, self.settings.model) for u in self.settings.urls])
                if known is None:
                    raise
                end = "" if str(error).endswith("?") else "."
                self._say(f"{error}{end} Stored answers of {known.served} are used; nothing new can be asked.")
                self._probed = known
            self._digest = self._probed.digest(self.settings)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread."""
        if self._asker is not None:
            self._in_loop(self._asker.close())
            self._asker = None
        if self._session is not None:
            self._in_loop(self._session.close())
            self._session = None
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if not self._loop.is_closed():
            self._loop.close()

    async def _open(self) -> aiohttp.ClientSession:
        # The gate counts what is in flight; the connector need not. No environment, no cookies, no redirects.
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_seconds)
        return aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
        )

    def _probe(self) -> probe.Probed:
        assert self._session is not None
        probed = self._in_loop(probe.probe(self._session, self.settings, self.name))
        for record in probe.records(self.settings, probed):
            self.store.remember_served(record)
        self._up = True
        if probed.absent:
            places = ", ".join(urlsplit(url).netloc for url in probed.absent)
            self._say(
                f"model {self.name!r}: no answer from {places}; the other addresses are used until it comes back."
            )
        return probed

    def _ready(self) -> Asker:
        """What asks; an endpoint that was down at the start must have come back as what it was."""
        assert self._session is not None
        assert self._probed is not None
        if not self._up:
            probed = self._probe()
            if probed.digest(self.settings) != self.digest:
                raise Failure(
                    f"model {self.name!r}: the endpoint served {self.served} before and serves {probed.served} now; "
                    "run the same command again, and it begins with the model that is there"
                )
            self._probed = probed
        if self._asker is None:
            self._asker = Asker(
                self.settings, self._probed, self.called, self.store, self._session, self._budget, self.tally, self._say
            )
            for url in self._probed.absent:
                late = self._join_later(self._asker, self._session, self._probed, url)
                self._loop.call_soon_threadsafe(self._asker.beside, late)
        return self._asker

    async def _join_later(self, asker: Asker, session: aiohttp.ClientSession, probed: probe.Probed, url: str) -> None:
        """Ask an address that did not answer at the start until it does; it takes part if it serves what the others do."""
        rest = FIRST_REST_SECONDS
        while True:
            await asyncio.sleep(rest)
            try:
                await probe.probe_absent(session, self.settings, self.name, url, probed)
            except probe.Unreachable:
                rest = min(LONGEST_REST_SECONDS, 2.0 * rest)
            except (InputError, Failure) as error:
                self._say(f"{error}. It is left out of this run.")
                return
            else:
                asker.join(url)
                return

    def _in_loop(self, work: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not wait([future], _NOTICE_SECONDS).done:
            pass
        return future.result()

    # --- completing --------------------------------------------------------------------------------------------------

    def complete(
        self, requests: Iterable[Request], decoding: Decoding, progress: Progress | None = None
    ) -> Iterator[Outcome]:
        """One outcome per request and sample, each stored before it is handed out, in the order in which they come.

        `progress` is called with (outcomes so far, all); all is only known for a list of requests.

        Raises
        ------
        Failure
            something must be asked and the endpoint is not there.
        """
        total = len(requests) * decoding.samples if isinstance(requests, Sequence) else 0
        return _Run(self, decoding, progress, total).outcomes(requests)


class _Run:
    """One list of requests on its way through; lives in the caller's thread."""

    def __init__(self, engine: EndpointEngine, decoding: Decoding, progress: Progress | None, total: int) -> None:
        self.engine = engine
        self.decoding = decoding
        self.done = 0
        self._progress = progress
        self._total = total
        self._came: queue.SimpleQueue[list[tuple[Item, Call]] | BaseException] = queue.SimpleQueue()
        self._outstanding = 0
        self._asker: Asker | None = None

    def outcomes(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        samples = self.decoding.samples
        pairs = ((request, sample) for request in requests for sample in range(samples))
        more = True
        try:
            while more or self._outstanding:
                while more and self._outstanding <= _WINDOW - _CHUNK:
                    chunk = list(islice(pairs, _CHUNK))
                    more = len(chunk) == _CHUNK
                    yield from self._hand_out(self._stored(chunk))
                    if self._outstanding and self._came.qsize():
                        break
                if self._outstanding:
                    yield from self._hand_out(self._receive())
        finally:
            if self._asker is not None:
                if self._outstanding:
                    self._stop(self._asker)
                else:
                    self.engine._loop.call_soon_threadsafe(self._asker.forget, self._came)

    def _hand_out(self, answered: list[tuple[Item, Call]]) -> Iterator[Outcome]:
        for item, call in answered:
            outcome = outcome_of(call, item.request, item.sample)
            self.done += 1
            self.engine.tally.count(outcome)
            yield outcome
        if answered and self._progress is not None:
            self._progress(self.done, max(self._total, self.done))

    def _stored(self, chunk: list[tuple[Request, int]]) -> list[tuple[Item, Call]]:
        """What is stored of a chunk; the rest is sent to the thread that asks."""
        engine = self.engine
        items = [Item.of(engine.called, engine.settings, self.decoding, request, sample) for request, sample in chunk]
        found = engine.store.get_many([item.key for item in items])
        engine.store.add_purposes(
            [Purpose.of(i.key, engine.name, i.request, i.sample) for i in items if i.key in found]
        )
        new = [item for item in items if item.key not in found]
        if new:
            self._asker = self._asker or engine._ready()
            self._outstanding += len(new)
            engine._loop.call_soon_threadsafe(self._asker.add, engine.name, new, self.decoding, self._came)
        engine.tally.stored += len(items) - len(new)
        return [(item, found[item.key]) for item in items if item.key in found]

    def _receive(self) -> list[tuple[Item, Call]]:
        while True:
            try:
                came = self._came.get(timeout=_NOTICE_SECONDS)
                break
            except queue.Empty:
                continue
        if isinstance(came, BaseException):
            raise came
        self._outstanding -= len(came)
        return came

    def _stop(self, asker: Asker) -> None:
        """Ask nothing more; what is in flight has been paid for and is waited for, but not for ever."""
        engine = self.engine
        grace = engine.grace_seconds
        stopping = asyncio.run_coroutine_threadsafe(asker.stop(self._came, grace), engine._loop)
        if asker.in_flight:
            engine._say(f"Stopping: up to {grace:.0f} s for {asker.in_flight} answers in flight.")
        began = time.monotonic()
        while not wait([stopping], _NOTICE_SECONDS).done:
            if time.monotonic() - began > grace + 5.0:
                engine._say(f"Not waited for longer than {time.monotonic() - began:.0f} s.")
                return
        stopping.result()


def _headers(settings: EndpointSettings, name: str, keys: Mapping[str, str]) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "alignprism"}
    if settings.api_key_env is not None:
        key = keys.get(settings.api_key_env, "").strip()
        if not key:
            raise InputError(f"model {name!r}: the environment variable {settings.api_key_env} (its key) is not set")
        headers["Authorization"] = f"Bearer {key}"
    return headers
