"""Diversity: Vendi score after its definition, distances to the seed, coverage; what cannot be measured says why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented import invented, seed

from alignprism.construct.cells import Ledger, cells_of
from alignprism.construct.diversity import NOT_EMBEDDED, NOTHING, coverage, measured, vendi
from alignprism.construct.rephrase import new_prompt


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_equal_vectors_count_once_and_orthogonal_ones_each() -> None:
    assert vendi(unit(np.ones((7, 3)))) == pytest.approx(1.0)
    assert vendi(np.eye(5, dtype=np.float32)) == pytest.approx(5.0)
    assert vendi(np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="nothing"):
        vendi(np.zeros((0, 3), np.float32))


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 1000))
def test_the_score_is_the_entropy_of_the_kernels_eigenvalues(n: int, d: int, number: int) -> None:
    vectors = unit(np.random.default_rng(number).normal(size=(n, d)) + 1e-3)
    values = np.linalg.eigvalsh(vectors.astype(np.float64) @ vectors.T / n)
    values = values[values > 1e-12]
    assert vendi(vectors) == pytest.approx(float(np.exp(-(values * np.log(values)).sum())), abs=1e-4)
    assert 1 - 1e-6 <= vendi(vectors) <= n + 1e-4
    assert vendi(np.concatenate([vectors, vectors])) == pytest.approx(vendi(vectors), abs=1e-4)


def test_distances_are_to_ones_own_seed() -> None:
    seeds = [seed(1), seed(2)]
    made = [
        (new_prompt(seeds[0], seeds[0].text, "w"), seeds[0]),
        (new_prompt(seeds[1], invented("far"), "w"), seeds[1]),
    ]
    seed_vectors = np.eye(2, dtype=np.float32)
    found = measured(seeds, made, seed_vectors, np.array([[1, 0], [1, 0]], np.float32))["en"]
    assert found["cosine_distance"] == {"mean": 0.5, "q10": 0.1, "q50": 0.5, "q90": 0.9}
    assert found["letter_distance"]["q10"] < 0.2 and found["letter_distance"]["mean"] > 0.3
    assert (found["vendi"], found["vendi_seeds"], found["accepted"], found["reason"]) == (1.0, 2.0, 2, "")


def test_what_cannot_be_measured_has_a_reason() -> None:
    seeds = [seed(1), seed(2, language="fr")]
    found = measured(seeds, [(new_prompt(seeds[0], invented("x"), "w"), seeds[0])], None, None)
    assert (found["en"]["vendi"], found["en"]["reason"]) == (None, NOT_EMBEDDED)
    assert found["en"]["letter_distance"] is not None
    assert (found["fr"]["letter_distance"], found["fr"]["reason"]) == (None, NOTHING)


def test_coverage_has_a_row_for_every_cell_and_a_prompt_counts_in_each_of_its_categories() -> None:
    both = seed(1, categories=("hate_speech", "profanity"))
    ledger = Ledger([both, seed(2)], per_seed=3, wanted=None)
    ledger.take(both)
    rows = coverage(ledger.quota, ledger.taken, {cell: 1 for cell in cells_of(both)})
    assert [(row["category"], row["seeds"], row["quota"], row["accepted"]) for row in rows] == [
        ("bullying_harassment", 0, 3, 0), ("hate_speech", 1, 3, 1), ("profanity", 1, 3, 1),
    ]  # fmt: skip
    assert not ledger.full()


def test_what_a_cell_lacks_is_spread_over_its_seeds() -> None:
    ledger = Ledger([seed(n) for n in range(10)], per_seed=10, wanted=30)
    assert [count for _, count in ledger.next_seeds(5)] == [3] * 10
    assert [count for _, count in Ledger([seed(1)], 10, None).next_seeds(5)] == [5]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["hate_speech", "profanity", "self_harm"]), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 9), st.integers(1, 6))  # fmt: skip
def test_a_ledger_never_passes_its_quotas_and_always_ends(
    categories: list[str], per_seed: int, quota: int, variants: int
) -> None:
    ledger = Ledger([seed(n, category=name) for n, name in enumerate(categories)], per_seed, quota)
    for _ in range(100):
        chosen = ledger.next_seeds(variants)
        if not chosen:
            break
        assert len({one.id for one, _ in chosen}) == len(chosen)
        for one, count in chosen:
            assert 1 <= count <= variants
            for _ in range(count):
                if ledger.room(one):
                    ledger.take(one)
    assert not ledger.next_seeds(variants)
    assert all(count <= quota for count in ledger.taken.values())
    assert all(count <= per_seed for count in ledger.children.values())
    assert ledger.full() or max(ledger.children.values()) == per_seed
