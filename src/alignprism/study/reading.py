"""Reading a study file: YAML with ``--set`` overrides to a `Study`, or one message that names file, line and key."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from alignprism.study.settings import SAMPLE, Study, StudyError


def _lines(node: yaml.Node | None, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], int]:
    """Line number (from 1) of every key path in a composed YAML document; duplicate keys are errors."""
    found: dict[tuple[Any, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            if here in found:
                raise StudyError(f"{key.start_mark.line + 1}: {'.'.join(map(str, here))}: the key stands twice")
            found[here] = key.start_mark.line + 1
            found |= _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found[(*path, index)] = value.start_mark.line + 1
            found |= _lines(value, (*path, index))
    return found


def _override(raw: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if not separator or not key:
        raise StudyError(f"--set {assignment}: write it as key.subkey=value")
    place: dict[str, Any] = raw
    *parents, last = key.split(".")
    for parent in parents:
        child = place.setdefault(parent, {})
        if not isinstance(child, dict):
            raise StudyError(f"--set {assignment}: {parent} is a value, not a section")
        place = child
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyError(f"--set {assignment}: {text!r} is not a YAML value") from error


def _forms(annotation: Any) -> list[Any]:
    """The types that an annotation allows, without None and without what pydantic wraps around them."""
    if isinstance(annotation, FieldInfo):
        return _forms(annotation.annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _forms(typing.get_args(annotation)[0])
    if origin is typing.Union or origin is types.UnionType:
        return [form for part in typing.get_args(annotation) for form in _forms(part)]
    return [] if annotation is type(None) else [annotation]


def _kind(form: Any) -> str | None:
    """The tag by which pydantic names one form of a value that has several: the default of its ``kind``."""
    if isinstance(form, type) and issubclass(form, BaseModel) and "kind" in form.model_fields:
        return str(form.model_fields["kind"].default)
    return "name" if form is str else None


def _place(location: Sequence[Any]) -> tuple[tuple[Any, ...], list[Any]]:
    """Where pydantic's location lies in the file (without its tags), and the types allowed there."""
    path: list[Any] = []
    forms: list[Any] = [Study]
    for part in location:
        tagged = [form for form in forms if len(forms) > 1 and _kind(form) == part]
        if tagged:
            forms = tagged
            continue
        path.append(part)
        inside: list[Any] = []
        for form in forms:
            if isinstance(form, type) and issubclass(form, BaseModel):
                inside += _forms(form.model_fields[part]) if part in form.model_fields else []
            elif typing.get_origin(form) in (dict, list):
                inside += _forms(typing.get_args(form)[-1])
        forms = inside
    return tuple(path), forms


def _accepted(forms: Sequence[Any]) -> str:
    """The keys accepted where an unknown one was found."""
    models = [form for form in forms if isinstance(form, type) and issubclass(form, BaseModel)]
    return ", ".join(dict.fromkeys(name for model in models for name in model.model_fields))


