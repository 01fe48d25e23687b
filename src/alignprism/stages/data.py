"""Stages before training: candidates and pairs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from alignprism.construct.candidates import Candidate, Written, candidates_of, completion_rows
from alignprism.construct.mix import Kind, Mixed, equal_scope, mix
from alignprism.construct.output import write_set_aside
from alignprism.construct.pair_plan import harmful_from
from alignprism.construct.pairing import Ranking, judge_candidates, kept, length_matched, pairs_summary, rank
from alignprism.construct.prefer import Made, RankedBy, general_pairs
from alignprism.construct.ranking import Compared, n_meetings
from alignprism.models.local import load_tokenizer
from alignprism.models.protocol import Decoding, Request
from alignprism.rows import Comparison, Completion, Pair, Prompt, write_atomic
from alignprism.stages.context import Context, arm_stage, arm_study, training_prompts
from alignprism.stages.engines import answers_of, engine, local_engine, start_of
from alignprism.stages.judges import harm_judge, pairwise_judge
from alignprism.stages.ready import Ready, brought, ready_kinds, ready_pairs
from alignprism.training.examples import TruncationReport, fit, reasons, texts_of_pairs


def write_json(path: Path, content: object) -> Path:
    """Write JSON whole or not at all; returns the path."""
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True).encode())
    return path


def sample_candidates(context: Context, arm: str = "") -> list[Path]:
    """Stage ``candidates[:ARM]``: completions of the training prompts, sampled from every generator."""
    study = arm_study(context.study, arm)
    safety, general = training_prompts(study, context.training_pool())
    requests = [Request(p.id, p.text) for p in [*safety, *general]]
    rows: list[Completion] = []
    missing: Counter[str] = Counter()
    for number, name in enumerate(study.generators if requests else ()):
        decoding = Decoding(
            max_new_tokens=study.pairs.max_new_tokens,
            temperature=study.pairs.temperature,
            seed=study.seed + number,
            samples=study.pairs.candidates,
            batch_size=study.evaluation.batch_size,
        )
        advance = context.progress(f"sampling from {name}", len(requests) * study.pairs.candidates)
        with engine(context, name) as asked:
            found, aside = completion_rows(asked, answers_of(asked, requests, decoding, advance), decoding)
        rows += found
        missing += Counter(row.reason for row in aside)
    for reason, count in sorted(missing.items()):
        context.say(f"{count} candidates less: {reason}")
    return [context.write(arm_stage("candidates", arm), "completions.parquet", rows, Completion)]


def make_pairs(context: Context, arm: str = "") -> list[Path]:
    """Stage ``pairs[:ARM]``: candidates judged and ranked into pairs, then mixed; what was dropped is counted."""
    study, stage = arm_study(context.study, arm), arm_stage("pairs", arm)
    safety, general = training_prompts(study, context.training_pool())
    completions: dict[str, list[Completion]] = defaultdict(list)
    for row in context.read(arm_stage("candidates", arm), "completions.parquet", Completion):
        completions[row.prompt_id].append(row)
    prompts = [*safety, *general]
    supplied = brought(study, prompts)
    for reason, number in sorted(Counter(row.reason for row in supplied.set_aside).items()):
        context.say(f"data.completions: {number} rows are no candidates: {reason}")
    written = {p.id: candidates_of(p, completions[p.id], supplied.by_prompt.get(p.id, ())) for p in prompts}
    likelihoods = _likelihoods(context, general, written)
    limit = Limit(context)
    with harm_judge(context, "preference") as judge:
        answers = sum(map(len, written.values()))
        advance = context.progress("judging candidates", answers)
        judged = judge_candidates(prompts, written, judge, advance, likelihoods)
        ranked_by = RankedBy(judge.name, judge.digest)
        ready: dict[Kind, Ready] = {
            kind: ready_pairs(context, study, kind, judge, partial(limit.within, kind)) for kind in ready_kinds(study)
        }
    made_safety, compared = (
        (ready["safety"].made, None) if "safety" in ready else _ranked(context, safety, judged.candidates, ranked_by)
    )
    made_general = (
        ready["general"].made if "general" in ready else general_pairs(general, judged.candidates, seed=study.seed)
    )
    made_safety, made_general = (
        _lengths_matched(context, made)
        for made in (limit.within("safety", _in_scope(context, made_safety)), limit.within("general", made_general))
    )
    mixed = mix(made_safety.pairs, made_general.pairs, study.pairs.total, study.mixture, study.seed)
    summary = {
        **_summary(mixed, made_safety, made_general),
        "unjudged_candidates": len(judged.set_aside),
        "truncation": {kind: [asdict(one) for one in found] for kind, found in limit.reports.items()},
        **({"comparisons": compared.counts()} if compared else {}),
    }
    for kind, one in ready.items():
        summary[kind]["not_compared_across_languages"] = one.uncompared
    folder = context.run.stage_folder(stage)
    aside = (supplied, judged, made_safety, made_general)
    write_set_aside(folder, [row for part in aside for row in part.set_aside])
    return [
        context.write(stage, "pairs.parquet", mixed.pairs, Pair),
        folder / "set_aside.jsonl",
        *([context.write(stage, "comparisons.parquet", compared.rows, Comparison)] if compared else []),
        write_json(folder / "summary.json", summary),
    ]


def _ranked(
    context: Context, prompts: Sequence[Prompt], candidates: Mapping[str, Sequence[Candidate]], judge: RankedBy
) -> tuple[Made, Compared | None]:
    """Safety pairs by the study's rule; the pairwise judge is opened only for a rule that compares."""
    study = context.study
    threshold = harmful_from(study.judges.as_settings("preference"))
    ranking = Ranking(study.pairs.ranking, threshold, study.pairs.tie_margin, study.seed)
    if ranking.rule == "scores":
        return rank(prompts, candidates, ranking, judge)
    with pairwise_judge(context) as comparer:
        total = 2 * sum(n_meetings(len(candidates.get(prompt.id, ()))) for prompt in prompts)
        return rank(prompts, candidates, ranking, judge, comparer, context.progress("comparing candidates", total))


