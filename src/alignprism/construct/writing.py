"""What a model is asked for when it writes prompts, and how its list is read.

A chat model is asked for a list; a base model goes on with a list of human prompts (Wang et al. 2023, Self-Instruct).
A reply is read generously in form (numbers in the digits of any script, bullets, JSON, code fences, reasoning, lines before
and after) and strictly in content: a refusal is no list, and what broke off at the length limit is no prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from alignprism.judging.asking import no_reply, replies_in_order
from alignprism.judging.refusal import refusal
from alignprism.judging.replies import without_reasoning
from alignprism.judging.template_file import (
    JudgeTemplate,
    JudgeTemplateError,
    block,
    load_template,
    mark_of,
    without_control,
)
from alignprism.languages import language
from alignprism.models.protocol import Answer, Decoding, Engine, Failed, Progress, Reason, Request
from alignprism.rows import Prompt

FOLDER = Path(__file__).parent / "templates"

MEANINGS: dict[str, str] = {
    "bullying_harassment": "bullying and harassment (intimidating, humiliating or pestering a person)",
    "discrimination_injustice": "discrimination and injustice (treating people worse because of a group they belong to)",
    "graphic_material": "graphic material (violence or sex depicted for its own sake)",
    "representation_allocation_qos": "harms of representation, allocation and quality of service (stereotyping or erasing a "
    "group, or serving it worse)",
    "hate_speech": "hate speech (demeaning or dehumanising a protected group)",
    "non_consensual_sexual": "non-consensual sexual content (about people who did not consent)",
    "profanity": "profanity (obscene language)",
    "self_harm": "self-harm (encouraging it)",
    "violence_threats_incitement": "violence, threats and incitement",
}
"""The nine categories as a writer is told them."""

REFUSED = "refusal instead of a prompt"
NO_LIST = "unreadable reply"
NO_REPLY = "no reply"
_JSON_TRIES = 20


@dataclass(frozen=True, slots=True)
class Listed:
    """The prompts of one reply. ``problem`` says why there are none: `REFUSED`, `NO_LIST` or `NO_REPLY`, with a detail.

    ``cut``: the last one broke off at the length limit and was left out. ``failure``: the call got no answer; otherwise
    ``call`` is the answer's key in the call store.
    """

    items: tuple[str, ...] = ()
    problem: str = ""
    detail: str = ""
    cut: bool = False
    failure: Reason | None = None
    call: str = ""


@dataclass(frozen=True, slots=True)
class Commission:
    """What one call asks a writer for: `wanted` prompts from a seed.

    ``mark`` stands around the texts that it shows; ``lead`` is how the reply begins where the request ends with it.
    """

    seed: Prompt
    request: Request
    wanted: int
    mark: str = ""
    lead: str = ""


def writing_template(kind: str, own: str | None = None) -> JudgeTemplate:
    """The template ``rephrase``, ``continue`` or ``twin``: the user's own file, tried once, or the shipped one.

    Raises
    ------
    JudgeTemplateError
        it cannot be read or filled, or does not show the seed.
    """
    if own is None:
        return load_template(FOLDER / f"{kind}.jinja")
    template = load_template(Path(own))
    seed = Prompt(
        "seed", "text of the seed", "en", "redteam", "train", "seed", "local", ("profanity",), explanation="why"
    )
    ask = continuation if kind == "continue" else partial(commission, written=["text of another"])
    shown = ask(template, "trial", seed, 2, shots=[seed]).request.prompt
    if seed.text not in str(shown):
        how = "a line for each of items" if kind == "continue" else "{{ seed }}"
        raise JudgeTemplateError(f"{own}:1: the template does not show the seed; write {how} in it")
    return template


def commission(
    template: JudgeTemplate, request_id: str, seed: Prompt, wanted: int, *, shots: Sequence[Prompt] = (),
    written: Sequence[str] = (),
) -> Commission:  # fmt: skip
    """The question to a writer. A seed's explanation is shown, so that a local harm stays local."""
    texts = [seed.text, *(shot.text for shot in shots), *written, *([seed.explanation] if seed.explanation else [])]
    mark = mark_of(*texts)
    values = {
        "seed": block("SEED", seed.text, mark),
        "explanation": block("EXPLANATION", seed.explanation, mark) if seed.explanation else "",
        "shots": [block("REQUEST", shot.text, mark) for shot in shots],
        "written": [block("MADE ALREADY", text, mark) for text in written],
        "wanted": wanted,
        "mark": mark,
        **_described(seed),
    }
    return Commission(seed, Request(request_id, template.render(values), role="write"), wanted, mark)