def _explain(error: ValidationError, file: str, lines: dict[tuple[Any, ...], int], overrides: Sequence[str]) -> str:
    # A misspelt key is often why another one is missing: it is told first.
    found = error.errors()
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    location = _place(first["loc"])[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key; accepted here: {_accepted(_place(first['loc'][:-1])[1])}"
    elif first["type"] != "value_error" and not isinstance(first["input"], dict | list):
        message = f"{message} (got {first['input']!r})"
    named = re.match(r"([a-z_]+(?:\.[a-z_]+)*): ", message)
    if named and first["type"] == "value_error":
        # Checks across keys carry the key in their message: find its line too.
        location = (*location, *named[1].split("."))
        message = message[named.end() :]
    key = ".".join(map(str, location))
    overridden = [o.split("=")[0] for o in overrides]
    made_by_override = location not in lines and any(o.startswith(f"{key}.") for o in overridden)
    if made_by_override or any(o == key or key.startswith(f"{o}.") for o in overridden):
        return f"--set {key}: {message}"
    line = next((lines[location[:k]] for k in range(len(location), 0, -1) if location[:k] in lines), 1)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{file}:{line}: {key}: {message}{more}"


def parse(text: str, file: str = "study.yaml", overrides: Sequence[str] = ()) -> Study:
    """Make a study from YAML text.

    Raises
    ------
    StudyError
        no YAML, an unknown key, a wrong type or an inconsistent value: one message naming file, line, key and what
        is accepted.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        raise StudyError(f"{where}: not readable as YAML: {getattr(error, 'problem', error)}") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise StudyError(f"{file}:1: a study is a mapping of keys to values; accepted: {', '.join(Study.model_fields)}")
    try:
        lines = _lines(node)
    except StudyError as error:
        raise StudyError(f"{file}:{error}") from error
    except RecursionError as error:
        raise StudyError(f"{file}:1: not a study: a YAML alias contains itself, or it is nested too deep") from error
    for assignment in overrides:
        _override(raw, assignment)
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        raise StudyError(_explain(error, file, lines, overrides)) from error


def load(path: Path, overrides: Sequence[str] = (), *, find_files: bool = True) -> Study:
    """Read a study file; see `parse`. Data files are looked up relative to the study's folder.

    Without `find_files` they are taken as they are named, whether they are there or not: a finished run has read them.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such file; `alignprism init {path.name}` writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    study = parse(text, str(path), overrides)
    return _with_absolute_files(study, path, text) if find_files else study


def _with_absolute_files(study: Study, path: Path, text: str) -> Study:
    """The study with every file it names looked up beside it."""
    data = {
        key: value
        for key, value in study.data.model_dump(exclude={"redteam_set", "known_to_judges"}).items()
        if isinstance(value, str)
    }
    sampled = ("redteam", "translated", "benign", "general")
    evaluation = study.evaluation
    tables = "a .jsonl, .csv or .parquet file"
    found = {
        key: _file(path, text, ("data", key), value, f"`sample`, or {tables}" if key in sampled else tables)
        for key, value in data.items()
        if value != SAMPLE or key not in sampled
    }
    parallel = evaluation.translation.data
    if parallel is not None:
        parallel = _file(
            path,
            text,
            ("evaluation", "translation", "data"),
            parallel,
            f"{tables}, or a folder of files aligned by line",
            folder=True,
        )
    spm = evaluation.spm_model
    if spm is not None:
        spm = _file(path, text, ("evaluation", "spm_model"), spm, "a SentencePiece model")
    translation = evaluation.translation.model_copy(update={"data": parallel})
    return study.model_copy(
        update={
            "data": study.data.model_copy(update=found),
            "evaluation": evaluation.model_copy(update={"translation": translation, "spm_model": spm}),
            "judges": _with_absolute_templates(study.judges, path.parent),
            "rephrase": _with_absolute_templates(study.rephrase, path.parent),
        }
    )


def _file(path: Path, text: str, key: tuple[str, ...], value: str, accepted: str, *, folder: bool = False) -> str:
    file = (path.parent / value).resolve()
    if not (file.is_file() or (folder and file.is_dir())):
        lines = _lines(yaml.compose(text, Loader=yaml.SafeLoader))
        line = next((lines[key[:k]] for k in range(len(key), 0, -1) if key[:k] in lines), 1)
        raise StudyError(
            f"{path}:{line}: {'.'.join(key)}: no file {file}; accepted: {accepted}, relative to the study file"
        )
    return str(file)


def _with_absolute_templates(part: Any, folder: Path) -> Any:
    """A section's settings, and those inside it, with template files looked up beside the study."""
    if isinstance(part, list):
        return [_with_absolute_templates(item, folder) for item in part]
    if not isinstance(part, BaseModel):
        return part
    changed = {name: _with_absolute_templates(getattr(part, name), folder) for name in type(part).model_fields}
    if isinstance(changed.get("template"), str):
        changed["template"] = str((folder / changed["template"]).resolve())
    return part.model_copy(update=changed)
