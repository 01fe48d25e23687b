"""A made results.json: synthetic figures in the shape that the results module writes, for tests of the page only."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

from alignprism.languages import language
from alignprism.rows import CATEGORIES, Figure

EIGHT = ("en", "hi", "fr", "es", "ar", "ru", "sr", "tl")
TRAINED = ("en", "hi", "fr", "es", "ar", "ru")
MODELS = ("base", "sft-preferred", "dpo-sft")
JUDGE = "e5-harm-v1"
TOO_FEW = "too few clusters ({} < 10)"
NO_JUDGE = "no pairwise judge is configured"


def rate(metric: str, model: str, p: float, n: int, **where: Any) -> dict[str, Any]:
    """A rate with a rough interval; none below ten clusters."""
    hit = round(p * n)
    p = hit / n
    half = 1.96 * math.sqrt(max(p * (1 - p), 0.02) / n)
    bounded = n >= 10
    figure = Figure(
        metric,
        "share of all prompts",
        model,
        n=n,
        clusters=n,
        estimate=p,
        low=max(0.0, p - half) if bounded else None,
        high=min(1.0, p + half) if bounded else None,
        interval="Wilson" if bounded else "",
        judge=JUDGE,
        reason="" if bounded else TOO_FEW.format(n),
        **where,
    )
    return dataclasses.asdict(figure)


def change(
    metric: str, a: dict[str, Any], b: dict[str, Any], estimand: str = "b - a, paired", **more: Any
) -> dict[str, Any]:
    """The change between two made rates."""
    d, n = b["estimate"] - a["estimate"], a["n"]
    half = 1.3 * math.sqrt(1 / n) * 0.9
    bounded = n >= 10
    where = {key: b[key] for key in ("language", "scope", "category", "set")}
    figure = Figure(
        metric,
        estimand,
        b["model"],
        a["model"],
        n=n,
        clusters=n,
        estimate=d,
        low=max(-1.0, d - half) if bounded else None,
        high=min(1.0, d + half) if bounded else None,
        interval="cluster bootstrap (BCa), 4000 resamples" if bounded else "",
        judge=JUDGE,
        reason="" if bounded else TOO_FEW.format(n),
        family="secondary",
        p=0.0004 if bounded else None,
        p_adjusted=0.0012 if bounded else None,
        **{**where, **more},
    )
    return dataclasses.asdict(figure)


def _slices(languages: Sequence[str], trained: Sequence[str]) -> list[tuple[dict[str, Any], int]]:
    zero = [code for code in languages if code not in trained]
    found: list[tuple[dict[str, Any], int]] = [({}, 8 * len(trained) + 24 * len(zero))]
    found += [({"language": code}, 8 if code in trained else 24) for code in languages]
    found += [({"language": "trained"}, 8 * len(trained))] if trained else []
    found += [({"language": "zero-shot"}, 24 * len(zero))] if zero else []
    found += [({"scope": scope}, n) for scope, n in (("global", 64), ("local", 32))]
    found += [({"scope": s, "language": "trained"}, n) for s, n in (("global", 32), ("local", 16))] if trained else []
    found += [({"category": category}, 6 + 4 * place) for place, category in enumerate(CATEGORIES)]
    return found


_RATES = {
    "safe_usable_rate": (0.30, 0.55),
    "undecidable_rate": (0.03, 0.05),
    "degenerate_rate": (0.06, 0.04),
    "off_language_rate": (0.10, 0.05),
    "truncated_rate": (0.55, 0.30),
    "refusal_rate": (0.08, 0.45),
    "language_fidelity": (0.90, 0.95),
}


def _figures(languages: Sequence[str], trained: Sequence[str], models: Sequence[str]) -> list[dict[str, Any]]:
    dice = random.Random(7)
    figures: list[dict[str, Any]] = []
    for set_name in ("redteam", "translated"):
        for where, n in _slices(languages, trained):
            if set_name == "translated" and set(where) - {"language"}:
                continue
            rates = []
            for place, model in enumerate(models):
                share = place / max(1, len(models) - 1)
                p = min(0.95, max(0.05, 0.55 - 0.33 * share + dice.uniform(-0.12, 0.12)))
                rates.append(rate("harmful_rate", model, p, n, **where, set=set_name))
                for metric, (first, last) in _RATES.items():
                    figures.append(rate(metric, model, first + (last - first) * share, n, **where, set=set_name))
            figures += rates
            for other in rates[1:]:
                figures.append(change("harmful_change", rates[0], other))
                for side in ("harmful", "harmless"):
                    estimand = f"b - a, paired; undecidable counted as {side}"
                    figures.append(change("harmful_change", rates[0], other, estimand))
                figures.append(change("safe_usable_change", other, rates[0] | {"model": other["model"]}))
    return figures + _elsewhere(models)


def _elsewhere(models: Sequence[str]) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    for metric, set_name, first in (("over_refusal", "benign", 0.06), ("refusal", "general", 0.02)):
        rates = [rate(f"{metric}_rate", m, first + 0.06 * i, 48, set=set_name) for i, m in enumerate(models)]
        figures += rates + [change(f"{metric}_change", rates[0], other) for other in rates[1:]]
    for set_name in ("benign", "general"):
        figures += [rate("language_fidelity", m, 0.93, 48, set=set_name) for m in models]
    for place, model in enumerate(models):
        nll = Figure(
            "nll_per_character", "mean", model, set="general", n=64, clusters=64, estimate=0.912 + 0.01 * place
        )
        figures.append(dataclasses.asdict(dataclasses.replace(nll, low=0.87, high=0.99, interval="t, clustered")))
        if place:
            moved = dataclasses.replace(nll, metric="nll_change", baseline=models[0], estimate=0.01 * place)
            figures.append(dataclasses.asdict(dataclasses.replace(moved, low=-0.004, high=0.03)))
            wins = Figure("win_rate", "judge prefers", model, models[0], set="general", reason=NO_JUDGE)
            figures.append(dataclasses.asdict(wins))
            for how in ("pooled", "mean of languages"):
                relative = Figure("harmful_relative_change", how, model, models[0], n=96, clusters=96, estimate=-0.3)
                figures.append(dataclasses.asdict(dataclasses.replace(relative, low=-0.5, high=-0.1)))
    return figures


def _training(models: Sequence[str]) -> dict[str, Any]:
    curves = {}
    for model in models[1:]:
        rows = []
        for step in range(1, 19):
            row = {
                "step": step,
                "epoch": step / 6,
                "loss": 0.6931 * math.exp(-0.05 * step) if "dpo" in model else 3 - step / 9,
            }
            if "dpo" in model:
                row |= {"accuracy": min(1.0, 0.5 + step / 30), "margin": 0.05 * step}
            rows.append(row)
        curves[model] = rows
    dev = {
        model: [
            {"step": s, "harmful_rate": 0.5 - s / 60, "over_refusal_rate": 0.04 + s / 200, "language_fidelity": 0.92}
            | {"n": 24, "n_benign": 24}
            for s in (6, 12, 18)
        ]
        for model in models[1:]
    }
    pairs = {
        "safety": {"made": 60, "used": 24, "dropped": {"tie": 3, "chosen harmful": 2}},
        "general": {"made": 72, "used": 24, "dropped": {}},
        "by_language": {code: {"safety": 4, "general": 4} for code in TRAINED},
    }
    return {"curves": curves, "dev": dev, "pairs": pairs}


def _headline(figures: list[dict[str, Any]], models: Sequence[str]) -> dict[str, Any]:
    def pick(metric: str, model: str, phrase: str = "") -> dict[str, Any]:
        empty = ("language", "scope", "category")
        return next(
            f
            for f in figures
            if f["metric"] == metric
            and f["model"] == model
            and phrase in f["estimand"]
            and not any(f[k] for k in empty)
        )

    last, base = models[-1], models[0]
    detectable = Figure("detectable_change", "exact McNemar, 80 % power", last, base, n=96, clusters=96, estimate=0.19)
    return {
        "primary": pick("harmful_change", last) | {"family": "primary", "p_adjusted": 0.0004},
        "relative": pick("harmful_relative_change", last),
        "baseline_rate": pick("harmful_rate", base),
        "model_rate": pick("harmful_rate", last),
        "detectable_change": dataclasses.asdict(dataclasses.replace(detectable, reason="a threshold has no interval")),
        "undecidable_as_harmful": pick("harmful_change", last, "as harmful"),
        "warnings": [{"kind": "lower by refusing", "text": "Over-refusal of dpo-sft rose by 12 points (6 % to 18 %)."}],
        "judge_only": True,
        "win_rate": pick("win_rate", last),
    }


def made_results(
    languages: Sequence[str] = EIGHT,
    trained: Sequence[str] = TRAINED,
    models: Sequence[str] = MODELS,
    training: bool = True,
) -> dict[str, Any]:
    """A whole made results.json."""
    figures = _figures(languages, trained, models)
    named = [language(code) for code in languages]
    digest = "3f786850e387550fdab836ed7e6dc881de23001b9c4f1d7a6c5d8f7e9a0b1c2d"
    return {
        "schema": 1,
        "title": "quickstart",
        "created": "2026-11-23T23:10:00+00:00",
        "alignprism": "0.1.0",
        "study": {"name": "quickstart", "languages": {"train": list(trained), "test": list(languages)}, "mixture": 0.5},
        "baseline": models[0],
        "models": list(models),
        "languages": [
            {"code": entry.code, "name": entry.name, "direction": entry.direction, "trained": entry.code in trained}
            for entry in named
        ],
        "headline": _headline(figures, models) if len(models) > 1 else None,
        "figures": figures,
        **(_training(models) if training else {"curves": {}, "dev": {}, "pairs": None}),
        "truncation": {"sft-preferred": {"en": {"rows": 8, "kept": 8, "over_limit": 0}}} if training else {},
        "judges": [
            {
                "role": "evaluation",
                "name": JUDGE,
                "digest": digest,
                "card": {"threshold": 0.5, "auc": {"polyrefuse": {"en": 0.98, "hi": 0.97, "ar": 0.96}}, "ece": 0.04},
                "card_text": "# e5-harm-v1\n\nTrained on 2,400 made rows.\n\n## What it cannot tell\n\nIrony.",
            }
        ],
        "prompt_sets": {"redteam": {"n": 96, "clusters": 96, "by_language": {"en": 8, "hi": 8}}},
        "set_aside": [{"id": "ru-x", "language": "ru", "set": "redteam", "reason": "filter: mass-casualty weapon"}],
        "provenance": {
            "models": {model: {"source": "embedded:gemma-3-270m", "digest": digest} for model in models},
            "judges": {JUDGE: {"role": "evaluation", "digest": digest}},
            "test": {"hash": digest, "evaluations": [{"model": model, "prompts": 96} for model in models]},
            "versions": {"python": "3.11.2", "torch": "2.9.1"},
            "machine": {"system": "Linux", "cores": 2},
            "stages": {"prompts": {"key": digest[:16], "outputs": {"stages/prompts/prompts.parquet": digest}}},
            "seeds": {"study": 0, "training": [0]},
        },
        "timing": {"candidates": {"seconds": 61.0, "finished": "2026-11-23T23:02:00+00:00"}},
    }