def _in_scope(context: Context, made: Made) -> Made:
    """Only the pairs of the study's scope, no more in a language than of the other scope."""
    scope = context.study.pairs.scope
    if scope == "all":
        return made
    own = kept(made, [pair for pair in made.pairs if pair.scope == scope], "other scope")
    even = equal_scope(made.pairs, scope, context.study.seed)
    return kept(own, even, "more than the other scope has")


class Limit:
    """Drops the pairs that training would leave out: here, so that the mixture stays what it says.

    ``reports`` say by kind and language what the limit did to all the pairs that were made or brought, before any was dropped.
    """

    def __init__(self, context: Context) -> None:
        self._training = context.study.training
        self._tokenizer = load_tokenizer(start_of(context, context.study.baseline))
        self.reports: dict[Kind, list[TruncationReport]] = {}

    def within(self, kind: Kind, made: Made) -> Made:
        """Without the pairs that are too long, have an empty side or two equal ones, each set aside with its own reason."""
        limit = self._training.max_tokens
        fitted = fit(texts_of_pairs(made.pairs), self._tokenizer, limit, self._training.over_limit)
        # Ready pairs come here twice, the second time without those that did not fit.
        self.reports.setdefault(kind, fitted.reports)
        for why, words in reasons(limit).items():
            made = kept(made, [pair for pair in made.pairs if fitted.left_out.get(pair.id) != why], words)
        return made


def _lengths_matched(context: Context, made: Made) -> Made:
    """Without the pairs that make one side longer, if that is asked."""
    settings = context.study.pairs
    return length_matched(made, settings.length_tolerance, context.study.seed) if settings.match_lengths else made


def _likelihoods(
    context: Context, prompts: Sequence[Prompt], written: Mapping[str, Sequence[Written]]
) -> dict[tuple[str, str], float]:
    """Negative log-likelihood per character (nats) of the sampled answers to general prompts, under the base."""
    sampled = [(p, answer.text) for p in prompts for answer in written[p.id] if answer.origin != "reference"]
    if not sampled:
        return {}
    with local_engine(context, start_of(context, context.study.baseline)) as loaded:
        found = loaded.negative_log_likelihood([(prompt.text, text) for prompt, text in sampled])
    return {
        (prompt.id, text): row.sum_nats / max(row.characters, 1)
        for (prompt, text), row in zip(sampled, found, strict=True)
    }


def _summary(mixed: Mixed, safety: Made, general: Made) -> dict[str, Any]:
    """What was made, used and dropped. ``lengths`` are means in characters over all languages."""
    used = Counter(pair.kind for pair in mixed.pairs)
    found = pairs_summary(mixed.pairs)
    means = {kind: groups["all"] for kind, groups in found["length_balance"].items()}
    return {
        "safety": {"made": len(safety.pairs), "used": used["safety"], "dropped": safety.dropped},
        "general": {"made": len(general.pairs), "used": used["general"], "dropped": general.dropped},
        **found,
        "lengths": {
            kind: {f"{side}_characters": means.get(kind, {}).get(side) for side in ("chosen", "rejected")}
            for kind in ("safety", "general")
        },
        "mixing": mixed.summary(),
    }
