"""From requests to units of work and back to outcomes: what the engines that hold weights (local, Ray) share.

Requests are read in windows, so that memory does not grow with their number. A window's prompts are sorted by length and
cut into units, which are decoded and stored whole. A unit is made of the requests as they come and of their content,
never of what is left to do: a run that was killed and continued decodes the same units and gets the same numbers as one
that was not. The price is that a kill loses up to one unit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from alignprism.models import template
from alignprism.models.decoding import row_seed
from alignprism.models.protocol import Answer, Decoding, Failed, Outcome, Progress, Reason, Request
from alignprism.models.store import Call, CallStore, Purpose, call_key
from alignprism.models.template import TemplateError

WINDOW = 8192  # requests that are in memory at once; sorting gains little from more
UNIT_BATCHES = 4  # of a unit: with more, fewer rows are decoded with others gone; with less, a kill loses less

Tick = Callable[[int], None]
"""Called with how many prompts of the unit in work have ended."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote to one prompt, or why it did not (`failure`); see `alignprism.models.protocol.Answer`."""

    text: str = ""
    n_tokens: int = 0
    truncated: bool = False
    log_probs: tuple[float, ...] | None = None
    tokens: tuple[str, ...] | None = None
    failure: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """Prompts (token ids, one seed each) that are decoded and stored together; with `calls` it is done already.

    ``asked``: for every call's key, the requests and samples that it answers.
    """

    keys: tuple[str, ...]
    prompts: tuple[tuple[int, ...], ...]
    seeds: tuple[int, ...]
    asked: Mapping[str, Sequence[tuple[Request, int]]]
    calls: Mapping[str, Call] | None = None


