"""Which family each model of a study is of, and who judges its own kin.

Models favour text of their own family (self-preference: Panickssery et al. 2024, arXiv 2404.13076), and judges of one
family share their blind spots. Neither is refused, because it is often all there is; both are said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from alignprism.judging.settings import JudgeSettings
from alignprism.models.settings import ModelSettings
from alignprism.study.remote import judge_models
from alignprism.study.settings import Study

UNKNOWN = "unknown"

_NAMED: tuple[tuple[str, str], ...] = (
    ("gemma", r"gemma"),
    ("gemini", r"gemini"),
    ("llama", r"llama|tulu|vicuna|hermes"),
    ("qwen", r"qwen|qwq"),
    ("mistral", r"mistral|mixtral|ministral|magistral|zephyr|wildguard"),
    ("gpt", r"gpt|(?<![a-z0-9])o[134](?![a-z0-9])"),
    ("claude", r"claude"),
    ("deepseek", r"deepseek"),
    ("phi", r"(?<![a-z])phi(?![a-z])"),
    ("cohere", r"command-?[ar]|cohere|(?<![a-z])aya(?![a-z])"),
    ("smollm", r"smollm"),
    ("olmo", r"olmo"),
    ("granite", r"granite"),
    ("falcon", r"falcon"),
    ("glm", r"glm"),
    ("e5", r"(?<![a-z0-9])e5(?![a-z0-9])"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """One model in one role, with its family (`UNKNOWN` where nothing tells)."""

    role: str
    name: str
    family: str


def named_family(text: str) -> str:
    """The family that a name tells, empty where it tells none. Derivatives keep the family of their base."""
    # A distilled model is named after both; the last one is what its weights are (DeepSeek-R1-Distill-Qwen).
    found = [(match.start(), family) for family, form in _NAMED for match in re.finditer(form, text.lower())]
    return max(found)[1] if found else ""


def family_of(model: ModelSettings, folder: Path | None = None) -> str:
    """A model's family: as the study says, or by the architecture in its folder, or by its name."""
    if model.family:
        return model.family.strip().lower()
    if folder is not None and (config := folder / "config.json").is_file():
        declared = json.loads(config.read_text(encoding="utf-8"))
        names = [str(declared.get("model_type", "")), *map(str, declared.get("architectures") or ())]
        if family := next((found for name in names if (found := named_family(name))), ""):
            return family
    name = model.endpoint.model if model.endpoint is not None else model.source or ""
    return named_family(name) or UNKNOWN


def members(study: Study, folders: Mapping[str, Path], heads: Mapping[str, str]) -> list[Member]:
    """Every model that generates, is compared, or judges.

    `folders` are those of the study's models that lie on this machine; `heads` the encoders of judge heads by the name or
    folder that the study gives.
    """
    compared = [Member("compared", name, family_of(entry, folders.get(name))) for name, entry in study.models.items()]
    by_name = {member.name: member.family for member in compared}
    generators = [Member("generator", name, by_name[name]) for name in study.generators if study.methods]
    judges = []
    if study.methods:
        judges += list(_judge("preference judge", study.judges.as_settings("preference"), heads))
    judges += list(_judge("evaluation judge", study.judges.as_settings("evaluation"), heads))
    if study.judges.pairwise is not None:
        judges.append(_member("pairwise judge", study.judges.pairwise.model))
    return [*generators, *compared, *judges]


def _member(role: str, model: ModelSettings) -> Member:
    name = model.endpoint.model if model.endpoint is not None else model.source or ""
    return Member(role, name, family_of(model))


def _judge(role: str, judge: JudgeSettings, heads: Mapping[str, str]) -> Iterator[Member]:
    if judge.kind == "head":
        encoder = heads.get(judge.head, "")
        yield Member(role, judge.head, named_family(encoder) or encoder or UNKNOWN)
    elif judge.kind == "ensemble":
        for member in judge.members:
            yield from _judge(role, member, heads)
    else:
        for key, model in judge_models(judge, ""):
            if not key.endswith("translator"):
                yield _member(role, model)


_KIN: tuple[tuple[str, str, str], ...] = (
    ("preference judge", "evaluation judge", "what pleases the one pleases the other, so the gain may be theirs alone"),
    ("generator", "preference judge", "it may favour the answers of its own kin when it makes the pairs"),
    ("compared", "evaluation judge", "it may be lenient with its own kin"),
    ("compared", "pairwise judge", "it may prefer the answers of its own kin"),
)


def kin(found: list[Member]) -> list[str]:
    """A sentence for every judge that is of one family with what it judges, or with the other judge."""
    sentences = []
    for one, other, why in _KIN:
        theirs: dict[str, list[str]] = {}
        for member in found:
            if member.role == one and member.family != UNKNOWN:
                theirs.setdefault(member.family, []).append(member.name)
        for member in found:
            if member.role == other and member.family in theirs:
                who = ", ".join(theirs[member.family])
                kind = {"compared": "the compared model"}.get(one, f"the {one}")
                sentences.append(
                    f"{kind} {who} and the {other} {member.name} are both of family {member.family}: {why}"
                )
    return list(dict.fromkeys(sentences))
