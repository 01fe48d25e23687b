"""``samples.html`` of a run: reads prompts, completions and verdicts and hands them to the report."""

from __future__ import annotations

import json
from pathlib import Path

from alignprism.report.samples import Sample, write_samples
from alignprism.rows import Completion, Prompt, Verdict, by_id, read_rows
from alignprism.run_folder import RunFolderError, read_manifest, refuse_unfinished


def write_run_samples(run: Path, per_language: int = 6) -> Path:
    """Write ``samples.html`` with the first red-team test prompts of each language; returns the file.

    Raises
    ------
    RunFolderError
        the run was purged, or is not finished.
    """
    manifest = read_manifest(run / "manifest.json")
    refuse_unfinished(run, manifest)
    if manifest.get("purged"):
        raise RunFolderError(f"{run}: its texts were purged on {manifest['purged']}; there are no samples to show")
    document = json.loads((run / "results.json").read_text(encoding="utf-8"))
    prompts = by_id(read_rows(run / "stages" / "prompts" / "prompts.parquet", Prompt))
    models = [name for name in document["models"] if (run / "stages" / f"complete-{name}").is_dir()]
    answers: dict[str, dict[str, Completion]] = {}
    verdicts: dict[str, Verdict] = {}
    for name in models:
        rows = read_rows(run / "stages" / f"complete-{name}" / "completions.parquet", Completion)
        answers[name] = {row.prompt_id: row for row in rows}
        for verdict in read_rows(run / "stages" / f"judge-{name}" / "verdicts.parquet", Verdict):
            verdicts[verdict.completion_id] = verdict
    shown: list[Sample] = []
    for language in document["languages"]:
        own = [p for p in prompts.values() if p.language == language["code"] and p.split == "test"]
        chosen = [p for p in own if p.set == "redteam"][:per_language] + [p for p in own if p.set == "benign"][:2]
        for prompt in chosen:
            found = [(name, answers[name][prompt.id]) for name in models if prompt.id in answers[name]]
            shown.append(Sample(prompt, [(name, row, verdicts[row.id]) for name, row in found]))
    return write_samples(run, shown)
