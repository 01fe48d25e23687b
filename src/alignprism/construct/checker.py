"""A model that checks new prompts: is this adversarial at all, is its harm global or local, which category is it?

What it says is read strictly: a reply without a clear yes or no, or an adversarial prompt without scope and category, is
unreadable, and an unreadable check accepts nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from alignprism.construct.writing import FOLDER
from alignprism.judging.asking import no_reply, replies_in_order
from alignprism.judging.replies import without_reasoning
from alignprism.judging.template_file import JudgeTemplate, block, load_template, mark_of
from alignprism.languages import language
from alignprism.models.protocol import Answer, Decoding, Engine, Failed, Progress, Reason, Request
from alignprism.rows import CATEGORIES, Prompt, Scope, content_id

READER_VERSION = 1
"""Raised with every change of how replies are read: a checker that reads differently is another checker."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a checker says of one prompt; ``problem`` says why it says nothing. ``failure``: the call got no answer.

    ``call`` is the answer's key in the call store.
    """

    adversarial: bool | None
    scope: Scope | None = None
    categories: tuple[str, ...] = ()
    problem: str = ""
    failure: Reason | None = None
    call: str = ""


class Checker:
    """Asks an engine about prompts. ``digest`` covers the model, what it is asked and how it is read."""

    def __init__(self, engine: Engine, max_new_tokens: int = 256) -> None:
        self.engine = engine
        self.name = engine.name
        self.decoding = Decoding(max_new_tokens=max_new_tokens)
        self.digest = content_id("checker", engine.digest, _template().digest, self.decoding.identity(), READER_VERSION)

    def opinions(self, prompts: Sequence[Prompt], progress: Progress | None = None) -> Iterator[Opinion]:
        """One opinion per prompt, in their order; ids must be unique. Stored replies cost no call."""
        requests = [[check_request(prompt)] for prompt in prompts]
        for (outcome,) in replies_in_order(self.engine, requests, self.decoding, progress):
            problem = no_reply(outcome)
            if isinstance(outcome, Answer) and not problem:
                yield replace(read_opinion(outcome.text), call=outcome.call)
            else:
                failure = outcome.reason if isinstance(outcome, Failed) else None
                yield Opinion(None, problem=problem, failure=failure)


def check_request(prompt: Prompt) -> Request:
    """What a checker is asked about one prompt."""
    mark = mark_of(prompt.text)
    known = language(prompt.language)
    values = {"prompt": block("PROMPT", prompt.text, mark), "mark": mark, "language": known.name, "code": known.code}
    return Request(f"check/{prompt.id}", _template().render(values), role="check")


@cache
def _template() -> JudgeTemplate:
    return load_template(FOLDER / "check.jinja")


_EMPHASIS = re.compile(r"[*`~#>\"“”\u200b-\u200f\ufeff]|^\s*[-•]\s+", re.MULTILINE)
_FIELD = re.compile(
    r"^\s*(?:\d[.)]\s*)?(adversarial|scope|categor(?:y|ies))\s*[:=]\s*(.*)$", re.IGNORECASE | re.MULTILINE
)
_YES = {"yes": True, "true": True, "no": False, "false": False}


def read_opinion(text: str) -> Opinion:
    """The opinion in a reply. Never raises, whatever the text; what is not clear is a problem, never a yes or a no."""
    visible = without_reasoning(text)
    fields = _json_fields(visible) or _line_fields(_EMPHASIS.sub("", visible))
    said = {_YES.get(value.strip(" .!").casefold()) for value in fields.get("adversarial", ())}
    if len(said) != 1 or None in said:
        return Opinion(None, problem="unreadable: no clear yes or no" if fields else "unreadable: no such lines")
    if said == {False}:
        return Opinion(False)
    scopes = {value.strip(" .!").casefold() for value in fields.get("scope", ())}
    if scopes not in ({"global"}, {"local"}):
        return Opinion(None, problem="unreadable: no clear scope")
    categories = tuple(name for name in CATEGORIES if any(_names(name, v) for v in fields.get("category", ())))
    if not 1 <= len(categories) <= 2:
        return Opinion(None, problem="unreadable: no clear category")
    return Opinion(True, "global" if scopes == {"global"} else "local", categories)


def _line_fields(plain: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for match in _FIELD.finditer(plain):
        found.setdefault(_field(match[1]), []).append(match[2])
    return found


def _json_fields(visible: str) -> dict[str, list[str]]:
    start = visible.find("{")
    if start < 0:
        return {}
    try:
        value, _ = json.JSONDecoder().raw_decode(visible, start)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, list[str]] = {}
    for key, content in value.items() if isinstance(value, dict) else ():
        if _field(key) in ("adversarial", "scope", "category"):
            found[_field(key)] = [str(part) for part in (content if isinstance(content, list) else [content])]
    return found


def _field(name: str) -> str:
    plain = name.strip().casefold()
    return "category" if plain.startswith("categor") else plain


def _names(name: str, value: str) -> bool:
    """Whether a value names a category: by its id, or as the data set's card writes it ("Bullying & Harassment")."""
    words = [word for word in re.split(r"[\W_]+", value.casefold()) if word and word != "and"]
    joined = f"_{'_'.join(words)}_"
    return f"_{name}_" in joined or (name == "representation_allocation_qos" and "_representation_" in joined)
