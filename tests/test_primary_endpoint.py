"""The primary endpoint compares a model with the baseline, and never the baseline with itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignprism.run_folder import RunFolder
from alignprism.stages import Context
from alignprism.stages.results import figure_settings
from alignprism.study import StudyError, parse

TWO = "models: {new: {source: b}, newer: {source: c}, base: {source: a}}\n"


@pytest.mark.parametrize(
    ("text", "models", "primary"),
    [
        (TWO + "methods: []\n", ["new", "newer", "base"], "newer"),
        (TWO + "methods: []\nevaluation: {primary: {model: new}}\n", ["new", "newer", "base"], "new"),
        ("methods: [dpo-ift, sft-random]\n", ["base", "dpo-ift", "sft-random"], "sft-random"),
        ("methods: [sft-preferred, dpo-sft, dpo-ift]\n", ["base", "sft-preferred", "dpo-sft", "dpo-ift"], "dpo-sft"),
    ],
)
def test_without_a_name_it_is_about_the_last_one_that_is_not_the_baseline(
    text: str, models: list[str], primary: str, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path, {"judges": {}})
    context = Context(parse(text), run, tmp_path, {}, print, lambda title, total: lambda done, all_: None)
    found = figure_settings(context, models, {})
    assert found.primary_model == primary
    assert found.models[0] == "base" and sorted(found.models) == sorted(models)


def test_the_baseline_as_primary_model_is_refused_when_the_study_is_read() -> None:
    with pytest.raises(StudyError, match=r"study.yaml:4: evaluation.primary.model: 'base' is the baseline") as caught:
        parse(TWO + "methods: []\nevaluation:\n  primary: {model: base}\n", "study.yaml")
    assert "accepted: new, newer" in str(caught.value)
