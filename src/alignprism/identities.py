"""What every model of a study is, before it is asked anything: digests of files, and what servers say they serve."""

from __future__ import annotations

from collections.abc import Callable

from alignprism.judging.open import model_name
from alignprism.models.probe import remembered
from alignprism.models.settings import EndpointSettings, ModelSettings
from alignprism.models.spec import ModelSpec, resolve
from alignprism.models.store import CallStore
from alignprism.stages.context import Context
from alignprism.stages.engines import opened

NOT_ASKED, NOT_FETCHED = "not asked", "not fetched"
"""What stands for a digest in a dry run, which asks no server and fetches nothing."""


def model_digests(context: Context, *, dry_run: bool) -> Callable[[ModelSettings], str]:
    """A function from settings to digests that looks up, or asks, each model once.

    In a dry run nothing is fetched or asked: a server is what it said when this run last asked it, or `NOT_ASKED`.
    """
    known: list[tuple[ModelSettings, str]] = []

    def digest(settings: ModelSettings) -> str:
        for other, found in known:
            if other == settings:
                return found
        found = _digest(context, settings, dry_run)
        known.append((settings, found))
        return found

    return digest


def _digest(context: Context, settings: ModelSettings, dry_run: bool) -> str:
    if settings.endpoint is None:
        if dry_run and (settings.source or "").startswith("embedded:"):
            return NOT_FETCHED
        spec = ModelSpec(model_name(settings), settings.source or "", settings.adapter)
        return resolve(spec, context.cache, context.say).digest
    if dry_run:
        return _last_seen(context, settings.endpoint)
    with opened(context, settings, model_name(settings)) as engine:
        return engine.digest


def _last_seen(context: Context, endpoint: EndpointSettings) -> str:
    file = context.run.path / "calls.sqlite"
    if not file.is_file():
        return NOT_ASKED
    with CallStore(file) as store:
        found = remembered([store.served_before(url, endpoint.model) for url in endpoint.urls])
    return NOT_ASKED if found is None else found.digest(endpoint)
