"""From how a model is named to an engine that answers: files in this process or over a Ray cluster, a server, a script."""

from __future__ import annotations

import gc
import ipaddress
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from alignprism.errors import InputError
from alignprism.models.cost import Budget
from alignprism.models.protocol import Engine
from alignprism.models.settings import EndpointSettings, ModelSettings
from alignprism.models.store import CallStore
from alignprism.models.tally import Say, Tally

SCRIPT = "script:"
"""A source such as ``script:answers.jsonl`` plays a file (see `alignprism.models.scripted`): for trying things out."""


@contextmanager
def open_engine(
    settings: ModelSettings,
    name: str,
    *,
    store: CallStore,
    cache: Path,
    allow_remote: Collection[str] = (),
    keys: Mapping[str, str] | None = None,
    cap: Budget | None = None,
    say: Say = lambda _: None,
    tally: Tally | None = None,
) -> Iterator[Engine]:
    """An engine, ready to be asked; what it holds (memory, connections) is given back at the end.

    `allow_remote` lists the hosts beside this machine that text may be sent to, `keys` the values of environment variables
    by name. `cap` bounds what endpoints may cost, `tally` counts what they do; engines that are given the same one share it.

    Raises
    ------
    InputError
        an endpoint's host is not allowed, its key is not given, it does not know the model; or the source leads nowhere.
    Failure
        an endpoint is down, or a model cannot be loaded.
    """
    if settings.endpoint is not None:
        refuse_remote(settings.endpoint, name, allow_remote)
        from alignprism.models.endpoint import EndpointEngine

        with EndpointEngine(
            settings.endpoint, name, store=store, keys=keys, budget=cap, say=say, tally=tally
        ) as endpoint:
            yield endpoint
        return
    source = settings.source or ""
    if source.startswith(SCRIPT):
        from alignprism.models.scripted import scripted

        yield scripted(Path(source.removeprefix(SCRIPT)).expanduser(), name, store)
        return
    from alignprism.models.spec import ModelSpec, resolve

    resolved = resolve(ModelSpec(name, source, settings.adapter), cache, say)
    if settings.engine == "ray":
        from alignprism.models.ray_engine import open_ray

        with open_ray(resolved, settings.ray, store=store, say=say) as ray:
            yield ray
        return
    from alignprism.models.local import LocalEngine, load

    weights, tokenizer = load(resolved)
    yield LocalEngine(weights, tokenizer, name, resolved.digest, store)
    del weights
    gc.collect()


def refuse_remote(endpoint: EndpointSettings, name: str, allow_remote: Collection[str]) -> None:
    """Stop before any text leaves this machine for a host that nobody allowed.

    Raises
    ------
    InputError
        a host is neither this machine nor in `allow_remote`.
    """
    allowed = {host.lower() for host in allow_remote}
    for host in endpoint.hosts:
        if not is_this_machine(host) and host.lower() not in allowed:
            raise InputError(
                f"model {name!r}: its text would be sent to {host}, which allow_remote does not list; add the host there if it "
                "may have your prompts and answers"
            )


def is_this_machine(host: str) -> bool:
    """Whether a host is a loopback address by its very name; no name is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
