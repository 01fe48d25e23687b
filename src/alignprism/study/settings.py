"""What a study file says, as one typed model: every key with its meaning, its default and what it must agree with."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from alignprism.construct.settings import RephraseSettings
from alignprism.errors import InputError
from alignprism.judging.settings import (
    EnsembleSettings,
    GuardSettings,
    HeadSettings,
    JudgeSettings,
    PairwiseSettings,
    RubricSettings,
)
from alignprism.languages import UnknownLanguage, language
from alignprism.models.settings import ModelSettings, Part

METHODS: tuple[str, ...] = ("sft-random", "sft-preferred", "dpo-ift", "dpo-sft", "merge-slerp", "merge-ties")
Method = Literal["sft-random", "sft-preferred", "dpo-ift", "dpo-sft", "merge-slerp", "merge-ties"]
MERGES = ("merge-slerp", "merge-ties")
"""Methods that train nothing themselves: they join the dpo-sft models of safety pairs only and of general pairs only."""
SAMPLE = "sample"


class StudyError(InputError):
    """The study cannot be used as it stands; the message names file, line, key and what is accepted."""


def _known_language(code: str) -> str:
    try:
        return language(code).code
    except UnknownLanguage as error:
        raise ValueError(str(error)) from error


LanguageCode = Annotated[str, AfterValidator(_known_language)]


class Languages(Part):
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


class Data(Part):
    """Where prompts come from: `sample` (inside the package), a JSONL, CSV or Parquet file, or null for none."""

    redteam: str = Field(default=SAMPLE, description="red-team prompts: `sample` or a file")
    redteam_set: Literal["redteam", "translated"] = Field(
        default="redteam",
        description="which rows of a file with a column `set` are the red-team prompts; `translated` for parallel sets",
    )
    translated: str | None = Field(
        default=SAMPLE,
        description="the same English prompts in every language, reported apart; `sample`, a file or null",
    )
    benign: str | None = Field(default=SAMPLE, description="harmless contrast twins, for over-refusal")
    general: str | None = Field(default=SAMPLE, description="ordinary instructions with reference responses")
    safety_pairs: str | None = Field(
        default=None,
        description="a file of ready safety pairs (TRL's format or ours), instead of pairs made from `redteam`",
    )
    general_pairs: str | None = Field(
        default=None, description="a file of ready general pairs, instead of pairs made from `general` and `benign`"
    )
    completions: str | None = Field(
        default=None,
        description="a file of answers that people or other models wrote, as candidates beside the generators'",
    )
    known_to_judges: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="prompts that a head of `judges` was trained on: refuse the study, or drop and count them",
    )
    per_language: int | None = Field(
        default=None, ge=1, description="use at most this many prompts per set, split and language (null: all)"
    )


class ModelEntry(ModelSettings):
    """One model: files here or a server, and whether it must first be taught to follow instructions."""

    ift: Literal["none", "train"] = Field(
        default="none",
        description="`train`: first fine-tune on the general instructions (`ift` stage); `none`: as it is",
    )

    evaluate: bool = Field(
        default=True, description="false: not compared, only a generator; no test prompt is asked of it"
    )

    @model_validator(mode="after")
    def _trainable(self) -> ModelEntry:
        if self.ift == "train" and self.source is None:
            raise ValueError("ift: a model behind an endpoint cannot be trained; set it to none, or name its source")
        return self


def _judge_name(judge: str | JudgeSettings) -> str:
    return repr(judge) if isinstance(judge, str) else f"one and the same {judge.kind}"


def _judge_kind(value: object) -> str | None:
    """Which form a judge is written in; None for what is neither a name nor a mapping with a known kind."""
    if isinstance(value, str):
        return "name"
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind in ("head", "rubric", "guard", "ensemble") else None


Judge = Annotated[
    Annotated[str, Tag("name")]
    | Annotated[HeadSettings, Tag("head")]
    | Annotated[RubricSettings, Tag("rubric")]
    | Annotated[GuardSettings, Tag("guard")]
    | Annotated[EnsembleSettings, Tag("ensemble")],
    Discriminator(
        _judge_kind,
        custom_error_type="judge_kind",
        custom_error_message="a judge is the name of a head, or a mapping with kind: head, rubric, guard or ensemble",
    ),
]


class Judges(Part):
    """Three roles. Preference and evaluation must differ unless `allow_shared_judge` is true."""

    preference: Judge = Field(
        default="gemma-harm-v1",
        description="ranks candidates into pairs: a shipped head, a head's folder, or a mapping (see below)",
    )
    evaluation: Judge = Field(
        default="e5-harm-v1",
        description="scores test completions: a shipped head, a head's folder, or a mapping (see below)",
    )
    pairwise: PairwiseSettings | None = Field(
        default=None, description="a model that compares two answers (win rate); null: no win rate is given"
    )

    def as_settings(self, role: Literal["preference", "evaluation"]) -> JudgeSettings:
        """The judge of a role in its long form: a name means a head."""
        judge = getattr(self, role)
        settings: JudgeSettings = HeadSettings(head=judge) if isinstance(judge, str) else judge
        return settings


class Rephrase(RephraseSettings):
    """Human seeds grown into many training prompts (null: the seeds alone are trained on)."""

    writer: ModelSettings = Field(description="the model that writes, as under `models`")
    checker: ModelSettings | None = Field(
        default=None,
        description="a model that says of each new prompt whether it is adversarial, its scope and category; null: not checked",
    )


def mixture_share(value: object) -> object:
    """``safety:general`` as the share of safety pairs, so "1:5" is 1/6; anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 60:
        # YAML 1.1 reads 1:5 as a number of base sixty.
        raise ValueError(f'{value} is what YAML makes of a ratio without quotes; write it as "1:5", or as a number')
    if not isinstance(value, str):
        return value
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*:\s*(\d+(?:\.\d+)?)\s*", value)
    if parts is None:
        return value
    safety, general = float(parts[1]), float(parts[2])
    if safety + general == 0:
        raise ValueError(f"{value}: one of the two has to be above 0")
    return safety / (safety + general)


