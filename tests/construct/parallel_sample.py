"""A scripted translator that knows the package's translated sample by heart, in all its languages and both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping

from alignprism.construct.translators import ByModel
from alignprism.models.protocol import Decoding, Request
from alignprism.models.scripted import Line, ScriptedEngine
from alignprism.models.store import CallStore
from alignprism.prompts.read import read_sample
from alignprism.rows import Prompt

NAMES = {"English": "en", "Hindi": "hi", "French": "fr", "Spanish": "es", "Arabic": "ar", "Russian": "ru", "Serbian": "sr"}  # fmt: skip


def sample(language: str = "en") -> list[Prompt]:
    return [prompt for prompt in read_sample("translated") if prompt.language == language]


def dictionary() -> dict[tuple[str, str], str]:
    """(text in any language, target language) -> text."""
    by_seed: dict[str, dict[str, str]] = {}
    for prompt in read_sample("translated"):
        by_seed.setdefault(prompt.seed_id, {})[prompt.language] = prompt.text
    return {
        (text, target): other
        for texts in by_seed.values()
        for text in texts.values()
        for target, other in texts.items()
    }


def asked_of(request: Request) -> tuple[str, str]:
    """The text that a request shows, and the language that it is to be translated into."""
    shown = re.search(r"<<<TEXT (\w+)>>>\n(.*?)\n<<<END OF TEXT \1>>>", str(request.prompt), re.DOTALL)
    named = re.search(r"into (\w+)(?: \((\w+) script\))?", str(request.prompt))
    assert shown is not None and named is not None
    return shown[2], NAMES[named[1]]


def translator(
    changed: Mapping[tuple[str, str], str | Line] | None = None, store: CallStore | None = None, name: str = "known"
) -> ByModel:
    """Says what the sample says, but for what is `changed`: (text, target) -> another reply."""
    known: dict[tuple[str, str], str | Line] = {**dictionary(), **(changed or {})}
    engine = ScriptedEngine(name, lambda request, sample: known[asked_of(request)], digest=f"{name} 1", store=store)
    return ByModel(engine, Decoding(max_new_tokens=256))


def times_asked(translator: ByModel) -> int:
    engine = translator.engine
    assert isinstance(engine, ScriptedEngine)
    return engine.asked