Done = tuple[Unit, Sequence[Written], float]
"""A unit, what was written to its prompts (nothing, if it was done before), and the seconds that took."""
Run = Callable[[Iterator[Unit], Tick], Iterator[Done]]
"""Decodes units, in any order; units that are done already are handed through."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Who is asked (name, digest, numerics that are part of its answers' identity), how prompts become ids, where to store.

    ``context`` is the most tokens that prompt and answer may have together; None: no bound is known.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    digest: str
    numerics: Mapping[str, str]
    context: int | None
    store: CallStore | None
    unit_batches: int = UNIT_BATCHES

    def outcomes(
        self, requests: Iterable[Request], decoding: Decoding, run: Run, progress: Progress | None = None
    ) -> Iterator[Outcome]:
        """One outcome per request and sample, each stored before it is handed out; unit by unit."""
        total = len(requests) * decoding.samples if isinstance(requests, Sequence) else 0
        done = 0

        def tick(ended: int) -> None:
            if progress is not None:
                progress(done + ended, max(total, done + ended))

        for unit, written, seconds in run(self._units(requests, decoding), tick):
            calls = unit.calls if unit.calls is not None else self._keep(unit, written, seconds)
            done += sum(map(len, unit.asked.values()))
            tick(0)
            for key, places in unit.asked.items():
                yield from (_outcome(calls[key], request, sample) for request, sample in places)

    # --- planning ----------------------------------------------------------------------------------------------------

    def _units(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Unit]:
        source = iter(requests)
        while window := list(itertools.islice(source, max(1, WINDOW // decoding.samples))):
            yield from self._window(window, decoding)

    def _window(self, window: Sequence[Request], decoding: Decoding) -> Iterator[Unit]:
        settings = decoding.identity() | dict(self.numerics)
        asked: dict[str, list[tuple[Request, int]]] = {}
        texts: dict[str, tuple[str, int]] = {}
        refused: dict[str, str] = {}
        for request in window:
            try:
                text = self._rendered(request)
            except TemplateError as error:
                text, refusal = repr(request.prompt), str(error)
            else:
                refusal = ""
            for sample in range(decoding.samples):
                seed = row_seed(decoding.seed, text, sample) if decoding.temperature > 0.0 else 0
                key = call_key(self.digest, text, settings, sample, seed)
                asked.setdefault(key, []).append((request, sample))
                texts[key] = (text, seed)
                if refusal:
                    refused[key] = refusal
        known = self.store.get_many(list(asked)) if self.store is not None else {}
        if len(known) == len(asked):  # nothing to ask, so nothing to tokenise
            yield self._known(asked, known)
            return
        yield from self._to_decode(asked, texts, refused, known, decoding)

    def _rendered(self, request: Request) -> str:
        if request.plain:
            return str(request.prompt)
        return template.render(self.tokenizer, request.prompt)

    def _to_decode(
        self,
        asked: Mapping[str, Sequence[tuple[Request, int]]],
        texts: Mapping[str, tuple[str, int]],
        refused: Mapping[str, str],
        known: Mapping[str, Call],
        decoding: Decoding,
    ) -> Iterator[Unit]:
        """The window's prompts by length, in units; those that cannot be asked are failures."""
        distinct = list(dict.fromkeys(text for key, (text, _) in texts.items() if key not in refused))
        ids = dict(zip(distinct, template.encode_many(self.tokenizer, distinct), strict=True))
        failed = {key: self._failure(key, "refused request", why) for key, why in refused.items()}
        for key, (text, _) in texts.items():
            if (
                key not in refused
                and self.context is not None
                and len(ids[text]) + decoding.max_new_tokens > self.context
            ):
                failed[key] = self._failure(key, "prompt too long", self._too_long(len(ids[text]), decoding))
        if failed:
            there = {key: asked[key] for key in failed}
            if self.store is not None:
                self.store.put_many(failed.values(), self._purposes(there))
            yield Unit((), (), (), there, failed)
        order = sorted(
            (key for key in texts if key not in failed),
            # The text after the length: by content, so that the names of requests do not matter.
            key=lambda key: (len(ids[texts[key][0]]), texts[key][0], asked[key][0][1]),
        )
        size = self.unit_batches * decoding.batch_size
        for start in range(0, len(order), size):
            keys = order[start : start + size]
            there = {key: asked[key] for key in keys}
            if all(key in known for key in keys):
                yield self._known(there, known)
                continue
            # A unit that is stored in part is decoded whole, so that its numbers are the same; the first answers stay.
            yield Unit(
                keys=tuple(keys),
                prompts=tuple(tuple(ids[texts[key][0]]) for key in keys),
                seeds=tuple(texts[key][1] for key in keys),
                asked=there,
            )

    def _too_long(self, tokens: int, decoding: Decoding) -> str:
        return (
            f"{tokens} prompt tokens and {decoding.max_new_tokens} new ones do not fit the context of {self.name} "
            f"({self.context} tokens); shorten or leave out this prompt"
        )

    # --- storing -----------------------------------------------------------------------------------------------------

    def _known(self, asked: Mapping[str, Sequence[tuple[Request, int]]], known: Mapping[str, Call]) -> Unit:
        if self.store is not None:
            self.store.add_purposes(self._purposes(asked))
        return Unit((), (), (), asked, {key: known[key] for key in asked})

    def _keep(self, unit: Unit, written: Sequence[Written], seconds: float) -> Mapping[str, Call]:
        """Store what was written; the result is what counts: an answer that was stored before stays the answer."""
        calls = {
            key: self._call(key, len(prompt), one, seconds)
            for key, prompt, one in zip(unit.keys, unit.prompts, written, strict=True)
        }
        if self.store is None:
            return calls
        self.store.put_many(calls.values(), self._purposes(unit.asked))
        return calls | self.store.get_many(list(calls))

    def _call(self, key: str, prompt_tokens: int, written: Written, seconds: float) -> Call:
        if written.failure is not None:
            return self._failure(key, written.failure, written.detail, seconds)
        return Call(
            key=key,
            model_digest=self.digest,
            text=written.text,
            n_tokens=written.n_tokens,
            truncated=written.truncated,
            latency=seconds,
            finish="length" if written.truncated else "stop",
            prompt_tokens=prompt_tokens,
            completion_tokens=written.n_tokens,
            log_probs=written.log_probs,
            tokens=written.tokens,
        )

    def _failure(self, key: str, reason: Reason, detail: str, seconds: float = 0.0) -> Call:
        return Call(key, self.digest, "", 0, False, seconds, status="failed", error=reason, detail=detail)

    def _purposes(self, asked: Mapping[str, Sequence[tuple[Request, int]]]) -> list[Purpose]:
        return [
            Purpose.of(key, self.name, request, sample) for key, places in asked.items() for request, sample in places
        ]


def _outcome(call: Call, request: Request, sample: int) -> Outcome:
    if call.status == "failed":
        return Failed(request.id, sample, call.error, call.detail, call.key)  # type: ignore[arg-type]
    return Answer(
        request.id, sample, call.text, call.n_tokens, call.truncated, False, call.key, call.log_probs, call.tokens
    )