def _described(seed: Prompt) -> dict[str, str]:
    return {
        "scope": seed.scope or "",
        "place": ", ".join(seed.cultures) or seed.locale or "",
        "categories": ", ".join(MEANINGS.get(name, name) for name in seed.categories) or "of the seed",
        "language": language(seed.language).name,
        "code": language(seed.language).code,
    }


def continuation(
    template: JudgeTemplate, request_id: str, seed: Prompt, wanted: int, *, shots: Sequence[Prompt] = ()
) -> Commission:
    """A numbered list of human prompts, the seed last, that a base model goes on with, as plain text."""
    items = [" ".join(without_control(prompt.text).split()) for prompt in (*shots, seed)]
    values = {
        "items": items,
        "explanation": " ".join(without_control(seed.explanation or "").split()),
        "wanted": wanted,
        **_described(seed),
    }
    lead = f"{len(items) + 1}."
    request = Request(request_id, f"{template.render(values)}\n{lead}", plain=True, role="write")
    return Commission(seed, request, wanted, lead=lead)


def end_of_list(shown: int, wanted: int) -> str:
    """What a base model writes when it goes beyond the prompts that are wanted."""
    return f"\n{shown + wanted + 1}."


def written_lists(
    engine: Engine, asked: Sequence[Commission], decoding: Decoding, progress: Progress | None = None
) -> Iterator[tuple[Commission, Listed]]:
    """Every commission with what came of it, in their order. Stored replies cost no call."""
    replies = replies_in_order(engine, [[one.request] for one in asked], decoding, progress)
    for one, (outcome,) in zip(asked, replies, strict=True):
        problem = no_reply(outcome)
        if isinstance(outcome, Answer) and not problem:
            listed = read_list(one.lead + outcome.text, one.wanted, one.seed.language, outcome.truncated, one.mark)
            yield one, replace(listed, call=outcome.call)
        else:
            failure = outcome.reason if isinstance(outcome, Failed) else None
            yield one, Listed(problem=NO_REPLY, detail=problem.removeprefix("no reply: "), failure=failure)


# --- reading ---------------------------------------------------------------------------------------------------------


def read_list(text: str, wanted: int, code: str, truncated: bool = False, mark: str = "") -> Listed:
    """The prompts of a reply in language `code`. Never raises, whatever the text.

    Looked for in this order: JSON texts, a numbered list, bullets; with one prompt wanted, a single paragraph too. A blank
    line ends a prompt; what follows it without a number is a comment.
    """
    visible = without_reasoning(text)
    kept = [line for line in visible.split("\n") if not _FENCE.match(line) and not (mark and mark in line)]
    visible = "\n".join(kept).strip()
    if not visible:
        return Listed(problem=NO_LIST, detail="reasoning only" if text.strip() else "empty")
    found = _json_items(visible) or _marked_items(kept)
    before, items, open_end = found or ("", [], False)
    if refusal(before if items else visible, code) != "none":
        return Listed(problem=REFUSED)
    if not items and wanted == 1 and "\n\n" not in visible and not truncated:
        items = [visible]
    cut = truncated and open_end
    cleaned = tuple(filter(None, map(_clean, items[:-1] if cut else items)))
    if not cleaned:
        return Listed(problem=NO_LIST, detail="cut at the length limit" if truncated else "no list")
    return Listed(cleaned, cut=cut)


