"""SEA-SafeguardBench (AI Singapore): Southeast Asian safety prompts and responses, labelled by native speakers.

Three configurations: ``general`` (``prompt``, ``prompt_label``, ``response``, ``response_label``) and the cultural
ones (``en_prompt``, ``local_prompt``, ``prompt_label``, and for content generation ``en_response``,
``local_response``, ``response_label``). The language is the split's name (``TA_EN``: Tamil and English), so local files
are to keep it in theirs (``general_TA.parquet``). No real file was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alignprism.prompts.formats.format import AnyRow, Bad, Format, Item, Options, Part, set_split, supplied
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, one_of, optional_text, text
from alignprism.rows import Harm, Label, Prompt, Rating, Scope, content_id

SOURCE = "aisingapore/SEASafeguardBench; scope is a stand-in (cultural as local)"
# The set's own codes: IN is Indonesian, MY Burmese.
LANGUAGES = {"EN": "en", "TA": "ta", "TH": "th", "TL": "tl", "MS": "ms", "IN": "id", "MY": "my", "VI": "vi"}
LABELS = ("Safe", "Sensitive", "Harmful")
_SPLIT = re.compile(r"(?<![A-Z])(TA|TH|TL|MS|IN|MY|VI|EN)(_EN)?(?:$|[-.])")


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """The prompt, in a cultural row both of its languages, each with the response if there is one."""
    row = record.values
    named = _SPLIT.search(record.file.rpartition("/")[2].removesuffix(".gz"))
    if named is None:
        raise BadValue("", f"the file's name ends in no language of the set ({', '.join(LANGUAGES)}, or TA_EN)")
    local = LANGUAGES[named.group(1)]
    if part == "general":
        yield _item(row, "prompt", "response", local, "global", options)
        return
    for code, column, response in (("en", "en_prompt", "en_response"), (local, "local_prompt", "local_response")):
        try:
            yield _item(row, column, response, code, "local", options)
        except BadValue as bad:
            yield Bad(bad.column, bad.reason)


def _item(row: dict[str, Any], column: str, answer: str, code: str, scope: Scope, options: Options) -> Item:
    written = text(row, column, options.max_characters)
    label = one_of(row, "prompt_label", LABELS)
    rights = FORMAT.rights(options)
    seed_id = f"sea-{content_id(row.get('en_prompt') or written)}"
    prompt = Prompt(
        id=f"{seed_id}-{code}",
        text=written,
        language=code,
        set="benign" if label == "Safe" else "redteam",
        split=set_split(None, seed_id),
        seed_id=seed_id,
        scope=scope,
        source=SOURCE,
        semantic_translation=optional_text(row, "en_prompt") if code != "en" else None,
        tags=(label,),
        **rights,
    )
    rows: list[AnyRow] = [prompt, _rating(prompt.id, "prompt", label, rights)]
    response = optional_text(row, answer)
    if response is not None and response.strip():
        completion = supplied(
            id=f"{prompt.id}-response", prompt_id=prompt.id, model="sea-safeguardbench", text=response, **rights
        )
        judged = one_of(row, "response_label", LABELS)
        rows += [completion, _rating(completion.id, "completion", judged, rights)]
        if judged != "Sensitive":
            harm: Harm = "harmful" if judged == "Harmful" else "harmless"
            rows.append(Label(completion.id, "native speakers", harm, 1.0, "SEA-SafeguardBench"))
    return Item(tuple(rows))


def _rating(identity: str, subject: Any, label: str, rights: dict[str, Any]) -> Rating:
    value = LABELS.index(label) / 2
    return Rating(identity, subject, "native speakers", "harm", value, label, "aisingapore/SEASafeguardBench", **rights)


FORMAT = Format(
    name="sea-safeguardbench",
    about="SEA-SafeguardBench: Southeast Asian prompts and responses, native labels",
    tested_on="rows made after the published schema",
    parts={
        "cultural": Part(r"(?i)cultural", ("en_prompt", "local_prompt", "prompt_label")),
        "general": Part(r"(?i)general", ("prompt", "prompt_label")),
    },
    read=read,
    hub=("aisingapore/SEASafeguardBench",),
)  # fmt: skip
