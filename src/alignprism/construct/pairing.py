"""From answers to preference pairs: judged, ranked, balanced, counted. What a study's stage and the command share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alignprism.construct.balance import balance, match_lengths
from alignprism.construct.candidates import Candidate, Written, completion_rows
from alignprism.construct.output import SetAside
from alignprism.construct.prefer import Made, RankedBy, ranked_pairs
from alignprism.construct.ranking import Choice, Compared, NoChoice, Rule, by_comparisons, by_scores, compare
from alignprism.errors import Failure
from alignprism.judging.degenerate import degenerate
from alignprism.judging.language import on_language
from alignprism.judging.pairwise import PairwiseJudge
from alignprism.judging.protocol import HarmJudge, HarmVerdict, Item
from alignprism.judging.unanswered import STOPS, Judgement, unanswered_in
from alignprism.models.protocol import Decoding, Engine, Failed, Progress, Request, in_order
from alignprism.rows import Completion, Pair, Prompt


class PairsStopped(Failure):
    """Not all judgements could be had; those that were are kept."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Candidates by prompt, and the answers that the judge could not decide on: they are in no pair."""

    candidates: Mapping[str, list[Candidate]]
    set_aside: list[SetAside]

    def sources(self) -> dict[str, int]:
        """How many candidates each source gave."""
        found = Counter(candidate.written.source for own in self.candidates.values() for candidate in own)
        return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class Ranking:
    """How candidates are ranked. ``threshold``: P(harmful) from which the judge calls an answer harmful."""

    rule: Rule
    threshold: float
    tie_margin: float
    seed: int


def sample(
    engine: Engine, prompts: Sequence[Prompt], decoding: Decoding, progress: Progress | None = None
) -> tuple[list[Completion], list[SetAside]]:
    """Answers of one generator, and those that are missing or withheld, each with its reason.

    Raises
    ------
    PairsStopped
        the budget or the run ended before all were asked, or not one call was answered.
    """
    requests = [Request(prompt.id, prompt.text) for prompt in prompts]
    outcomes = in_order(engine.complete(requests, decoding, progress), requests, decoding.samples)
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    _refuse(sum(outcome.reason in STOPS for outcome in failed), f"completions of {engine.name} were not made")
    if failed and len(failed) == len(outcomes):
        listed = ", ".join(f"{n} {reason}" for reason, n in Counter(outcome.reason for outcome in failed).most_common())
        raise PairsStopped(f"{engine.name}: none of {len(outcomes)} calls got an answer: {listed}")
    return completion_rows(engine, outcomes, decoding)


def judge_candidates(
    prompts: Sequence[Prompt],
    written: Mapping[str, Sequence[Written]],
    judge: HarmJudge,
    progress: Progress | None = None,
    nll: Mapping[tuple[str, str], float] | None = None,
) -> Judged:
    """Every answer to every prompt with the judge's score and the rules of language and degeneration.

    A judge without scores gives 0 or 1 by its verdict. `nll` is the answers' negative log-likelihood per character, by
    prompt id and text, where it is known.

    Raises
    ------
    PairsStopped
        the budget or the run ended before all were judged, or the judge (or a member of an ensemble) answered no call.
    """
    listed = [(prompt, answer) for prompt in prompts for answer in written.get(prompt.id, ())]
    items = [
        Item(str(number), prompt.text, answer.text, prompt.language, prompt.seed_id, prompt.scope)
        for number, (prompt, answer) in enumerate(listed)
    ]
    verdicts = list(judge.judge(items, progress))
    refuse_unjudged(verdicts, judge.name, "answers were not judged")
    found: dict[str, list[Candidate]] = defaultdict(list)
    aside: list[SetAside] = []
    for (prompt, answer), verdict in zip(listed, verdicts, strict=True):
        if verdict.harm == "undecidable":
            aside.append(SetAside(f"{prompt.id}/{answer.key}", "candidate not judged", verdict.reason, prompt.language))
            continue
        on = on_language(answer.text, prompt.language).on_language is not False
        likelihood = (nll or {}).get((prompt.id, answer.text), 0.0)
        broken = degenerate(answer.text).degenerate
        found[prompt.id].append(Candidate(answer, _score(verdict), on, broken, likelihood))
    return Judged(dict(found), aside)


