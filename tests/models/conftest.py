"""Tiny models for the tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny

    return tiny.write_gemma(tmp_path_factory.mktemp("tiny") / "gemma")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny

    return tiny.write_llama(tmp_path_factory.mktemp("tiny") / "llama")
