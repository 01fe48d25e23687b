"""One prompt on its way into one language: what it holds so far, and why it goes no further."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from alignprism.construct.translation_checks import in_script
from alignprism.construct.translation_settings import TranslateSettings
from alignprism.construct.translators import REFERENCE, Text
from alignprism.languages import script_of
from alignprism.models.translation_codes import code_of
from alignprism.prompts.handling import forbidden
from alignprism.prompts.identify import same_language
from alignprism.prompts.transforms import serbian_cyrillic, serbian_latin
from alignprism.rows import Prompt

_REWRITING = {"sr-Latn": serbian_latin, "sr-Cyrl": serbian_cyrillic}


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt in one target language on its way: its translation, its reference's, and the back-translation's score."""

    prompt: Prompt
    target: str
    text: str = ""
    reference: str | None = None
    reason: str = ""
    detail: str = ""
    score: float | None = None
    kept: bool = False
    """Its language is the target's, and the settings take it as it is (Serbian in the script that the target names)."""

    @property
    def waiting(self) -> bool:
        """Nothing is against it so far, and it is a translation."""
        return not self.reason and not self.kept

    @property
    def id(self) -> str:
        """The id of the prompt that it becomes."""
        return f"{self.prompt.id}-{self.target}"

    def out(self, reason: str, detail: str = "") -> Row:
        """The row, set aside."""
        return replace(self, reason=reason, detail=detail)


def first_row(prompt: Prompt, target: str, settings: TranslateSettings) -> Row:
    """What is known without a call: rows that are not asked have their reason."""
    row = Row(prompt, target)
    asked = f"{prompt.text}\n{prompt.reference or ''}" if settings.references else prompt.text
    barred = forbidden(asked, (*prompt.categories, *prompt.tags))
    if barred is not None:
        return row.out("handling", barred)
    if settings.references and not (prompt.reference or "").strip():
        return row.out("no reference answer to translate")
    if same_language(prompt.language) == same_language(code_of(target)):
        return _kept(row) if settings.keep_source else row.out("is in the target language already")
    return row


def _kept(row: Row) -> Row:
    """The prompt as it is, or rewritten in the target's script where a rule can do that; set aside where none can."""
    text = _rewritten(row.prompt.text, row.target)
    reference = row.prompt.reference and _rewritten(row.prompt.reference, row.target)
    if all(in_script(part, row.target) for part in (text, reference or "")):
        return replace(row, text=text, reference=reference, kept=True)
    return row.out(
        "is in the target language already, in another script", f"most letters are not in {script_of(row.target)}"
    )


def _rewritten(text: str, target: str) -> str:
    rule = _REWRITING.get(target)
    return text if rule is None or in_script(text, target) else rule(text)


def texts_of(row: Row, settings: TranslateSettings) -> Iterator[Text]:
    """What is to be translated of a row."""
    yield Text(row.prompt.id, row.prompt.text, row.prompt.language, row.target)
    if settings.references:
        yield Text(row.prompt.id + REFERENCE, row.prompt.reference or "", row.prompt.language, row.target)


def planned_texts(prompts: Sequence[Prompt], targets: Sequence[str], settings: TranslateSettings) -> list[Text]:
    """What a translator will be asked for these prompts: for an estimate, without a call."""
    rows = [first_row(prompt, target, settings) for target in targets for prompt in prompts]
    return [text for row in rows if row.waiting for text in texts_of(row, settings)]
