"""From a pairwise judge's reply to a preference: the first answer shown, the second, a tie, or undecidable.

Like `alignprism.judging.replies`: generous in form, strict in content. What names no answer, more than one, or a negated
one is undecidable with the reason ``unparsable: ...``; it is never a tie, because a tie is half a win. The words are in
``templates/pairwise/words.yaml``, so that a native speaker can mend them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from alignprism.judging.replies import MAX_REASON, UNPARSABLE, without_reasoning

WORDS = Path(__file__).parent / "templates" / "pairwise" / "words.yaml"
READER_VERSION = 1
"""Raised with every change of how replies are read: a judge that reads differently is another judge."""

Place = Literal["first", "second", "tie", "undecidable"]

# Markdown, quotes and invisible marks; brackets stay, because they set a letter apart from what follows it.
_DECORATION = re.compile(r"[*`~#>|_\"“”«»'‘’„\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\u061c]")
_BRACKETED = re.compile(r"\[\[\s*(?:(?P<first>A)|(?P<second>B)|(?P<tie>C|tie))\s*\]\]", re.IGNORECASE)
_JSON_TRIES = 20
_LONGEST_LINE = 1000  # characters of a verdict line that are looked at


@dataclass(frozen=True, slots=True)
class Preference:
    """What a reply says. ``problem`` is empty or begins with ``unparsable: ``; ``explanation`` is the judge's reason."""

    place: Place
    problem: str = ""
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class _Words:
    label: str
    reason: str
    verdict: re.Pattern[str]
    mention: re.Pattern[str]


@cache
def _words() -> _Words:
    by_language: dict[str, dict[str, list[str]]] = yaml.safe_load(WORDS.read_text(encoding="utf-8"))

    def all_of(kind: str) -> str:
        found = (str(word) for words in by_language.values() for word in words.get(kind, []))
        return "|".join(word.replace(" ", r"\s+") for word in dict.fromkeys(found))

    answer, first, second, tie = (all_of(kind) for kind in ("answer", "first", "second", "tie"))

    def named(suffix: str, letters: str) -> str:
        return rf"(?P<first{suffix}>{letters % first})|(?P<second{suffix}>{letters % second})"

    letter = r"[(\[]*\s*(?:%s)(?!\w)\s*[)\]]*"
    return _Words(
        label=all_of("preferred"),
        reason=all_of("reason"),
        verdict=re.compile(
            rf"\s*(?:the\s+)?(?:(?:{answer})\s*)?(?:{named('', letter)})|\s*[(\[]*(?P<tie>{tie})(?!\w)[)\]]*",
            re.IGNORECASE,
        ),
        # Behind the verdict, a bare letter counts as another verdict only as a capital: "a" and "а" are words.
        mention=re.compile(
            rf"(?i:(?<!\w)(?:{answer})\s*(?:{named('', letter)}))|(?<!\w)(?:{named('_bare', '(?:%s)')})(?!\w)"
            rf"|(?i:(?<!\w)(?P<tie>{tie})(?!\w))"
        ),
    )


@cache
def words_digest() -> str:
    """sha256 over the words and the reader's version: part of what a judge is."""
    return hashlib.sha256(f"{READER_VERSION}\n".encode() + WORDS.read_bytes()).hexdigest()


def read_preference(text: str, truncated: bool = False) -> Preference:
    """The preference of a judge's reply. Never raises, whatever the text.

    Looked for in this order; what is found at one place must agree with itself: JSON objects, ``[[A]]`` and lines that
    begin with the label ("Preferred:"); the label inside a line; lines that hold nothing but a verdict.
    """
    cut = ", cut at the length limit" if truncated else ""
    if not text.strip():
        return _unread("empty reply")
    visible = without_reasoning(text)
    if not visible.strip():
        return _unread("reasoning only" + cut)
    plain = _DECORATION.sub(" ", visible)
    for found in (
        [*_from_json(visible), *_bracketed(visible), *_labelled(plain, lines=True)],
        _labelled(plain, lines=False),
        _alone(plain),
    ):
        places = set(found)
        if len(places) > 1:
            return _unread("verdicts disagree")
        if places == {"undecidable"}:
            return _unread("no single answer where the verdict belongs" + cut)
        if places:
            return Preference(places.pop(), explanation=_explanation(visible, plain))
    return _unread("no verdict line" + cut)


