"""From the judges that a study names to what is known of them before anything is asked, and to judges that can be asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from alignprism.judging import template_file
from alignprism.judging.head import Head
from alignprism.judging.notes import notes_of
from alignprism.judging.open import check_settings, judge_name, model_name, needs_notes, open_judge, template_of
from alignprism.judging.pairwise import Matchup, PairwiseJudge, PairwiseQuestions
from alignprism.judging.preferences import words_digest as preference_words
from alignprism.judging.protocol import HarmJudge
from alignprism.judging.replies import words_digest as reply_words
from alignprism.judging.rubric import Questions
from alignprism.judging.settings import HeadSettings, JudgeSettings, PairwiseSettings
from alignprism.models.extra import without_extra
from alignprism.models.settings import ModelSettings
from alignprism.rows import Prompt, content_id, file_digest
from alignprism.stages.context import Context
from alignprism.stages.engines import call_store, opened
from alignprism.study import Study

Role = Literal["preference", "evaluation"]


@dataclass(frozen=True, slots=True)
class JudgeEntry:
    """What is known of a judge before it is asked. ``digest`` covers everything that can change a verdict; ``head`` is the
    name or folder of a judge head, empty for other kinds."""

    name: str
    digest: str
    kind: str
    head: str = ""

    def as_dict(self) -> dict[str, str]:
        """For the manifest."""
        return asdict(self)


def judge_entry(
    settings: JudgeSettings, digest_of: Callable[[ModelSettings], str], prompts: Sequence[Prompt]
) -> JudgeEntry:
    """What a judge of harm is; `digest_of` says what a model is, `prompts` are those whose notes it may be shown.

    Raises
    ------
    InputError
        settings that cannot work, or no such head.
    """
    if isinstance(settings, HeadSettings):
        head = Head.load(settings.head)
        return JudgeEntry(head.name, head.digest, "head", settings.head)
    check_settings(settings)
    check_languages(settings, {prompt.language for prompt in prompts})
    parts: list[Any] = [_identity(settings, digest_of), _templates_digest(), reply_words()]
    if needs_notes(settings):
        parts.append([(note.prompt, note.explanation, note.seed_id) for note in notes_of(prompts)])
    return JudgeEntry(judge_name(settings), content_id("judge", *parts), settings.kind)


def check_languages(settings: JudgeSettings, languages: set[str]) -> None:
    """Whether a judge can be spoken to in every language, before the first completion is paid for."""
    if settings.kind == "ensemble":
        for member in settings.members:
            check_languages(member, languages)
    elif settings.kind == "rubric":
        questions = Questions(settings.prompt_language, None, template_of(settings))
        questions.check(judge_name(settings), languages)


def pairwise_entry(
    settings: PairwiseSettings, digest_of: Callable[[ModelSettings], str], prompts: Sequence[Prompt]
) -> JudgeEntry:
    """What a pairwise judge is; `prompts` are those whose answers it will compare.

    Raises
    ------
    InputError
        its template cannot be used, or it cannot be spoken to in a prompt's language.
    """
    PairwiseQuestions(settings).check([Matchup(p.id, "", "", "", "a", "b", p.language, p.seed_id) for p in prompts])
    digest = content_id("pairwise", _identity(settings, digest_of), _templates_digest(), preference_words())
    return JudgeEntry(model_name(settings.model), digest, "pairwise")


def _identity(value: Any, digest_of: Callable[[ModelSettings], str]) -> Any:
    """Settings as JSON, with what a model is in the place of how it is reached, and a template's content for its path."""
    if isinstance(value, ModelSettings):
        extra = value.endpoint.extra if value.endpoint else {}
        return {"digest": without_extra(digest_of(value)), "extra": extra}
    if isinstance(value, list):
        return [_identity(item, digest_of) for item in value]
    if not isinstance(value, BaseModel):
        return value
    found = {name: _identity(getattr(value, name), digest_of) for name in type(value).model_fields}
    if found.get("template"):
        path = Path(found["template"])
        found["template"] = file_digest(path) if path.is_file() else str(path)
    return found


@cache
def _templates_digest() -> str:
    """sha256 over every template and word list that ships with the package."""
    folder = Path(template_file.__file__).parent / "templates"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in (".jinja", ".yaml"))
    listed = [f"{path.relative_to(folder)} {file_digest(path)}" for path in files]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def heads_of(study: Study) -> list[tuple[Role, str]]:
    """Every judge head of a study, members of ensembles included, with its role; without methods nothing is preferred."""

    def inside(judge: JudgeSettings) -> Iterator[str]:
        if judge.kind == "head":
            yield judge.head
        elif judge.kind == "ensemble":
            for member in judge.members:
                yield from inside(member)

    roles: list[Role] = ["preference", "evaluation"] if study.methods else ["evaluation"]
    return [(role, head) for role in roles for head in inside(study.judges.as_settings(role))]


def known_to_judges(study: Study) -> dict[str, str]:
    """Digests of the prompts that heads of the study were trained on, with the head's name."""
    return {digest: name for _, name in heads_of(study) for digest in Head.load(name).training_prompt_digests}


@contextmanager
def harm_judge(context: Context, role: Role) -> Iterator[HarmJudge]:
    """The judge of a role, ready to be asked; its replies go through the run's call store."""
    settings = context.study.judges.as_settings(role)
    notes = context.prompts() if needs_notes(settings) else ()
    with (
        call_store(context) as store,
        open_judge(
            settings,
            store=store,
            cache=context.cache,
            keys=context.keys,
            allow_remote=context.study.allow_remote,
            notes_rows=notes,
            cap=context.budget(store),
            say=context.say,
            tally=context.tally,
        ) as judge,
    ):
        yield judge


@contextmanager
def pairwise_judge(context: Context) -> Iterator[PairwiseJudge]:
    """The pairwise judge, ready to be asked."""
    settings = context.study.judges.pairwise
    assert settings is not None
    with opened(context, settings.model, model_name(settings.model)) as engine:
        yield PairwiseJudge(engine, settings)
