"""Splitting files: the clusters of all rows first, then the rows once more, each with its split, and a leak check."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from alignprism.errors import Failure
from alignprism.prompts.checking import Settings, check
from alignprism.prompts.findings import Findings
from alignprism.prompts.prompt_files import Read, none_readable, read_prompts
from alignprism.prompts.sources import Unreadable, set_aside_line, told
from alignprism.prompts.split import Assigned, Stratum, assign, realised
from alignprism.prompts.tables import HELD_OUT_PAIRS, TableWriter, read_table
from alignprism.rows import Pair, Prompt, RowError, Split

_ROUNDS = 5
_OTHERS = ("completions", "labels", "ratings")
SET_ASIDE = "set_aside.jsonl"


@dataclass(slots=True)
class Done:
    """What was written."""

    rows: int
    clusters: int
    bridges: int
    strata: dict[Stratum, dict[str, int]]
    unreadable: int = 0
    """Rows that are no prompts; they lie in ``set_aside.jsonl`` with the bridges."""
    pairs: Counter[str] = field(default_factory=Counter)
    """Pairs by the split of their prompt, and those that were set aside with it."""

    def by_language_and_scope(self) -> dict[tuple[str, str], Counter[str]]:
        """Prompts by language, scope and split (a prompt with two categories counts twice)."""
        found: dict[tuple[str, str], Counter[str]] = {}
        for (language, scope, _), counts in self.strata.items():
            found.setdefault((language, scope), Counter()).update(counts)
        return found


@dataclass(slots=True)
class _Seen:
    seeds: list[str]
    strata: list[list[Stratum]]
    ids: list[str]
    unreadable: int = 0

    def through(self, rows: Iterator[Read]) -> Iterator[Read]:
        for read in rows:
            if isinstance(read, tuple):
                prompt = read[2]
                self.seeds.append(prompt.seed_id)
                self.ids.append(prompt.id)
                self.strata.append(strata_of(prompt))
            else:
                self.unreadable += 1
            yield read


def strata_of(prompt: Prompt) -> list[Stratum]:
    """Language, scope and category; one for each category."""
    return [(prompt.language, prompt.scope or "none", c) for c in (prompt.categories or ("none",))]


def split_files(
    files: Sequence[Path], out: Path, shares: Mapping[Split, float], number: int = 0, previous: Path | None = None,
    exact: bool = False, near_cut: float = 0.7, embed_rows: int = 0,
) -> Done:  # fmt: skip
    """Write ``prompts.parquet`` with splits, ``split.json``, ``set_aside.jsonl``, and the other tables of a folder.

    Pairs are written by the split of their prompt: ``pairs.parquet`` holds those of split train alone, whoever reads it;
    those of dev and test lie apart (`tables.HELD_OUT_PAIRS`).

    Raises
    ------
    RowError
        the folder exists; no row can be read; or one of `previous` cannot, whose split would be lost.
    Failure
        the finished split leaks.
    """
    if out.exists():
        raise RowError(f"{out} exists; name a new folder")
    settings = Settings(near_cut=near_cut, embed_rows=embed_rows, leaks=False)
    seen = _Seen([], [], [])
    with Findings(None) as findings:
        checked = check(seen.through(read_prompts(files)), findings, settings)
    if not seen.ids:
        raise none_readable(files)
    links = [*checked.exact, *((p.first, p.second) for p in checked.near), *checked.across]
    before = _before(previous, seen.ids) if previous is not None else None
    for _ in range(_ROUNDS):
        assigned = assign(seen.seeds, seen.strata, links, shares, number, before, exact)
        # Rows that were set aside may have hidden a pair: comparing the others again finds it.
        more = _leaks(files, assigned, settings)
        if not more:
            break
        links += more
    if assigned.kept_leaks:
        one, other = assigned.kept_leaks[0]
        raise Failure(
            f"{previous}: {len(assigned.kept_leaks)} rows of the earlier split leak ({seen.ids[one]!r} and "
            f"{seen.ids[other]!r} are near-duplicates in different splits); split anew without --previous"
        )
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True, mode=0o700)
    try:
        pairs = _write(files, temporary, assigned, seen)
        _no_leak(temporary, settings)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    strata = realised(assigned.splits, seen.strata)
    kept, aside = len(seen.seeds) - len(assigned.bridges), len(assigned.bridges)
    return Done(kept, assigned.clusters, aside, strata, seen.unreadable, pairs)


def _before(previous: Path, ids: Sequence[str]) -> dict[int, Split]:
    known: dict[str, Split] = {}
    for read in read_prompts([previous]):
        if isinstance(read, Unreadable):
            raise RowError(
                f"--previous {previous}: {told(read)}. A row that cannot be read would lose its split; mend it or leave it out"
            )
        known[read[2].id] = read[2].split
    return {row: known[identity] for row, identity in enumerate(ids) if identity in known}


def _write(files: Sequence[Path], folder: Path, assigned: Assigned, seen: _Seen) -> Counter[str]:
    """Everything into `folder`; the number of pairs by split."""
    pairs: Counter[str] = Counter()
    with (folder / SET_ASIDE).open("w", encoding="utf-8") as aside:
        _write_prompts(files, folder, assigned, aside)
        if len(files) == 1 and files[0].is_dir():
            pairs = _write_pairs(files[0], folder, _Splits.of(seen, assigned), aside)
            for name in _OTHERS:
                if (files[0] / f"{name}.parquet").is_file():
                    shutil.copy(files[0] / f"{name}.parquet", folder / f"{name}.parquet")
    counts = {" / ".join(stratum): found for stratum, found in realised(assigned.splits, seen.strata).items()}
    told_all = {
        "clusters": assigned.clusters, "set_aside": len(assigned.bridges), "unreadable": seen.unreadable,
        "pairs": dict(pairs), "strata": counts,
    }  # fmt: skip
    (folder / "split.json").write_text(json.dumps(told_all, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return pairs


def _write_prompts(files: Sequence[Path], folder: Path, assigned: Assigned, aside: TextIO) -> None:
    splits = iter(assigned.splits)
    with TableWriter(folder / "prompts.parquet", Prompt) as table:
        for read in read_prompts(files):
            if isinstance(read, Unreadable):
                aside.write(set_aside_line(read))
                continue
            (file, number, prompt), split = read, next(splits)
            if split is not None:
                table.write(dataclasses.replace(prompt, split=split))
                continue
            reason = f"{prompt.id!r} is a near-duplicate of older rows that lie in different splits"
            aside.write(set_aside_line(Unreadable(file, number, "text", reason)))


@dataclass(frozen=True, slots=True)
class _Splits:
    """The split of every prompt and seed; None for a prompt that was set aside."""

    prompts: Mapping[str, Split | None]
    seeds: Mapping[str, Split]

    @classmethod
    def of(cls, seen: _Seen, assigned: Assigned) -> _Splits:
        prompts = dict(zip(seen.ids, assigned.splits, strict=True))
        seeds = {seed: split for seed, split in zip(seen.seeds, assigned.splits, strict=True) if split is not None}
        return cls(prompts, seeds)

    def of_pair(self, pair: Pair) -> Split | None:
        """Its prompt's, else its seed's; of a pair whose prompt is elsewhere, what the pair says itself."""
        if pair.prompt_id in self.prompts:
            return self.prompts[pair.prompt_id]
        return self.seeds.get(pair.seed_id, pair.split)


def _write_pairs(source: Path, folder: Path, splits: _Splits, aside: TextIO) -> Counter[str]:
    """Train pairs into ``pairs.parquet``, held-out ones beside it, and what is of no split into ``set_aside.jsonl``."""
    given = [source / name for name in ("pairs.parquet", HELD_OUT_PAIRS) if (source / name).is_file()]
    counts: Counter[str] = Counter()
    if not given:
        return counts
    with TableWriter(folder / "pairs.parquet", Pair) as train, TableWriter(folder / HELD_OUT_PAIRS, Pair) as held_out:
        for file in given:
            for number, pair in enumerate(read_table(file, Pair), 1):
                split = splits.of_pair(pair)
                counts[split or "set aside"] += 1
                if split is None:
                    reason = f"of the prompt {pair.prompt_id!r}, which was set aside"
                    aside.write(set_aside_line(Unreadable(str(file), number, "prompt_id", reason)))
                else:
                    (train if split == "train" else held_out).write(dataclasses.replace(pair, split=split))
    if not held_out.count:
        (folder / HELD_OUT_PAIRS).unlink()
    return counts


def _leaks(files: Sequence[Path], assigned: Assigned, settings: Settings) -> list[tuple[int, int]]:
    """Pairs of near-duplicates that lie in different splits, by row number; empty when nothing was set aside."""
    if not assigned.bridges:
        return []
    kept = [row for row, split in enumerate(assigned.splits) if split is not None]
    rows = (read for read in read_prompts(files) if isinstance(read, tuple))
    left = (read for read, split in zip(rows, assigned.splits, strict=True) if split is not None)
    with Findings(None) as findings:
        again = check(left, findings, settings)
    pairs = [*again.exact, *((p.first, p.second) for p in again.near), *again.across]
    return [(kept[a], kept[b]) for a, b in pairs if assigned.splits[kept[a]] != assigned.splits[kept[b]]]


def _no_leak(folder: Path, settings: Settings) -> None:
    with Findings(None) as findings:
        check(read_prompts([folder]), findings, dataclasses.replace(settings, leaks=True))
    leaks = findings.counts[("leak", "error")]
    if leaks:
        raise Failure(f"the split leaks: {leaks} rows, the first {findings.first['leak'][0].id!r}; please report this")
