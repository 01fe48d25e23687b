"""Models in this process: loading, completions, likelihoods and hidden states.

Batches are composed from the whole list of requests, by content, never from what is left to do: a run that was
killed and continued asks the same batches and gets the same numbers as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from alignprism.errors import Failure, InputError
from alignprism.models import template
from alignprism.models.decoding import decode_batch, forward_options, left_padded, row_seed
from alignprism.models.protocol import Answer, Decoding, Progress, Request
from alignprism.models.spec import ResolvedModel
from alignprism.models.store import Call, CallStore, call_key

__all__ = ["EngineError", "Likelihood", "LocalEngine", "load"]

_LOGIT_BYTES = (
    512 * 2**20
)  # of one block of logits when scoring: a 262,144-token vocabulary fills it with 512 positions


class EngineError(Failure):
    """A model could not answer. The message says which request and what to do."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Negative log-likelihood of a completion with its end of turn: sum in nats, tokens, characters of the text."""

    sum_nats: float
    tokens: int
    characters: int


@dataclass(frozen=True, slots=True)
class _Item:
    """One completion to make: a rendered prompt and a sample number."""

    request_id: str
    rendered: str
    ids: tuple[int, ...]
    sample: int
    seed: int
    key: str


def load(
    resolved: ResolvedModel, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A model ready for inference, its adapter merged, and its tokenizer with a chat template.

    Without arguments the device is accelerate's, and the dtype float32 on a CPU, the checkpoint's own elsewhere.
    """
    place = torch.device(device) if device is not None else PartialState().device
    chosen: torch.dtype | str = dtype if dtype is not None else (torch.float32 if place.type == "cpu" else "auto")
    model = AutoModelForCausalLM.from_pretrained(resolved.folder, dtype=chosen, local_files_only=True)
    if resolved.adapter is not None:
        model = with_adapter(model, resolved.adapter)
    return model.to(place).eval(), load_tokenizer(resolved)


def with_adapter(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """The model with a LoRA adapter merged into its weights, in place.

    Raises
    ------
    InputError
        the adapter changes an output head that is the embedding too: merged, it would change both.
    """
    wrapped = PeftModel.from_pretrained(model, str(adapter))
    head = wrapped.get_base_model().get_output_embeddings()
    if isinstance(head, LoraLayer) and head.get_base_layer().weight is model.get_input_embeddings().weight:
        raise InputError(
            f"{adapter}: it changes the output head, whose weights are the embedding's as well (tied); applied to the weights "
            "it would change both"
        )
    return wrapped.merge_and_unload(safe_merge=True)


def load_tokenizer(resolved: ResolvedModel) -> PreTrainedTokenizerBase:
    """The tokenizer with a chat template and a padding token; an adapter's own comes before its base's."""
    adapter = resolved.adapter
    own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(adapter if own else resolved.folder, local_files_only=True)
    if adapter is not None and (adapter / "chat_template.jinja").is_file():
        tokenizer.chat_template = (adapter / "chat_template.jinja").read_text(encoding="utf-8")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return template.with_chat_template(tokenizer)


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
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        self._numerics = {"dtype": str(model.dtype), "device": model.device.type}

    # --- completions -------------------------------------------------------------------------------------------------

    def complete(
        self, requests: Sequence[Request], decoding: Decoding, progress: Progress | None = None
    ) -> list[Answer]:
        """Completions of all requests, in their order (all samples of the first, then of the second, ...).

        `progress` is called with (completions done, all completions) after each batch.

        Raises
        ------
        EngineError
            a prompt does not fit the model's context, or memory ran out; what was answered before is in the store.
        """
        items = self._items(requests, decoding)
        once = {item.key: item for item in sorted(items, key=lambda item: item.request_id, reverse=True)}
        unique = sorted(once.values(), key=lambda item: (len(item.ids), item.request_id, item.sample))
        calls: dict[str, Call] = {}
        for start in range(0, len(unique), decoding.batch_size):
            batch = unique[start : start + decoding.batch_size]
            calls.update(self._stored(batch) or self._ask(batch, decoding))
            if progress is not None:
                progress(min(start + len(batch), len(unique)), len(unique))
        return [self._answer(item, calls[item.key]) for item in items]

    def _items(self, requests: Sequence[Request], decoding: Decoding) -> list[_Item]:
        settings = decoding.identity() | self._numerics
        items: list[_Item] = []
        for request in requests:
            rendered = template.render(self.tokenizer, request.prompt)
            ids = tuple(template.encode_rendered(self.tokenizer, rendered))
            if self._context is not None and len(ids) + decoding.max_new_tokens > self._context:
                raise EngineError(
                    f"request {request.id!r}: {len(ids)} prompt tokens and {decoding.max_new_tokens} new ones do not "
                    f"fit the context of {self.name} ({self._context} tokens); shorten or leave out this prompt"
                )
            for sample in range(decoding.samples):
                seed = row_seed(decoding.seed, rendered, sample) if decoding.temperature > 0.0 else 0
                key = call_key(self.digest, rendered, settings, sample, seed)
                items.append(_Item(request.id, rendered, ids, sample, seed, key))
        return items

    def _stored(self, batch: Sequence[_Item]) -> dict[str, Call] | None:
        """A batch's answers, if all are there: half a batch is asked again whole, so that its numbers are the same."""
        if self.store is None:
            return None
        found = self.store.get_many([item.key for item in batch])
        return found if len(found) == len(batch) else None

    def _ask(self, batch: Sequence[_Item], decoding: Decoding) -> dict[str, Call]:
        began = time.monotonic()
        try:
            written = decode_batch(
                self.model,
                [item.ids for item in batch],
                decoding=decoding,
                stop=template.stop_ids(self.tokenizer),
                pad_id=self._pad_id(),
                seeds=[item.seed for item in batch],
            )
        except torch.OutOfMemoryError as error:
            self._fail(batch, "out of memory", time.monotonic() - began)
            raise EngineError(
                f"{self.name}: out of memory with {len(batch)} prompts of up to {len(batch[-1].ids)} tokens at once; "
                f"lower batch_size (now {decoding.batch_size}); finished batches are kept"
            ) from error
        seconds = time.monotonic() - began
        calls = {
            item.key: Call(
                key=item.key,
                model_digest=self.digest,
                text=template.decode(self.tokenizer, row.ids),
                n_tokens=len(row.ids),
                truncated=row.truncated,
                latency=seconds,
            )
            for item, row in zip(batch, written, strict=True)
        }
        if self.store is None:
            return calls
        self.store.put_many(calls.values())
        # An answer that was stored before (by another list of requests) stays the answer.
        return self.store.get_many(list(calls))

    def _fail(self, batch: Sequence[_Item], reason: str, seconds: float) -> None:
        if self.store is not None:
            self.store.put_many(
                Call(item.key, self.digest, "", 0, False, seconds, status="failed", error=reason) for item in batch
            )

    @staticmethod
    def _answer(item: _Item, call: Call) -> Answer:
        return Answer(item.request_id, item.sample, call.text, call.n_tokens, call.truncated, call=call.key)

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
        rows = [
            (template.prompt_ids(self.tokenizer, prompt), template.completion_ids(self.tokenizer, completion))
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
