"""How seeds are rephrased and given benign twins: the typed form of what people write. Models are named beside it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alignprism.models.settings import Part


class RephraseSettings(Part):
    """From a few human seeds to many training prompts."""

    per_seed: int = Field(default=10, ge=1, description="most new prompts from one seed")
    quota: int | None = Field(
        default=None,
        ge=1,
        description="new prompts wanted in each cell of language, scope and category (null: per_seed times the cell's seeds)",
    )
    seeds_per_language: int = Field(
        default=100, ge=1, description="most seeds of a language, drawn evenly over scopes and categories"
    )
    rounds: int = Field(default=6, ge=1, description="how often cells below their quota ask again")
    variants: int = Field(default=5, ge=1, le=50, description="prompts asked for in one call")
    style: Literal["ask", "continue"] = Field(
        default="ask",
        description="ask: the writer is asked for a list (chat models); continue: it goes on with a list of human prompts (base "
        "models)",
    )
    shots: int = Field(default=3, ge=0, description="other human seeds shown with each call")
    diversity: float = Field(
        default=0.5, ge=0, le=1, description="of the shots: 0 takes the nearest seeds, 1 the most different ones"
    )
    embed: bool = Field(
        default=True,
        description="sentence vectors for shots, diversity and near-duplicates across languages; false: letters only",
    )
    temperature: float = Field(default=0.9, ge=0, description="of the writer")
    top_p: float = Field(default=0.95, gt=0, le=1, description="share of probability that the writer draws from")
    max_new_tokens: int = Field(default=1024, ge=16, description="length limit of the writer's reply")
    min_characters: int = Field(
        default=8, ge=1, description="shorter prompts are set aside (Chinese, Japanese, Korean characters count twice)"
    )
    max_characters: int = Field(default=1000, ge=1, description="longer prompts are set aside")
    template: str | None = Field(
        default=None, description="a template file of your own for the writer; null: the shipped one"
    )
    check_max_new_tokens: int = Field(default=256, ge=16, description="length limit of the checker's reply")


class TwinSettings(Part):
    """From a red-team seed to harmless prompts that look like it."""

    per_seed: int = Field(default=1, ge=1, description="twins wanted of each seed")
    rounds: int = Field(default=3, ge=1, description="how often seeds that lack twins are asked for again")
    variants: int = Field(default=2, ge=1, le=50, description="prompts asked for in one call")
    temperature: float = Field(default=0.7, ge=0, description="of the writer")
    top_p: float = Field(default=0.95, gt=0, le=1, description="share of probability that the writer draws from")
    max_new_tokens: int = Field(default=512, ge=16, description="length limit of the writer's reply")
    min_characters: int = Field(
        default=8, ge=1, description="shorter prompts are set aside (Chinese, Japanese, Korean characters count twice)"
    )
    max_characters: int = Field(default=1000, ge=1, description="longer prompts are set aside")
    template: str | None = Field(
        default=None, description="a template file of your own for the writer; null: the shipped one"
    )
    check_max_new_tokens: int = Field(default=256, ge=16, description="length limit of the checker's reply")
