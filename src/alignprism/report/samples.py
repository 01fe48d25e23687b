"""samples.html: prompts and completions, apart from the report, behind a warning, closed until asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignprism.languages import UnknownLanguage, language
from alignprism.report.page import CSP, environment
from alignprism.report.results import ReportError
from alignprism.report.visible import Segment, segments, visible
from alignprism.rows import Completion, Prompt, Verdict, write_atomic

_DEMONSTRATION = "model-written"


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and what each model answered, with the verdict: (model name, completion, verdict)."""

    prompt: Prompt
    completions: Sequence[tuple[str, Completion, Verdict]]


@dataclass(frozen=True, slots=True)
class _Text:
    label: str
    lang: str
    pieces: tuple[Segment, ...]
    hidden: int
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    facts: tuple[str, ...]
    demonstration: bool
    texts: tuple[_Text, ...]


def _text(label: str, text: str, lang: str, facts: tuple[str, ...] = ()) -> _Text:
    pieces = tuple(segments(text))
    return _Text(visible(label), lang, pieces, sum(piece.token for piece in pieces), tuple(map(visible, facts)))


def _verdict_facts(completion: Completion, verdict: Verdict) -> tuple[str, ...]:
    facts = [verdict.harm, f"judge {verdict.judge}"]
    if verdict.harm_score is not None:
        facts.append(f"harm score {verdict.harm_score:.2f}")
    if verdict.refusal != "none":
        facts.append(f"{verdict.refusal} refusal")
    if verdict.on_language is False:
        facts.append(f"off language ({verdict.detected_language or 'unknown'})")
    if verdict.degenerate:
        facts.append("degenerate")
    if completion.truncated:
        facts.append("cut at the cap")
    if verdict.reason:
        facts.append(verdict.reason)
    return tuple(facts)


def _entry(sample: Sample) -> _Entry:
    prompt = sample.prompt
    extras = (
        ("Explanation", prompt.explanation, "en"),
        ("Literal translation", prompt.literal_translation, "en"),
        ("Meaning in English", prompt.semantic_translation, "en"),
        ("Reference answer", prompt.reference, prompt.language),
    )
    texts = [_text("Prompt", prompt.text, prompt.language)]
    texts += [
        _text(f"{model} answered", completion.text, prompt.language, _verdict_facts(completion, verdict))
        for model, completion, verdict in sample.completions
    ]
    texts += [_text(label, text, lang) for label, text, lang in extras if text]
    facts = (prompt.set, prompt.scope or "", *(c.replace("_", " ") for c in prompt.categories), *prompt.cultures)
    verdicts = (f"{model}: {verdict.harm}" for model, _, verdict in sample.completions)
    summary = tuple(visible(fact) for fact in (*facts, *verdicts) if fact)
    return _Entry(visible(prompt.id), summary, _DEMONSTRATION in prompt.source, tuple(texts))


def _language_name(code: str) -> str:
    try:
        return language(code).name
    except UnknownLanguage:
        return visible(code)


def render_samples(results: Mapping[str, Any], samples: Sequence[Sample]) -> str:
    """The page of samples as HTML: grouped by language, each prompt closed, every text escaped."""
    groups: dict[str, list[_Entry]] = {}
    for sample in samples:
        groups.setdefault(sample.prompt.language, []).append(_entry(sample))
    return (
        environment()
        .get_template("samples.html.j2")
        .render(
            csp=CSP,
            title=visible(str(results.get("title", "samples"))),
            created=visible(str(results.get("created", ""))),
            groups=[(_language_name(code), entries) for code, entries in groups.items()],
            total=len(samples),
            demonstration=any(entry.demonstration for entries in groups.values() for entry in entries),
        )
    )


def write_samples(run: Path, samples: Sequence[Sample]) -> Path:
    """Write ``run/samples.html``, whole or not at all, readable by its owner only; returns its path.

    Raises
    ------
    ReportError
        results.json, which names the study, is missing or damaged.
    """
    source = run / "results.json"
    try:
        results = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReportError(f"{source}: is not there; `alignprism run` writes it when a study ends") from error
    except ValueError as error:
        raise ReportError(f"{source}: damaged ({error}); run the study again to write it anew") from error
    target = run / "samples.html"
    write_atomic(target, render_samples(results, samples).encode("utf-8", "replace"))
    target.chmod(0o600)
    return target
