"""The study file: one typed model of what is to be done, with errors that name file, line and key.

`load` reads YAML, applies ``--set`` overrides, checks everything that can be checked without touching a model, and
returns a `Study`. Nothing downstream looks at raw YAML. `dump` writes every default out, which is what ``init`` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from alignprism.errors import InputError
from alignprism.languages import UnknownLanguage, language

METHODS: tuple[str, ...] = ("sft-random", "sft-preferred", "dpo-ift", "dpo-sft", "merge-slerp", "merge-ties")
Method = Literal["sft-random", "sft-preferred", "dpo-ift", "dpo-sft", "merge-slerp", "merge-ties"]
MERGES = ("merge-slerp", "merge-ties")
"""Methods that train nothing themselves: they join the dpo-sft models of safety pairs only and of general pairs only."""
SAMPLE = "sample"


class StudyError(InputError):
    """The study cannot be used as it stands; the message names file, line, key and what is accepted."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _known_language(code: str) -> str:
    try:
        return language(code).code
    except UnknownLanguage as error:
        raise ValueError(str(error)) from error


LanguageCode = Annotated[str, AfterValidator(_known_language)]


class Languages(_Part):
    """Which languages are trained and which are tested."""

    train: list[LanguageCode] = Field(
        default=["en", "hi", "fr", "es", "ar", "ru"], description="languages whose seeds make preference pairs"
    )
    test: list[LanguageCode] = Field(
        default=["en", "hi", "fr", "es", "ar", "ru", "sr", "tl"],
        description="languages evaluated; those not trained show zero-shot transfer",
    )

    @model_validator(mode="after")
    def _distinct(self) -> Languages:
        for name, codes in (("train", self.train), ("test", self.test)):
            if len(set(codes)) != len(codes):
                raise ValueError(f"{name}: a language is listed twice")
        if not self.test:
            raise ValueError("test: at least one language is needed")
        return self


class Data(_Part):
    """Where prompts come from: `sample` (inside the package), a JSONL, CSV or Parquet file, or null for none."""

    redteam: str = Field(default=SAMPLE, description="red-team prompts: `sample` or a file")
    translated: str | None = Field(
        default=SAMPLE,
        description="the same English prompts in every language, reported apart; `sample`, a file or null",
    )
    benign: str | None = Field(default=SAMPLE, description="harmless contrast twins, for over-refusal")
    general: str | None = Field(default=SAMPLE, description="ordinary instructions with reference responses")
    per_language: int | None = Field(
        default=None, ge=1, description="use at most this many prompts per set, split and language (null: all)"
    )


class ModelEntry(_Part):
    """One model: what it is, and whether it must first be taught to follow instructions."""

    source: str = Field(description="`embedded:NAME`, a hub id, or a local folder (full model or LoRA adapter)")
    adapter: str | None = Field(default=None, description="LoRA adapter on top: `embedded:NAME` or a folder")
    ift: Literal["none", "train"] = Field(
        default="none",
        description="`train`: first fine-tune on the general instructions (`ift` stage); `none`: as it is",
    )


class Judges(_Part):
    """Three roles. Preference and evaluation must differ unless `allow_shared_judge` is true."""

    preference: str = Field(default="gemma-harm-v1", description="judge head that ranks candidates into pairs")
    evaluation: str = Field(default="e5-harm-v1", description="judge head that scores test completions")
    pairwise: str | None = Field(
        default=None, description="judge that compares two answers (win rate); null: no win rate is given"
    )


class Pairs(_Part):
    """How preference pairs are made."""

    total: int = Field(default=48, ge=2, description="number of training pairs, safety and general together")
    oversample: float = Field(
        default=1.5, ge=1, description="prompts tried per pair wanted; some give no pair (ties, harmful chosen)"
    )
    candidates: int = Field(default=2, ge=1, description="completions sampled per training prompt and generator")
    temperature: float = Field(default=0.9, gt=0, le=2, description="sampling temperature of the candidates")
    max_new_tokens: int = Field(default=32, ge=4, description="length limit of a sampled candidate, in tokens")
    tie_margin: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="best and worst closer than this in judge score: a tie, dropped and counted",
    )
    general_sets: list[Literal["general", "benign"]] = Field(
        default=["general", "benign"],
        description="prompt sets whose train rows (with references) make the general pairs",
    )


