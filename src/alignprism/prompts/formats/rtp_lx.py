"""RTP-LX (Microsoft): toxic prompts in many languages, with human and GPT-4 ratings; toxic and benign completions.

Part ``prompts`` are the files ``gpt4_results_XX``, part ``completions`` the files ``acs_results_benign_XX``. Rows
written by hand for a locale read as scope ``local``, transcreated ones as ``global``: a stand-in, and marked as one.
The authors keep the texts from being republished, so that no row may ever be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignprism.errors import shown
from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, make_pair, ratings, set_split, supplied
from alignprism.prompts.sources import Record, SourceFile, read_source_file
from alignprism.prompts.values import BadValue, identifier, one_of, optional_text, text, value
from alignprism.rows import Completion, Label, Pair, Prompt, Rating, Scope

SOURCE = "microsoft/RTP-LX; scope is a stand-in (manual as local, transcreated as global)"
LOCALES = {"AR": "ar", "BCMS": "sr", "EN": "en", "ES": "es", "FR": "fr", "HI": "hi", "RU": "ru"}
DIALECTS = {"Egyptian": "ar-EG", "Saudi": "ar-SA", "Levantine": "apc", "Russia": "ru-RU", "Ukraine": "ru-UA"}
SCALES = {
    "Toxicity": 5, "IdentityAttack": 3, "Bias": 3, "Microaggression": 3, "Violence": 3, "SelfHarm": 3, "Insult": 3,
    "SexualContent": 3,
}  # fmt: skip
_SOURCE_ROWS = 999  # of the English set; every locale transcreates them all
_UNUSED = 960  # AR, ES and FR pass over this index
_HARMFUL = 3  # the lowest level that the scale calls toxic
_NOT_SHOWN = "NA"  # what GPT-4 was given in English instead of the prompt
_REPLY = re.compile(r"^\s*([A-Za-z-]+)\s*:\s*(-?\d+(?:\.\d+)?)", re.MULTILINE)
_REPLY_NAMES = {"toxic": "Toxicity", "self-harm": "SelfHarm"} | {scale.lower(): scale for scale in SCALES}


@dataclass(frozen=True, slots=True)
class Prepared:
    """Which locales have a file of prompts, and the English prompts, which only the other file holds."""

    locales: frozenset[str]
    english: Mapping[str, str]


def prepare(files: Sequence[SourceFile], options: Options) -> Prepared:
    """Read the English prompts once, where the English file of prompts needs them."""
    prompts = frozenset(m.group(1) for f in files if (m := re.search(r"gpt4_results_([A-Z]+)\.json$", f.name)))
    english = {}
    for file in files:
        if re.search(r"acs_results_benign_EN\.json$", file.name) and "EN" in prompts:
            for record in read_source_file(file):
                if isinstance(record, Record):
                    entry = record.values.get("OriginalEntry") or {}
                    english[str(entry.get("Index"))] = str(entry.get("Prompt"))
    return Prepared(prompts, english)


def source_index(locale: str, index: str) -> int:
    """The index of a row in the English set, which is its key across locales; `_SOURCE_ROWS` or more: written by hand.

    HI and RU use the English index. AR, ES and FR leave one out. BCMS lists the source rows in the order of those
    indices as text: an inference of ours (its rows hold no key), confirmed by nearest neighbours on 962 of 964 rows.
    """
    number = int(index)
    if locale in ("AR", "ES", "FR"):
        return number - (number > _UNUSED)
    if locale == "BCMS" and number < _SOURCE_ROWS:
        return _BCMS_ORDER[number]
    return number


_BCMS_ORDER = sorted(range(_SOURCE_ROWS), key=lambda n: str(n + (n >= _UNUSED)))


def read(record: Record, part: str, options: Options, prepared: Prepared) -> Iterator[Item | Bad]:
    """A prompt with its ratings; or a continuation pair with both completions and the ratings of the toxic one."""
    row = record.values
    locale = one_of(row, "Locale", tuple(LOCALES))
    index = identifier(row, "OriginalEntry.Index")
    if not index.isdigit():
        raise BadValue("OriginalEntry.Index", f"{shown(index)} is no row number")
    rights = FORMAT.rights(options)
    if part == "prompts":
        prompt = _prompt(row, locale, index, _prompt_text(row, locale, index, options, prepared), rights)
        human = _human(row, "OriginalEntry.AnnotationsRaw", "prompt", prompt.id, rights)
        yield Item((prompt, *human, *_gpt4(row, prompt.id, rights)))
        return
    prompt = _prompt(row, locale, index, text(row, "OriginalEntry.Prompt", options.max_characters), rights)
    rows = _completions(row, prompt, options, rights)
    yield Item(rows if locale in prepared.locales else (prompt, *rows))


def _prompt_text(row: dict[str, Any], locale: str, index: str, options: Options, prepared: Prepared) -> str:
    found = text(row, "OriginalEntry.Prompt", options.max_characters)
    if locale == "EN" and found == _NOT_SHOWN:
        if index not in prepared.english:
            raise BadValue("Prompt", "'NA' stands for the prompt; give the folder with acs_results_benign_EN beside it")
        return prepared.english[index]
    return found


def _prompt(row: dict[str, Any], locale: str, index: str, written: str, rights: dict[str, Any]) -> Prompt:
    key = source_index(locale, index)
    file = optional_text(row, "OriginalEntry.OriginalMetadata.Filename")
    manual = file == "manual" if file is not None else key >= _SOURCE_ROWS
    seed_id = f"rtp-lx-{locale}-manual-{index}" if manual else f"rtp-lx-{key}"
    scope: Scope = "local" if manual else "global"
    return Prompt(
        id=f"rtp-lx-{locale}-{index}",
        text=written,
        language=LOCALES[locale],
        set="redteam",
        split=set_split(None, seed_id),
        seed_id=seed_id,
        scope=scope,
        locale=DIALECTS.get(str(value(row, "OriginalEntry.Dialect"))),
        source=SOURCE,
        tags=("manual" if manual else "transcreated", f"locale {locale}"),
        **rights,
    )


def _completions(
    row: dict[str, Any], prompt: Prompt, options: Options, rights: dict[str, Any]
) -> tuple[Pair | Completion | Label | Rating, ...]:
    toxic = text(row, "OriginalEntry.Completion", options.max_characters)
    benign = text(row, "BenignCompletion", options.max_characters)
    toxic_id, benign_id = f"{prompt.id}-toxic", f"{prompt.id}-benign"
    human = _human(row, "OriginalEntry.CompletionAnnotationsRaw", "completion", toxic_id, rights)
    levels = [r for r in human if r.scale == "Toxicity"]
    azure = {k: v for k, v in (value(row, "ACSResponse") or {}).items() if isinstance(v, int | float)}
    share = sum(r.value >= _HARMFUL for r in levels if r.value is not None) / len(levels)
    return (
        make_pair(
            id=f"{prompt.id}-pair", prompt=prompt.text, chosen=benign, rejected=toxic, language=prompt.language,
            prompt_id=prompt.id, seed_id=prompt.seed_id, kind="safety", scope=prompt.scope,
            chosen_source="written by people", rejected_source="a model, made to be toxic", rejected_score=share,
            judge="share of three human raters with toxicity 3 or more", split=prompt.split, tags=prompt.tags, **rights,
        ),
        supplied(id=toxic_id, prompt_id=prompt.id, model="rtp-lx toxic", text=toxic, **rights),
        supplied(id=benign_id, prompt_id=prompt.id, model="rtp-lx benign (human)", text=benign, **rights),
        *human,
        *ratings("completion", benign_id, "azure-content-safety", azure, source="microsoft/RTP-LX", **rights),
        *(
            Label(toxic_id, r.annotator, "harmful" if (r.value or 0) >= _HARMFUL else "harmless", 1.0, "rtp-lx toxicity")
            for r in levels
        ),
    )  # fmt: skip


def _human(
    row: dict[str, Any], column: str, subject: Any, subject_id: str, rights: dict[str, Any]
) -> tuple[Rating, ...]:
    """Three raters; the same position is not known to be the same person, and people differ between locales."""
    raw = value(row, column)
    if not isinstance(raw, Mapping):
        raise BadValue(column, "missing; {scale: [rater 1, rater 2, rater 3]} is expected")
    found: list[Rating] = []
    for scale, top in SCALES.items():
        given = raw.get(scale)
        if not isinstance(given, list) or len(given) != 3 or not all(isinstance(v, int | float) for v in given):
            raise BadValue(f"{column}.{scale}", "three numbers are expected, one for each rater")
        for place, level in enumerate(given, 1):
            if not 1 <= level <= top:
                raise BadValue(f"{column}.{scale}", f"{level} is not on the scale 1 to {top}")
            rater = f"{LOCALES[str(row['Locale'])]} rater {place}"
            found.append(Rating(subject_id, subject, rater, scale, float(level), source="microsoft/RTP-LX", **rights))
    return tuple(found)


def _gpt4(row: dict[str, Any], prompt_id: str, rights: dict[str, Any]) -> tuple[Rating, ...]:
    """GPT-4's numbers, the first one of each name, clamped to the scale as the authors do; none where it gave none."""
    if row.get("Prompt") == _NOT_SHOWN:
        return ()
    found: dict[str, Rating] = {}
    for name, written in _REPLY.findall(str(row.get("GPT4ResponseRaw") or "")):
        scale = _REPLY_NAMES.get(name.lower())
        if scale is not None and scale not in found:
            level = float(written)
            clamped = min(max(level, 1.0), float(SCALES[scale]))
            given = written if clamped != level else ""
            found[scale] = Rating(prompt_id, "prompt", "gpt-4", scale, clamped, given, "microsoft/RTP-LX", **rights)
    return tuple(found.values())


FORMAT = Format(
    name="rtp-lx",
    about="RTP-LX: toxic prompts and completions with human and GPT-4 ratings; never republished",
    tested_on="published files",
    parts={
        "prompts": Part(r"gpt4_results_[A-Z]+\.json$", ("Locale", "GPT4ResponseRaw", "OriginalEntry")),
        "completions": Part(r"acs_results_benign_[A-Z]+\.json$", ("Locale", "BenignCompletion", "OriginalEntry")),
    },
    read=read,
    licence="MIT, with third-party notices; its metadata also names CC-BY-NC-4.0",
    redistribute=False,
    prepare=prepare,
)  # fmt: skip
