"""The study file: every mistake is one message that names file, line, key and what is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alignprism.judging.settings import HeadSettings
from alignprism.study import METHODS, SAMPLE, Study, StudyError, dump, keys, load, parse


def message(text: str, *overrides: str) -> str:
    with pytest.raises(StudyError) as caught:
        parse(text, "study.yaml", overrides)
    return str(caught.value)


def test_an_empty_study_is_all_defaults() -> None:
    assert parse("") == Study()


@pytest.mark.parametrize(
    ("text", "line", "key", "accepted"),
    [
        ("name: a\nmixtur: 0.2\n", 2, "mixtur", "mixture"),
        ("training:\n  seeds: [0]\n  bata: 0.1\n", 3, "training.bata", "beta"),
        ("models:\n  base:\n    source: x\n    adaptor: y\n", 4, "models.base.adaptor", "adapter"),
        ("evaluation:\n  primary:\n    modell: base\n", 3, "evaluation.primary.modell", "metric, model, set"),
        ("name: a\ntraining:\n  batch_size: many\n", 3, "training.batch_size", "integer"),
        ("languages:\n  train: en\n", 2, "languages.train", "list"),
        ("data: file.jsonl\n", 1, "data", "Data"),
        ("allow_shared_judge: perhaps\n", 1, "allow_shared_judge", "boolean"),
        ("languages:\n  train: [en]\n  test:\n    - en\n    - xx\n", 5, "languages.test.1", "BCP-47"),
        ("languages:\n  test: [en, no]\n", 2, "languages.test.1", "string"),
        ("languages:\n  test: [en, hi, en]\n", 2, "languages.test", "twice"),
        ("\n\nmixture: 1.3\n", 3, "mixture", "less than or equal to 1"),
        ("mixture: -0.1\n", 1, "mixture", "greater than or equal to 0"),
        ("mixture: .nan\n", 1, "mixture", "finite"),
        ("training:\n  sft_learning_rate: .inf\n", 2, "training.sft_learning_rate", "finite"),
        ("methods: [dpo]\n", 1, "methods.0", "'sft-preferred'"),
        ("methods: [dpo-sft]\n", 1, "methods", "sft-preferred"),
        ("methods: [sft-preferred, sft-preferred]\n", 1, "methods", "twice"),
        ("baseline: other\n", 1, "baseline", "accepted: base"),
        ("generators: [base, other]\n", 1, "generators", "accepted: base"),
        ("evaluation:\n  primary:\n    model: other\n", 3, "evaluation.primary.model", "dpo-sft"),
        ("judges:\n  preference: a\n  evaluation: a\n", 1, "judges", "allow_shared_judge: true"),
        ("methods: []\n", 1, "methods", "nothing to compare"),
        ("version: 2\n", 1, "version", "1"),
        ("models:\n  base: {source: a, endpoint: {urls: [http://x/v1], model: m}}\n", 2, "models.base", "not both"),
        (
            "models:\n  base:\n    endpoint:\n      urls: [x]\n      model: m\n",
            4,
            "models.base.endpoint.urls",
            "address",
        ),
        (
            "models:\n  base:\n    endpoint:\n      model: m\n      urs: 1\n",
            5,
            "models.base.endpoint.urs",
            "urls, model",
        ),
        (
            "models:\n  base:\n    endpoint: {urls: [http://x], model: m}\n    ift: train\n",
            4,
            "models.base.ift",
            "endpoint",
        ),
        ("models:\n  base: {endpoint: {urls: [http://x], model: m}}\nbaseline: base\n", 3, "baseline", "be trained"),
        ("judges:\n  evaluation: 3\n", 2, "judges.evaluation", "kind: head, rubric"),
        ("judges:\n  evaluation: {kind: rubrik}\n", 2, "judges.evaluation", "kind: head, rubric"),
        ("judges:\n  evaluation:\n    kind: rubric\n    modl: 1\n", 4, "judges.evaluation.modl", "prompt_language"),
        ("judges:\n  evaluation:\n    kind: head\n    head: [a]\n", 4, "judges.evaluation.head", "string"),
        (
            "judges:\n  evaluation:\n    kind: ensemble\n    members:\n      - {kind: head, head: a}\n"
            "      - kind: guard\n        format: x\n        modell: y\n",
            8,
            "judges.evaluation.members.1.modell",
            "format, threshold",
        ),
        ("training:\n  lora_rank: 4\n  seeds: [0, 1, 0]\n", 3, "training.seeds", "twice"),
        ("training:\n  lora_rank: 4\n  patience: 2\n", 3, "training.patience", "training.held_out_share"),
        ("judges:\n  pairwise: gpt\n", 2, "judges.pairwise", "dictionary"),
        ("evaluation:\n  samples: 3\n", 2, "evaluation.samples", "temperature"),
        ("evaluation:\n  translation:\n    sentence: 3\n", 3, "evaluation.translation.sentence", "sentences"),
        ("budget:\n  max_cost: -1\n", 2, "budget.max_cost", "greater than or equal to 0"),
        ("seed: 0\nseed: 1\n", 2, "seed", "twice"),
    ],
)
def test_bad_input_names_file_line_key_and_what_is_accepted(text: str, line: int, key: str, accepted: str) -> None:
    said = message(text)
    assert said.startswith(f"study.yaml:{line}: {key}: ")
    assert accepted in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\tname: x", "? [a]\n: b", "- a\n- b\n", "just words", "1", "name: &a [*a]"]
)
def test_what_is_no_study_at_all_is_one_message_with_the_line(text: str) -> None:
    said = message(text)
    assert said.startswith("study.yaml:")
    assert "\n" not in said


def test_the_first_of_several_mistakes_is_told_with_the_number_of_the_others() -> None:
    assert message("mixture: 2\nseed: -1\nnam: x\n").endswith("(and 2 more)")


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.one_of(st.sampled_from(list(Study.model_fields)), st.text(max_size=5), st.integers()),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=3,
    )
)
def test_any_yaml_is_a_study_or_one_study_error(raw: dict[object, object]) -> None:
    try:
        parse(yaml.safe_dump(raw))
    except StudyError as error:
        assert str(error).startswith("study.yaml:")


@pytest.mark.parametrize("key", ["redteam", "translated", "benign", "general"])
def test_a_missing_data_file_is_named_with_its_line(tmp_path: Path, key: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"name: a\ndata:\n  {key}: none.jsonl\n", encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load(path)
    said = str(caught.value)
    assert said.startswith(f"{path}:3: data.{key}: no file {tmp_path / 'none.jsonl'}")
    assert "accepted: `sample`, or a .jsonl, .csv or .parquet file" in said


def test_data_files_are_looked_up_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "own.jsonl").write_text("{}", encoding="utf-8")
    path = tmp_path / "study.yaml"
    path.write_text("data:\n  redteam: data/own.jsonl\n", encoding="utf-8")
    study = load(path)
    assert study.data.redteam == str(tmp_path / "data" / "own.jsonl")
    assert study.data.general == SAMPLE


def test_a_missing_or_unreadable_study_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no such file; `alignprism init none.yaml`"):
        load(tmp_path / "none.yaml")
    with pytest.raises(StudyError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(StudyError, match="UTF-8"):
        load(tmp_path / "latin.yaml")


def test_one_judge_in_both_roles_needs_a_written_consent() -> None:
    shared = parse("judges: {preference: a, evaluation: a}\nallow_shared_judge: true\n")
    assert shared.allow_shared_judge


def test_methods_may_be_empty_when_there_are_two_models() -> None:
    study = parse("methods: []\nmodels: {base: {source: a}, new: {source: b}}\n")
    assert study.methods == []


def test_a_model_may_not_have_the_name_of_a_method() -> None:
    for method in METHODS:
        assert "no method's name" in message(f"models: {{base: {{source: a}}, {method}: {{source: b}}}}\n")


def test_set_overrides_one_value_and_keeps_the_others() -> None:
    text = "mixture: 0.5\ntraining:\n  beta: 0.2\n"
    study = parse(text, overrides=["training.seeds=[1, 2]", "name=other", "evaluation.primary.set=translated"])
    assert (study.training.seeds, study.training.beta, study.mixture) == ([1, 2], 0.2, 0.5)
    assert (study.name, study.evaluation.primary.set) == ("other", "translated")


@pytest.mark.parametrize(
    ("override", "start", "told"),
    [
        ("mixture=1.3", "--set mixture: ", "less than or equal to 1"),
        ("trainin.beta=1", "--set trainin: ", "training"),
        ("training.bata=1", "--set training.bata: ", "beta"),
        ("mixture", "--set mixture: ", "key.subkey=value"),
        ("mixture.x=1", "--set mixture.x=1: ", "not a section"),
        ("seed=[1", "--set seed=[1: ", "YAML"),
    ],
)
def test_a_bad_override_names_the_option_not_a_line(override: str, start: str, told: str) -> None:
    said = message("mixture: 0.5\n", override)
    assert said.startswith(start)
    assert told in said


def test_what_is_written_out_reads_back_equal() -> None:
    assert parse(dump(Study())) == Study()


SERVED = """\
models:
  base: {source: a}
  served:
    endpoint: {urls: [http://localhost:8000/v1/], model: m, price: {input: 1.5, output: 6}, extra: {reasoning: {effort: low}}}
    family: llama
judges:
  preference: {kind: ensemble, rule: any, members: [{kind: head, head: x}, {kind: guard, model: {source: g}, format: f}]}
  evaluation: {kind: rubric, template: own.txt, model: {endpoint: {urls: [http://a.example/v1], model: j}}}
  pairwise: {model: {endpoint: {urls: [http://a.example/v1], model: j}}}
generators: [base, served]
"""


def test_models_and_judges_behind_endpoints_are_written_out_and_read_back() -> None:
    study = parse(SERVED)
    assert study.models["served"].endpoint is not None
    assert study.models["served"].endpoint.urls == ["http://localhost:8000/v1"]
    assert study.judges.as_settings("preference").kind == "ensemble"
    assert parse("").judges.as_settings("evaluation") == HeadSettings(head="e5-harm-v1")
    assert parse(dump(study)) == study


def test_files_of_judges_and_tasks_are_looked_up_beside_the_study(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(SERVED + "evaluation: {spm_model: spm.model}\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"study.yaml:11: evaluation.spm_model: no file .*spm.model"):
        load(path)
    (tmp_path / "spm.model").write_bytes(b"x")
    study = load(path)
    assert study.evaluation.spm_model == str(tmp_path / "spm.model")
    assert study.judges.evaluation.template == str(tmp_path / "own.txt")  # type: ignore[union-attr]


NAMES = st.one_of(
    st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True), st.sampled_from(["null", "yes", "1", "1.5", "~", "0x1f"])
).filter(lambda name: name not in METHODS and name != "~")
SOURCES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20),
    st.sampled_from(["a # b", "- x", "a: b", "'", '"', "...", "x...", "null", "1e3", "{}", "*a", "&a", "%x", ""]),
)


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(NAMES, min_size=2, max_size=3, unique=True),
    sources=st.lists(SOURCES, min_size=3, max_size=3),
    mixture=st.floats(0, 1),
    rate=st.floats(1e-12, 1.0),
    seeds=st.lists(st.integers(0, 10**9), min_size=1, max_size=3, unique=True),
    test=st.lists(st.sampled_from(["en", "hi", "ar", "sr", "tl", "fil", "sw"]), min_size=1, max_size=1),
)
def test_any_study_written_out_reads_back_equal(
    names: list[str], sources: list[str], mixture: float, rate: float, seeds: list[int], test: list[str]
) -> None:
    study = Study.model_validate(
        {
            "models": {name: {"source": source} for name, source in zip(names, sources, strict=False)},
            "baseline": names[0],
            "generators": names,
            "mixture": mixture,
            "training": {"sft_learning_rate": rate, "seeds": seeds},
            "languages": {"test": test},
            "data": {"redteam": sources[0], "benign": sources[1]},
            "judges": {"pairwise": {"model": {"source": sources[2]}}},
        }
    )
    assert parse(dump(study)) == study


def test_every_key_has_a_description_and_is_written_out_with_it() -> None:
    written = dump(Study())
    for key, description in keys():
        assert description, key
        name = key.rsplit(".", 1)[-1]
        if key.startswith(("models.NAME.endpoint.", "models.NAME.ray.", "rephrase.")):
            continue  # the default study has none
        assert f"{name}:" in written, key
        assert f"# {description}" in written or key.startswith("models.NAME."), key


def test_keys_lists_every_leaf_of_the_defaults() -> None:
    def leaves(value: object, prefix: str = "") -> set[str]:
        if not isinstance(value, dict) or prefix == "models.":
            return {prefix.removesuffix(".")}
        return {leaf for k, v in value.items() for leaf in leaves(v, f"{prefix}{k}.")}

    assert leaves(yaml.safe_load(dump(Study()))) <= {key for key, _ in keys()}
