"""Three ways to a translation: a translation model in this process, an LLM that is asked for it, or a file of people's.

All are asked in the same way, and what could not be translated is a row with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from alignprism.construct.output import SetAside, unreadable
from alignprism.construct.translation_replies import READER_VERSION, clean_reply
from alignprism.errors import Failure, InputError
from alignprism.judging.asking import no_reply
from alignprism.judging.refusal import refusal, transliterate
from alignprism.judging.template_file import JudgeTemplate, block, load_template, mark_of
from alignprism.languages import UnknownLanguage
from alignprism.models.protocol import Answer, Decoding, Engine, Failed, Outcome, Progress, Request
from alignprism.models.seq2seq_pieces import pieces_of
from alignprism.models.translation_codes import code_of, target_name, target_of
from alignprism.prompts.sources import Record, Unreadable, read_source
from alignprism.prompts.values import BadValue, identifier, optional_text
from alignprism.rows import RowError, content_id, file_digest

TEMPLATE = Path(__file__).parent / "translation_templates" / "translate.jinja"
REFERENCE = "/reference"
"""Put behind a prompt's id: the text that is its reference answer."""

UNFINISHED = ("no answer: over budget", "no answer: interrupted")


@dataclass(frozen=True, slots=True)
class Text:
    """A text to translate. ``source`` is a language's code, ``target`` may name a script as well (``sr-Latn``)."""

    id: str
    text: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Translated:
    """A translation; ``calls`` are the keys of the model's answers that it was made of."""

    id: str
    target: str
    text: str
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotTranslated:
    """Why there is no translation. ``reason`` is one of few, to be counted; ``detail`` one line without the text."""

    id: str
    target: str
    reason: str
    detail: str = ""


Translation = Translated | NotTranslated


class Translator(Protocol):
    """Anything that translates. ``digest`` says what it is: the same digest gives the same translations."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def digest(self) -> str:
        """What it is."""

    @property
    def set_aside(self) -> Sequence[SetAside]:
        """Rows of its own that it cannot use, if it is made of rows."""

    def check(self, directions: Collection[tuple[str, str]]) -> None:
        """Look at every (source, target) before anything is asked; raises InputError for what it cannot do."""

    def translate(self, texts: Sequence[Text], progress: Progress | None = None) -> Iterator[Translation]:
        """One translation, or the reason that there is none, per text, in the order of the texts."""

    def account(self) -> Mapping[str, int]:
        """What else is to be reported of it, in numbers."""


class Directed(Protocol):
    """A translation model that gives an engine for each direction (`alignprism.models.seq2seq.Seq2SeqModel`)."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def digest(self) -> str:
        """What it is."""

    @property
    def beams(self) -> int:
        """How many beams are searched; 1 is greedy."""

    def direction(self, source: str, target: str) -> Engine:
        """The engine for one direction; raises InputError where there is none."""


class Seq2Seq:
    """An encoder-decoder model. It reads sentences, so a text goes through it line by line and comes back whole."""

    set_aside: Sequence[SetAside] = ()

    def __init__(self, whole: Directed, decoding: Decoding) -> None:
        self.whole, self.decoding, self.name = whole, decoding, whole.name
        self.digest = content_id("seq2seq", whole.digest, whole.beams, decoding.identity())

    def check(self, directions: Collection[tuple[str, str]]) -> None:
        """Raises InputError for a language that the model does not know."""
        for source, target in sorted(directions):
            self.whole.direction(source, target)

    def translate(self, texts: Sequence[Text], progress: Progress | None = None) -> Iterator[Translation]:
        """Direction by direction; handed out when all are there."""
        pieces = [pieces_of(text.text) for text in texts]
        asked: dict[tuple[str, str], list[Request]] = defaultdict(list)
        for text, own in zip(texts, pieces, strict=True):
            for number, piece in enumerate(own):
                if piece.translate:
                    asked[text.source, text.target].append(_request(f"{_key(text)}/{number}", piece.text, plain=True))
        total, done = sum(map(len, asked.values())), 0
        found: dict[str, Outcome] = {}
        for direction, requests in asked.items():
            engine = self.whole.direction(*direction)
            for outcome in engine.complete(requests, self.decoding):
                found[outcome.request_id] = outcome
                done += 1
                if progress is not None:
                    progress(done, total)
        for text, own in zip(texts, pieces, strict=True):
            said = [found.get(f"{_key(text)}/{number}") for number in range(len(own))]
            problem = next((bad for outcome in said if outcome and (bad := _problem(text, outcome))), None)
            if problem is not None:
                yield problem
                continue
            joined = "".join(o.text if isinstance(o, Answer) else p.text for o, p in zip(said, own, strict=True))
            whole = transliterate(joined) if text.target == "sr-Latn" else joined
            yield Translated(text.id, text.target, whole.strip(), tuple(o.call for o in said if o and o.call))

    def account(self) -> Mapping[str, int]:
        """Nothing."""
        return {}


