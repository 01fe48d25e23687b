"""Texts become token ids, once; what does not fit is dropped whole, or cut where that was asked for, and counted by language."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PreTrainedTokenizerBase

from alignprism.models.protocol import Asked
from alignprism.models.template import Frame, TemplateError, completion_ids, frame_of, prompt_ids
from alignprism.rows import Pair, Prompt
from alignprism.training.config import TrainConfig, TrainingError

Side = Literal["chosen", "rejected"]
OverLimit = Literal["drop", "cut"]
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A row to learn from, as text. ``rejected`` is None for plain (prompt, response) rows.

    Rows of one ``cluster`` (a seed: its translations and rephrasings) are held out together; "" stands for its own prompt.
    """

    id: str
    prompt: Asked
    chosen: str
    rejected: str | None
    language: str
    kind: str
    random_side: Side = "chosen"
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """A row as token ids. Completions end with the end-of-turn token; ``rejected_ids`` is None without a pair."""

    pair_id: str
    prompt_ids: Ids
    chosen_ids: Ids
    rejected_ids: Ids | None
    language: str
    kind: str
    random_side: Side = "chosen"
    cluster: str = ""

    def side(self, side: Side) -> Ids:
        """The completion ids of one side."""
        if side == "chosen":
            return self.chosen_ids
        if self.rejected_ids is None:
            raise TrainingError(f"row {self.pair_id!r} has no rejected side; only SFT on the chosen side can use it")
        return self.rejected_ids


@dataclass(frozen=True, slots=True)
class TruncationReport:
    """What the length limit did to one language. Means and shares are over all its rows, before dropping."""

    language: str
    rows: int
    kept: int
    cut: int
    """Kept rows of which a completion was cut, and so lost its end-of-turn token."""
    share_without_end: float
    """Share of the kept completions without an end-of-turn token."""
    over_limit: int
    empty: int
    identical: int
    share_over_limit: float
    tokens_per_character: float
    length_difference: float
    """Mean of chosen minus rejected completion length, in tokens, over the rows that have both sides."""
    length_difference_kept: float
    """The same over the kept rows: a shift between the two says that the limit favoured one side."""


def texts_of_pairs(pairs: Iterable[Pair]) -> list[Text]:
    """Preference pairs as texts."""
    return [
        Text(p.id, p.prompt, p.chosen, p.rejected, p.language, p.kind, p.random_side, p.seed_id or "") for p in pairs
    ]


def texts_of_prompts(prompts: Iterable[Prompt]) -> list[Text]:
    """Prompts with a reference response as SFT texts.

    Raises
    ------
    TrainingError
        a prompt has no reference.
    """
    texts = []
    for prompt in prompts:
        if prompt.reference is None:
            raise TrainingError(f"prompt {prompt.id!r} has no reference response to learn from")
        texts.append(
            Text(prompt.id, prompt.text, prompt.reference, None, prompt.language, prompt.set, cluster=prompt.seed_id)
        )
    return texts


def make_examples(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, max_tokens: int, over_limit: OverLimit = "drop"
) -> tuple[list[Example], list[TruncationReport]]:
    """Tokenise rows with the model's chat template; one report per language, sorted by code.

    A row is dropped, and counted, when a side with its prompt is longer than `max_tokens`, when a completion is empty,
    or when both sides are the same tokens. Both sides are checked for every method, so that all methods see the same
    rows. With `over_limit` "cut" a completion that does not fit is cut instead and taught without an end; a prompt that
    leaves no room for one is dropped all the same.

    Raises
    ------
    alignprism.models.template.TemplateError
        the model's chat template refuses the turns of a row, such as a system message, or nothing ends a turn.
    """
    frame = frame_of(tokenizer)
    tokenised = [_tokenise(text, tokenizer, frame) for text in texts]
    whole = [len(e.chosen_ids) + len(e.rejected_ids or ()) for e in tokenised]
    if over_limit == "cut":
        tokenised = [_cut(example, max_tokens) for example in tokenised]
    verdicts = [_verdict(text, example, max_tokens) for text, example in zip(texts, tokenised, strict=True)]
    reports = []
    for language in sorted({text.language for text in texts}):
        chosen = [number for number, text in enumerate(texts) if text.language == language]
        rows = [(texts[number], tokenised[number], verdicts[number]) for number in chosen]
        reports.append(_report(language, rows, sum(whole[number] for number in chosen), frame.end))
    return [e for e, verdict in zip(tokenised, verdicts, strict=True) if verdict == "kept"], reports


