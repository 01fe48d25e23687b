"""Asks an endpoint for many answers and notes each one that it was handed: the tests and benchmarks kill it.

python asker.py URL STORE LOG CALLS [CONNECTIONS]
"""

from __future__ import annotations

import sys
from pathlib import Path

from alignprism.models.endpoint import EndpointEngine
from alignprism.models.protocol import Answer, Decoding, Request
from alignprism.models.settings import EndpointSettings
from alignprism.models.store import CallStore


def main(url: str, store_path: str, log_path: str, calls: str, connections: str = "16") -> None:
    settings = EndpointSettings(urls=[url], model="tiny", connections=int(connections))
    requests = (Request(f"p{n}", f"prompt number {n}") for n in range(int(calls)))
    with (
        CallStore(Path(store_path)) as store,
        EndpointEngine(settings, "m", store=store) as engine,
        Path(log_path).open("a", buffering=1) as log,
    ):
        for outcome in engine.complete(requests, Decoding(max_new_tokens=8)):
            log.write(f"{outcome.call} {outcome.text if isinstance(outcome, Answer) else outcome.reason}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
