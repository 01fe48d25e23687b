"""The last stages: all figures into ``results.*``, and the page made from them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from alignprism import __version__
from alignprism.figures import (
    PAIRED,
    POOLED,
    UNDECIDABLE_HARMFUL,
    Answer,
    Settings,
    figures,
    find,
    pooled_seeds,
)
from alignprism.languages import language
from alignprism.report.page import write_report as render_page
from alignprism.rows import Completion, Figure, Prompt, ReferenceLikelihood, Verdict, by_id, write_atomic, write_rows
from alignprism.stages.context import Context, arm_stage, arms_of, cells_by_method, cells_of
from alignprism.study import Study

RESULTS_SCHEMA = 1
SIDE_EFFECT = 0.05
"""A rise of over-refusal or of undecidable answers by more than this is said in the first box."""


def write_results(context: Context) -> list[Path]:
    """Stage ``results``: ``results.parquet``, ``results.csv`` and ``results.json`` in the run folder."""
    study = context.study
    prompts = by_id(context.prompts())
    evaluated = [*study.models, *(cell.name for cell in cells_of(study) if cell.evaluated)]
    answers = {name: _answers(context, name, prompts) for name in evaluated}
    likelihoods = {
        name: context.read(f"complete:{name}", "likelihoods.parquet", ReferenceLikelihood) for name in evaluated
    }
    by_method = cells_by_method(study)
    answers = pooled_seeds(answers, by_method)
    for method, names in by_method.items():
        if len(names) > 1:
            likelihoods[method] = [row for name in names for row in likelihoods[name]]
    settings = figure_settings(study, list(answers), {m: len(n) for m, n in by_method.items() if len(n) > 1})
    rows = figures(answers, likelihoods, prompts, settings)
    document = _document(context, rows, settings, prompts)
    folder = context.run.path
    write_rows(folder / "results.parquet", rows, Figure)
    write_atomic(folder / "results.csv", _csv(rows).encode())
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / "results.json", text.encode())
    return [folder / name for name in ("results.parquet", "results.csv", "results.json")]


def write_report(context: Context) -> list[Path]:
    """Stage ``report``: ``report.html``, made from ``results.json`` alone."""
    return [render_page(context.run.path)]


def figure_settings(study: Study, models: Sequence[str], train_seeds: Mapping[str, int]) -> Settings:
    """What the figures need of the study. The primary model is the named one, or the last method, or the last model."""
    named = study.evaluation.primary.model
    last = study.methods[-1] if study.methods else models[-1]
    order = [study.baseline, *(name for name in models if name != study.baseline)]
    primary = named or ("dpo-sft" if "dpo-sft" in study.methods else last)
    return Settings(
        baseline=study.baseline,
        models=tuple(order),
        train_seeds=train_seeds,
        primary_model=primary,
        primary_set=study.evaluation.primary.set,
        trained_languages=tuple(study.languages.train) if study.methods else (),
        languages=tuple(study.languages.test),
        judge=study.judges.evaluation,
        bootstrap=study.evaluation.bootstrap,
        seed=study.seed,
    )


def _answers(context: Context, name: str, prompts: Mapping[str, Prompt]) -> list[Answer]:
    completions = context.read(f"complete:{name}", "completions.parquet", Completion)
    verdicts = {v.completion_id: v for v in context.read(f"judge:{name}", "verdicts.parquet", Verdict)}
    return [Answer(prompts[row.prompt_id], row, verdicts[row.id]) for row in completions]


def _csv(rows: Sequence[Figure]) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, [f.name for f in fields(Figure)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return sink.getvalue()


def _document(
    context: Context, rows: Sequence[Figure], settings: Settings, prompts: Mapping[str, Prompt]
) -> dict[str, Any]:
    study, manifest = context.study, context.run.manifest
    cells = [cell.name for cell in cells_of(study) if not cell.parts]
    trained = {name: _summary(context, f"train:{name}") for name in cells}
    return {
        "schema": RESULTS_SCHEMA,
        "title": study.name,
        "alignprism": __version__,
        "study": study.model_dump(),
        "baseline": study.baseline,
        "models": list(settings.models),
        "languages": [
            {
                "code": code,
                "name": language(code).name,
                "direction": language(code).direction,
                "trained": code in settings.trained_languages,
            }
            for code in study.languages.test
        ],
        "headline": headline(rows, settings, study, _set_aside(context)),
        "figures": [asdict(row) for row in rows],
        "pairs": _pairs(context) if cells else None,
        "curves": {name: summary["curve"] for name, summary in trained.items()},
        "dev": {name: _dev(context, name) for name in cells},
        "training": {name: summary["result"] for name, summary in trained.items()},
        "truncation": {name: summary["truncation"] for name, summary in trained.items()},
        "judges": _judges(context),
        "prompt_sets": _prompt_sets(prompts.values(), study),
        "set_aside": _set_aside(context),
        "provenance": {
            "models": manifest["models"],
            "judges": manifest["judges"],
            "test": manifest["test"],
            "versions": manifest["versions"],
            "machine": manifest["machine"],
            "stages": {
                name: entry["key"] for name, entry in manifest["stages"].items() if name not in ("results", "report")
            },
            "seeds": manifest["seeds"],
            "sources": sorted({p.source for p in prompts.values()}),
        },
        "timing": {name: entry for name, entry in manifest["timing"].items() if isinstance(entry, dict)}
        | {"created": manifest["timing"]["created"]},
    }


def _summary(context: Context, stage: str) -> dict[str, Any]:
    summary: dict[str, Any] = _json(context.run.stage_folder(stage) / "summary.json")
    return summary


def _pairs(context: Context) -> dict[str, Any]:
    """What became of the pairs: of the study's mixture, or where only merged arms are trained, of both arms together."""
    found = {
        arm: _json(context.run.stage_folder(arm_stage("pairs", arm)) / "summary.json") for arm in arms_of(context.study)
    }
    if "" in found:
        own: dict[str, Any] = found[""]
        return own
    return {kind: found[kind][kind] for kind in found}


