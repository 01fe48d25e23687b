"""Writing a study file: every default spelled out with its meaning, and the list of all keys for the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alignprism.judging.settings import EnsembleSettings, GuardSettings, HeadSettings, PairwiseSettings, RubricSettings
from alignprism.models.settings import EndpointSettings, ModelSettings, Price, RaySettings
from alignprism.study.settings import ModelEntry, Rephrase, Study


def dump(study: Study) -> str:
    """The study as YAML with every default written out and each key's meaning as a comment."""
    return "\n".join(_part(study, "")) + "\n"


def _part(part: BaseModel, pad: str) -> Iterator[str]:
    for name, field in type(part).model_fields.items():
        yield from _entry(name, getattr(part, name), pad, _meaning(field))


def _entry(key: str, value: Any, pad: str, meaning: str = "") -> Iterator[str]:
    """One key with its value: a section, a list of sections, or a value on one line."""
    comment = f"  # {meaning}" if meaning else ""
    sections = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if isinstance(value, BaseModel):
        yield f"{pad}{key}:{comment}"
        yield from _part(value, f"{pad}  ")
    elif not sections or not all(isinstance(section, BaseModel) for section in sections):
        yield f"{pad}{key}: {_scalar(value)}{comment}"
    elif isinstance(value, dict):
        yield f"{pad}{key}:{comment}"
        for name, section in value.items():
            yield from _entry(_scalar(name), section, f"{pad}  ")
    else:
        yield f"{pad}{key}:{comment}"
        for section in sections:
            first, *others = _part(section, f"{pad}    ")
            yield f"{pad}  - {first.lstrip()}"
            yield from others


def _meaning(field: FieldInfo) -> str:
    """What a key is for: its own description, or its section's."""
    section = field.annotation
    own = section.__doc__ if isinstance(section, type) and issubclass(section, BaseModel) else None
    return field.description or (own or "").split("\n")[0]


def _scalar(value: object) -> str:
    """One value on one line of YAML, quoted where it would read as something else."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.rstrip("\n").removesuffix("\n...")  # no bare strip: it would eat a no-break space that is the value


_OPTIONAL_SECTIONS: dict[str, type[BaseModel]] = {
    "endpoint": EndpointSettings,
    "price": Price,
    "ray": RaySettings,
    "rephrase": Rephrase,
}
"""Sections that are null by default."""


def keys(model: type[BaseModel] = Study, prefix: str = "") -> list[tuple[str, str]]:
    """Every key of the study file with its description, for the docs: sections that may stand there included."""
    found: list[tuple[str, str]] = []
    for name, field in model.model_fields.items():
        if name == "kind":
            continue
        annotation: Any = field.annotation
        found.append((f"{prefix}{name}", _meaning(field)))
        if annotation is ModelSettings:
            continue  # its keys stand under models.NAME
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += keys(annotation, f"{prefix}{name}.")
        elif name == "models":
            found += keys(ModelEntry, f"{prefix}models.NAME.")
        elif name in _OPTIONAL_SECTIONS:
            found += keys(_OPTIONAL_SECTIONS[name], f"{prefix}{name}.")
    return found


JUDGE_FORMS: dict[str, type[BaseModel]] = {
    "head": HeadSettings,
    "rubric": RubricSettings,
    "guard": GuardSettings,
    "ensemble": EnsembleSettings,
}


def judge_keys() -> list[tuple[str, str, str]]:
    """(kind, key, description) of every form of a judge, and of the pairwise judge (kind ``pairwise``)."""
    forms: dict[str, type[BaseModel]] = {**JUDGE_FORMS, "pairwise": PairwiseSettings}
    return [
        (kind, name, _meaning(field))
        for kind, form in forms.items()
        for name, field in form.model_fields.items()
        if name != "kind"
    ]