class Training(_Part):
    """How the policy is trained; one value serves SFT and DPO where both have it."""

    seeds: list[int] = Field(default=[0], min_length=1, description="one model per method and training seed")
    lora_rank: int | None = Field(default=8, ge=1, description="rank of the LoRA adapter; null: full weights")
    lora_alpha: int = Field(default=16, ge=1, description="LoRA scale is alpha / rank")
    sft_learning_rate: float = Field(default=5e-4, gt=0, description="peak learning rate of the SFT methods")
    dpo_learning_rate: float = Field(default=1e-4, gt=0, description="peak learning rate of the DPO methods")
    ift_learning_rate: float = Field(default=5e-4, gt=0, description="peak learning rate of the `ift` stage")
    sft_epochs: int = Field(default=4, ge=1, description="passes over the pairs, SFT methods")
    dpo_epochs: int = Field(default=3, ge=1, description="passes over the pairs, DPO methods")
    ift_epochs: int = Field(default=3, ge=1, description="passes over the general instructions, `ift` stage")
    batch_size: int = Field(default=8, ge=1, description="pairs per optimiser step")
    beta: float = Field(default=0.1, gt=0, description="beta of the DPO loss")
    dpo_loss: Literal["sigmoid", "length-normalised"] = Field(
        default="sigmoid", description="DPO on summed log-probabilities, or on those per token"
    )
    nll_weight: float = Field(
        default=0.0, ge=0, description="weight of the chosen sides' negative log-likelihood in the DPO loss"
    )
    held_out_share: float = Field(
        default=0.0, ge=0, lt=1, description="share of the pairs that is only scored; the best step's weights are kept"
    )
    patience: int = Field(
        default=0, ge=0, description="epochs without a new best on the held-out pairs that end a training; 0: none do"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory for about a third more time")
    trackers: list[Literal["tensorboard", "trackio", "mlflow", "wandb"]] = Field(
        default=[], description="where curves go as well, through accelerate (the package must be installed)"
    )
    max_tokens: int = Field(
        default=96,
        ge=8,
        description="limit of prompt + completion, tokens a side; longer pairs are dropped and counted",
    )
    over_limit: Literal["drop", "cut"] = Field(
        default="drop",
        description="what is over max_tokens: the pair is dropped, or its answers cut, without their end",
    )
    dev_checks: int = Field(default=3, ge=0, description="checkpoints scored on dev per training, the last included")
    checkpoint_every: int = Field(default=10, ge=1, description="optimiser steps between resumable checkpoints")


class Merging(_Part):
    """How the methods `merge-slerp` and `merge-ties` join the general model (first) and the safety model (second)."""

    t: float = Field(default=0.5, ge=0, le=1, description="place on the arc: 0 is the general, 1 the safety model")
    density: float = Field(default=0.2, gt=0, le=1, description="TIES: share of each change that stays")
    scale: float = Field(default=1.0, gt=0, description="TIES: factor on the merged change")


class Primary(_Part):
    """The one endpoint the study is about; every other figure is secondary or exploratory."""

    metric: Literal["harmful_change"] = Field(default="harmful_change", description="what is compared")
    model: str | None = Field(
        default=None, description="the cell compared with the baseline; null: the last method, or the last model"
    )
    set: Literal["redteam", "translated"] = Field(default="redteam", description="prompt set of the endpoint")


class Evaluation(_Part):
    """How completions are made and compared."""

    max_new_tokens: int = Field(default=32, ge=4, description="cap of greedy decoding; the truncated share is reported")
    batch_size: int = Field(default=96, ge=1, description="prompts decoded together")
    bootstrap: int = Field(default=4000, ge=200, description="resamples of the cluster bootstrap")
    primary: Primary = Primary()


class Budget(_Part):
    """Hard limits."""

    max_minutes: float | None = Field(
        default=None, gt=0, description="refuse to start when the estimate is above this (null: no limit)"
    )


class Study(_Part):
    """A study: languages, data, models, methods, judges, mixture, training, evaluation."""

    version: Literal[1] = Field(default=1, description="version of the study format")
    name: str = Field(default="study", pattern=r"[A-Za-z0-9._-]+", description="name on the page")
    languages: Languages = Languages()
    data: Data = Data()
    models: dict[str, ModelEntry] = Field(
        default={"base": ModelEntry(source="embedded:gemma-3-270m", adapter="embedded:gemma-3-270m-ift")},
        min_length=1,
        description="models by name; with methods, the baseline is also where training starts",
    )
    baseline: str = Field(default="base", description="the model everything is compared with")
    methods: list[Method] = Field(
        default=["sft-preferred", "dpo-sft"], description="trainings; may be empty, then only `models` are evaluated"
    )
    generators: list[str] = Field(default=["base"], description="models (by name) that candidates are sampled from")
    judges: Judges = Judges()
    mixture: float = Field(default=0.15, ge=0, le=1, description="share of safety pairs among all training pairs")
    pairs: Pairs = Pairs()
    training: Training = Training()
    merging: Merging = Merging()
    evaluation: Evaluation = Evaluation()
    budget: Budget = Budget()
    allow_remote: list[str] = Field(default=[], description="hosts to which text may be sent; empty: none")
    allow_shared_judge: bool = Field(
        default=False, description="let one judge be both preference and evaluation judge (the page says so)"
    )
    seed: int = Field(default=0, ge=0, description="seed of sampling, pairing and bootstrap")

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = ", ".join(self.models)
        if self.baseline not in self.models:
            raise ValueError(f"baseline: {self.baseline!r} is no key of models; accepted: {names}")
        for generator in self.generators:
            if self.methods and generator not in self.models:
                raise ValueError(f"generators: {generator!r} is no key of models; accepted: {names}")
        if len(set(self.methods)) != len(self.methods):
            raise ValueError("methods: a method is listed twice")
        for name in self.models:
            if not re.fullmatch(r"[A-Za-z0-9._-]+", name) or name in METHODS:
                raise ValueError(f"models: {name!r} cannot be a name; use letters, digits, . _ - and no method's name")
        if self.judges.preference == self.judges.evaluation and not self.allow_shared_judge:
            raise ValueError(
                f"judges: {self.judges.evaluation!r} is both preference and evaluation judge; name two different "
                "judges, or set allow_shared_judge: true (the page will say so)"
            )
        if self.methods and not self.generators:
            raise ValueError("generators: at least one model is needed to sample candidates from")
        if self.methods and not self.languages.train:
            raise ValueError("languages.train: at least one language is needed to train in")
        if self.methods and self.data.general is None and self.mixture < 1:
            raise ValueError("data.general: general pairs are needed for a mixture below 1")
        if self.data.general is None and set(self.methods).intersection(MERGES):
            raise ValueError("data.general: merging needs a model of general pairs")
        if "dpo-sft" in self.methods and "sft-preferred" not in self.methods:
            raise ValueError("methods: dpo-sft starts from sft-preferred; list sft-preferred too")
        primary = self.evaluation.primary.model
        cells = [*self.models, *self.methods]
        if primary is not None and primary not in cells:
            raise ValueError(f"evaluation.primary.model: {primary!r} is unknown; accepted: {', '.join(cells)}")
        if not self.methods and len(self.models) < 2:
            raise ValueError("methods: nothing to train and only one model; there is nothing to compare")
        return self


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


def _accepted(model: type[BaseModel], path: Sequence[Any]) -> str:
    """The keys accepted where an unknown one was found."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        elif str(current).startswith("dict"):
            current = ModelEntry
    if isinstance(current, type) and issubclass(current, BaseModel):
        return ", ".join(current.model_fields)
    return ""


def _explain(error: ValidationError, file: str, lines: dict[tuple[Any, ...], int], overrides: Sequence[str]) -> str:
    first = error.errors()[0]
    location = tuple(first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key; accepted here: {_accepted(Study, location[:-1])}"
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


def load(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file; see `parse`. Data files are looked up relative to the study's folder."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such file; `alignprism init {path.name}` writes one") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    study = parse(text, str(path), overrides)
    return _absolute_data(study, path, text)


def _absolute_data(study: Study, path: Path, text: str) -> Study:
    changed: dict[str, str] = {}
    for key in ("redteam", "translated", "benign", "general"):
        value = getattr(study.data, key)
        if value is None or value == SAMPLE:
            continue
        file = (path.parent / value).resolve()
        if not file.is_file():
            line = _lines(yaml.compose(text, Loader=yaml.SafeLoader)).get(("data", key), 1)
            raise StudyError(
                f"{path}:{line}: data.{key}: no file {file}; accepted: `sample`, or a .jsonl, .csv or .parquet file, "
                "relative to the study file"
            )
        changed[key] = str(file)
    return study.model_copy(update={"data": study.data.model_copy(update=changed)}) if changed else study


def dump(study: Study) -> str:
    """The study as YAML with every default written out and each key's meaning as a comment."""
    return "\n".join(_dump_part(study, 0)) + "\n"


def _dump_part(part: BaseModel, depth: int) -> list[str]:
    pad = "  " * depth
    rows: list[str] = []
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        comment = f"  # {_meaning(field)}"
        if isinstance(value, BaseModel):
            rows += [f"{pad}{name}:{comment}", *_dump_part(value, depth + 1)]
        elif isinstance(value, dict):
            rows.append(f"{pad}{name}:{comment}")
            for key, entry in value.items():
                rows += [f"{pad}  {_scalar(key)}:", *_dump_part(entry, depth + 2)]
        else:
            rows.append(f"{pad}{name}: {_scalar(value)}{comment}")
    return rows


def _meaning(field: FieldInfo) -> str:
    """What a key is for: its own description, or its section's."""
    return field.description or (getattr(field.annotation, "__doc__", None) or "").split("\n")[0]


def _scalar(value: object) -> str:
    """One value on one line of YAML, quoted where it would read as something else."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.rstrip("\n").removesuffix("\n...")  # no bare strip: it would eat a no-break space that is the value


def keys(model: type[BaseModel] = Study, prefix: str = "") -> list[tuple[str, str]]:
    """Every key of the study file with its description, for the docs test."""
    found: list[tuple[str, str]] = []
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        found.append((f"{prefix}{name}", _meaning(field)))
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += keys(annotation, f"{prefix}{name}.")
        elif name == "models":
            found += keys(ModelEntry, f"{prefix}models.NAME.")
    return found
