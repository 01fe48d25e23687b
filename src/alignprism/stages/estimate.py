"""Sizes of a study before it is run: calls, tokens, seconds, dollars, and which text goes to whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alignprism.judging.settings import JudgeSettings, PairwiseSettings
from alignprism.models.cost import Estimate, dollars, estimate, estimate_tokens
from alignprism.models.protocol import Decoding, Request
from alignprism.models.settings import ModelSettings
from alignprism.rows import Prompt
from alignprism.stages.context import dev_prompts, evaluated_prompts, training_prompts
from alignprism.study import Study
from alignprism.study.remote import hosts_of, judge_models

# Rough speeds of two cores without a GPU, rounded from stage times; used for the estimate of --dry-run only.
DECODE_TOKENS_PER_SECOND = 110.0
TRAIN_TOKENS_PER_SECOND = 60.0
JUDGE_ROWS_PER_SECOND = 12.0
LIKELIHOODS_PER_SECOND = 5.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes of a study: model calls by kind, and what training runs over."""

    candidates: int
    test: int
    dev: int
    likelihoods: int
    ift_tokens: float
    pair_tokens: float
    sft_epochs: int
    dpo_epochs: int
    dev_tokens: float

    @classmethod
    def of(cls, study: Study, prompts: Sequence[Prompt]) -> Counts:
        """Count what a study would ask of its models."""
        safety, general = training_prompts(study, prompts)
        test = evaluated_prompts(study, prompts)
        dev = dev_prompts(study, prompts)
        references = [p for p in test if p.set == "general" and p.reference]
        instructions = [p for p in prompts if p.set == "general" and p.split == "train"]
        training = study.training
        return cls(
            candidates=(len(safety) + len(general)) * study.pairs.candidates * len(study.generators),
            test=len(test),
            dev=len(dev),
            likelihoods=len(references),
            ift_tokens=len(instructions) * training.max_tokens * training.ift_epochs,
            pair_tokens=study.pairs.total * training.max_tokens * 0.8,
            sft_epochs=training.sft_epochs,
            dpo_epochs=training.dpo_epochs,
            dev_tokens=len(dev) * training.dev_checks * study.evaluation.max_new_tokens,
        )

    def training_seconds(self, method: str) -> float:
        """Estimated seconds of one training with its dev checks."""
        # A DPO step runs both sides, and the reference pass costs about one forward more.
        tokens = self.pair_tokens * (self.sft_epochs if method.startswith("sft") else 2 * self.dpo_epochs + 0.7)
        return tokens / TRAIN_TOKENS_PER_SECOND + self.dev_tokens / DECODE_TOKENS_PER_SECOND


RUBRIC_TOKENS = 700
"""Of a judge's own words around the texts it is shown, rounded up from the shipped templates (the English one is shorter)."""

_PAIR_TOKENS = 400  # of a ready pair's prompt and chosen side, a round guess
_SERVER_TOKENS_PER_SECOND = 50.0  # of one answer from a busy server; for the estimate of time only


@dataclass(frozen=True, slots=True)
class Sent:
    """Which text goes to whom, and what that will use. Without hosts it stays on this machine."""

    text: str
    to: str
    hosts: tuple[str, ...]
    use: Estimate
    connections: int = 1

    @property
    def seconds(self) -> float:
        """Rough time of calls to a server; other work is estimated by its stage."""
        if not self.hosts:
            return 0.0
        each = 0.5 + self.use.answer_tokens / max(self.use.calls, 1) / _SERVER_TOKENS_PER_SECOND
        return self.use.calls * each / self.connections


def _to_model(text: str, to: str, model: ModelSettings, use: Estimate) -> Sent:
    return Sent(text, to, hosts_of(model), use, model.endpoint.connections if model.endpoint else 1)


def sent_prompts(text: str, to: str, model: ModelSettings, prompts: Sequence[Prompt], decoding: Decoding) -> Sent:
    """Prompts that a model completes."""
    return sent_texts(text, to, model, [Request(p.id, p.text) for p in prompts], decoding)


def sent_texts(text: str, to: str, model: ModelSettings, requests: Sequence[Request], decoding: Decoding) -> Sent:
    """Requests of any kind that a model completes."""
    price = model.endpoint.price if model.endpoint else None
    return _to_model(text, to, model, estimate(requests, decoding, price))


def sent_to_judge(
    text: str, judge: JudgeSettings, prompts: Sequence[Prompt], answers: int, tokens: int
) -> Iterator[Sent]:
    """Prompts with `answers` completions each, of at most `tokens` tokens, that a judge reads; one entry per model asked."""
    read = answers * sum(estimate_tokens(prompt.text) + tokens for prompt in prompts)
    yield from _to_judge(text, judge, len(prompts) * answers, read, tokens)


def sent_pairs(text: str, judge: JudgeSettings, pairs: int) -> Iterator[Sent]:
    """The chosen sides of ready pairs, whose lengths nobody has looked at yet, that a judge reads."""
    yield from _to_judge(text, judge, pairs, pairs * _PAIR_TOKENS, _PAIR_TOKENS)


def _to_judge(text: str, judge: JudgeSettings, calls: int, read: int, tokens: int) -> Iterator[Sent]:
    """Answers of at most `tokens` tokens that a judge reads, `read` tokens of prompts and answers in all."""
    if judge.kind == "head":
        yield Sent(text, judge.head, (), Estimate(calls, 0, 0, None))
        return
    if judge.kind == "ensemble":
        for member in judge.members:
            yield from _to_judge(text, member, calls, read, tokens)
        return
    for key, model in judge_models(judge, ""):
        name = model.endpoint.model if model.endpoint else str(model.source)
        if key.endswith("translator"):
            yield _to_model(text, name, model, _use(model, 2 * calls, read, 2 * calls * tokens))
            continue
        written = judge.max_new_tokens if judge.kind == "rubric" else 16
        yield _to_model(text, name, model, _use(model, calls, calls * RUBRIC_TOKENS + read, calls * written))


def sent_to_pairwise(text: str, judge: PairwiseSettings, prompts: Sequence[Prompt], tokens: int) -> Sent:
    """Prompts with two completions each, of at most `tokens` tokens, shown in both orders."""
    calls = 2 * len(prompts)
    read = 2 * sum(estimate_tokens(prompt.text) + 2 * tokens for prompt in prompts)
    use = _use(judge.model, calls, calls * RUBRIC_TOKENS + read, calls * judge.max_new_tokens)
    name = judge.model.endpoint.model if judge.model.endpoint else str(judge.model.source)
    return _to_model(text, name, judge.model, use)


def _use(model: ModelSettings, calls: int, read: int, written: int) -> Estimate:
    price = model.endpoint.price if model.endpoint else None
    return Estimate(calls, read, written, dollars(price, read, written) if price else None)
