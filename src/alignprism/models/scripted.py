"""An engine that plays answers from a file or a function: for tests and demonstrations, without a model or a network.

It goes through the same store as every other engine, so that what is built on engines can be tried on it whole.
A script file is JSON lines (or CSV, Parquet) with ``text`` (the answer) and ``id`` (the request's) or ``prompt``;
optional are ``sample``, ``truncated``, ``filtered``, and ``failure``: a reason that the call got no answer.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from alignprism.errors import InputError
from alignprism.models.protocol import Answer, Asked, Decoding, Failed, Outcome, Progress, Reason, Request
from alignprism.models.store import Call, CallStore, Purpose, call_key
from alignprism.models.wording import rendered
from alignprism.records import read_records
from alignprism.rows import file_digest

_CHUNK = 500  # answers that share a transaction


@dataclass(frozen=True, slots=True)
class Line:
    """What the script says to one call: a text, or the reason that there is none."""

    text: str
    truncated: bool = False
    filtered: bool = False
    failure: Reason | None = None


Script = Callable[[Request, int], str | Line]
"""Called with a request and a sample number. It must always say the same to the same prompt and sample."""


class ScriptedEngine:
    """Plays a script. `digest` names what is played: another script needs another one, or stored answers are mixed up."""

    def __init__(self, name: str, script: Script, *, digest: str, store: CallStore | None = None) -> None:
        self.name = name
        self.digest = digest
        self.store = store
        self.asked = 0  # how often the script was called: what was stored is not asked again
        self._script = script

    def complete(
        self, requests: Iterable[Request], decoding: Decoding, progress: Progress | None = None
    ) -> Iterator[Outcome]:
        """One outcome per request and sample, in order; each is stored before it is handed out."""
        total = len(requests) * decoding.samples if isinstance(requests, list | tuple) else 0
        items = ((request, sample) for request in requests for sample in range(decoding.samples))
        done = 0
        while chunk := list(itertools.islice(items, _CHUNK)):
            yield from self._play(chunk, decoding)
            done += len(chunk)
            if progress is not None:
                progress(done, max(total, done))

    def _play(self, chunk: list[tuple[Request, int]], decoding: Decoding) -> Iterator[Outcome]:
        settings = decoding.identity()
        keys = [
            call_key(self.digest, rendered(request.prompt, request.plain), settings, sample, decoding.seed)
            for request, sample in chunk
        ]
        calls = self.store.get_many(keys) if self.store is not None else {}
        new = {
            key: self._ask(key, request, sample)
            for key, (request, sample) in zip(keys, chunk, strict=True)
            if key not in calls
        }
        calls |= new
        if self.store is not None:
            purposes = [
                Purpose.of(k, self.name, request, sample) for k, (request, sample) in zip(keys, chunk, strict=True)
            ]
            self.store.put_many(new.values(), purposes)
        for key, (request, sample) in zip(keys, chunk, strict=True):
            yield outcome_of(calls[key], request, sample)

    def _ask(self, key: str, request: Request, sample: int) -> Call:
        self.asked += 1
        said = self._script(request, sample)
        line = Line(said) if isinstance(said, str) else said
        if line.failure is not None:
            return Call(key, self.digest, "", 0, False, 0.0, "failed", line.failure, detail="the script says so")
        n_tokens = len(line.text.split())
        return Call(key, self.digest, line.text, n_tokens, line.truncated, 0.0, filtered=line.filtered)


def outcome_of(call: Call, request: Request, sample: int) -> Outcome:
    """A stored call as what one request gets."""
    if call.status == "failed":
        reason: Any = call.error
        return Failed(request.id, sample, reason, call.detail, call.key)
    return Answer(
        request.id,
        sample,
        call.text,
        call.n_tokens,
        call.truncated,
        call.filtered,
        call.key,
        call.log_probs,
        call.tokens,
    )


def scripted(path: Path, name: str, store: CallStore | None = None) -> ScriptedEngine:
    """An engine that plays a script file; its digest is the file's.

    Raises
    ------
    InputError
        the file cannot be read, or a row has neither id nor prompt, or no text, or an unknown failure. While playing: a
        request that is not in the script.
    """
    lines: dict[tuple[str, int], Line] = {}
    for number, record in read_records(path):
        lines[_place(path, number, record)] = _line(path, number, record)

    def play(request: Request, sample: int) -> Line:
        for place in (request.id, _prompt_place(request.prompt)):
            found = lines.get((place, sample)) or lines.get((place, -1))
            if found is not None:
                return found
        raise InputError(f"{path}: no row for request {request.id!r}, sample {sample}; add one with its id or prompt")

    return ScriptedEngine(name, play, digest=f"script {file_digest(path)}", store=store)


def _place(path: Path, number: int, record: dict[str, Any]) -> tuple[str, int]:
    key = record.get("id") or (record.get("prompt") and _prompt_place(record["prompt"]))
    if not key:
        raise InputError(f"{path}: row {number}: neither id nor prompt")
    sample = record.get("sample")
    return str(key), -1 if sample in (None, "") else int(sample)


def _prompt_place(prompt: Asked) -> str:
    text = prompt if isinstance(prompt, str) else rendered(prompt, plain=False)
    return "prompt " + hashlib.sha256(text.encode()).hexdigest()


def _line(path: Path, number: int, record: dict[str, Any]) -> Line:
    failure = record.get("failure") or None
    if failure is not None and failure not in get_args(Reason):
        raise InputError(f"{path}: row {number}: failure {failure!r}; accepted: {', '.join(get_args(Reason))}")
    text = record.get("text")
    if failure is None and not isinstance(text, str):
        raise InputError(f"{path}: row {number}: column text is missing")
    return Line(text or "", _true(record.get("truncated")), _true(record.get("filtered")), failure)


def _true(value: object) -> bool:
    return value is True or str(value).lower() in {"true", "1"}
