"""The card of a published data set: Markdown with the metadata block that the hub reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import yaml

from alignprism.languages import language
from alignprism.prompts.findings import Findings
from alignprism.rows import Rating

_HUB_LICENCES = {
    "Apache-2.0": "apache-2.0", "MIT": "mit", "CC-BY-4.0": "cc-by-4.0", "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC0-1.0": "cc0-1.0", "CC-BY-NC-4.0": "cc-by-nc-4.0", "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
}  # fmt: skip
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


@dataclass(frozen=True, slots=True)
class Described:
    """What the card needs beside the rows."""

    name: str
    canary: str
    files: Mapping[str, Mapping[str, str]]
    """Configuration to split to file; empty where the files are in an archive."""
    archive: str | None
    findings: Findings | None
    about: str = ""


def card(tables: Mapping[str, Sequence[Any]], described: Described) -> str:
    """The whole page."""
    prompts, pairs = tables.get("prompts", ()), tables.get("pairs", ())
    parts = [
        _metadata(tables, described),
        f"# {described.name}\n",
        described.about.strip() + "\n" if described.about.strip() else "",
        "**Content warning.** Red-team prompts and the answers to them can be hateful, violent, sexual or otherwise "
        "harmful. They are for making models safer and for measuring that; do not show them to people without warning.\n",
        _archive(described),
        "## Counts\n\n" + "\n".join(f"- {name}: {len(rows)}" for name, rows in tables.items() if rows) + "\n",
        _table("Prompts by language, scope and split", ("language", "scope", "split"), [(p.language, p.scope or "none", p.split) for p in prompts]),
        _table("Prompts by set and category", ("set", "category"), [(p.set, c) for p in prompts for c in (p.categories or ("none",))]),
        _table("Pairs by language and kind", ("language", "kind"), [(p.language, p.kind) for p in pairs]),
        _splits(prompts),
        _agreement(tables.get("ratings", ())),
        _licences(tables),
        _gaps(described.findings),
        "## Canary\n\nThis data set is for evaluation and alignment; keep it out of pre-training corpora. Every row and this "
        f"page carry\n\n    {described.canary}\n",
    ]  # fmt: skip
    return "\n".join(part for part in parts if part)


def _metadata(tables: Mapping[str, Sequence[Any]], described: Described) -> str:
    rows = [row for name in ("prompts", "pairs") for row in tables.get(name, ())]
    licences = sorted({row.licence for row in rows if row.licence})
    known = [_HUB_LICENCES.get(name) for name in licences]
    total = max((len(found) for found in tables.values()), default=0)
    block: dict[str, Any] = {
        "pretty_name": described.name,
        "language": sorted({row.language for row in rows}),
        "license": known[0] if len(known) == 1 and known[0] else "other",
        "tags": ["not-for-all-audiences", "safety", "red-teaming", "alignprism"],
        "task_categories": ["text-generation"],
        "size_categories": [next((name for limit, name in _SIZES if total < limit), "n>10M")],
    }
    if block["license"] == "other":
        block["license_name"] = "mixed" if len(licences) > 1 else "see-card"
    if described.files:
        block["configs"] = [
            {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
            for name, splits in described.files.items()
        ]
    return f"---\n{yaml.safe_dump(block, sort_keys=False, allow_unicode=True)}---\n"


def _archive(described: Described) -> str:
    if described.archive is None:
        return ""
    return (
        f"The texts are in `{described.archive}`, encrypted with AES-256 (WinZip's form; 7-Zip and pyzipper open it), so that "
        "crawlers do not take them in. Ask the publishers for the password.\n"
    )


def _table(title: str, columns: Sequence[str], cells: Sequence[tuple[str, ...]]) -> str:
    if not cells:
        return ""
    counts = Counter(cells)
    lines = [f"## {title}\n", f"| {' | '.join(columns)} | n |", f"|{'---|' * (len(columns) + 1)}"]
    lines += [f"| {' | '.join(_shown(c) for c in cell)} | {count} |" for cell, count in sorted(counts.items())]
    return "\n".join(lines) + "\n"


def _shown(word: str) -> str:
    plain = word.replace("|", "/").replace("\n", " ")
    try:
        return f"{plain} ({language(plain).name})" if 2 <= len(plain) <= 3 else plain
    except ValueError:
        return plain


def _splits(prompts: Sequence[Any]) -> str:
    if not prompts:
        return ""
    seeds: dict[str, set[str]] = defaultdict(set)
    for prompt in prompts:
        seeds[prompt.split].add(prompt.seed_id)
    lines = [f"- {split}: {sum(p.split == split for p in prompts)} prompts of {len(found)} seeds" for split, found in sorted(seeds.items())]  # fmt: skip
    shared = sum(len(a & b) for a, b in combinations(seeds.values(), 2))
    return (
        "## Splits\n\nBy seed cluster: translations, rephrasings and near-duplicates of a prompt lie in one split. "
        f"Seeds that lie in two: {shared}.\n\n" + "\n".join(lines) + "\n"
    )


def agreement(ratings: Sequence[Rating]) -> dict[str, tuple[float, int]]:
    """Share of pairs of annotators who gave a subject the same value, and the number of pairs, by scale."""
    by_subject: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for rating in ratings:
        by_subject[(rating.scale, rating.subject_id)].append(rating.given or rating.value)
    same: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for (scale, _), values in by_subject.items():
        for one, other in combinations(values, 2):
            pairs[scale] += 1
            same[scale] += one == other
    return {scale: (same[scale] / count, count) for scale, count in sorted(pairs.items())}


def _agreement(ratings: Sequence[Rating]) -> str:
    found = agreement(ratings)
    if not found:
        return "## Agreement\n\nNo text was rated more than once, so no agreement can be given.\n"
    lines = [f"| {scale} | {share:.3f} | {count} |" for scale, (share, count) in found.items()]
    return (
        "## Agreement\n\nShare of pairs of annotators (people and named models) who gave the same value; not corrected for "
        "chance.\n\n| scale | agreement | pairs |\n|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def _licences(tables: Mapping[str, Sequence[Any]]) -> str:
    rows = [row for found in tables.values() for row in found]
    found = Counter(
        (row.licence or "unknown", getattr(row, "source", "") or "") for row in rows if hasattr(row, "licence")
    )
    lines = [f"| {licence} | {source} | {count} |" for (licence, source), count in sorted(found.items())]
    return "## Licences and sources\n\n| licence | source | rows |\n|---|---|---|\n" + "\n".join(lines) + "\n"


def _gaps(findings: Findings | None) -> str:
    if findings is None:
        return "## Known gaps\n\nThe rows were not checked before publishing.\n"
    counted = [f"- {check}: {count} ({severity})" for check, severity, count in findings.by_check()]
    notes = [f"- {f.language + ': ' if f.language else ''}{f.evidence}" for name in ("balance", "translation") for f in findings.first.get(name, []) if f.severity == "note"]  # fmt: skip
    return (
        "## Known gaps\n\nFindings of `alignprism data check`:\n\n" + ("\n".join(counted) or "- none") + "\n"
        + ("\n" + "\n".join(notes) + "\n" if notes else "")
    )  # fmt: skip
