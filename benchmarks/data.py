"""Figures of importing, checking and splitting, on real published sets and on a million made prompts.

Run: ``python benchmarks/data.py [--only imported,splits,language,across,held_out,million] [--rows 1000000]``. Real sets come from
the folder with shared data (``ALIGNPRISM_SHARED_DATA``, or ``../shared/data``). The last line is one JSON object:
``imported`` (things kept by set), ``set_aside``, ``round_trip`` (rows that export and import bring back unchanged),
``leaks`` and ``moved`` (rows near-duplicate across splits; rows moved by 10 % more seeds), ``language_accuracy``,
``cross_language_f1`` with its ``cut`` (chosen on Chinese, Bengali, Javanese), ``cross_language_f1_half`` (half of the
rows without a translation), ``held_out_across`` (new prompts against held-out ones of another language, of which half are
translations: the share that is found, and the share of the others that is taken for one; ``least_cosine`` as PolyRefuse chooses it
again), ``million_seconds``, ``million_peak_gb``, ``seconds_by_rows``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from alignprism.construct.filters import COSINE_ACROSS, Embedded, across_reasons
from alignprism.prompts.checking import Settings, check
from alignprism.prompts.exports import export_tables
from alignprism.prompts.findings import Findings
from alignprism.prompts.formats import find_format
from alignprism.prompts.formats.format import Options
from alignprism.prompts.identify import MIN_CHARACTERS, identify, same_language
from alignprism.prompts.imports import Imported, import_files
from alignprism.prompts.meaning import best_pairs, centred, embed
from alignprism.prompts.prompt_files import read_prompts
from alignprism.prompts.read import sample_files
from alignprism.prompts.sources import list_files
from alignprism.prompts.split import SHARES
from alignprism.prompts.splitting import split_files
from alignprism.prompts.tables import TableWriter, read_folder
from alignprism.rows import Prompt

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("ALIGNPRISM_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
SETS = {  # folder, format, and the figure's name for each part
    "rtp_lx": ("rtp-lx", {"prompts": "rtp_lx_prompts", "completions": "rtp_lx_completions"}),
    "polyrefuse": (
        "polyrefuse",
        {"prompts": "polyrefuse_prompts", "pairs": "polyrefuse_pairs", "completions": "polyrefuse_completions"},
    ),
    "multijail": ("multijail", {"prompts": "multijail"}),
    "xsafety": ("xsafety", {"prompts": "xsafety"}),
    "xstest": ("xstest", {"prompts": "xstest_prompts", "completions": "xstest_completions"}),
    "multiq": ("multiq", {"prompts": "multiq"}),
    "tatoeba": ("parallel", {"prompts": "tatoeba"}),
    "vicuna_multilingual": ("vicuna", {"prompts": "vicuna_multilingual"}),
}
NATIVE = {"multijail", "multiq", "tatoeba"}  # sets whose own format can be written
EIGHT = ("en", "hi", "fr", "es", "ar", "ru", "sr", "tl")
CHOOSE, MEASURE = ("zh", "bn", "jv"), ("it", "ar", "sw", "ko", "th", "vi")


def imported(scratch: Path) -> dict[str, Any]:
    """Every set read whole; what an export brings back; by our own format for all, by theirs where it can be written."""
    kept: dict[str, int] = {}
    aside: dict[str, int] = {}
    trips: dict[str, str] = {}
    for folder, (name, parts) in SETS.items():
        outcome: Imported = import_files(list_files(DATA / folder), find_format(name), scratch / folder, Options())
        for part, figure in parts.items():
            kept[figure] = outcome.parts[part].kept
            aside[figure] = outcome.parts[part].set_aside
            assert outcome.parts[part].read == outcome.parts[part].kept + outcome.parts[part].set_aside
        tables = read_folder(scratch / folder)
        for form in ("alignprism", *((name,) if folder in NATIVE else ())):
            exported = export_tables(tables, find_format(form), scratch / f"{folder}-as-{form}")
            trips[f"{folder} as {form}"] = f"{sum(exported.equal.values())} of {sum(exported.rows.values())}"
        if tables["pairs"]:
            exported = export_tables(tables, find_format("trl"), scratch / f"{folder}-as-trl")
            trips[f"{folder} as trl"] = f"{exported.equal['pairs']} of {exported.rows['pairs']}"
        print(f"{folder}: {outcome.rows}", flush=True)
    return {"imported": kept, "set_aside": aside, "round_trip": trips}


def splits(scratch: Path) -> dict[str, Any]:
    """Splitting checks itself for leaks; then again with 10 % more seeds behind."""
    leaks: dict[str, int] = {}
    moved: dict[str, int] = {}
    for folder, (name, _) in SETS.items():
        source = scratch / folder
        if not source.exists():
            import_files(list_files(DATA / folder), find_format(name), source, Options())
        prompts = read_folder(source)["prompts"]
        seeds = sorted({p.seed_id for p in prompts}, key=lambda s: random.Random(s).random())
        new = set(seeds[: round(len(seeds) / 11)])  # a tenth of the others
        few, more = [p for p in prompts if p.seed_id not in new], [p for p in prompts if p.seed_id in new]
        found = []
        for stage, rows in (("few", few), ("all", [*few, *more])):
            start = scratch / f"{folder}-{stage}"
            start.mkdir()
            with TableWriter(start / "prompts.parquet", Prompt) as table:
                for row in rows:
                    table.write(row)
            split_files([start], scratch / f"{folder}-{stage}-split", SHARES)
            found.append({p.id: p.split for p in read_folder(scratch / f"{folder}-{stage}-split")["prompts"]})
        moved[folder] = sum(found[1][identity] != split for identity, split in found[0].items())
        with Findings(None) as findings:
            check(read_prompts([scratch / f"{folder}-all-split"]), findings, Settings(embed_rows=0))
        leaks[folder] = findings.counts[("leak", "error")]
        print(f"{folder}: {leaks[folder]} leaks, {moved[folder]} of {len(found[0])} rows moved", flush=True)
    return {"leaks": leaks, "moved": moved}


def language() -> dict[str, Any]:
    """Identification of MultiQ's questions, by language; all of it beside the eight languages asked for."""
    right: dict[str, list[bool]] = defaultdict(list)
    with gzip.open(DATA / "multiq" / "MultiQ_16_languages.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if len(row["prompt"]) >= MIN_CHARACTERS:
                code = same_language(row["language"])
                right[code].append(identify(row["prompt"]).code == code)
    shares = {code: round(sum(found) / len(found), 4) for code, found in right.items()}
    others = {code: share for code, share in shares.items() if code not in EIGHT}
    return {"language_accuracy": {code: shares[code] for code in EIGHT}, "language_accuracy_others": others}


def across() -> dict[str, Any]:
    """English against nine languages: one cut, chosen on three, measured on six; with all rows and with half."""
    with (DATA / "multijail" / "MultiJail.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    codes = ("en", *CHOOSE, *MEASURE)
    start = time.perf_counter()
    vectors = {code: embed([row[code] for row in rows]) for code in codes}
    rate = len(codes) * len(rows) / (time.perf_counter() - start)
    # Half: of 210 English rows and 210 others, 105 belong together.
    order = np.random.default_rng(0).permutation(len(rows))
    ours, theirs = order[:210], order[105:]
    whole = {code: _pairs(vectors["en"], vectors[code]) for code in codes[1:]}
    half = {code: _pairs(vectors["en"][ours], vectors[code][theirs]) for code in codes[1:]}
    everyone = np.arange(len(rows))

    def score(code: str, cut: float, part: bool) -> float:
        pairs, left, right = (half[code], ours, theirs) if part else (whole[code], everyone, everyone)
        return f1([(int(left[a]), int(right[b])) for a, b, m in pairs if m >= cut], 105 if part else len(rows))

    cuts = sorted({round(m, 3) for code in CHOOSE for _, _, m in (*whole[code], *half[code])})
    cut = max(cuts, key=lambda c: sum(score(code, c, part) for code in CHOOSE for part in (True, False)))
    return {
        "cut": cut,
        "cross_language_f1": {code: round(score(code, cut, False), 4) for code in MEASURE},
        "cross_language_f1_half": {code: round(score(code, cut, True), 4) for code in MEASURE},
        "texts_per_second": round(rate, 1),
    }


def _pairs(one: np.ndarray, other: np.ndarray) -> list[tuple[int, int, float]]:
    moved = centred(np.concatenate((one, other)), np.repeat([0, 1], [len(one), len(other)]))
    return best_pairs(moved[: len(one)], moved[len(one) :])


def f1(pairs: list[tuple[int, int]], true: int) -> float:
    hits = sum(a == b for a, b in pairs)
    return 2 * hits / (len(pairs) + true)


def made(count: int) -> Iterator[Prompt]:
    """Prompts of eight languages, recombined from windows of the sample's own texts; 2 % copies, 2 % near-copies."""
    rng = random.Random(7)
    pools: dict[str, list[list[str]]] = defaultdict(list)
    for kind in ("general", "redteam"):
        for _, content in sample_files(kind):
            for line in filter(None, content.split("\n")):
                row = json.loads(line)
                for column in ("prompt", "response", "safe_completion", "twin_prompt", "twin_completion"):
                    if row.get(column):
                        pools[row["language"]].append(row[column].split())
    codes, last = sorted(pools), dict.fromkeys(pools, "")
    assert codes == sorted(EIGHT)
    for number in range(count):
        code = codes[number % len(codes)]
        draw = rng.random()
        if draw < 0.04 and last[code]:
            words = last[code].split()
            if draw >= 0.02:
                words[rng.randrange(len(words))] = rng.choice(rng.choice(pools[code]))
            text = " ".join(words)
        else:
            text = " ".join(word for _ in range(3) for word in _window(rng, pools[code]))
        last[code] = text
        scope = "global" if number % 3 else "local"
        yield Prompt(f"p{number}", text, code, "redteam", "train", f"s{number}", scope, ("profanity",))  # type: ignore[arg-type]


def _window(rng: random.Random, pool: list[list[str]]) -> list[str]:
    words = rng.choice(pool)
    size = rng.randint(5, 9)
    start = rng.randrange(max(1, len(words) - size))
    return words[start : start + size]


def million(scratch: Path, rows: int) -> dict[str, Any]:
    """Time of a check in a process of its own, and the peak of its and its children's resident memory together."""
    seconds: dict[str, float] = {}
    peak = 0.0
    for count in sorted({10_000, 100_000, rows}):
        folder = scratch / f"made-{count}"
        folder.mkdir()
        with TableWriter(folder / "prompts.parquet", Prompt) as table:
            for row in made(count):
                table.write(row)
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, __file__, "--check", str(folder)], stdout=subprocess.PIPE, text=True
        )
        watch = _Peak(process.pid)
        watch.start()
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the check of {count} rows failed")
        seconds[str(count)] = round(time.perf_counter() - start, 1)
        peak = watch.peak / 1e9
        print(f"{count} rows: {seconds[str(count)]} s, {peak:.2f} GB; {said.strip()}", flush=True)
    return {"million_seconds": seconds[str(rows)], "million_peak_gb": round(peak, 2), "seconds_by_rows": seconds}