def _unread(what: str) -> Preference:
    return Preference("undecidable", UNPARSABLE + what)


def _place(match: re.Match[str]) -> Place:
    groups = match.groupdict()
    if groups.get("tie"):
        return "tie"
    return "first" if groups.get("first") or groups.get("first_bare") else "second"


def _verdict(segment: str) -> Place:
    """The verdict that a segment begins with; undecidable unless punctuation or nothing follows, and no other verdict."""
    match = _words().verdict.match(segment)
    if match is None:
        return "undecidable"
    place, rest = _place(match), segment[match.end() :].strip()
    if rest and not re.match(r"[.,;:!(\[)\]\-–—،۔।/]", rest):
        return "undecidable"
    others = {_place(other) for other in _words().mention.finditer(rest)} - {place}
    return "undecidable" if others else place


def _labelled(plain: str, *, lines: bool) -> list[Place]:
    """Verdicts behind the label: at the beginning of lines, or anywhere. An empty line's verdict is the next line."""
    start = r"^(?:[^\w\n]|\d)*(?:[^\W\d]\w*[^\S\n]+)?" if lines else r"(?<!\w)"
    pattern = re.compile(rf"{start}(?:{_words().label})\s*[:：=]", re.IGNORECASE | re.MULTILINE)
    return [
        _verdict(plain[match.end() : match.end() + _LONGEST_LINE].lstrip().split("\n", 1)[0])
        for match in pattern.finditer(plain)
    ]


def _bracketed(visible: str) -> list[Place]:
    """``[[A]]``, ``[[B]]``, ``[[C]]`` for a tie: the format of MT-Bench (Zheng et al. 2023, arXiv 2306.05685)."""
    return [_place(match) for match in _BRACKETED.finditer(visible)]


def _alone(plain: str) -> list[Place]:
    """Lines that hold a verdict and nothing else."""
    found: list[Place] = []
    for line in plain.split("\n"):
        match = _words().verdict.match(line)
        # "a" or "b)" alone on a line begins a list or a sentence; the letter asked for is a capital.
        if match and not re.search(r"\w", line[match.end() :]) and not re.fullmatch(r"\W*[abабв]\W*", line):
            found.append(_place(match))
    return found


def _from_json(visible: str) -> Iterator[Place]:
    for value in _objects(visible):
        for key, content in value.items():
            if isinstance(content, str) and re.fullmatch(_words().label, key.strip(), re.IGNORECASE):
                yield _verdict(_DECORATION.sub(" ", content))


def _objects(visible: str) -> Iterator[dict[str, Any]]:
    decoder, place = json.JSONDecoder(), visible.find("{")
    for _ in range(_JSON_TRIES):
        if place < 0:
            return
        try:
            value, end = decoder.raw_decode(visible, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            yield value
        place = visible.find("{", end)


def _explanation(visible: str, plain: str) -> str:
    """The judge's reason: a JSON field, or what follows its label up to the verdict's label."""
    for value in _objects(visible):
        for key, content in value.items():
            if isinstance(content, str) and re.fullmatch(_words().reason, key.strip(), re.IGNORECASE):
                return " ".join(content.split())[:MAX_REASON]
    words = _words()
    found = re.search(
        rf"(?<!\w)(?:{words.reason})\s*[:：](.*?)(?=(?<!\w)(?:{words.label})\s*[:：=]|\[\[|\Z)",
        plain,
        re.IGNORECASE | re.DOTALL,
    )
    return " ".join(found[1].split())[:MAX_REASON] if found else ""
