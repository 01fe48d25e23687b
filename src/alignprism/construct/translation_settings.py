"""What can be set about translation and general preference data; sections of a study as well."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from alignprism.models.protocol import Decoding
from alignprism.models.settings import Part


class TranslateSettings(Part):
    """How prompts are translated, and which translations are used."""

    references: bool = Field(
        default=False, description="translate the reference answers as well (else they are left out)"
    )
    keep_source: bool = Field(
        default=False, description="a prompt whose language is among the targets is taken as it is (false: set aside)"
    )
    min_chrf: float = Field(
        default=0.4, ge=0, le=1, description="chrF++ of the back-translation below which a translation is set aside"
    )
    max_length_ratio: float = Field(
        default=3.0, gt=1, description="times longer or shorter than usual for its language, from which it is set aside"
    )
    max_new_tokens: int = Field(default=512, ge=16, description="length limit of one translation, in tokens")
    beams: int = Field(default=1, ge=1, description="of a translation model; 1 is greedy")
    batch_size: int = Field(default=32, ge=1, description="texts at once in a translation model")
    seed: int = Field(default=0, description="of the intervals' resamples")

    def decoding(self) -> Decoding:
        """How a translation is written: greedy, for there is one of each text."""
        return Decoding(max_new_tokens=self.max_new_tokens, batch_size=self.batch_size)


class GeneralSettings(Part):
    """How general preference pairs are made: translation, regeneration, and what is done with a tie."""

    translation: TranslateSettings = Field(
        default=TranslateSettings(references=True),
        description="of prompts and chosen answers; references are always translated",
    )
    ties: Literal["drop", "translated", "regenerated"] = Field(
        default="drop",
        description="`drop`, or the answer that is chosen when the judge sees no difference or contradicts itself",
    )
    temperature: float = Field(default=0.0, ge=0, description="of the generator; 0 is greedy")
    top_p: float = Field(default=1.0, gt=0, le=1, description="nucleus: share of probability that is drawn from")
    max_new_tokens: int = Field(default=512, ge=16, description="longest completion of the generator, in tokens")
    batch_size: int = Field(default=32, ge=1, description="completions at once in a model in this process")
    seed: int = Field(default=0, description="of the generator's draws, the random sides and the intervals")
    generator_licence: str = Field(
        default="unknown",
        description="terms of what the generator wrote, as its licence states them; they travel with every pair",
    )
    generator_redistribute: bool = Field(
        default=False, description="whether these terms let the generator's answers be passed on"
    )

    def decoding(self) -> Decoding:
        """How the generator's completions are made."""
        return Decoding(
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p, seed=self.seed,
            batch_size=self.batch_size,
        )  # fmt: skip
