"""Models in this process: completions, likelihoods and hidden states.

Batches are composed by content, never from what is left to do (see `alignprism.models.units`): a run that was killed and
continued asks the same batches and gets the same numbers as one that was not.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from alignprism.errors import Failure
from alignprism.models import template
from alignprism.models.decoding import Generated, Over, decode_batch, forward_options, left_padded
from alignprism.models.loading import check_causal, load, load_tokenizer, with_adapter
from alignprism.models.protocol import Decoding, Outcome, Progress, Request
from alignprism.models.stops import stop_ids
from alignprism.models.store import CallStore
from alignprism.models.units import Asking, Done, Tick, Unit, Written

__all__ = ["EngineError", "Likelihood", "LocalEngine", "check_causal", "load", "load_tokenizer", "with_adapter"]

_LOGIT_BYTES = (
    512 * 2**20
)  # of one block of logits when scoring: a 262,144-token vocabulary fills it with 512 positions


class EngineError(Failure):
    """A model could not do what was asked. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Negative log-likelihood of a completion with its end of turn: sum in nats, tokens, characters of the text."""

    sum_nats: float
    tokens: int
    characters: int


class LocalEngine:
    """Completions and scores of one loaded model. Answers go through `store`, when there is one, before use."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, name: str, digest: str, store: CallStore | None = None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.digest = digest
        self.store = store
        config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        self.context: int | None = getattr(config, "max_position_embeddings", None)
        self.numerics = {"dtype": str(model.dtype), "device": model.device.type}

    # --- completions -------------------------------------------------------------------------------------------------

    def complete(
        self, requests: Iterable[Request], decoding: Decoding, progress: Progress | None = None
    ) -> Iterator[Outcome]:
        """One outcome per request and sample, each stored before it is handed out, in the order of their lengths within
        a window of requests (see `alignprism.models.protocol.in_order`). Nothing is asked before the first is fetched.

        A prompt that the chat template refuses, that does not fit the context, or that memory does not suffice for even
        alone, is a `Failed` of its own; the others are answered. When memory runs out, fewer rows are decoded at once.
        """
        asking = Asking(self.tokenizer, self.name, self.digest, self.numerics, self.context, self.store)

        def run(units: Iterator[Unit], tick: Tick) -> Iterator[Done]:
            for unit in units:
                began = time.monotonic()
                written = self.write(unit, decoding, tick) if unit.calls is None else []
                yield unit, written, time.monotonic() - began

        return asking.outcomes(requests, decoding, run, progress)

    def write(self, unit: Unit, decoding: Decoding, tick: Tick | None = None) -> list[Written]:
        """Decode a unit's prompts; nothing is stored."""
        return self._fitting(list(zip(unit.prompts, unit.seeds, strict=True)), decoding, tick)

    def _fitting(
        self, asked: Sequence[tuple[Sequence[int], int]], decoding: Decoding, tick: Tick | None
    ) -> list[Written]:
        """Decode with as many rows at once as memory allows; a prompt that is too much alone is a failure."""
        over: Over = lambda ids: _stop_at(template.decode(self.tokenizer, list(ids)), decoding.stop) is not None  # noqa: E731
        try:
            rows = decode_batch(
                self.model,
                [ids for ids, _ in asked],
                decoding=decoding,
                stop=self._stop_ids,
                pad_id=self._pad_id(),
                seeds=[seed for _, seed in asked],
                over=over if decoding.stop else None,
                finished=tick,
            )
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            detail = f"{len(asked[-1][0])} prompt tokens and {decoding.max_new_tokens} new ones do not fit the memory"
        else:
            return [self._written(row, decoding) for row in rows]
        # Outside of the handler, where the error's frames no longer hold the memory that is needed now.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(asked) == 1:
            return [Written(failure="out of memory", detail=detail)]
        at_once = min(decoding.batch_size, len(asked))
        if at_once > 1:
            return self._fitting(asked, replace(decoding, batch_size=at_once // 2), tick)
        middle = len(asked) // 2
        return self._fitting(asked[:middle], decoding, None) + self._fitting(asked[middle:], decoding, None)

    def _written(self, row: Generated, decoding: Decoding) -> Written:
        """A row's text without the stop string that ended it, and the tokens that spell it."""
        text = template.decode(self.tokenizer, row.ids)
        end = _stop_at(text, decoding.stop)
        if end is None:
            count, truncated = len(row.ids), row.truncated
        else:
            text, truncated = text[:end], False
            count = self._spelled(row.ids, text)
        if row.log_probs is None:
            return Written(text, count, truncated)
        starts = [len(template.decode(self.tokenizer, row.ids[:n])) for n in range(count + 1)]
        whole = template.decode(self.tokenizer, row.ids[:count])
        tokens = tuple(whole[a:b] for a, b in itertools.pairwise(starts))
        return Written(text, count, truncated, tuple(row.log_probs[:count]), tokens)

    def _spelled(self, ids: Sequence[int], text: str) -> int:
        """How many of the first tokens it takes to spell `text`."""
        count = len(ids)
        while count and template.decode(self.tokenizer, list(ids[: count - 1])).startswith(text):
            count -= 1
        return count

    @cached_property
    def _stop_ids(self) -> frozenset[int]:
        return stop_ids(self.model, self.tokenizer)

    def _pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None else int(pad)  # masked out: any id will do

    # --- likelihood --------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def negative_log_likelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """How unlikely each completion is after its prompt, over its tokens and the end-of-turn token.

        Rows are left-padded, so that all completions end in the last column and the head is computed for the
        columns of the longest completion only.
        """
        frame = template.frame_of(self.tokenizer)
        rows = [
            (template.prompt_ids(self.tokenizer, prompt), template.completion_ids(self.tokenizer, completion, frame))
            for prompt, completion in pairs
        ]
        sums = [0.0] * len(rows)
        for batch in self._scoring_batches(rows):
            for index, total in zip(batch, self._score([rows[i] for i in batch]), strict=True):
                sums[index] = total
        return [Likelihood(sums[i], len(completion), len(pairs[i][1])) for i, (_, completion) in enumerate(rows)]

    def _scoring_batches(self, rows: Sequence[tuple[list[int], list[int]]]) -> Iterator[list[int]]:
        limited = forward_options(self.model).keep is not None
        positions = max(1, _LOGIT_BYTES // (4 * int(self.model.get_output_embeddings().weight.shape[0])))
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i][1]), len(rows[i][0]), i))
        batch: list[int] = []
        widest = 0
        for index in order:
            prompt, completion = rows[index]
            widest = max(widest, len(completion) + 1 if limited else len(prompt) + len(completion))
            if batch and widest * (len(batch) + 1) > positions:
                yield batch
                batch = []
                widest = len(completion) + 1 if limited else len(prompt) + len(completion)
            batch.append(index)
        if batch:
            yield batch

    def _score(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        ids, mask = left_padded([p + c for p, c in rows], self._pad_id(), device=self.model.device)
        options = forward_options(self.model)
        kept = min(max(len(c) for _, c in rows) + 1, ids.shape[1])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        places = {"position_ids": positions} if "position_ids" in options.accepted else {}
        out = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **places, **options.keeping(kept))
        logits: Tensor = out.logits[:, -kept:-1].float()  # position t predicts token t + 1
        targets = ids[:, -(kept - 1) :]
        log_p = logits.gather(2, targets.unsqueeze(2)).squeeze(2) - logits.logsumexp(dim=2)
        return [-float(log_p[i, kept - 1 - len(c) :].double().sum()) for i, (_, c) in enumerate(rows)]

    # --- hidden states -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def hidden_states(
        self, texts: Sequence[str], layer: int, pooling: str = "mean", max_tokens: int = 512, batch_size: int = 32
    ) -> NDArray[np.float32]:
        """One vector per text, ``[texts, hidden]``: a layer's output, averaged over tokens (``mean``) or the ``last``.

        `layer` counts as transformers' ``hidden_states`` does: 0 is the embedding, n the output of block n; negative
        numbers count from the end (-1 is the last block after the final norm). Blocks above it are not computed.
        Texts are cut after `max_tokens` tokens; give them as the model should see them (rendered, if it is a chat).
        """
        if pooling not in {"mean", "last"}:
            raise ValueError(f"pooling {pooling!r}: 'mean' or 'last'")
        rows = [template.encode_rendered(self.tokenizer, text)[:max_tokens] or [self._pad_id()] for text in texts]
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
        hidden_size = int(self.model.get_input_embeddings().weight.shape[1])
        result = np.zeros((len(rows), hidden_size), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            ids, mask = left_padded([rows[i] for i in batch], self._pad_id(), device=self.model.device)
            states = _layer_output(self.model, ids, mask, layer)
            if pooling == "last":
                pooled = states[:, -1]
            else:
                weights = mask.unsqueeze(2).to(states.dtype)
                pooled = (states * weights).sum(dim=1) / weights.sum(dim=1)
            result[batch] = pooled.float().cpu().numpy()
        return result


def _stop_at(text: str, stop: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins."""
    return min((at for at in map(text.find, stop) if at >= 0), default=None)


def _out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no error class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class _Reached(Exception):  # noqa: N818 - no error: the wanted layer is there
    """Ends a forward pass after the layer that is wanted."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def _layer_output(model: Any, ids: Tensor, mask: Tensor, layer: int) -> Tensor:
    """Hidden states ``[rows, width, hidden]`` after `layer`; the pass stops there where the blocks can be found."""
    body = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
    blocks = getattr(body, "layers", None)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    places = {"position_ids": positions} if "position_ids" in forward_options(body).accepted else {}
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False, **places}
    count = len(blocks) if blocks is not None else int(model.config.get_text_config().num_hidden_layers)
    wanted = layer if layer >= 0 else count + 1 + layer
    if not 0 <= wanted <= count:
        raise ValueError(f"layer {layer}: this model has layers 0 to {count}")
    if blocks is None or wanted in {0, count}:
        return _tensor(body(**inputs, output_hidden_states=True).hidden_states[wanted])

    def stop(_: Any, __: Any, output: Any) -> None:
        raise _Reached(_tensor(output[0] if isinstance(output, tuple) else output))

    handle = blocks[wanted - 1].register_forward_hook(stop)
    try:
        body(**inputs)
    except _Reached as reached:
        return reached.states
    finally:
        handle.remove()
    raise EngineError(f"layer {layer} was never computed")


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise EngineError(f"a tensor was expected from the model, not {type(value).__name__}")
    return value
