"""Who judges its own kin, and where text would go: told from the study, before anything is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignprism.study import StudyError, parse
from alignprism.study.families import UNKNOWN, kin, members, named_family
from alignprism.study.remote import check_remote, remote_hosts


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("google/gemma-3-270m", "gemma"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "qwen"),
        ("gpt-5-mini", "gpt"),
        ("o3", "gpt"),
        ("CohereLabs/aya-expanse-8b", "cohere"),
        ("ToxicityPrompts/PolyGuard-Qwen", "qwen"),
        ("my-checkpoint-7", ""),
        ("himalaya-base", ""),
    ],
)
def test_a_name_tells_the_family_or_nothing(name: str, family: str) -> None:
    assert named_family(name) == family


STUDY = """\
models:
  base: {source: org/llama-8b}
  served: {endpoint: {urls: [http://models.example/v1], model: qwen-72b}}
methods: []
judges:
  evaluation:
    kind: ensemble
    members:
      - {kind: rubric, model: {endpoint: {urls: ["https://api.example/v1", "http://[::1]:8000/v1"], model: Qwen3-Judge}}}
      - {kind: head, head: e5-harm-v1}
  pairwise: {model: {endpoint: {urls: [http://localhost:9/v1], model: mystery}}}
"""


def test_members_and_kin_of_every_role() -> None:
    found = members(parse(STUDY), {}, {"e5-harm-v1": "e5"})
    assert [(m.role, m.name, m.family) for m in found] == [
        ("compared", "base", "llama"),
        ("compared", "served", "qwen"),
        ("evaluation judge", "Qwen3-Judge", "qwen"),
        ("evaluation judge", "e5-harm-v1", "e5"),
        ("pairwise judge", "mystery", UNKNOWN),
    ]
    [sentence] = kin(found)
    assert "the compared model served and the evaluation judge Qwen3-Judge are both of family qwen" in sentence


def test_a_folder_tells_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gemma3_text"}', encoding="utf-8")
    [base, *_] = members(parse("models: {base: {source: x}, b: {source: y}}\nmethods: []"), {"base": tmp_path}, {})
    assert base.family == "gemma"


def test_hosts_beyond_this_machine_must_be_listed() -> None:
    study = parse(STUDY)
    assert remote_hosts(study) == {
        "models.example": ["models.served"],
        "api.example": ["judges.evaluation.members.0.model"],
    }
    with pytest.raises(
        StudyError, match=r"allow_remote: text would go to models.example \(models.served\); api.example"
    ):
        check_remote(study)
    check_remote(parse(STUDY + "allow_remote: [models.example, API.example]\n"))
