"""How a judge is named in a study or in a judge file (`alignprism judge score --judge FILE`): one typed form."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from alignprism.models.settings import ModelSettings, Part

PromptLanguage = Literal["english", "target", "translate"]
"""The language that a judge model is spoken to: English; that of the judged text; or English, of a translated text."""


class HeadSettings(Part):
    """A linear head on an encoder: shipped, or trained by `alignprism judge train-head`."""

    kind: Literal["head"] = "head"
    head: str = Field(description="name of a shipped head, or a folder")


class RubricSettings(Part):
    """A model that is asked: a short reason first, then harmful, harmless or undecidable, and the category."""

    kind: Literal["rubric"] = "rubric"
    model: ModelSettings
    prompt_language: PromptLanguage = Field(default="english", description="english, target or translate")
    translator: ModelSettings | None = Field(
        default=None, description="for `translate`: the model that translates; null: the judge itself"
    )
    notes: int = Field(
        default=0, ge=0, description="annotators' explanations of the nearest prompts shown to the judge; 0: none"
    )
    template: str | None = Field(default=None, description="a template file of your own; null: the shipped ones")
    max_new_tokens: int = Field(default=256, ge=16, description="length limit of a reply")
    log_probs: bool = Field(
        default=False, description="ask for the probability of the verdict word, so that verdicts have a score"
    )


class GuardSettings(Part):
    """A guard model through transformers."""

    kind: Literal["guard"] = "guard"
    model: ModelSettings
    format: str = Field(description="how the guard is asked and read; see `alignprism judge list`")
    threshold: float = Field(default=0.5, gt=0, lt=1, description="P(harmful) from which an answer is harmful")
    log_probs: bool = Field(
        default=True,
        description="ask for the probability of the guard's word; false for servers that refuse such requests",
    )
    harmful_labels: list[str] = Field(
        default=[], description="format `classifier`: its labels that mean harmful (empty: found by their names)"
    )


class EnsembleSettings(Part):
    """Several judges that vote."""

    kind: Literal["ensemble"] = "ensemble"
    members: list[Annotated[HeadSettings | RubricSettings | GuardSettings, Field(discriminator="kind")]] = Field(
        min_length=2
    )
    rule: Literal["majority", "any"] = Field(
        default="majority", description="harmful if most decided members, or if any, say so"
    )


JudgeSettings = Annotated[HeadSettings | RubricSettings | GuardSettings | EnsembleSettings, Field(discriminator="kind")]


class PairwiseSettings(Part):
    """A model that compares two answers, in both orders."""

    model: ModelSettings
    prompt_language: Literal["english", "target"] = Field(default="english", description="english or target")
    template: str | None = Field(default=None, description="a template file of your own; null: the shipped ones")
    max_new_tokens: int = Field(default=256, ge=16, description="length limit of a reply")
