"""A model over a Ray cluster (`engine: ray`): completions, likelihoods and hidden states by workers on all its nodes.

The driver plans and stores as the local engine does (`alignprism.models.units`): an answer is on disk before it is used,
what was answered before is not asked again, and units are the same however many workers there are. The model's files must
lie at the same path on every node (a shared file system); each node checks that they are the same weights.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig

from alignprism.errors import InputError
from alignprism.models.crew import Crew, Lost
from alignprism.models.identity import weights_digest
from alignprism.models.local import Likelihood, LocalEngine, load, load_tokenizer
from alignprism.models.protocol import Decoding, Outcome, Progress, Request
from alignprism.models.settings import RaySettings
from alignprism.models.spec import ResolvedModel
from alignprism.models.store import CallStore
from alignprism.models.units import Asking, Done, Tick, Unit, Written

_SCORED_AT_ONCE = 256  # rows of a batch of likelihoods or hidden states


class RayEngine:
    """Speaks the engines' protocol; a context manager, because it holds workers. They start when something is asked.

    Raises
    ------
    InputError
        the package ``ray`` is missing, the cluster does not answer, or a node does not have the model's files.
    """

    def __init__(
        self,
        resolved: ResolvedModel,
        store: CallStore | None = None,
        settings: RaySettings | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = resolved.name
        self.digest = resolved.digest
        self.store = store
        config = AutoConfig.from_pretrained(resolved.folder, local_files_only=True).get_text_config()
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        # Said here and not found on each worker: all must compute alike, and it is part of an answer's identity.
        self._dtypes = {"cpu": torch.float32, "cuda": getattr(config, "dtype", None) or torch.float32}
        self._crew: Crew[LocalEngine] = Crew(partial(_open, resolved, self._dtypes, platform.node()), settings, say)
        self.tokenizer = load_tokenizer(resolved)

    # --- the engines' protocol ---------------------------------------------------------------------------------------

    def complete(
        self, requests: Iterable[Request], decoding: Decoding, progress: Progress | None = None
    ) -> Iterator[Outcome]:
        """One outcome per request and sample, each stored before it is handed out, unit by unit as they are finished.

        The rows of a unit that cost several workers are `Failed` with "lost worker"; see `LocalEngine.complete` for the
        others.
        """
        device = self._crew.device
        numerics = {"dtype": str(self._dtypes[device]), "device": device}
        asking = Asking(self.tokenizer, self.name, self.digest, numerics, self._context, self.store, unit_batches=2)

        def run(units: Iterator[Unit], tick: Tick) -> Iterator[Done]:
            work = partial(_write, decoding)
            for unit, result in self._crew.each(work, units, lambda unit: unit.calls is not None):
                if result is None:
                    yield unit, [], 0.0
                elif isinstance(result, Lost):
                    yield unit, [Written(failure="lost worker", detail=result.detail)] * len(unit.keys), 0.0
                else:
                    yield unit, *result

        return asking.outcomes(requests, decoding, run, progress)

    # --- what only weights can do ------------------------------------------------------------------------------------

    @property
    def workers(self) -> int:
        """How many workers have loaded the model."""
        return self._crew.ready

    @property
    def lost_workers(self) -> int:
        """How many workers have died so far."""
        return self._crew.lost_workers

    def negative_log_likelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """As `LocalEngine.negative_log_likelihood`."""
        return self._crew.ordered(LocalEngine.negative_log_likelihood, pairs, _SCORED_AT_ONCE)

    def hidden_states(
        self, texts: Sequence[str], layer: int, pooling: str = "mean", max_tokens: int = 512, batch_size: int = 32
    ) -> NDArray[np.float32]:
        """As `LocalEngine.hidden_states`."""
        work = partial(_states, layer, pooling, max_tokens, batch_size)
        return np.stack(self._crew.ordered(work, texts, _SCORED_AT_ONCE))

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the workers' places back."""
        self._crew.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_ray(
    resolved: ResolvedModel,
    settings: RaySettings | None = None,
    *,
    store: CallStore | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> RayEngine:
    """The engine over a cluster; `say` hears which nodes take part and when a worker is lost."""
    return RayEngine(resolved, store, settings, say)


def _open(resolved: ResolvedModel, dtypes: Mapping[str, torch.dtype], driver: str, device: str) -> LocalEngine:
    """Load the model on a worker.

    Raises
    ------
    InputError
        this node has no such files, or other weights.
    """
    node = platform.node()
    if not resolved.folder.is_dir():
        raise InputError(
            f"{resolved.name}: node {node} has no folder {resolved.folder}; put the model on a file system that all nodes "
            "of the cluster share, and the cache too (ALIGNPRISM_CACHE)"
        )
    if node != driver and weights_digest(resolved.folder, resolved.adapter) != resolved.digest:
        raise InputError(f"{resolved.name}: node {node} has other weights in {resolved.folder}; copy them anew")
    model, tokenizer = load(resolved, device, dtypes[device])
    return LocalEngine(model, tokenizer, resolved.name, resolved.digest)


def _write(decoding: Decoding, engine: LocalEngine, unit: Unit) -> tuple[list[Written], float]:
    began = time.monotonic()
    return engine.write(unit, decoding), time.monotonic() - began


def _states(
    layer: int, pooling: str, max_tokens: int, batch_size: int, engine: LocalEngine, texts: Sequence[str]
) -> list[NDArray[np.float32]]:
    return list(engine.hidden_states(texts, layer, pooling, max_tokens, batch_size))