_FENCE = re.compile(r"\s*(?:```|~~~)\s*[\w+-]*\s*\Z")
_HIDDEN = "\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\u061c"
# A word before the number ("Prompt 1:"); digits of any script; what ends it, and then no digit, as in 10:30 or 1.5.
_NUMBER = re.compile(
    rf"[\s{_HIDDEN}*_#>]*(?P<label>[^\s\d.,:;!?*()\[\]-]*)\s*[(\[]?(?P<number>\d{{1,3}})\s?[)\].:：、．।،\-–—]+[*_]*(?:\s+|(?=[^\d\s])|\Z)"
)
_BULLET = re.compile(rf"[\s{_HIDDEN}]*(?P<label>[-*+•‣◦▪●–—])\s+(?=\S)")
_QUOTES = (('"', '"'), ("“", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("‹", "›"), ("‘", "’"), ("'", "'"), ("「", "」"), ("『", "』"), ("`", "`"), ("*", "*"), ("_", "_"))  # fmt: skip

_Found = tuple[str, list[str], bool]
"""The text before the list, its items, and whether the last one goes on to the reply's end."""


def _marked_items(lines: Sequence[str]) -> _Found | None:
    """Items of a numbered list, or else of a bulleted one."""
    for pattern in (_NUMBER, _BULLET):
        starts = _starts(lines, pattern)
        if starts:
            bounds = zip(starts, [*(place for place, _ in starts[1:]), len(lines)], strict=True)
            pieces = [_until_blank([lines[place][end:], *lines[place + 1 : stop]]) for (place, end), stop in bounds]
            return "\n".join(lines[: starts[0][0]]), [piece for piece, _ in pieces], pieces[-1][1]
    return None


def _starts(lines: Sequence[str], pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    """Lines that begin an item, and where its text begins: marked as the first one is, and numbers that count up."""
    marked = [(place, match) for place, line in enumerate(lines) if (match := pattern.match(line))]
    marked = [
        (place, match) for place, match in marked if match["label"].casefold() == marked[0][1]["label"].casefold()
    ]
    if pattern is _BULLET or len({match["number"] for _, match in marked}) == 1:
        return [(place, match.end()) for place, match in marked]
    found: list[tuple[int, int]] = []
    due = int(marked[0][1]["number"]) if marked else 0
    for place, match in marked:
        if int(match["number"]) == due:
            found.append((place, match.end()))
            due += 1
    return found


def _until_blank(lines: Sequence[str]) -> tuple[str, bool]:
    """The text up to the first blank line after it began, and whether that is all there is."""
    taken: list[str] = []
    for place, line in enumerate(lines):
        if line.strip():
            taken.append(line.strip())
        elif taken:
            return "\n".join(taken), not any(rest.strip() for rest in lines[place:])
    return "\n".join(taken), True


def _json_items(visible: str) -> _Found | None:
    decoder = json.JSONDecoder()
    items: list[str] = []
    first, place = len(visible), 0
    for _ in range(_JSON_TRIES):
        opening = _JSON_START.search(visible, place)
        if opening is None:
            break
        try:
            value, place = decoder.raw_decode(visible, opening.end() - 1)
        except (ValueError, RecursionError):
            place = opening.end()
            continue
        texts = _texts(value)
        first = min(first, opening.start()) if texts else first
        items += texts
    return (visible[:first], items, False) if items else None


_JSON_START = re.compile(r"^[^\S\n]*[\[{]", re.MULTILINE)
_TEXT_KEYS = ("prompt", "request", "text")


def _texts(value: Any) -> list[str]:
    """The texts of a list, of a list of objects, of an object that holds a list, or of one numbered by its keys."""
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return list(value)
        return [text for item in value if isinstance(item, dict) for text in _texts(item)[:1]]
    if not isinstance(value, dict):
        return []
    named = [item for key, item in value.items() if str(key).casefold() in _TEXT_KEYS and isinstance(item, str)]
    if named:
        return named[:1]
    if value and all(str(key).strip().isdecimal() and isinstance(item, str) for key, item in value.items()):
        return list(value.values())
    lists = [item for item in value.values() if isinstance(item, list)]
    return _texts(lists[0]) if len(lists) == 1 else []


def _clean(item: str) -> str:
    """Without white space, and without quotes or emphasis around the whole."""
    item = item.strip()
    for opening, closing in _QUOTES:
        inner = item[len(opening) : -len(closing)]
        if len(item) > 2 and item.startswith(opening) and item.endswith(closing):
            if opening in "*_" and opening in inner.strip(opening):
                continue
            if opening not in "*_" and (opening in inner or closing in inner):
                continue
            return _clean(inner.strip(opening) if opening in "*_" else inner)
    return item
