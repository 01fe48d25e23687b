"""Aya Red-teaming (Cohere For AI): human-written harmful prompts in eight languages, global or local.

Columns and label spellings are those of the dataset card and of the data, which differ; no real file was at hand.
The file of a language has no ids: an id is made of language and text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alignprism.errors import shown
from alignprism.languages import language
from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, set_split
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, language_code, listed, one_of, optional_text, text
from alignprism.rows import CATEGORIES, Prompt, content_id

SOURCE = "CohereForAI/aya_redteaming"
# By the words that survive in every spelling: without case, "&", "and", commas and hyphens.
_SPELLINGS = {
    "bullying harassment": "bullying_harassment",
    "discrimination injustice": "discrimination_injustice",
    "graphic material": "graphic_material",
    "harms of representation allocation quality of service": "representation_allocation_qos",
    "hate speech": "hate_speech",
    "non consensual sexual content": "non_consensual_sexual",
    "profanity": "profanity",
    "self harm": "self_harm",
    "violence threats incitement": "violence_threats_incitement",
} | {name.replace("_", " "): name for name in CATEGORIES}
_PUBLISHED = {
    "bullying_harassment": "Bullying & Harassment",
    "discrimination_injustice": "Discrimination & Injustice",
    "graphic_material": "Graphic Material",
    "representation_allocation_qos": "Harms of Representation, Allocation & Quality of Service",
    "hate_speech": "Hate Speech",
    "non_consensual_sexual": "Non-consensual sexual content",
    "profanity": "Profanity",
    "self_harm": "Self-harm",
    "violence_threats_incitement": "Violence, threats & incitement",
}


def category(label: str) -> str:
    """One of the nine categories, from either published spelling or our own name.

    Raises
    ------
    BadValue
        another label.
    """
    words = [word for word in re.findall(r"[a-z]+", label.lower()) if word != "and"]
    try:
        return _SPELLINGS[" ".join(words)]
    except KeyError as error:
        raise BadValue("harm_category", f"{shown(label)}; accepted: {'; '.join(_PUBLISHED.values())}") from error


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One prompt."""
    row = record.values
    prompt = text(row, "prompt", options.max_characters)
    code = language_code(row, "language")
    categories = tuple(dict.fromkeys(category(label) for label in listed(row.get("harm_category"), "harm_category")))
    if not categories:
        raise BadValue("harm_category", "empty; every Aya row has at least one")
    seed_id = optional_text(row, "seed_id") or f"aya-{content_id(code, prompt)}"
    yield Item(
        (
            Prompt(
                id=optional_text(row, "id") or seed_id,
                text=prompt,
                language=code,
                set="redteam",
                split=set_split(optional_text(row, "split"), seed_id),
                seed_id=seed_id,
                scope=one_of(row, "global_or_local", ("global", "local")),  # type: ignore[arg-type]
                categories=categories,
                source=optional_text(row, "source") or SOURCE,
                explanation=optional_text(row, "explanation"),
                literal_translation=optional_text(row, "literal_translation"),
                semantic_translation=optional_text(row, "semantic_translation"),
                **_rights(row, options),
            ),
        )
    )


def _rights(row: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """What an export of ours says; the published files say nothing, and are Apache-2.0."""
    licence = optional_text(row, "licence")
    if licence is None:
        return FORMAT.rights(options)
    return {"licence": licence, "redistribute": str(row.get("redistribute")).lower() in ("true", "1")}


def export(tables: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    """One file for each language under Aya's column names; ids, seeds, splits and licences are columns beside them."""
    files: dict[str, list[dict[str, Any]]] = {}
    for row in tables["prompts"]:
        if row.scope is None or not row.categories:
            raise BadValue("scope" if row.scope is None else "categories", f"{row.id}: empty, and Aya has no such row")
        files.setdefault(f"aya_{row.language}.jsonl", []).append(published(row))
    return files


def published(row: Prompt) -> dict[str, Any]:
    """A prompt under Aya's column names, its categories as the stringified list that Aya publishes."""
    return {
        "prompt": row.text,
        "harm_category": str([_PUBLISHED[name] for name in row.categories]),
        "language": language(row.language).name.partition(" (")[0],
        "global_or_local": row.scope,
        "literal_translation": row.literal_translation or "",
        "semantic_translation": row.semantic_translation or "",
        "explanation": row.explanation or "",
        "id": row.id,
        "seed_id": row.seed_id,
        "split": row.split,
        "source": row.source,
        "licence": row.licence,
        "redistribute": row.redistribute,
    }


FORMAT = Format(
    name="aya",
    about="Aya Red-teaming: human-written harmful prompts, global or local, in eight languages",
    tested_on="rows made after the published schema",
    parts={"prompts": Part(r"aya_\w+\.(jsonl|json|csv|parquet)$|/\w+$", ("prompt", "language", "harm_category", "global_or_local"))},
    read=read,
    hub=("CohereForAI/aya_redteaming", "CohereLabs/aya_redteaming"),
    licence="Apache-2.0",
    redistribute=True,
    export=export,
)  # fmt: skip
