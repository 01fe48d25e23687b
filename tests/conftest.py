"""Shared fixtures: threads, the shared data folder, and the embedded models (fetched once per machine)."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers side by side (make test) have a core each, and so have the processes that they start: a second thread would
    # spin, not work.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# The same examples on every CI run: a search for new ones belongs to a person's machine, not to somebody's submission.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# The tiny model and its finished run, shared by the tests of the pipeline and the command line.
pytest_plugins = ["tiny_model"]

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    import torch

    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def cache() -> Path:
    """The model cache of this machine: what is fetched once serves all test runs."""
    return Path(os.environ.get("ALIGNPRISM_CACHE") or "~/.cache/alignprism").expanduser()


@pytest.fixture(scope="session")
def gemma_folder(cache: Path) -> Path:
    from alignprism.models.embedded import ensure

    return ensure("gemma-3-270m", cache)


@pytest.fixture(scope="session")
def smollm2_folder(cache: Path) -> Path:
    from alignprism.models.embedded import ensure

    return ensure("smollm2-135m-instruct", cache)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real published data, or a skip with its reason."""
    folder = Path(os.environ.get("ALIGNPRISM_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set ALIGNPRISM_SHARED_DATA to run this test")
    return folder


LONGEST = "test_end_to_end.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, the longest before all: one that starts last keeps one process busy while others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name != LONGEST, item.path not in slow))
