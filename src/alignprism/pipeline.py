"""The stages of a run: their order, what is already done, what it will cost.

Data goes one way: every stage reads the outputs of the stages it names and writes files that appear whole or not at
all. A stage's key is a hash over its settings and over the bytes of its inputs, so that running again does what is
missing and nothing else, and a change redoes exactly what depends on it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

from alignprism import stages
from alignprism.identities import NOT_ASKED, NOT_FETCHED, model_digests
from alignprism.judging.head import Head
from alignprism.judging.unanswered import unanswered
from alignprism.labels.store import labels_digest
from alignprism.layout import Plan, Stage, all_stages, figure_stages
from alignprism.model_card import CARD_FILE
from alignprism.models.embedded import describe, embedded
from alignprism.models.extra import without_extra
from alignprism.models.identity import weights_digest
from alignprism.models.settings import ModelSettings
from alignprism.models.spec import ModelSpec, ResolvedModel, resolve
from alignprism.models.store import CallStore
from alignprism.models.tally import Tally
from alignprism.rows import Comparison, Completion, Prompt, Verdict, content_id, read_rows, write_atomic
from alignprism.run_folder import RunFolder, locked, now, open_run, read_manifest, refuse_purged, refuse_unfinished
from alignprism.study import Study, StudyError, dump, load
from alignprism.study.families import members
from alignprism.study.remote import all_models, check_remote, judge_models, writing_models
from alignprism.training.trackers import refuse_missing

STAGE_VERSION = 4
"""Raised when a stage's code changes its result for the same inputs."""


class Reporter(Protocol):
    """What the pipeline tells while it works; the command line draws it."""

    def say(self, text: str) -> None:
        """One line of text."""

    def stage(self, number: int, total: int, title: str, done: bool) -> None:
        """A stage begins, or is already done."""

    def progress(
        self, title: str, total: int, detail: Callable[[], object] | None = None
    ) -> Callable[[int, int], None]:
        """A bar of `total` units; the function returned is called with (done, total). `detail` gives what else to show."""


@dataclass
class Outcome:
    """Which stages ran and which were already done, with what had to be set aside."""

    ran: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)


