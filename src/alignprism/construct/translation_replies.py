"""From an LLM's reply to the translation in it: without reasoning, marked lines, preamble, code fence, quotation marks, notes.

What is taken away must not have been in the text that was translated: a text in quotation marks keeps them.
"""

from __future__ import annotations

import json
import re

from alignprism.judging.replies import without_reasoning

READER_VERSION = 1
"""Raised with every change of how replies are read: a translator that reads differently is another one."""

_QUOTES = {'"': '"', "'": "'", "“": "”", "«": "»", "„": "“", "‘": "’", "「": "」"}
# What models put before a translation, in the languages that they write it in.
_WORDS = (
    r"translat(?:ion|ed)|traduction|traducción|traduzione|перевод|превод|prevod|ترجمة|الترجمة|अनुवाद|salin|pagsasalin"
)
_PREAMBLE = re.compile(
    rf"[^\n]{{0,80}}(?:{_WORDS})[^\n:：]{{0,60}}[:：][*_]*\s*(?P<rest>.*)\Z", re.DOTALL | re.IGNORECASE
)
_FENCE = re.compile(r"```[\w-]*\n(?P<inside>.*?)\n?```\Z", re.DOTALL)
_NOTE = re.compile(r"[\s(\[*_]*(?:translator'?s )?note\b[^\n]{0,40}?[:：]", re.IGNORECASE)


def clean_reply(reply: str, source: str, mark: str) -> str:
    """The translation of `source` that a reply gives. `mark`: of the lines around the text in the question.

    Never raises; a reply without anything in it is the empty text.
    """
    text = _unmarked(without_reasoning(reply), mark).strip()
    while True:
        before = text
        for step in (_without_json, _without_preamble, _without_fence, _without_note, _without_quotes):
            text = step(text, source.strip()).strip()
        if text == before:
            return text


def _unmarked(text: str, mark: str) -> str:
    """What stands between the first two marked lines, if a reply repeats them; without marked lines in any case."""
    lines = text.splitlines()
    places = [number for number, line in enumerate(lines) if mark in line]
    if len(places) >= 2:
        lines = lines[places[0] + 1 : places[1]]
    return "\n".join(line for line in lines if mark not in line)


def _without_preamble(text: str, source: str) -> str:
    found = _PREAMBLE.match(text)
    if found is None or not found["rest"].strip() or _PREAMBLE.match(source) or _colon_in_first_line(source):
        return text
    return found["rest"]


def _colon_in_first_line(source: str) -> bool:
    return bool(re.search(r"[:：]", source.partition("\n")[0]))


def _without_fence(text: str, source: str) -> str:
    found = _FENCE.match(text)
    if found is None or "```" in source or "```" in found["inside"]:
        return text
    return found["inside"]


def _without_json(text: str, source: str) -> str:
    if not text.startswith("{") or source.startswith("{"):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    said = list(value.values()) if isinstance(value, dict) else []
    return said[0] if len(said) == 1 and isinstance(said[0], str) else text


def _without_note(text: str, source: str) -> str:
    """Without a last paragraph that is the translator's note, where the source has fewer paragraphs."""
    start, separator, last = text.rpartition("\n\n")
    more = len(_paragraphs(text)) > len(_paragraphs(source))
    return start if separator and more and _NOTE.match(last) else text


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def _without_quotes(text: str, source: str) -> str:
    if len(text) < 2 or _QUOTES.get(text[0]) != text[-1] or source[:1] in _QUOTES:
        return text
    inside = text[1:-1]
    return text if text[0] in inside or text[-1] in inside else inside
