"""From a judge's settings to a judge that can be used: models opened, encoders loaded, notes embedded, closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from alignprism.errors import InputError
from alignprism.judging.encoders import load_e5
from alignprism.judging.ensemble import EnsembleJudge
from alignprism.judging.guard import GuardJudge
from alignprism.judging.guard_formats import GENERATIVE
from alignprism.judging.judges import HeadJudge, load_judge
from alignprism.judging.notes import Notes, notes_of
from alignprism.judging.protocol import HarmJudge
from alignprism.judging.rubric import RubricJudge, own_template
from alignprism.judging.settings import EnsembleSettings, GuardSettings, HeadSettings, JudgeSettings, RubricSettings
from alignprism.judging.template_file import JudgeTemplate
from alignprism.models.protocol import Engine
from alignprism.models.settings import ModelSettings
from alignprism.rows import Prompt

if TYPE_CHECKING:
    from alignprism.models.cost import Budget
    from alignprism.models.store import CallStore
    from alignprism.models.tally import Tally

CLASSIFIER = "classifier"


@dataclass
class _Opening:
    """What opening a judge needs, and what its parts share."""

    store: CallStore
    cache: Path
    keys: Mapping[str, str]
    allow_remote: Sequence[str]
    notes_rows: Sequence[Prompt]
    cap: Budget | None
    say: Callable[[str], None]
    stack: ExitStack
    tally: Tally | None = None
    notes: dict[int, Notes] = field(default_factory=dict)
    engines: list[tuple[ModelSettings, Engine]] = field(default_factory=list)

    def engine(self, settings: ModelSettings) -> Engine:
        """The model's engine; one model is opened once, however many parts of the judge use it."""
        from alignprism.models.engines import open_engine

        known = next((engine for model, engine in self.engines if model == settings), None)
        if known is not None:
            return known
        engine = self.stack.enter_context(
            open_engine(
                settings,
                model_name(settings),
                store=self.store,
                cache=self.cache,
                allow_remote=self.allow_remote,
                keys=self.keys,
                cap=self.cap,
                say=self.say,
                tally=self.tally,
            )
        )
        self.engines.append((settings, engine))
        return engine

    def notes_for(self, count: int) -> Notes | None:
        """The data set's notes, `count` shown with each item."""
        if count and count not in self.notes:
            notes = tuple(notes_of(self.notes_rows))
            self.say(f"embedding {len(notes)} notes of annotators")
            self.notes[count] = Notes(notes, count, load_e5())
        return self.notes.get(count)


@contextmanager
def open_judge(
    settings: JudgeSettings,
    *,
    store: CallStore,
    cache: Path,
    keys: Mapping[str, str] | None = None,
    allow_remote: Sequence[str] = (),
    notes_rows: Sequence[Prompt] = (),
    cap: Budget | None = None,
    say: Callable[[str], None] = lambda _: None,
    tally: Tally | None = None,
) -> Iterator[HarmJudge]:
    """A judge of any kind, ready to use while the context lasts.

    Parameters
    ----------
    store
        keeps every reply; stored ones are not asked for again.
    keys
        API keys by the name of their environment variable.
    cap
        dollars that all calls together may cost.
    notes_rows
        the data set's prompts, for judges with ``notes``: those of the train split that have an explanation are used.
    tally
        counts what the judge's endpoints do (failures, retries, dollars), for whoever shows it.

    Raises
    ------
    InputError
        settings that cannot work (an unknown guard format, a template with errors, notes without rows), before any
        model is opened; or a model that cannot be found.
    """
    check_settings(settings)
    if needs_notes(settings) and not notes_of(notes_rows):
        raise InputError(
            "notes: no prompt of the train split has an explanation to show; set notes: 0 or give such data"
        )
    with ExitStack() as stack:
        opening = _Opening(store, cache, keys or {}, allow_remote, notes_rows, cap, say, stack, tally)
        yield _open(settings, opening)


def _open(settings: JudgeSettings, opening: _Opening) -> HarmJudge:
    if isinstance(settings, HeadSettings):
        return HeadJudge(load_judge(settings.head, opening.cache))
    if isinstance(settings, EnsembleSettings):
        return EnsembleJudge(tuple(_open(member, opening) for member in settings.members), settings.rule)
    if isinstance(settings, RubricSettings):
        return _rubric(settings, opening)
    return _guard(settings, opening)


