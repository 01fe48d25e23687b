"""UltraFeedback and its binarized form: one instruction, several completions with scores, or a chosen and a rejected one.

Binarized: ``prompt``, ``chosen``, ``rejected`` (messages) with ``score_chosen``, ``score_rejected``. Original:
``instruction`` and ``completions`` of ``{model, response, overall_score}``; best against worst becomes the pair. Splits are
the published ones where file or split is named so (``test_prefs``), else drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alignprism.prompts.formats.format import AnyRow, Bad, Format, Item, Options, Part, make_pair, set_split, supplied
from alignprism.prompts.formats.trl import last_answer
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, language_code, optional_text, text
from alignprism.rows import Prompt, content_id

_PUBLISHED = re.compile(r"(train|test)_(?:prefs|sft|gen)(?![a-z])")


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """The prompt, its pair, and all completions of the original form."""
    row = record.values
    code = language_code({"language": row.get("language") or options.language or "en"}, "language")
    column = "prompt" if part == "binarized" else "instruction"
    asked = text(row, column, options.max_characters)
    seed_id = f"ultrafeedback-{optional_text(row, 'prompt_id') or content_id(asked)}"
    rights = FORMAT.rights(options)
    prompt = Prompt(
        id=f"{seed_id}-{code}", text=asked, language=code, set="general", split=set_split(_published(record.file), seed_id),
        seed_id=seed_id, source=optional_text(row, "source") or "UltraFeedback", **rights,
    )  # fmt: skip
    common: dict[str, Any] = {
        "id": f"{prompt.id}-pair", "prompt": asked, "language": code, "prompt_id": prompt.id, "seed_id": seed_id,
        "kind": "general", "judge": "UltraFeedback (GPT-4)", "split": prompt.split, **rights,
    }  # fmt: skip
    if part == "binarized":
        chosen, rejected = last_answer(row, "chosen", options), last_answer(row, "rejected", options)
        scores: dict[str, Any] = {f"{side}_score": _score(row.get(f"score_{side}")) for side in ("chosen", "rejected")}
        if chosen == rejected:
            raise BadValue("rejected", "the same as chosen: no preference")
        yield Item((prompt, make_pair(chosen=chosen, rejected=rejected, **scores, **common)))
        return
    yield Item((prompt, *_ranked(row, prompt, common, options, rights)))


def _ranked(
    row: dict[str, Any], prompt: Prompt, common: dict[str, Any], options: Options, rights: dict[str, Any]
) -> tuple[AnyRow, ...]:
    given = row.get("completions")
    if not isinstance(given, list) or not given:
        raise BadValue("completions", "a list of {model, response, overall_score} is expected")
    made = [
        supplied(
            id=f"{prompt.id}-{place}", prompt_id=prompt.id, model=str(item.get("model") or "unknown"),
            text=text(item, "response", options.max_characters), **rights,
        )
        for place, item in enumerate(given)
    ]  # fmt: skip
    scored = [(s, place) for place, item in enumerate(given) if (s := _score(item.get("overall_score"))) is not None]
    if len(scored) < 2 or max(scored)[0] == min(scored)[0]:
        return tuple(made)
    (high, best), (low, worst) = max(scored, key=lambda s: (s[0], -s[1])), min(scored)
    pair = make_pair(
        chosen=made[best].text, rejected=made[worst].text, chosen_source=made[best].model,
        rejected_source=made[worst].model, chosen_score=high, rejected_score=low, **common,
    )  # fmt: skip
    return (*made, pair)


def _published(file: str) -> str | None:
    """The split that a file's name says; ``train`` alone is what the hub calls a set that nobody has split."""
    found = _PUBLISHED.search(file.rpartition("/")[2])
    return found[1] if found else None


def _score(found: Any) -> float | None:
    try:
        return float(found)
    except (TypeError, ValueError):
        return None


FORMAT = Format(
    name="ultrafeedback",
    about="UltraFeedback, original or binarized: general preference pairs",
    tested_on="rows made after the published schema",
    parts={
        "original": Part(r"(?i)ultrafeedback(?!.*binarized).*\.(jsonl?|parquet)$", ("instruction", "completions")),
        "binarized": Part(r"(?i)(ultrafeedback.*|prefs[^/]*)\.(jsonl?|parquet)$", ("prompt", "chosen", "rejected")),
    },
    read=read,
    hub=("HuggingFaceH4/ultrafeedback_binarized", "openbmb/UltraFeedback"),
    licence="MIT",
    redistribute=True,
)  # fmt: skip