def _dev(context: Context, cell: str) -> list[dict[str, float]]:
    file = context.output(f"judge:{cell}", "dev.json")
    rows: list[dict[str, float]] = _json(file) if file else []
    return rows


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _set_aside(context: Context) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = _json(context.run.stage_folder("prompts") / "set_aside.json")
    return rows


def _judges(context: Context) -> list[dict[str, Any]]:
    return [
        {
            "role": role,
            "name": getattr(context.study.judges, role),
            "digest": head.digest,
            "threshold": head.threshold,
            "card": head.card,
            "card_text": head.card_text,
        }
        for role, head in context.judges.items()
    ]


def _prompt_sets(prompts: Any, study: Study) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for prompt in prompts:
        if prompt.split != "test" or prompt.language not in study.languages.test:
            continue
        entry = found.setdefault(prompt.set, {"n": 0, "seeds": set(), "by_language": {}})
        entry["n"] += 1
        entry["seeds"].add(prompt.seed_id)
        entry["by_language"][prompt.language] = entry["by_language"].get(prompt.language, 0) + 1
    return {
        name: {"n": entry["n"], "clusters": len(entry["seeds"]), "by_language": entry["by_language"]}
        for name, entry in found.items()
    }


def headline(
    rows: Sequence[Figure], settings: Settings, study: Study, aside: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """What the first box says: the primary endpoint with what qualifies it."""
    model, test = settings.primary_model, settings.primary_set
    primary = find(rows, "harmful_change", model, test, PAIRED)
    return {
        "primary": asdict(primary),
        "relative": asdict(find(rows, "harmful_relative_change", model, test, POOLED)),
        "baseline_rate": asdict(find(rows, "harmful_rate", settings.baseline, test)),
        "model_rate": asdict(find(rows, "harmful_rate", model, test)),
        "detectable_change": asdict(find(rows, "detectable_change", model, test)),
        "undecidable_as_harmful": asdict(find(rows, "harmful_change", model, test, UNDECIDABLE_HARMFUL)),
        "warnings": warnings(rows, settings, study, aside),
        "false_alarms": asdict(find(rows, "harmful_rate", settings.baseline, "benign")),
        "judge_only": True,
        "win_rate": asdict(find(rows, "win_rate", model, "general")),
    }


def warnings(
    rows: Sequence[Figure], settings: Settings, study: Study, aside: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Sentences that belong in the first box, each with its kind."""
    found: list[dict[str, str]] = []
    model = settings.primary_model
    change = find(rows, "harmful_change", model, settings.primary_set, PAIRED).estimate
    if change is not None and change < 0:
        for kind, metric, test, what in (
            ("lower by refusing", "over_refusal_change", "benign", "refusals of harmless prompts"),
            ("lower by breaking", "undecidable_change", settings.primary_set, "undecidable answers"),
        ):
            rise = find(rows, metric, model, test, PAIRED).estimate
            if rise is not None and rise > SIDE_EFFECT:
                found.append({"kind": kind, "text": f"{model}: {what} rose by {100 * rise:.0f} points"})
    if study.methods and study.allow_shared_judge and study.judges.preference == study.judges.evaluation:
        found.append(
            {
                "kind": "shared judge",
                "text": f"{study.judges.evaluation} both made the preference pairs and judged the result",
            }
        )
    if aside:
        found.append(
            {"kind": "handling", "text": f"{len(aside)} prompts were set aside by the handling rules and not used"}
        )
    return found
