"""Cells of language, scope and category: how many prompts each wants, how many it has, and which seeds are asked next."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from alignprism.rows import Prompt, content_id

Cell = tuple[str, str, str]
"""Language, scope, category; "none" where a prompt has no scope or category."""


def cells_of(prompt: Prompt) -> tuple[Cell, ...]:
    """The cells a prompt counts in: one for each of its categories."""
    return tuple((prompt.language, prompt.scope or "none", name) for name in prompt.categories or ("none",))


@dataclass
class Ledger:
    """What has been made so far, by cell and by seed."""

    seeds: Sequence[Prompt]
    per_seed: int
    wanted: int | None
    seed: int = 0
    quota: dict[Cell, int] = field(default_factory=dict)
    taken: Counter[Cell] = field(default_factory=Counter)
    children: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._in_cell: dict[Cell, list[Prompt]] = defaultdict(list)
        for prompt in self.seeds:
            for cell in cells_of(prompt):
                self._in_cell[cell].append(prompt)
        for cell, prompts in sorted(self._in_cell.items()):
            self.quota[cell] = self.wanted or self.per_seed * len(prompts)

    def room(self, seed: Prompt) -> bool:
        """Whether another prompt from this seed is wanted: one of its cells is below its quota, and so is the seed."""
        return self.children[seed.id] < self.per_seed and any(self.taken[c] < self.quota[c] for c in cells_of(seed))

    def take(self, seed: Prompt) -> None:
        """One more prompt was made from a seed."""
        self.children[seed.id] += 1
        self.taken.update(cells_of(seed))

    def full(self) -> bool:
        """Whether every cell has its quota."""
        return all(self.taken[cell] >= wanted for cell, wanted in self.quota.items())

    def next_seeds(self, variants: int) -> list[tuple[Prompt, int]]:
        """The seeds to ask next, each once, and for how many prompts: of every cell below its quota the least used ones.

        What a cell lacks is spread evenly over its seeds, so that none is left out while another gives many; at most
        `variants` from one.
        """
        planned = Counter(self.taken)
        chosen: dict[str, tuple[Prompt, int]] = {}
        for cell, wanted in self.quota.items():
            able = [p for p in self._in_cell[cell] if p.id not in chosen and self.children[p.id] < self.per_seed]
            share = min(variants, -(-(wanted - planned[cell]) // len(able))) if able else 0
            for prompt in sorted(able, key=self._use):
                if planned[cell] >= wanted:
                    break
                count = min(share, self.per_seed - self.children[prompt.id])
                chosen[prompt.id] = prompt, count
                for each in cells_of(prompt):
                    planned[each] += count
        return list(chosen.values())

    def _use(self, prompt: Prompt) -> tuple[int, int, str]:
        return self.children[prompt.id], self.asked[prompt.id], content_id("next", self.seed, prompt.id)
