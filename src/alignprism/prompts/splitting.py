"""Splitting files: the clusters of all rows first, then the rows once more, each with its split, and a leak check."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignprism.errors import Failure
from alignprism.prompts.checking import Settings, check
from alignprism.prompts.findings import Findings
from alignprism.prompts.prompt_files import Read, read_prompts
from alignprism.prompts.split import Assigned, Stratum, assign, realised
from alignprism.prompts.tables import TableWriter
from alignprism.rows import Prompt, RowError, Split

_ROUNDS = 5
_OTHERS = ("completions", "pairs", "labels", "ratings")


@dataclass(slots=True)
class Done:
    """What was written."""

    rows: int
    clusters: int
    bridges: int
    strata: dict[Stratum, dict[str, int]]

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

    def through(self, rows: Iterator[Read]) -> Iterator[Read]:
        for read in rows:
            if isinstance(read, tuple):
                prompt = read[2]
                self.seeds.append(prompt.seed_id)
                self.ids.append(prompt.id)
                self.strata.append(strata_of(prompt))
            yield read


def strata_of(prompt: Prompt) -> list[Stratum]:
    """Language, scope and category; one for each category."""
    return [(prompt.language, prompt.scope or "none", c) for c in (prompt.categories or ("none",))]


def split_files(
    files: Sequence[Path], out: Path, shares: Mapping[Split, float], number: int = 0, previous: Path | None = None,
    exact: bool = False, near_cut: float = 0.7, embed_rows: int = 0,
) -> Done:  # fmt: skip
    """Write ``prompts.parquet`` with splits, ``split.json``, and the other tables of a folder as they are.

    Raises
    ------
    RowError
        the folder exists, or rows cannot be read.
    Failure
        the finished split leaks.
    """
    if out.exists():
        raise RowError(f"{out} exists; name a new folder")
    settings = Settings(near_cut=near_cut, embed_rows=embed_rows, leaks=False)
    seen = _Seen([], [], [])
    with Findings(None) as findings:
        checked = check(seen.through(read_prompts(files)), findings, settings)
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
        _write(files, temporary, assigned, seen)
        _no_leak(temporary, settings)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    strata = realised(assigned.splits, seen.strata)
    return Done(len(seen.seeds) - len(assigned.bridges), assigned.clusters, len(assigned.bridges), strata)


def _before(previous: Path, ids: Sequence[str]) -> dict[int, Split]:
    known = {read[2].id: read[2].split for read in read_prompts([previous]) if isinstance(read, tuple)}
    return {row: known[identity] for row, identity in enumerate(ids) if identity in known}


def _write(files: Sequence[Path], folder: Path, assigned: Assigned, seen: _Seen) -> None:
    rows = (read for read in read_prompts(files) if isinstance(read, tuple))
    aside = (folder / "set_aside.jsonl").open("w", encoding="utf-8")
    with TableWriter(folder / "prompts.parquet", Prompt) as table, aside:
        for (file, number, prompt), split in zip(rows, assigned.splits, strict=True):
            if split is not None:
                table.write(dataclasses.replace(prompt, split=split))
                continue
            told = {
                "file": file, "row": number, "column": "text",
                "reason": f"{prompt.id!r} is a near-duplicate of older rows that lie in different splits",
            }  # fmt: skip
            aside.write(json.dumps(told, ensure_ascii=False) + "\n")
    for path in files:
        for name in _OTHERS:
            if path.is_dir() and len(files) == 1 and (path / f"{name}.parquet").is_file():
                shutil.copy(path / f"{name}.parquet", folder / f"{name}.parquet")
    counts = {" / ".join(stratum): found for stratum, found in realised(assigned.splits, seen.strata).items()}
    told_all = {"clusters": assigned.clusters, "set_aside": len(assigned.bridges), "strata": counts}
    (folder / "split.json").write_text(json.dumps(told_all, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


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