class _Peak(threading.Thread):
    """Samples the resident memory of a process and its children, five times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process, self.peak = psutil.Process(pid), 0

    def run(self) -> None:
        while True:
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self.peak = max(self.peak, sum(p.memory_info().rss for p in family))
            except psutil.NoSuchProcess:
                if not self._process.is_running():
                    return
            time.sleep(0.2)


def check_only(folder: Path) -> None:
    with Findings(folder / "findings.parquet") as findings:
        outcome = check(read_prompts([folder]), findings, Settings(embed_rows=0))
    print(json.dumps({"rows": outcome.rows, "exact": len(outcome.exact), "near": len(outcome.near), "findings": sum(findings.counts.values())}))  # fmt: skip


def held_out() -> dict[str, Any]:
    """New prompts against held-out ones of another language, at several sizes: a third as many translations of held-out
    prompts as there are of these, and as many others.

    ``parallel``: every held-out prompt stands in both languages, so that a new one's translation is in its own company too.
    PolyRefuse is what the least cosine is chosen on (here again), MultiJail what it is measured on.
    """
    chosen_on = {code: _polyrefuse(code) for code in ("en", "fr", "ar")}
    measured_on = {code: _multijail(code) for code in ("en", "it", "ar", "sw")}
    choice = [_share(_drawn(chosen_on, size, parallel=False)) for size in SIZES]
    costs = {least: sum(1 - found[least]["found"] + found[least]["wrong"] for found in choice) for least in COSINES}
    rows = [
        {"set": name, "seeds": size[0], "held_out": size[1], "parallel": parallel}
        | _share(_drawn(vectors, size, parallel=parallel))[COSINE_ACROSS]
        for name, vectors in (("polyrefuse", chosen_on), ("multijail", measured_on))
        for size in SIZES
        for parallel in (True, False)
        if size[0] + 2 * size[1] <= 300 or name == "polyrefuse"
    ]
    return {"held_out_across": rows, "least_cosine": min(costs, key=lambda least: costs[least]), "costs": costs}


SIZES = ((12, 12), (60, 40), (75, 100), (300, 200))
"""Seeds, and held-out prompts in each of two languages."""
COSINES = (0.0, 0.2, 0.3, COSINE_ACROSS, 0.5)


def _polyrefuse(code: str) -> np.ndarray:
    with gzip.open(DATA / "polyrefuse" / f"prompts_{code}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return embed([row["prompt"] for row in rows if row["duplicate_of"] is None][:800])


def _multijail(code: str) -> np.ndarray:
    with (DATA / "multijail" / "MultiJail.csv").open(encoding="utf-8-sig", newline="") as file:
        return embed([row[code] for row in csv.DictReader(file)])


def _drawn(vectors: dict[str, np.ndarray], size: tuple[int, int], *, parallel: bool) -> dict[float, list[int]]:
    """Counts by least cosine: translations, of these found, others, of these taken for one."""
    seeds, count = size
    counts = {least: [0, 0, 0, 0] for least in COSINES}
    for mine, other in permutations(vectors, 2):
        for draw in range(max(2, 120 // count)):
            order = list(range(len(vectors[mine])))
            random.Random(f"{mine} {other} {size} {draw}").shuffle(order)
            known, rest = order[:count], order[count:]
            same, different, rest = known[: count // 3], rest[: count // 3], rest[count // 3 :]
            company = known if parallel else rest[:count]
            parts = (
                _embedded(vectors, mine, [*same, *different], "train"),
                _embedded(vectors, mine, rest[count : count + seeds], "train"),
                _joined(_embedded(vectors, mine, company, "test"), _embedded(vectors, other, known, "test")),
            )
            for least in COSINES:
                hit = across_reasons(*parts, least=least)
                found = sum(row < len(same) for row in hit)
                one = (len(same), found, len(different), len(hit) - found)
                counts[least] = [a + b for a, b in zip(counts[least], one, strict=True)]
    return counts


def _share(counts: dict[float, list[int]]) -> dict[float, dict[str, float]]:
    return {
        least: {"found": found / same, "wrong": wrong / other} for least, (same, found, other, wrong) in counts.items()
    }


def _embedded(vectors: dict[str, np.ndarray], code: str, places: Sequence[int], split: Any) -> Embedded:
    names = [f"{split} {n}" for n in places]
    prompts = [Prompt(name, f"{code} {name}", code, "redteam", split, name) for name in names]
    return Embedded(prompts, vectors[code][list(places)])


def _joined(one: Embedded, other: Embedded) -> Embedded:
    return Embedded([*one.prompts, *other.prompts], np.concatenate([one.vectors, other.vectors]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="imported,splits,language,across,held_out,million")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.check is not None:
        check_only(arguments.check)
        return
    if not DATA.is_dir():
        raise SystemExit(f"no shared data at {DATA}; set ALIGNPRISM_SHARED_DATA")
    wanted = arguments.only.split(",")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="alignprism-data-") as folder:
        scratch = Path(folder)
        if "imported" in wanted:
            result |= imported(scratch)
        if "splits" in wanted:
            result |= splits(scratch)
        if "language" in wanted:
            result |= language()
        if "across" in wanted:
            result |= across()
        if "held_out" in wanted:
            result |= held_out()
        if "million" in wanted:
            result |= million(scratch, arguments.rows)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
