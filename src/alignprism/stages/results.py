"""The last stages: all figures into ``results.*``, and the page made from them.

They read the run folder alone: no model and no judge is opened, so that labels added later cost no call and no weights.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from alignprism import __version__
from alignprism.figures import Answer, Further, Settings, figures, pooled_seeds
from alignprism.figures.people import labelled
from alignprism.judging.head import Head, HeadError
from alignprism.judging.translation import SET as TRANSLATION
from alignprism.judging.translation import metrics, translation_figures
from alignprism.judging.win_rates import Judged, judged
from alignprism.labels.plan import read_plans
from alignprism.labels.store import labels_digest, read_labels
from alignprism.languages import language
from alignprism.report.page import write_report as render_page
from alignprism.rows import (
    Comparison,
    Completion,
    Figure,
    Prompt,
    ReferenceLikelihood,
    Verdict,
    by_id,
    read_rows,
    write_atomic,
    write_rows,
)
from alignprism.stages.calls import call_summary
from alignprism.stages.compare import matchups_of
from alignprism.stages.context import Context, arm_stage, arms_of, cells_by_method, cells_of, evaluated_models
from alignprism.stages.headline import headline
from alignprism.stages.translate import sentences_of, translations_of
from alignprism.statistics.corpus import RESAMPLES
from alignprism.study import Study
from alignprism.study.families import Member, kin

RESULTS_SCHEMA = 1


def write_results(context: Context) -> list[Path]:
    """Stage ``results``: ``results.parquet``, ``results.csv`` and ``results.json`` in the run folder."""
    study = context.study
    prompts = by_id(context.prompts())
    evaluated = [*evaluated_models(study), *(cell.name for cell in cells_of(study) if cell.evaluated)]
    single = {name: _answers(context, name, prompts) for name in evaluated}
    likelihoods = {name: _likelihoods(context, name) for name in evaluated}
    several = {method: names for method, names in cells_by_method(study).items() if len(names) > 1}
    answers = pooled_seeds(single, several)
    for method, names in several.items():
        likelihoods[method] = [row for name in names for row in likelihoods[name]]
    settings = figure_settings(context, list(answers), {method: len(names) for method, names in several.items()})
    further = Further(
        pairwise_judge=_judge_name(context, "pairwise"),
        games={name: games for name in evaluated if (games := _games(context, name, prompts))},
        preference_judge=_judge_name(context, "preference") or "",
        preferred=pooled_seeds(_preferred(context, single), several),
        translations=_translations(context, evaluated),
        people=labelled(read_plans(context.run.path), read_labels(context.run.path), single),
        seeds=several,
    )
    rows = figures(answers, likelihoods, prompts, settings, further)
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


def figure_settings(context: Context, models: Sequence[str], train_seeds: Mapping[str, int]) -> Settings:
    """What the figures need of the study; `models` are all that have answers."""
    study = context.study
    compared = [name for name in models if name != study.baseline]
    last = study.methods[-1] if study.methods else compared[-1]
    primary = study.evaluation.primary.model or ("dpo-sft" if "dpo-sft" in study.methods else last)
    return Settings(
        baseline=study.baseline,
        models=(study.baseline, *compared),
        train_seeds=train_seeds,
        primary_model=primary,
        primary_set=study.evaluation.primary.set,
        trained_languages=tuple(study.languages.train) if study.methods else (),
        languages=tuple(study.languages.test),
        judge=_judge_name(context, "evaluation") or "",
        bootstrap=study.evaluation.bootstrap,
        seed=study.seed,
        endpoints=tuple(name for name, entry in study.models.items() if entry.endpoint is not None),
    )


def _judge_name(context: Context, role: str) -> str | None:
    entry = context.run.manifest["judges"].get(role)
    return None if entry is None else str(entry["name"])


def _answers(context: Context, name: str, prompts: Mapping[str, Prompt]) -> list[Answer]:
    completions = context.read(f"complete:{name}", "completions.parquet", Completion)
    verdicts = {v.completion_id: v for v in context.read(f"judge:{name}", "verdicts.parquet", Verdict)}
    return [Answer(prompts[row.prompt_id], row, verdicts[row.id]) for row in completions]


def _likelihoods(context: Context, name: str) -> list[ReferenceLikelihood]:
    if context.output(f"complete:{name}", "likelihoods.parquet") is None:
        return []
    return context.read(f"complete:{name}", "likelihoods.parquet", ReferenceLikelihood)


def _preferred(context: Context, answers: Mapping[str, list[Answer]]) -> dict[str, list[Answer]]:
    """The answers to the primary set with the preference judge's verdicts, where it gave them."""
    found: dict[str, list[Answer]] = {}
    for name, rows in answers.items():
        if context.output(f"prefer:{name}", "verdicts.parquet") is not None:
            verdicts = {v.completion_id: v for v in context.read(f"prefer:{name}", "verdicts.parquet", Verdict)}
            found[name] = [replace(a, verdict=verdicts[a.completion.id]) for a in rows if a.completion.id in verdicts]
    return found


def _translations(context: Context, evaluated: Sequence[str]) -> list[Figure]:
    """Figures of the translation task; the same sentences of every model that has translated.

    The sentences lie in the study's own file. Where it is gone (a run copied to another machine) the figures stay as they
    were: labels of answers to prompts change nothing about translations.
    """
    study = context.study
    there = [name for name in evaluated if context.output(f"translate:{name}", "completions.parquet") is not None]
    if not there:
        return []
    spm = study.evaluation.spm_model
    gone = [name for name in (study.evaluation.translation.data, spm) if name is not None and not Path(name).exists()]
    earlier = context.run.path / "results.parquet"
    if gone and earlier.is_file():
        context.say(f"{', '.join(gone)} is not here: the figures of the translation task stay as they were")
        return [row for row in read_rows(earlier, Figure) if row.set == TRANSLATION]
    sentences = sentences_of(study)
    return translation_figures(
        {name: translations_of(context, name, sentences) for name in there},
        study.baseline,
        metrics(Path(spm) if spm else None),
        min(study.evaluation.bootstrap, RESAMPLES),
        study.seed,
    )