def _score(verdict: HarmVerdict) -> float:
    return verdict.score if verdict.score is not None else float(verdict.harm == "harmful")


def refuse_unjudged(verdicts: Sequence[HarmVerdict], judge: str, what: str) -> None:
    """As `refuse_unasked`, and stop where no verdict is complete: the rest of an ensemble would choose the pairs alone.

    Raises
    ------
    PairsStopped
        see above.
    """
    refuse_unasked(verdicts, what)
    missing = unanswered_in(verdicts)
    if missing.everywhere:
        raise PairsStopped(f"{judge}: calls about all of {missing.asked} {what}: {missing.listed}")


def refuse_unasked(rows: Sequence[Judgement], what: str) -> None:
    """Stop where judgements are missing because the budget or the run ended: they would be frozen into the pairs.

    Raises
    ------
    PairsStopped
        there are some.
    """
    _refuse(unanswered_in(rows).stopped, what)


def _refuse(unasked: int, what: str) -> None:
    if unasked:
        raise PairsStopped(
            f"{unasked} {what}: the budget or the run ended. What was answered is kept; the same with a higher cap on "
            "cost goes on from there"
        )


def rank(
    prompts: Sequence[Prompt],
    candidates: Mapping[str, Sequence[Candidate]],
    ranking: Ranking,
    judge: RankedBy,
    comparer: PairwiseJudge | None = None,
    progress: Progress | None = None,
) -> tuple[Made, Compared | None]:
    """Pairs by the ranking's rule, and what the comparisons said, if it has any.

    `judge` names who gave the candidates their scores.

    Raises
    ------
    PairsStopped
        the budget or the run ended before all comparisons were made.
    ValueError
        a rule that compares, without a judge that does.
    """
    if ranking.rule == "scores":

        def scored(_: Prompt, own: Sequence[Candidate]) -> Choice | NoChoice:
            return by_scores(own, ranking.threshold, ranking.tie_margin)

        return ranked_pairs(prompts, candidates, scored, judge, ranking.seed), None
    if comparer is None:
        raise ValueError(f"ranking {ranking.rule} needs a pairwise judge")
    compared = compare(prompts, candidates, comparer, ranking.seed, progress)
    refuse_unasked(compared.rows, "comparisons were not made")

    def met(prompt: Prompt, own: Sequence[Candidate]) -> Choice | NoChoice:
        return by_comparisons(own, compared.met[prompt.id], ranking.threshold, filtered=ranking.rule == "both")

    by = replace(judge, ranking=ranking.rule, comparer=comparer.name, comparer_digest=comparer.digest)
    return ranked_pairs(prompts, candidates, met, by, ranking.seed), compared


def length_matched(made: Made, tolerance: float, seed: int) -> Made:
    """Without the pairs that make one side longer (see `balance.match_lengths`); they are set aside."""
    return kept(made, match_lengths(made.pairs, tolerance, seed), "left out to match lengths")


def kept(made: Made, pairs: Sequence[Pair], reason: str) -> Made:
    """Only these pairs of those made; the others are set aside with the reason."""
    names = {pair.id for pair in pairs}
    aside = [SetAside(pair.prompt_id, reason, language=pair.language) for pair in made.pairs if pair.id not in names]
    return Made([pair for pair in made.pairs if pair.id in names], [*made.set_aside, *aside])


def pairs_summary(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What the pairs are, in numbers: by language and kind, who wrote each side, and the balance of lengths."""
    by_language: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in pairs:
        by_language[pair.language][pair.kind] += 1
    return {
        "by_language": {code: dict(counts) for code, counts in sorted(by_language.items())},
        "length_balance": balance(pairs),
        "chosen_sources": dict(sorted(Counter(pair.chosen_source for pair in pairs).items())),
        "rejected_sources": dict(sorted(Counter(pair.rejected_source for pair in pairs).items())),
    }
