"""Which hosts a study would send text to, and whether it may: `allow_remote` lists every one that is not this machine."""

from __future__ import annotations

from collections.abc import Iterator

from alignprism.judging.settings import JudgeSettings
from alignprism.models.engines import is_this_machine
from alignprism.models.settings import ModelSettings
from alignprism.study.settings import Study, StudyError


def judge_models(judge: JudgeSettings, key: str) -> Iterator[tuple[str, ModelSettings]]:
    """Every model that a judge asks, with its key in the study."""
    if judge.kind == "ensemble":
        for number, member in enumerate(judge.members):
            yield from judge_models(member, f"{key}.members.{number}")
    elif judge.kind != "head":
        yield f"{key}.model", judge.model
        if judge.kind == "rubric" and judge.translator is not None:
            yield f"{key}.translator", judge.translator


def writing_models(study: Study) -> Iterator[tuple[str, ModelSettings]]:
    """The models that write and check new prompts, with their keys in the study."""
    if study.rephrase is not None and study.methods:
        yield "rephrase.writer", study.rephrase.writer
        if study.rephrase.checker is not None:
            yield "rephrase.checker", study.rephrase.checker


def all_models(study: Study) -> Iterator[tuple[str, ModelSettings]]:
    """Every model of a study with its key: those compared, those that write and check prompts, and those that judge."""
    for name, entry in study.models.items():
        yield f"models.{name}", entry
    yield from writing_models(study)
    for role in ("preference", "evaluation"):
        if role == "evaluation" or study.methods:
            yield from judge_models(study.judges.as_settings(role), f"judges.{role}")
    if study.judges.pairwise is not None:
        yield "judges.pairwise.model", study.judges.pairwise.model


def hosts_of(model: ModelSettings) -> tuple[str, ...]:
    """The hosts that a model's text goes to; none for files on this machine."""
    return model.endpoint.hosts if model.endpoint is not None else ()


def remote_hosts(study: Study) -> dict[str, list[str]]:
    """Every host beyond this machine that the study would send text to, with the keys that name it."""
    found: dict[str, list[str]] = {}
    for key, model in all_models(study):
        for host in hosts_of(model):
            if not is_this_machine(host):
                found.setdefault(host, []).append(key)
    return found


def check_remote(study: Study) -> None:
    """Refuse a study that would send text to a host that it does not list.

    Raises
    ------
    StudyError
        naming each such host and who is behind it.
    """
    allowed = {host.lower() for host in study.allow_remote}
    refused = {host: keys for host, keys in remote_hosts(study).items() if host.lower() not in allowed}
    if refused:
        named = "; ".join(f"{host} ({', '.join(keys)})" for host, keys in refused.items())
        raise StudyError(
            f"allow_remote: text would go to {named}; list the host under allow_remote to allow it "
            "(--dry-run says which text)"
        )
