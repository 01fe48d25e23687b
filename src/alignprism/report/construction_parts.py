"""How the training data came to be: prompts grown from seeds, and pairs made, dropped and mixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignprism.report.parts import Folded, Part, Remark
from alignprism.report.results import Results
from alignprism.report.tables import flat, from_records


def construction(results: Results) -> list[Part]:
    """Tables on the training data, in the order in which they were made."""
    return [*_grown(results.part("rephrase")), *_pairs(results.part("pairs"), results.part("training"))]


def _grown(report: Mapping[str, Any]) -> list[Part]:
    """Prompts that a model wrote from human seeds: how many, how different, and what was set aside."""
    if not report:
        return []
    rows = []
    for code, found in report["diversity"].items():
        aside = report["by_language"].get(code, {}).get("set_aside", {})
        cosine, letters = found["cosine_distance"], found["letter_distance"]
        rows.append(
            {
                "language": code,
                "seeds": found["seeds"],
                "prompts": found["accepted"],
                "set aside": ", ".join(f"{number} {reason}" for reason, number in aside.items()) or "none",
                "Vendi score": found["vendi"],
                "Vendi score of the seeds": found["vendi_seeds"],
                "distance to the seed, meaning": cosine["mean"] if cosine else None,
                "distance to the seed, letters": letters["mean"] if letters else None,
            }
        )
    parts: list[Part] = [from_records("Training prompts grown from seeds", rows)]
    without: dict[str, list[str]] = {}
    for code, found in report["diversity"].items():
        if found["reason"]:
            without.setdefault(found["reason"], []).append(code)
    parts += [Remark(f"Vendi score and distance in meaning, {', '.join(c)}: {why}.") for why, c in without.items()]
    if not report["checked"]:
        parts.append(Remark("No checker was named: nothing says whether these prompts are adversarial at all."))
    elif report["checker_is_writer"]:
        parts.append(Remark("One and the same model wrote these prompts and checked them."))
    cells = [
        {key: cell[key] for key in ("language", "scope", "category", "seeds", "quota", "accepted")}
        for cell in report["coverage"]
    ]
    parts.append(Folded("Coverage of language, scope and category", from_records("Prompts wanted and accepted", cells)))
    if missing := report["seeds_without_prompts"]:
        parts.append(Remark(f"{len(missing)} seeds gave no prompt that was accepted."))
    return parts


def _pairs(pairs: Mapping[str, Any], trainings: Mapping[str, Any]) -> list[Part]:
    """Pairs made, dropped, learned and only scored, their lengths, the mixture by language, how stable comparisons were."""
    rows = []
    for kind in ("safety", "general"):
        entry = pairs.get(kind)
        if isinstance(entry, dict):
            dropped = entry.get("dropped") or {}
            why = ", ".join(f"{number} {reason}" for reason, number in dropped.items()) or "none"
            rows.append({"pairs": kind, "made": entry.get("made"), "used": entry.get("used"), "dropped": why})
    parts: list[Part] = [from_records("Preference pairs", rows)] if rows else []
    held_out = [
        f"{name} learned {end['rows']} and scored {end['held_out_rows']}"
        for name, end in trainings.items()
        if end and end.get("held_out_rows")
    ]
    if held_out:
        parts.append(Remark(f"Of the pairs used some were only scored (held_out_share): {'; '.join(held_out)}."))
    if compared := pairs.get("comparisons"):
        parts.append(from_records("How candidates compared, in both orders", [compared]))
    if lengths := flat(pairs.get("lengths") or {}):
        measured = [{"measure": name, "value": value} for name, value in lengths]
        parts.append(Folded("Lengths of chosen and rejected sides", from_records("Lengths", measured)))
    languages_of = pairs.get("by_language")
    if isinstance(languages_of, dict) and languages_of:
        shares = (pairs.get("mixing") or {}).get("share_of_safety", {})
        records = [
            {"language": code, **entry, "share of safety": shares.get(code)} for code, entry in languages_of.items()
        ]
        parts.append(Folded("Pairs by language", from_records("Preference pairs used, by language", records)))
    return parts