def _rubric(settings: RubricSettings, opening: _Opening) -> RubricJudge:
    template = template_of(settings)
    translates = settings.prompt_language == "translate"
    return RubricJudge(
        judge_name(settings),
        opening.engine(settings.model),
        settings.prompt_language,
        opening.engine(settings.translator) if translates and settings.translator is not None else None,
        opening.notes_for(settings.notes),
        template,
        settings.max_new_tokens,
        settings.log_probs,
    )


def _guard(settings: GuardSettings, opening: _Opening) -> HarmJudge:
    if settings.format != CLASSIFIER:
        entry = GENERATIVE[settings.format]
        engine = opening.engine(settings.model)
        return GuardJudge(judge_name(settings), engine, entry, settings.threshold, settings.log_probs)
    from alignprism.judging.classifier import load_classifier
    from alignprism.models.spec import ModelSpec, resolve

    model = settings.model
    assert model.source is not None  # an endpoint is refused by check_settings
    resolved = resolve(ModelSpec(model_name(model), model.source), opening.cache, opening.say)
    return load_classifier(resolved, judge_name(settings), settings.harmful_labels, settings.threshold)


def template_of(settings: RubricSettings) -> JudgeTemplate | None:
    """The user's template, tried once; None for the shipped ones."""
    return own_template(Path(settings.template)) if settings.template is not None else None


def check_settings(settings: JudgeSettings) -> None:
    """What can be said to be wrong without opening a model.

    Raises
    ------
    InputError
        an unknown guard format, a classifier that is no folder of files, a translator that is not used, or a template
        with errors.
    """
    if isinstance(settings, EnsembleSettings):
        for member in settings.members:
            check_settings(member)
    elif isinstance(settings, RubricSettings):
        if settings.translator is not None and settings.prompt_language != "translate":
            raise InputError(
                f"translator: it is used with prompt_language: translate only, not {settings.prompt_language}"
            )
        template_of(settings)
    elif isinstance(settings, GuardSettings):
        known = (CLASSIFIER, *GENERATIVE)
        if settings.format not in known:
            raise InputError(f"format: no guard format {settings.format!r}; there are {', '.join(known)}")
        plain = settings.model
        if settings.format == CLASSIFIER and (
            plain.source is None or plain.adapter is not None or plain.engine != "local"
        ):
            raise InputError(
                "format: classifier needs a model with source (files), without adapter, on the local engine"
            )
        if settings.harmful_labels and settings.format != CLASSIFIER:
            raise InputError(f"harmful_labels: only for format: classifier, not {settings.format}")


def needs_notes(settings: JudgeSettings) -> bool:
    """Whether the judge, or a member of it, is shown annotators' notes."""
    if isinstance(settings, EnsembleSettings):
        return any(needs_notes(member) for member in settings.members)
    return isinstance(settings, RubricSettings) and settings.notes > 0


def model_name(settings: ModelSettings) -> str:
    """What people call a model: the server's name of it, or the last part of its source, with its adapter's."""
    if settings.endpoint is not None:
        return settings.endpoint.model
    assert settings.source is not None  # one of the two, by validation
    last = settings.source.removeprefix("embedded:").rstrip("/").rsplit("/", 1)[-1]
    adapter = (settings.adapter or "").removeprefix("embedded:").rstrip("/").rsplit("/", 1)[-1]
    return f"{last}+{adapter}" if adapter else last


def judge_name(settings: JudgeSettings) -> str:
    """What people call a judge: its model and what else sets it apart."""
    if isinstance(settings, HeadSettings):
        return Path(settings.head).name
    if isinstance(settings, EnsembleSettings):
        return f"{settings.rule} of {', '.join(judge_name(member) for member in settings.members)}"
    if isinstance(settings, GuardSettings):
        return f"{model_name(settings.model)} ({settings.format})"
    parts = ["rubric", *([settings.prompt_language] if settings.prompt_language != "english" else [])]
    parts += [f"{settings.notes} notes"] if settings.notes else []
    parts += [Path(settings.template).name] if settings.template else []
    return f"{model_name(settings.model)} ({', '.join(parts)})"