class Pairs(Part):
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
    ranking: Literal["scores", "comparisons", "both"] = Field(
        default="scores",
        description="candidates ranked by the preference judge's scores, by the pairwise judge in both orders (the winner "
        "must not be harmful), or both (harmless by score, then compared)",
    )
    scope: Literal["all", "global", "local"] = Field(
        default="all",
        description="safety pairs of this scope only, in each language no more than the other scope has: studies of "
        "either are of equal size",
    )
    match_lengths: bool = Field(
        default=False,
        description="drop pairs, seeded, until chosen and rejected answers are of one length in each language",
    )
    length_tolerance: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="match_lengths: mean difference allowed, as a share of an answer's mean length",
    )
    general_sets: list[Literal["general", "benign"]] = Field(
        default=["general", "benign"],
        description="prompt sets whose train rows (with references) make the general pairs",
    )


class Training(Part):
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
    prefix_sharing: bool = Field(
        default=True,
        description="DPO: both sides of a pair in one row, where the model allows it; faster, and checked at the start",
    )
    held_out_share: float = Field(
        default=0.0, ge=0, lt=1, description="share of the pairs that is only scored; the best step's weights are kept"
    )
    patience: int = Field(
        default=0, ge=0, description="epochs without a new best on the held-out pairs that end a training; 0: none do"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory for about a third more time")
    micro_batch_tokens: int = Field(
        default=2048, ge=1, description="tokens of one forward, padding included: bounds memory, changes no result"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of matrix products; auto: what accelerate was told, and for full weights on a GPU bfloat16",
    )
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

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: a seed is listed twice, and would be the same model twice")
        if self.patience and not self.held_out_share:
            raise ValueError(
                "patience: it counts scores of held-out pairs; set training.held_out_share above 0 as well"
            )
        return self


class Merging(Part):
    """How the methods `merge-slerp` and `merge-ties` join the general model (first) and the safety model (second)."""

    t: float = Field(default=0.5, ge=0, le=1, description="place on the arc: 0 is the general, 1 the safety model")
    density: float = Field(default=0.2, gt=0, le=1, description="TIES: share of each change that stays")
    scale: float = Field(default=1.0, gt=0, description="TIES: factor on the merged change")


class Primary(Part):
    """The one endpoint the study is about; every other figure is secondary or exploratory."""

    metric: Literal["harmful_change"] = Field(default="harmful_change", description="what is compared")
    model: str | None = Field(
        default=None,
        description="the model or method compared with the baseline; null: dpo-sft where it is trained, else the last method, "
        "without methods the last model beside the baseline",
    )
    set: Literal["redteam", "translated"] = Field(default="redteam", description="prompt set of the endpoint")


class Translation(Part):
    """Translation to and from English as a task of every model, scored by chrF++ and BLEU."""

    data: str | None = Field(
        default=None,
        description="parallel text: a file with `id`, `language`, `text` and `english`; null: no such task",
    )
    sentences: int = Field(default=100, ge=1, description="at most this many sentences per language")
    max_new_tokens: int = Field(default=128, ge=4, description="length limit of a translation, in tokens")


class Evaluation(Part):
    """How completions are made and compared."""

    max_new_tokens: int = Field(default=32, ge=4, description="cap of decoding; the truncated share is reported")
    batch_size: int = Field(default=96, ge=1, description="prompts decoded together")
    temperature: float = Field(default=0.0, ge=0, le=2, description="sampling temperature; 0: greedy")
    samples: int = Field(
        default=1, ge=1, description="completions per test prompt; several give the standard error over samples"
    )
    bootstrap: int = Field(default=4000, ge=200, description="resamples of the cluster bootstrap")
    translation: Translation = Translation()
    spm_model: str | None = Field(
        default=None, description="SentencePiece model of spBLEU (FLORES-200); null: spBLEU is not given"
    )
    primary: Primary = Primary()

    @model_validator(mode="after")
    def _sampled(self) -> Evaluation:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("samples: greedy decoding has one completion per prompt; set temperature above 0")
        return self


class Budget(Part):
    """Hard limits."""

    max_minutes: float | None = Field(
        default=None, gt=0, description="refuse to start when the estimate is above this (null: no limit)"
    )
    max_cost: float | None = Field(
        default=None,
        ge=0,
        description="dollars: refuse to start when the estimate is above this, and ask nothing beyond it (null: no limit)",
    )


class Study(Part):
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
    mixture: Annotated[float, BeforeValidator(mixture_share)] = Field(
        default=0.15,
        ge=0,
        le=1,
        description='share of safety pairs among all training pairs; or "1:5", safety to general',
    )
    rephrase: Rephrase | None = Field(default=None, description="grow the seeds into many training prompts first")
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
                f"judges: {_judge_name(self.judges.evaluation)} is both preference and evaluation judge; name two different "
                "judges, or set allow_shared_judge: true (the page will say so)"
            )
        if self.methods and self.models[self.baseline].source is None:
            raise ValueError(
                f"baseline: {self.baseline!r} is an endpoint and cannot be trained; name a baseline with a source, or "
                "set methods: [] to compare only"
            )
        if self.methods and not self.generators:
            raise ValueError("generators: at least one model is needed to sample candidates from")
        silent = [name for name, entry in self.models.items() if not entry.evaluate]
        if self.baseline in silent or self.evaluation.primary.model in silent:
            raise ValueError(f"models: {silent[0]!r} is compared, so it cannot have evaluate: false")
        if self.rephrase is not None and self.data.safety_pairs is not None:
            raise ValueError("rephrase: with data.safety_pairs no pair is made from prompts; leave one of the two out")
        if self.methods and not self.languages.train:
            raise ValueError("languages.train: at least one language is needed to train in")
        general = self.data.general or self.data.general_pairs
        if self.methods and general is None and self.mixture < 1:
            raise ValueError("data.general: general pairs are needed for a mixture below 1")
        if general is None and set(self.methods).intersection(MERGES):
            raise ValueError("data.general: merging needs a model of general pairs")
        if self.methods and self.pairs.ranking != "scores" and self.judges.pairwise is None:
            raise ValueError(
                f"pairs.ranking: {self.pairs.ranking} needs a pairwise judge; set judges.pairwise, or use scores"
            )
        if "dpo-sft" in self.methods and "sft-preferred" not in self.methods:
            raise ValueError("methods: dpo-sft starts from sft-preferred; list sft-preferred too")
        primary = self.evaluation.primary.model
        cells = [*(name for name in self.models if name != self.baseline), *self.methods]
        if primary == self.baseline:
            raise ValueError(
                f"evaluation.primary.model: {primary!r} is the baseline, which is not compared with itself; accepted: "
                f"{', '.join(cells)}"
            )
        if primary is not None and primary not in cells:
            raise ValueError(f"evaluation.primary.model: {primary!r} is unknown; accepted: {', '.join(cells)}")
        if not self.methods and len(self.models) - len(silent) < 2:
            raise ValueError("methods: nothing to train and only one model; there is nothing to compare")
        return self
