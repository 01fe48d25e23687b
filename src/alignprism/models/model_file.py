"""How a model is named on the command line: where its files are, or a model file (``model.yaml``).

A model file holds what a study writes under ``models.NAME``: `source` or `endpoint`, with their settings.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from alignprism.errors import InputError
from alignprism.models.settings import ModelSettings


def model_settings(named: str) -> ModelSettings:
    """The settings of a model by hub id, folder, ``embedded:NAME``, ``script:FILE``, or a model file (.yaml, .yml).

    Raises
    ------
    InputError
        a model file cannot be read, or holds an unknown key or a wrong value.
    """
    if not named.endswith((".yaml", ".yml")):
        return ModelSettings(source=named)
    path = Path(named)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not readable as YAML: {getattr(error, 'problem', error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(raw, dict):
        raise InputError(
            f"{path}: a model file holds keys and values; accepted: {', '.join(ModelSettings.model_fields)}"
        )
    try:
        return ModelSettings.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "model"
        raise InputError(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}") from error


def model_name(named: str, settings: ModelSettings) -> str:
    """What to call it: the name that its server knows it by, or the last part of its source."""
    if settings.endpoint is not None:
        return settings.endpoint.model
    stem = Path(named).stem if named.endswith((".yaml", ".yml")) else (settings.source or "")
    return stem.rstrip("/").split("/")[-1].split(":")[-1] or "model"
