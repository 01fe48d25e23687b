"""Texts become token ids, once; what does not fit is dropped whole, or cut where that was asked for, and counted by language."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from alignprism.models.protocol import Asked
from alignprism.models.template import Frame, TemplateError, completion_ids, frame_of, prompt_ids
from alignprism.rows import Pair, Prompt
from alignprism.training.config import TrainConfig, TrainingError

Side = Literal["chosen", "rejected"]
OverLimit = Literal["drop", "cut"]
LeftOut = Literal["over_limit", "empty", "identical"]
"""Why a row is not learned."""
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
    """Mean of chosen minus rejected completion length, in tokens, over the rows that have both sides, before cutting too."""
    length_difference_kept: float
    """The same over the kept rows as they are taught: a shift between the two says that the limit favoured one side."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The rows that can be learned; by language, what the limit did; by row id, why the others are left out."""

    examples: list[Example]
    reports: list[TruncationReport]
    left_out: dict[str, LeftOut]


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
    """The rows of `fit` that can be learned, and its reports."""
    fitted = fit(texts, tokenizer, max_tokens, over_limit)
    return fitted.examples, fitted.reports


def fit(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, max_tokens: int, over_limit: OverLimit = "drop"
) -> Fitted:
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
    whole = [_tokenise(text, tokenizer, frame) for text in texts]
    taught = [_cut(example, max_tokens) for example in whole] if over_limit == "cut" else whole
    verdicts = [_verdict(text, example, max_tokens) for text, example in zip(texts, taught, strict=True)]
    rows = [_Row(*row) for row in zip(texts, whole, taught, verdicts, strict=True)]
    languages = sorted({text.language for text in texts})
    return Fitted(
        examples=[row.taught for row in rows if row.left_out is None],
        reports=[_report(code, [row for row in rows if row.text.language == code], frame.end) for code in languages],
        left_out={row.text.id: row.left_out for row in rows if row.left_out is not None},
    )


def reasons(max_tokens: int) -> dict[LeftOut, str]:
    """What people are told of a row that is left out, by why it is."""
    return {
        "over_limit": f"over {max_tokens} tokens a side",
        "empty": "an empty completion",
        "identical": "equal sides",
    }


def counts_left_out(reports: Iterable[TruncationReport], max_tokens: int) -> str:
    """How many rows were left out, by reason, such as "3 over 96 tokens a side, 1 with an empty completion"; empty if none were."""
    reports = list(reports)
    counts = {why: sum(getattr(report, why) for report in reports) for why in reasons(max_tokens)}
    words = {why: text if why == "over_limit" else f"with {text}" for why, text in reasons(max_tokens).items()}
    return ", ".join(f"{count} {words[why]}" for why, count in counts.items() if count)


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


def _verdict(text: Text, example: Example, max_tokens: int) -> LeftOut | None:
    if not text.chosen.strip() or (text.rejected is not None and not text.rejected.strip()):
        return "empty"
    if example.chosen_ids == example.rejected_ids:
        return "identical"
    longest = max(len(example.chosen_ids), len(example.rejected_ids or ()))
    return "over_limit" if len(example.prompt_ids) + longest > max_tokens else None


class _Row(NamedTuple):
    """A text, its tokens, what is taught of them, and why it is not."""

    text: Text
    whole: Example
    taught: Example
    left_out: LeftOut | None


def _report(language: str, rows: Sequence[_Row], end: int) -> TruncationReport:
    counts = Counter(row.left_out for row in rows)
    characters = sum(len(row.text.chosen) + len(row.text.rejected or "") for row in rows)
    kept = [row.taught for row in rows if row.left_out is None]
    endless = [[ids[-1] != end for ids in (e.chosen_ids, e.rejected_ids) if ids is not None] for e in kept]
    return TruncationReport(
        language=language,
        rows=len(rows),
        kept=len(kept),
        cut=sum(map(any, endless)),
        share_without_end=sum(map(sum, endless)) / max(sum(map(len, endless)), 1),
        over_limit=counts["over_limit"],
        empty=counts["empty"],
        identical=counts["identical"],
        share_over_limit=counts["over_limit"] / len(rows),
        tokens_per_character=sum(len(r.whole.chosen_ids) + len(r.whole.rejected_ids or ()) for r in rows)
        / max(characters, 1),
        length_difference=_length_difference([row.whole for row in rows]),
        length_difference_kept=_length_difference(kept),
    )


def _length_difference(examples: Sequence[Example]) -> float:
    differences = [len(e.chosen_ids) - len(e.rejected_ids) for e in examples if e.rejected_ids is not None]
    return statistics.fmean(differences) if differences else 0.0
