"""Parallel text with English: reference translations for the translation task.

Read from a file of one's own (JSONL, CSV, Parquet with ``id``, ``language``, ``text``, ``english``) or from a folder of files
aligned by line: pairs as Tatoeba's (``tatoeba.hin-eng.hin``, ``tatoeba.hin-eng.eng``) or one file per language as
FLORES-200's (``eng_Latn.devtest``, ``hin_Deva.devtest``); each may be gzipped.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignprism.errors import InputError
from alignprism.languages import UnknownLanguage, find_language
from alignprism.records import read_records
from alignprism.rows import Prompt, content_id

_PAIR = re.compile(r"(?P<stem>.+\.(?P<code>[a-z]{2,3})-eng)\.(?P=code)(?P<gz>\.gz)?")
_SINGLE = re.compile(r"(?P<code>[a-z]{2,3}(?:_[A-Z][a-z]{3})?)\.(?:dev|devtest|test|txt)(?:\.gz)?")
_ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class ParallelText:
    """One sentence in a language and in English. ``seed_id`` is the sentence, whatever the language."""

    id: str
    language: str
    text: str
    english: str
    seed_id: str
    source: str = ""


def read_parallel(path: Path, languages: Collection[str] | None = None) -> list[ParallelText]:
    """Every sentence of a file or folder, by language in the order of the files; ``languages`` keeps some.

    Raises
    ------
    InputError
        nothing to read, files of different length, an empty sentence, a repeated id, an unknown language; or a language of
        ``languages`` that is not there. The message names file and line.
    """
    rows = list(_folder(path) if path.is_dir() else _file(path))
    kept = [row for row in rows if languages is None or row.language in languages]
    lacking = sorted(set(languages or ()) - {row.language for row in rows} - {_ENGLISH})
    if lacking:
        raise InputError(f"{path}: no sentences in {', '.join(lacking)}")
    if not kept:
        raise InputError(f"{path}: holds no sentence")
    seen: set[str] = set()
    for row in kept:
        if row.id in seen:
            raise InputError(f"{path}: sentence id {row.id!r} occurs twice in {row.language}; ids must be unique")
        seen.add(row.id)
    return kept


def parallel_of(prompts: Sequence[Prompt]) -> list[ParallelText]:
    """The prompts that have an English translation by people (``semantic_translation``), as an import of parallel text makes them."""
    return [
        ParallelText(row.id, row.language, row.text, row.semantic_translation, row.seed_id, row.source)
        for row in prompts
        if row.semantic_translation and row.language != _ENGLISH
    ]


def drawn(texts: Sequence[ParallelText], per_language: int, seed: int) -> list[ParallelText]:
    """At most so many sentences of each language, drawn by a hash of seed and sentence, in the order given.

    The same sentences in every language where ``seed_id`` says that they are the same.
    """
    ranks: dict[str, list[str]] = {}
    for text in texts:
        ranks.setdefault(text.language, []).append(content_id(seed, text.seed_id))
    limits = {code: sorted(found)[:per_language][-1] for code, found in ranks.items()}
    return [text for text in texts if content_id(seed, text.seed_id) <= limits[text.language]]


def _file(path: Path) -> Iterator[ParallelText]:
    for number, record in read_records(path):
        values = {}
        for column in ("language", "text", "english"):
            value = record.get(column)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"{path}: row {number}: column {column} is missing or empty")
            values[column] = value.strip()
        code = _code(values["language"], f"{path}: row {number}")
        sentence = str(record.get("id") or content_id(values["english"]))
        yield ParallelText(f"{code}:{sentence}", code, values["text"], values["english"], sentence, path.name)


def _folder(folder: Path) -> Iterator[ParallelText]:
    files = sorted(item for item in folder.iterdir() if item.is_file())
    pairs = [(found, file) for file in files if (found := _PAIR.fullmatch(file.name)) and found["code"] != "eng"]
    for found, file in pairs:
        english = folder / f"{found['stem']}.eng{found['gz'] or ''}"
        yield from _aligned(file, english, found["code"], found["stem"])
    if pairs:
        return
    singles = {found["code"]: file for file in files if (found := _SINGLE.fullmatch(file.name))}
    shared = next((file for code, file in singles.items() if code.split("_")[0] in ("en", "eng")), None)
    if shared is None:
        raise InputError(
            f"{folder}: no parallel text; expected files such as tatoeba.hin-eng.hin with tatoeba.hin-eng.eng, or "
            "eng_Latn.devtest with hin_Deva.devtest"
        )
    for code, file in singles.items():
        if file != shared:
            yield from _aligned(file, shared, code, "")


def _aligned(file: Path, english: Path, label: str, stem: str) -> Iterator[ParallelText]:
    code = _code(label.split("_")[0], str(file))
    ours, theirs = _lines(file), _lines(english)
    if len(ours) != len(theirs):
        raise InputError(f"{file} has {len(ours)} lines and {english.name} {len(theirs)}; they must be aligned by line")
    for number, (text, translation) in enumerate(zip(ours, theirs, strict=True), 1):
        for where, line in ((file, text), (english, translation)):
            if not line.strip():
                raise InputError(f"{where}: line {number} is empty")
        # A pair of files has English sentences of its own; one English file is shared by all languages.
        yield ParallelText(f"{code}:{number}", code, text.strip(), translation.strip(), f"{stem}:{number}", file.name)


def _lines(path: Path) -> list[str]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _code(label: str, where: str) -> str:
    try:
        code = find_language(label).code
    except UnknownLanguage as error:
        raise InputError(f"{where}: {error}") from error
    if code == _ENGLISH:
        raise InputError(f"{where}: language is English; `language` and `text` are the other side")
    return code