class ByModel:
    """An LLM that is asked for a translation; its reply is read without preamble, fence and quotation marks."""

    set_aside: Sequence[SetAside] = ()

    def __init__(self, engine: Engine, decoding: Decoding, template: Path = TEMPLATE) -> None:
        """Raises JudgeTemplateError when the template cannot be read."""
        self.engine, self.decoding, self.name = engine, decoding, engine.name
        self._template = load_template(template)
        self.digest = content_id("by model", engine.digest, self._template.digest, decoding.identity(), READER_VERSION)

    def check(self, directions: Collection[tuple[str, str]]) -> None:
        """Any language that has a name can be asked for; whether it was written is checked in the answers."""

    def translate(self, texts: Sequence[Text], progress: Progress | None = None) -> Iterator[Translation]:
        """Handed out when all are there."""
        found = {
            o.request_id: o
            for o in self.engine.complete([question(text, self._template) for text in texts], self.decoding, progress)
        }
        for text in texts:
            outcome = found[_key(text)]
            yield _problem(text, outcome) or self._read(text, outcome)

    def _read(self, text: Text, outcome: Outcome) -> Translation:
        said = clean_reply(outcome.text if isinstance(outcome, Answer) else "", text.text, mark_of(text.text))
        if refusal(said, code_of(text.target)) == "full" and refusal(text.text, text.source) == "none":
            return NotTranslated(text.id, text.target, "translator declined")
        return Translated(text.id, text.target, said, (outcome.call,) if outcome.call else ())

    def account(self) -> Mapping[str, int]:
        """Nothing."""
        return {}


def question(text: Text, template: JudgeTemplate | None = None) -> Request:
    """What an LLM is asked for one text."""
    mark = mark_of(text.text)
    values = {
        "source_language": target_name(text.source), "target_language": target_name(text.target), "mark": mark,
        "text": block("TEXT", text.text, mark),
    }  # fmt: skip
    return _request(_key(text), (template or load_template(TEMPLATE)).render(values))


class FromFile:
    """Translations that somebody made: a file with the columns id, language, text, and ``reference`` where there is one."""

    def __init__(self, path: Path) -> None:
        """Read the file; rows without id, language or text, of an unknown language, or that repeat another are set aside.

        Raises
        ------
        RowError
            it cannot be read at all, or no row can be used.
        """
        self.path, self.name, self.digest = path, path.name, f"file {file_digest(path)}" if path.is_file() else ""
        self.set_aside: list[SetAside] = []
        self._texts: dict[tuple[str, str], str] = {}
        rows: dict[tuple[str, str], int] = {}
        for record in read_source(path):
            try:
                key, text, reference = _translation_of(record)
                if key in rows:
                    raise BadValue("id", f"{key[0]!r} in {key[1]} stands in row {rows[key]} already")
            except BadValue as bad:
                self.set_aside.append(unreadable(Unreadable(record.file, record.row, bad.column, bad.reason)))
                continue
            rows[key] = record.row
            self._texts[key] = text
            if reference:
                self._texts[key[0] + REFERENCE, key[1]] = reference
        if not rows:
            first = f"; the first, {self.set_aside[0].id}: {self.set_aside[0].detail}" if self.set_aside else ""
            raise RowError(
                f"{path}: no row can be used of {len(self.set_aside)} (columns read: id, language, text, reference){first}"
            )
        self._unused = set(rows)

    def check(self, directions: Collection[tuple[str, str]]) -> None:
        """Raises InputError for a language that the file has no row in."""
        there = sorted({target for _, target in self._texts})
        for _, target in sorted(directions):
            if target not in there:
                raise InputError(
                    f"{self.path}: no rows in {target_name(target)} ({target}); there are {', '.join(there)}"
                )

    def translate(self, texts: Sequence[Text], progress: Progress | None = None) -> Iterator[Translation]:
        """What the file says; a text that it lacks is a row with that reason."""
        for text in texts:
            self._unused.discard((text.id, text.target))
            found = self._texts.get((text.id, text.target))
            if found is None:
                yield NotTranslated(text.id, text.target, "not in the file")
            else:
                yield Translated(text.id, text.target, found.strip())

    def account(self) -> Mapping[str, int]:
        """Rows that no prompt asked for, and those that could not be used."""
        return {"file rows not asked for": len(self._unused), "file rows set aside": len(self.set_aside)}


def refuse_unfinished(reasons: Sequence[str], what: str) -> None:
    """Stop where the budget or the run ended before all was asked; what was answered is kept.

    Raises
    ------
    Failure
        some of the reasons say so.
    """
    count = sum(reason in UNFINISHED for reason in reasons)
    if count:
        raise Failure(f"{count} {what} were not made: the budget or the run ended. The same command asks for them")


def _translation_of(record: Record | Unreadable) -> tuple[tuple[str, str], str, str | None]:
    """Id and language, text, and reference of a row.

    Raises
    ------
    BadValue
        the row cannot be read, or what has to be there is not.
    """
    if isinstance(record, Unreadable):
        raise BadValue(record.column, record.reason)
    values = record.values
    name, written = identifier(values, "id"), optional_text(values, "language")
    if written is None:
        raise BadValue("language", "empty or missing; a language such as 'hi' or 'sr-Latn' is expected")
    if "text" not in values:
        raise BadValue("text", "missing")
    try:
        target = target_of(written)
    except UnknownLanguage as error:
        raise BadValue("language", str(error)) from error
    return (name, target), optional_text(values, "text") or "", optional_text(values, "reference")


def _key(text: Text) -> str:
    return f"{text.id}/{text.source}-{text.target}"


def _request(identity: str, prompt: str, plain: bool = False) -> Request:
    return Request(identity, prompt, plain=plain, role="translate")


def _problem(text: Text, outcome: Outcome) -> NotTranslated | None:
    """Why an outcome holds no translation; None where it does."""
    if isinstance(outcome, Failed):
        return NotTranslated(text.id, text.target, f"no answer: {outcome.reason}", outcome.detail)
    if no_reply(outcome):
        return NotTranslated(text.id, text.target, "withheld by the provider's content filter")
    if not outcome.text.strip():
        return NotTranslated(text.id, text.target, "empty")
    if outcome.truncated:
        return NotTranslated(text.id, text.target, "cut at the length limit", f"after {outcome.n_tokens} tokens")
    return None