def _games(context: Context, name: str, prompts: Mapping[str, Prompt]) -> list[Judged]:
    if context.output(f"compare:{name}", "comparisons.parquet") is None:
        return []
    comparisons = context.read(f"compare:{name}", "comparisons.parquet", Comparison)
    return judged(matchups_of(context, name, prompts), comparisons)


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
        "headline": headline(
            rows,
            settings,
            _set_aside(context),
            kin(_members(context)),
            manifest.get("shared_roles", ()),
            [f"{name}: {text}" for name, summary in trained.items() for text in summary["result"]["warnings"]],
        ),
        "figures": [asdict(row) for row in rows],
        "rephrase": _grown(context),
        "pairs": _pairs(context) if cells else None,
        "curves": {name: summary["curve"] for name, summary in trained.items()},
        "dev": {name: _dev(context, name) for name in cells},
        "training": {name: summary["result"] for name, summary in trained.items()},
        "truncation": _truncation(context, trained),
        "judges": _judges(context),
        "labels_digest": labels_digest(context.run.path),
        "label_plans": _label_plans(context),
        "calls": call_summary(context.run.path),
        "families": [asdict(member) for member in _members(context)],
        "prompt_sets": _prompt_sets(prompts.values(), study),
        "set_aside": _set_aside(context),
        "provenance": {
            # Warnings of trainings stand in the first box and with how each training ended.
            "models": {
                name: {key: value for key, value in entry.items() if key != "warnings"}
                for name, entry in manifest["models"].items()
            },
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


def _grown(context: Context) -> dict[str, Any] | None:
    """The report on prompts that were grown from seeds; None where there are no such prompts."""
    file = context.output("rephrase", "report.json")
    report: dict[str, Any] | None = _json(file) if file else None
    return report


def _pairs(context: Context) -> dict[str, Any]:
    """What became of the pairs: of the study's mixture, or where only merged arms are trained, of both arms together."""
    found = {
        arm: _json(context.run.stage_folder(arm_stage("pairs", arm)) / "summary.json") for arm in arms_of(context.study)
    }
    if "" in found:
        own: dict[str, Any] = found[""]
        return own
    return {kind: found[kind][kind] for kind in found}


def _truncation(context: Context, trained: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the length limit did, by language: to all pairs before any was dropped, and to the rows of every training.

    Trainings on pairs see those that are left; instruction tuning sees all its rows.
    """
    found: dict[str, Any] = {}
    for arm in arms_of(context.study) if trained else ():
        stage = arm_stage("pairs", arm)
        # Earlier versions did not keep them.
        reports = _summary(context, stage).get("truncation", {})
        found |= {f"{kind} pairs{f' of {stage}' if arm else ''}": own for kind, own in sorted(reports.items()) if own}
    for name, entry in context.study.models.items():
        if entry.ift == "train":
            found[f"instruction tuning of {name}"] = _summary(context, f"ift:{name}")["truncation"]
    return found | {f"training of {name}": summary["truncation"] for name, summary in trained.items()}


def _dev(context: Context, cell: str) -> list[dict[str, float]]:
    file = context.output(f"judge:{cell}", "dev.json")
    rows: list[dict[str, float]] = _json(file) if file else []
    return rows


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _set_aside(context: Context) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = _json(context.run.stage_folder("prompts") / "set_aside.json")
    return rows


def _members(context: Context) -> list[Member]:
    return [Member(**row) for row in context.run.manifest.get("families", ())]


def _label_plans(context: Context) -> list[dict[str, Any]]:
    """Each plan with how much of it is labelled, and by how many people."""
    labels = read_labels(context.run.path)
    rows = []
    for plan in read_plans(context.run.path):
        drawn = {item.completion_id for item in plan.items}
        own = [label for label in labels if label.completion_id in drawn]
        rows.append(
            {
                "plan": plan.id,
                "models": ", ".join(plan.models),
                "languages": ", ".join(plan.languages),
                "width asked for": f"±{100 * plan.width:g} points",
                "completions drawn": len(drawn),
                "labelled": len({label.completion_id for label in own}),
                "people": len({label.annotator for label in own}),
                "could not tell": sum(label.harm == "undecidable" for label in own),
                "made": plan.created[:10],
            }
        )
    return rows


def _judges(context: Context) -> list[dict[str, Any]]:
    """What is known of each judge: what it is, and for a head the card of what it was trained and measured on."""
    found = []
    for role, entry in context.run.manifest["judges"].items():
        if (known := _judge_before(context, role, entry)) is not None:
            found.append(known)
            continue
        head = Head.load(entry["head"]) if entry["kind"] == "head" else None
        found.append(
            {
                "role": role,
                **entry,
                "threshold": head.threshold if head else None,
                "card": head.card if head else {},
                "card_text": head.card_text if head else "",
            }
        )
    return found


def _judge_before(context: Context, role: str, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the results said of the same judge before, where its head's folder is gone (a run copied to another machine)."""
    earlier = context.run.path / "results.json"
    if entry["kind"] != "head" or not earlier.is_file():
        return None
    try:
        Head.load(entry["head"])
    except HeadError:
        judges: list[dict[str, Any]] = _json(earlier).get("judges", [])
        same = (judge for judge in judges if (judge["role"], judge["digest"]) == (role, entry["digest"]))
        return next(same, None)
    return None


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
