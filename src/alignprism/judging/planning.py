"""What a judge would ask, whom, and what that may cost: for a dry run, before any model is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alignprism.judging.encoders import load_e5
from alignprism.judging.guard_formats import GENERATIVE
from alignprism.judging.notes import Notes, notes_of
from alignprism.judging.open import check_settings, judge_name, model_name, template_of
from alignprism.judging.protocol import Item
from alignprism.judging.rubric import TRANSLATING, Questions, Shown, texts_to_translate, translation_request
from alignprism.judging.settings import EnsembleSettings, GuardSettings, JudgeSettings, RubricSettings
from alignprism.models.cost import Estimate, estimate
from alignprism.models.protocol import Decoding, Request
from alignprism.models.settings import ModelSettings
from alignprism.rows import Prompt


@dataclass(frozen=True, slots=True)
class Planned:
    """Calls of one kind to one model. ``hosts``: where the texts go, empty for this machine; ``calls`` None: none are made."""

    judge: str
    what: str
    model: str
    hosts: tuple[str, ...]
    calls: Estimate | None


def planned_calls(settings: JudgeSettings, items: Sequence[Item], notes_rows: Sequence[Prompt] = ()) -> list[Planned]:
    """The calls that judging these items would make, were nothing stored yet.

    Translations are not made for the plan: the questions about them are counted with the texts as they are.

    Raises
    ------
    InputError
        settings that cannot work, or a language that the judge cannot be spoken to in.
    """
    check_settings(settings)
    if isinstance(settings, EnsembleSettings):
        return [row for member in settings.members for row in planned_calls(member, items, notes_rows)]
    if isinstance(settings, RubricSettings):
        return _rubric(settings, items, notes_rows)
    if isinstance(settings, GuardSettings) and settings.format in GENERATIVE:
        entry = GENERATIVE[settings.format]
        requests = [
            Request(f"{item.id}#{number}", ask, plain=entry.plain)
            for item in items
            for number, ask in enumerate(entry.asks(item.prompt, item.completion))
        ]
        decoding = Decoding(max_new_tokens=entry.max_new_tokens)
        return [_planned(settings, "verdicts", settings.model, requests, decoding)]
    return [Planned(judge_name(settings), "verdicts", judge_name(settings), (), None)]


def _rubric(settings: RubricSettings, items: Sequence[Item], notes_rows: Sequence[Prompt]) -> list[Planned]:
    notes = Notes(tuple(notes_of(notes_rows)), settings.notes, load_e5()) if settings.notes else None
    questions = Questions(settings.prompt_language, notes, template_of(settings))
    questions.check(judge_name(settings), {item.language for item in items})
    requests = [questions.request(Shown(item, item.prompt, item.completion)) for item in items]
    found = [_planned(settings, "verdicts", settings.model, requests, Decoding(max_new_tokens=settings.max_new_tokens))]
    if settings.prompt_language == "translate":
        translations = [translation_request(code, text) for code, text in texts_to_translate(items)]
        model = settings.translator or settings.model
        found.insert(0, _planned(settings, "translations", model, translations, TRANSLATING))
    return found


def _planned(
    settings: JudgeSettings, what: str, model: ModelSettings, requests: Sequence[Request], decoding: Decoding
) -> Planned:
    endpoint = model.endpoint
    price = endpoint.price if endpoint is not None else None
    hosts = endpoint.hosts if endpoint is not None else ()
    return Planned(judge_name(settings), what, model_name(model), hosts, estimate(requests, decoding, price))