def sequences(config: TrainConfig, example: Example) -> list[tuple[Ids, Ids]]:
    """The (prompt, completion) sequences that a method runs for one row: one for SFT; chosen, rejected for DPO."""
    if config.preference:
        return [(example.prompt_ids, example.chosen_ids), (example.prompt_ids, example.side("rejected"))]
    side = example.random_side if config.method == "sft-random" else "chosen"
    return [(example.prompt_ids, example.side(side))]


def _tokenise(text: Text, tokenizer: PreTrainedTokenizerBase, frame: Frame) -> Example:
    try:
        asked = prompt_ids(tokenizer, text.prompt)
    except TemplateError as error:
        raise TemplateError(f"row {text.id!r}: {error}") from error
    return Example(
        pair_id=text.id,
        prompt_ids=tuple(asked),
        chosen_ids=tuple(completion_ids(tokenizer, text.chosen, frame)),
        rejected_ids=None if text.rejected is None else tuple(completion_ids(tokenizer, text.rejected, frame)),
        language=text.language,
        kind=text.kind,
        random_side=text.random_side,
        cluster=text.cluster,
    )


def _cut(example: Example, max_tokens: int) -> Example:
    room = max_tokens - len(example.prompt_ids)
    if room < 1:
        return example
    rejected = None if example.rejected_ids is None else example.rejected_ids[:room]
    return replace(example, chosen_ids=example.chosen_ids[:room], rejected_ids=rejected)


def _verdict(text: Text, example: Example, max_tokens: int) -> str:
    if not text.chosen.strip() or (text.rejected is not None and not text.rejected.strip()):
        return "empty"
    if example.chosen_ids == example.rejected_ids:
        return "identical"
    longest = max(len(example.chosen_ids), len(example.rejected_ids or ()))
    return "over_limit" if len(example.prompt_ids) + longest > max_tokens else "kept"


def _report(language: str, rows: Sequence[tuple[Text, Example, str]], tokens: int, end: int) -> TruncationReport:
    counts = {name: sum(v == name for _, _, v in rows) for name in ("kept", "over_limit", "empty", "identical")}
    characters = sum(len(t.chosen) + len(t.rejected or "") for t, _, _ in rows)
    kept = [[ids for ids in (e.chosen_ids, e.rejected_ids) if ids is not None] for _, e, v in rows if v == "kept"]
    endless = [[ids[-1] != end for ids in sides] for sides in kept]
    return TruncationReport(
        language=language,
        rows=len(rows),
        kept=counts["kept"],
        cut=sum(map(any, endless)),
        share_without_end=sum(map(sum, endless)) / max(sum(map(len, endless)), 1),
        over_limit=counts["over_limit"],
        empty=counts["empty"],
        identical=counts["identical"],
        share_over_limit=counts["over_limit"] / len(rows),
        tokens_per_character=tokens / max(characters, 1),
        length_difference=_length_difference([e for _, e, _ in rows]),
        length_difference_kept=_length_difference([e for _, e, v in rows if v == "kept"]),
    )


def _length_difference(examples: Sequence[Example]) -> float:
    differences = [len(e.chosen_ids) - len(e.rejected_ids) for e in examples if e.rejected_ids is not None]
    return statistics.fmean(differences) if differences else 0.0
