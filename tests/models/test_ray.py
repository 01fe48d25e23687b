"""Work over a real Ray cluster of two nodes: what dies is replaced, and every row ends exactly once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from alignprism.errors import InputError
from alignprism.models.crew import Crew, Lost
from alignprism.models.protocol import Answer, Decoding, Request, in_order
from alignprism.models.ray_engine import RayEngine, open_ray
from alignprism.models.spec import ModelSpec, resolve
from alignprism.models.store import CallStore

pytestmark = pytest.mark.slow

ASKED = [Request(f"{n}-{place}", f"{n}. {text}") for n in range(32) for place, text in enumerate(tiny.PROMPTS)]
GREEDY = Decoding(max_new_tokens=12, batch_size=4)


@pytest.fixture(autouse=True)
def _threads_for_the_size() -> Iterator[None]:
    """One thread: the nodes need the processors."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one CPU each, reachable from this machine only; no dashboard, no reports."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    pytest.importorskip("ray", reason="the extra alignprism[ray] is not installed")
    import ray
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers do not know this folder

    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    two = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    two.add_node(**node)
    ray.init(address=two.address, log_to_driver=False, logging_level="error")
    yield two
    ray.shutdown()
    two.shutdown()


def _load(device: str) -> str:
    return device


def _fail_load(device: str) -> str:
    raise InputError("no such folder on this node")


def _square(held: str, number: int) -> int:
    assert held == "cpu"
    if number == 13:
        os._exit(1)
    return number**2


def _squares(held: str, numbers: list[int]) -> list[int]:
    return [number**2 for number in numbers]


def _mistake(held: str, number: int) -> int:
    raise KeyError(number)


def test_a_batch_that_kills_its_workers_is_given_up_and_all_others_are_done(cluster: Any) -> None:
    said: list[str] = []
    with Crew(_load, say=said.append) as crew:
        results = list(crew.each(_square, range(20), lambda number: number == 5))
        lost_workers = crew.lost_workers
    assert sorted(number for number, _ in results) == list(range(20))
    found = dict(results)
    given_up = {number for number, value in found.items() if isinstance(value, Lost)}
    # On a busy machine Ray loses workers by itself; a batch is given up for three of its own all the same.
    assert 13 in given_up and 3 * len(given_up) <= lost_workers
    assert found[5] is None  # it was done before, and handed through
    assert all(found[number] == number**2 for number in set(range(20)) - given_up - {5})
    assert sum("a worker was lost" in line for line in said) >= 3


def test_rows_come_back_in_order_and_mistakes_are_raised_here(cluster: Any) -> None:
    with Crew(_load) as crew:
        assert crew.ordered(_squares, range(10), 3) == [n**2 for n in range(10)]
        with pytest.raises(KeyError, match="7"):
            list(crew.each(_mistake, [7] * 9))
        assert crew.ordered(_squares, range(5), 1) == [0, 1, 4, 9, 16]  # and the workers go on
    with Crew(_fail_load) as crew, pytest.raises(InputError, match="no such folder on this node"):
        list(crew.each(_square, [1]))


def test_a_node_that_dies_midway_costs_no_row_and_doubles_none(cluster: Any, tiny_gemma: Path, tmp_path: Path) -> None:
    resolved = resolve(ModelSpec("tiny", str(tiny_gemma)), tmp_path)
    log = tmp_path / "acknowledged"
    with tiny.LoggedStore(tmp_path / "calls.sqlite", log) as store, open_ray(resolved, store=store) as engine:
        assert isinstance(engine, RayEngine)
        round_ = 0
        while engine.workers < 2:  # both nodes have loaded the model and take part
            list(engine.complete([Request("w", f"warming up {round_}")], Decoding(max_new_tokens=1)))
            round_ += 1
        log.write_text("")
        outcomes = []
        for outcome in engine.complete(ASKED, GREEDY):
            outcomes.append(outcome)
            if len(outcomes) == 16:
                cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        answers = in_order(outcomes, ASKED)  # raises where one is missing or doubled
        assert all(isinstance(answer, Answer) for answer in answers)
        keys = log.read_text().split()
        assert len(keys) == len(set(keys)) == len(ASKED)
        assert engine.lost_workers >= 1
        assert answers == in_order(engine.complete(ASKED, GREEDY), ASKED)
        assert log.read_text().split() == keys  # nothing was asked a second time
        local = tiny.engine(tiny_gemma)
        assert [a.text for a in answers] == [a.text for a in tiny.complete(local, ASKED, GREEDY)]  # type: ignore[union-attr]
        texts = tiny.PROMPTS[:4]
        np.testing.assert_allclose(engine.hidden_states(texts, 2), local.hidden_states(texts, 2), atol=1e-5)
        pairs = [(text, "Yes.") for text in texts]
        assert engine.negative_log_likelihood(pairs) == local.negative_log_likelihood(pairs)


def test_a_run_that_is_stored_needs_no_worker(tiny_gemma: Path, tmp_path: Path, cluster: Any) -> None:
    resolved = resolve(ModelSpec("tiny", str(tiny_gemma)), tmp_path)
    local = tiny.engine(tiny_gemma, digest=resolved.digest)
    with CallStore(tmp_path / "calls.sqlite") as store:
        local.store = store
        before = tiny.complete(local, tiny.requests(), GREEDY)
        with RayEngine(resolved, store) as engine:
            assert in_order(engine.complete(tiny.requests(), GREEDY), tiny.requests()) == before
            assert engine.workers == 0


def test_without_the_extra_the_error_says_what_to_install(
    tiny_gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"alignprism\[ray\]"):
        open_ray(resolve(ModelSpec("tiny", str(tiny_gemma)), tmp_path))
