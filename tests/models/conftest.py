"""Tiny models for the tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny

    return tiny.write_gemma(tmp_path_factory.mktemp("tiny") / "gemma", seed=2)  # some of its answers end by themselves


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny

    return tiny.write_llama(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(autouse=True)
def _threads_for_the_size(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny models on one thread: two would wait for each other at every operation, above all on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if request.node.get_closest_marker("slow") else 1)
    yield
    torch.set_num_threads(before)