def plan(
    study: Study,
    folder: Path,
    cache: Path,
    reporter: Reporter,
    *,
    keys: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> Plan:
    """Resolve models and judges, read and check the prompts, and lay out the stages.

    Servers are asked what they serve, and nothing else. A dry run writes nothing and asks nothing: no run folder is made, and
    an embedded model that is not in the cache yet is not fetched but listed in ``fetches``.

    Parameters
    ----------
    keys
        secrets of endpoints by the name of the environment variable that the study gives.

    Raises
    ------
    StudyError, RowError, ModelError, RunFolderError, Failure
        each says what is wrong and where; nothing has been computed then.
    """
    refuse_missing(study.training.trackers, "training.trackers:")
    if not dry_run:
        check_remote(study)
    prompts, _ = stages.study_prompts(study)
    run = open_run(folder, create=not dry_run)
    missing = missing_models(study, cache) if dry_run else []
    models = {
        name: ResolvedModel(name, Path(), None, NOT_FETCHED)
        if missing
        else resolve(ModelSpec(name, entry.source, entry.adapter), cache, reporter.say)
        for name, entry in study.models.items()
        if entry.source is not None
    }
    stages.check_starts(study, models)
    context = stages.Context(study, run, cache, models, reporter.say, reporter.progress, keys or {})
    digest_of = model_digests(context, dry_run=dry_run)
    digests = {
        name: digest_of(entry) if entry.source is None else models[name].digest for name, entry in study.models.items()
    }
    judges = _judge_entries(study, digest_of, prompts)
    shared = _shared_roles(study, judges, digests, digest_of)
    families = members(study, {name: model.folder for name, model in models.items()}, _encoders(study))
    writers = {key: digest_of(model) for key, model in writing_models(study)}
    layout = Plan(
        study,
        run,
        prompts,
        models,
        digests,
        writers,
        judges,
        families,
        shared,
        context,
        [],
        stages.cells_of(study),
        missing,
    )
    layout.stages = list(all_stages(layout))
    return layout


def _judge_entries(
    study: Study, digest_of: Callable[[ModelSettings], str], prompts: Sequence[Prompt]
) -> dict[str, stages.JudgeEntry]:
    """The judges that a study will ask, by role; without methods nothing is preferred."""
    found = {}
    if study.methods:
        found["preference"] = stages.judge_entry(study.judges.as_settings("preference"), digest_of, prompts)
    found["evaluation"] = stages.judge_entry(study.judges.as_settings("evaluation"), digest_of, prompts)
    if study.judges.pairwise is not None:
        compared = [p for p in prompts if p.set == "general"]
        if study.pairs.ranking != "scores" and study.methods:
            compared += stages.training_prompts(study, prompts)[0]
        found["pairwise"] = stages.pairwise_entry(study.judges.pairwise, digest_of, compared)
    return found


def _shared_roles(
    study: Study,
    judges: Mapping[str, stages.JudgeEntry],
    digests: Mapping[str, str],
    digest_of: Callable[[ModelSettings], str],
) -> list[str]:
    """Sentences on one model in two of the roles generator, preference judge and evaluation judge.

    What such a model likes would count as a gain.

    Raises
    ------
    StudyError
        there is one, and the study does not allow it.
    """
    if not study.methods:
        return []
    # Told to think longer or not, a model likes what it likes.
    roles = {"a generator": {without_extra(digests[name]) for name in study.generators}}
    for role in ("preference", "evaluation"):
        settings = study.judges.as_settings(role)
        models = {without_extra(digest_of(model)) for _, model in judge_models(settings, "")}
        roles[f"the {role} judge"] = models | {judges[role].digest}
    found = [
        f"one and the same model is {one} and {other}"
        for one, other in combinations(roles, 2)
        if (roles[one] & roles[other]) - {NOT_ASKED, NOT_FETCHED}
    ]
    if found and not study.allow_shared_judge:
        raise StudyError(
            f"judges: {found[0]}, whatever it is called; name another model, or set allow_shared_judge: true (the page will "
            "say so)"
        )
    return found


def _encoders(study: Study) -> dict[str, str]:
    return {name: Head.load(name).family for _, name in stages.heads_of(study)}


def missing_models(study: Study, cache: Path) -> list[str]:
    """What a run would have to fetch first: the descriptions of embedded models that are not in the cache."""
    named = {model.source for _, model in all_models(study) if model.source is not None}
    sources = sorted(source for source in named if source.startswith("embedded:"))
    return [describe(source) for source in sources if not (cache / "models" / embedded(source).name).is_dir()]


def stage_key(stage: Stage, run: RunFolder) -> str:
    """The stage's key: version, name, settings and the bytes of its inputs (which must be done)."""
    inputs = {name: dict(run.outputs_of(name)) for name in stage.inputs}
    return content_id(STAGE_VERSION, stage.name, stage.settings, inputs)


def is_done(stage: Stage, run: RunFolder) -> bool:
    """Whether a stage is done under its key, or under the one that an earlier version gave it (inputs must be done)."""
    known = [stage] if stage.earlier is None else [stage, replace(stage, settings=stage.earlier)]
    return any(run.done(stage.name, stage_key(one, run)) for one in known)


def forget_failures(layout: Plan) -> list[str]:
    """Forget the stages whose calls partly failed, so that running asks for what is missing again; answers are kept.

    Returns the names of these stages.
    """
    manifest = layout.run.manifest
    found = []
    for stage in layout.stages:
        file = layout.run.stage_folder(stage.name) / "completions.parquet"
        if stage.name in manifest["stages"] and stage.name.startswith(("complete:", "translate:")) and file.is_file():
            if any(row.failure for row in read_rows(file, Completion)):
                found.append(stage.name)
        elif stage.name in manifest["stages"] and _unanswered_judgements(layout.run, stage.name):
            found.append(stage.name)
    for name in found:
        del manifest["stages"][name]
    return found


def _unanswered_judgements(run: RunFolder, stage: str) -> bool:
    """Whether a judge's call got no answer: its row says nothing of the text, or less than it should."""
    folder = run.stage_folder(stage)
    if stage.startswith(("judge:", "prefer:")):
        files = [file for name in ("verdicts", "dev_verdicts") if (file := folder / f"{name}.parquet").is_file()]
        return any(unanswered(row) for file in files for row in read_rows(file, Verdict))
    if stage.startswith("compare:") and (folder / "comparisons.parquet").is_file():
        return any(unanswered(row) for row in read_rows(folder / "comparisons.parquet", Comparison))
    return False


def pending(layout: Plan) -> list[Stage]:
    """The stages that running would do: not done, or behind one that is not."""
    todo: list[Stage] = []
    names: set[str] = set()
    for stage in layout.stages:
        ready = not names.intersection(stage.inputs)
        run = layout.run
        if not ready or run.damaged(stage.name) or not is_done(stage, run):
            todo.append(stage)
            names.add(stage.name)
    return todo


def execute(layout: Plan, reporter: Reporter, *, retry_failed: bool = False) -> Outcome:
    """Do what is missing, in order. Interrupting loses at most the batch or step in hand.

    With `retry_failed` calls that got no answer are missing too.
    """
    outcome = Outcome()
    run, study = layout.run, layout.study
    with locked(run.path):
        # Another process may have worked here since the plan was made, or taken the texts away.
        run.manifest = read_manifest(run.path / "manifest.json")
        refuse_purged(run)
        _freeze(layout)
        if retry_failed:
            for name in forget_failures(layout):
                reporter.say(f"{name}: calls that got no answer are asked again")
        write_atomic(run.path / "study.yaml", dump(study).encode())
        context = replace(layout.context, run=run, say=reporter.say)
        for number, stage in enumerate(layout.stages, 1):
            for name in run.damaged(stage.name):
                aside = run.set_aside(name)
                outcome.set_aside.append(name)
                reporter.say(f"{run.path / name} was changed or damaged: set aside as {aside.name}, made again")
            key = stage_key(stage, run)
            done = is_done(stage, run)
            reporter.stage(number, len(layout.stages), stage.title, done)
            if done:
                run.manifest["stages"][stage.name]["key"] = key  # from now on this version's
                outcome.skipped.append(stage.name)
                continue
            run.begin(stage.name, key)
            started = time.monotonic()
            watched = _watched(context, reporter)
            outputs = stage.work(watched)
            if str(watched.tally):
                reporter.say(f"      {watched.tally}")
            # One save for both: a kill between them would lose an evaluation from the count.
            _note(layout, stage.name)
            run.record(stage.name, key, outputs, time.monotonic() - started, watched.timing)
            outcome.ran.append(stage.name)
        del run.manifest["unfinished"]
        run.save()
    return outcome


def _watched(context: stages.Context, reporter: Reporter) -> stages.Context:
    """The context of one stage: its bars show what its endpoints did besides answering (failures, retries, cost)."""
    tally = Tally()
    return replace(
        context, tally=tally, timing={}, progress=lambda title, total: reporter.progress(title, total, lambda: tally)
    )


def _freeze(layout: Plan) -> None:
    """Fix the test prompts by hash before the first training; a later change is refused."""
    from alignprism.prompts.check import frozen_hash

    manifest = layout.run.manifest
    digest = frozen_hash(layout.prompts)
    if manifest["test"]["hash"] not in (None, digest) and manifest["test"]["evaluations"]:
        raise StudyError(
            f"{layout.run.path}: the test prompts differ from those this run was frozen with; changing them after an "
            "evaluation would let results choose the test. Name a new run folder"
        )
    # Until the last stage is done, what reads results refuses them: they may be those of other settings.
    manifest["unfinished"] = now()
    manifest["test"]["hash"] = digest
    manifest["models"] |= {name: _described(layout, name) for name in layout.study.models}
    manifest["judges"] = {role: entry.as_dict() for role, entry in layout.judges.items()}
    manifest["shared_roles"] = layout.shared
    manifest["families"] = [asdict(member) for member in layout.families]
    manifest["seeds"] = {"study": layout.study.seed, "training": layout.study.training.seeds}
    layout.run.save()


def _described(layout: Plan, name: str) -> dict[str, Any]:
    """What the manifest says of a model: where it is, and what it is."""
    entry = layout.study.models[name]
    if entry.endpoint is not None:
        return {
            "endpoint": ", ".join(entry.endpoint.urls),
            "asked_for": entry.endpoint.model,
            "digest": layout.digests[name],
        }
    return {"source": entry.source, "adapter": entry.adapter, "digest": layout.digests[name]}


def _note(layout: Plan, stage: str) -> None:
    """Count each evaluation on the test prompts, and enter what each trained model is."""
    kind, _, name = stage.partition(":")
    manifest = layout.run.manifest
    if kind == "complete":
        manifest["test"]["evaluations"].append({"model": name, "prompts": manifest["test"]["hash"][:16]})
    if kind in ("train", "ift"):
        base = layout.models[name if kind == "ift" else layout.study.baseline]
        folder = layout.run.cell_folder(stages.taught_name(name) if kind == "ift" else name)
        adapter = folder if (folder / "adapter_config.json").is_file() else None
        digest = weights_digest(base.folder if adapter else folder, adapter)
        manifest["models"][folder.name] = {
            "source": f"models/{folder.name}",
            **_origin(json.loads((folder / CARD_FILE).read_text(encoding="utf-8")), manifest["models"]),
            "digest": digest,
        }


def _origin(card: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a model that the study made comes from, as `models` of the manifest name it, and what its training warned of."""
    if "parts" in card:
        return {"merged_from": card["parts"]}
    start, warnings = card["trained_from"], card["result"]["warnings"]
    # A base that was taught first goes by the base's name where it is trained; its weights are those of NAME-ift.
    same = [name for name, entry in models.items() if entry["digest"] == start["digest"]]
    name = start["name"] if start["name"] in same or not same else same[0]
    return {"trained_from": name, **({"warnings": warnings} if warnings else {})}


def estimate_minutes(todo: Sequence[Stage]) -> float:
    """Estimated minutes of the stages, from rough speeds of two cores without a GPU (see `stages.context`)."""
    return sum(stage.seconds for stage in todo) / 60


def estimate_cost(todo: Sequence[Stage]) -> float:
    """Dollars at most of the stages, of models that have a price."""
    return sum(stage.cost for stage in todo)


def spent(layout: Plan) -> float:
    """Dollars that the run's calls have cost so far."""
    file = layout.run.path / "calls.sqlite"
    if not file.is_file():
        return 0.0
    with CallStore(file) as store:
        return store.spent()


def refresh(folder: Path, cache: Path, reporter: Reporter) -> bool:
    """Make figures and page anew where labels or plans were added since; True if that was needed. No model is asked.

    The files that the study names need not be there: a finished run can be copied to another machine and labelled there.

    Raises
    ------
    RunFolderError, StudyError
        this is no finished run, or another process works in it.
    """
    if not _outdated(folder, read_manifest(folder / "manifest.json")):
        return False
    with locked(folder):
        # Another process may have worked here before the lock was ours.
        run = RunFolder(folder, read_manifest(folder / "manifest.json"))
        if not _outdated(folder, run.manifest):
            return False
        study = load(folder / "study.yaml", find_files=False)
        judges = {role: entry["digest"] for role, entry in run.manifest["judges"].items()}
        context = stages.Context(study, run, cache, {}, reporter.say, reporter.progress)
        for stage in figure_stages(study, run, judges):
            key = stage_key(stage, run)
            run.begin(stage.name, key)
            started = time.monotonic()
            run.record(stage.name, key, stage.work(context), time.monotonic() - started)
    return True


def _outdated(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether labels or plans were added since the figures were made. A purged run stays as it is."""
    refuse_unfinished(folder, manifest)
    if manifest.get("purged") or "results" not in manifest["stages"]:
        return False
    document = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return bool(document.get("labels_digest", "") != labels_digest(folder))
