"""How a judge is named on the command line: a shipped head, a head's folder, or a judge file (``judge.yaml``).

A judge file holds what a study writes under ``judges.evaluation``: `kind` and its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from alignprism.errors import InputError
from alignprism.judging.settings import (
    EnsembleSettings,
    GuardSettings,
    HeadSettings,
    JudgeSettings,
    PairwiseSettings,
    RubricSettings,
)

_SETTINGS: TypeAdapter[JudgeSettings] = TypeAdapter(JudgeSettings)
_FORMS: dict[str, type[BaseModel]] = {
    "head": HeadSettings,
    "rubric": RubricSettings,
    "guard": GuardSettings,
    "ensemble": EnsembleSettings,
}


class JudgeFileError(InputError):
    """A judge file cannot be used. The message names file, line and key, and what is accepted."""


def judge_settings(named: str) -> JudgeSettings:
    """The settings of a judge by the name of a shipped head, the folder of a head, or a judge file.

    Raises
    ------
    JudgeFileError
        it ends in .yaml or .yml and is no readable judge file.
    """
    if named.endswith((".yaml", ".yml")):
        return read_judge_file(Path(named))
    return HeadSettings(head=named)


def read_judge_file(path: Path) -> JudgeSettings:
    """Read a judge file; templates are looked up beside it.

    Raises
    ------
    JudgeFileError
        no such file, no YAML, an unknown key or a wrong value: file, line and key.
    """
    node, raw = _loaded(path)
    if not isinstance(raw, dict) or raw.get("kind") not in _FORMS:
        raise JudgeFileError(f"{path}:1: kind: a judge file begins with kind: {', '.join(_FORMS)}")
    try:
        settings = _SETTINGS.validate_python(raw)
    except ValidationError as error:
        raise JudgeFileError(_explain(error, path, node)) from error
    return _with_templates(settings, path.parent)


def read_pairwise_file(path: Path) -> PairwiseSettings:
    """Read the file of a pairwise judge: what a study writes under ``judges.pairwise``; `kind: pairwise` may stand in it.

    Raises
    ------
    JudgeFileError
        no such file, no YAML, an unknown key or a wrong value: file, line and key.
    """
    node, raw = _loaded(path)
    if isinstance(raw, dict) and raw.get("kind") == "pairwise":
        raw = {key: value for key, value in raw.items() if key != "kind"}
    try:
        settings = PairwiseSettings.model_validate(raw)
    except ValidationError as error:
        raise JudgeFileError(_explain(error, path, node, PairwiseSettings)) from error
    if settings.template is None:
        return settings
    return settings.model_copy(update={"template": str((path.parent / settings.template).resolve())})


def _loaded(path: Path) -> tuple[yaml.Node | None, Any]:
    """A YAML file as nodes, which know their lines, and as values."""
    try:
        text = path.read_text(encoding="utf-8")
        node, raw = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise JudgeFileError(f"{where}: not readable as YAML: {getattr(error, 'problem', error)}") from error
    except OSError as error:
        raise JudgeFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise JudgeFileError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    return node, raw


def _with_templates(settings: JudgeSettings, folder: Path) -> JudgeSettings:
    if isinstance(settings, EnsembleSettings):
        members = [_with_templates(member, folder) for member in settings.members]
        return settings.model_copy(update={"members": members})
    if isinstance(settings, RubricSettings) and settings.template is not None:
        return settings.model_copy(update={"template": str((folder / settings.template).resolve())})
    return settings


def _explain(error: ValidationError, path: Path, node: yaml.Node | None, form: type[BaseModel] | None = None) -> str:
    """The first error; an unknown key before a missing one, because a misspelt key is often why it is missing."""
    found = error.errors()
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    # Pydantic names which form of a value it tried; the file does not.
    keys = [part for part in first["loc"] if part not in _FORMS]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key; accepted here: {', '.join(_accepted(first['loc'][:-1], form))}"
    elif first["type"] != "value_error" and not isinstance(first["input"], dict | list):
        message = f"{message} (got {first['input']!r})"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{path}:{_line(node, keys)}: {'.'.join(map(str, keys)) or 'judge'}: {message}{more}"


def _accepted(location: Sequence[Any], model: type[BaseModel] | None = None) -> list[str]:
    """The keys of the section at pydantic's location, which begins in ``model`` or names the form of judge."""
    for part in location:
        if part in _FORMS:
            model = _FORMS[str(part)]
        elif model is not None and isinstance(part, str) and part in model.model_fields:
            inner = [form for form in _models_in(model.model_fields[part].annotation)]
            model = inner[0] if len(inner) == 1 else None
    return list(model.model_fields) if model is not None else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [form for part in getattr(annotation, "__args__", ()) for form in _models_in(part)]


def _line(node: yaml.Node | None, keys: Sequence[Any]) -> int:
    """Line number of the deepest part of a key path that is in the file."""
    line = 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == key), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return line
