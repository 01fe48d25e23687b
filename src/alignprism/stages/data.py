"""Stages before training: prompts, candidates, pairs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from alignprism.construct.mix import mix
from alignprism.construct.prefer import Candidate, Made, candidates_of, general_pairs, safety_pairs
from alignprism.judging.degenerate import degenerate
from alignprism.judging.language import on_language
from alignprism.judging.protocol import HarmJudge, Item
from alignprism.models.local import load_tokenizer
from alignprism.models.protocol import Answer, Decoding, Failed, Request
from alignprism.prompts.handling import forbidden
from alignprism.prompts.select import select_prompts
from alignprism.rows import Completion, Pair, Prompt, write_atomic
from alignprism.stages.context import Context, arm_stage, arm_study, training_prompts
from alignprism.stages.engines import answers_of, completion_row, engine, local_engine, start_of
from alignprism.stages.judges import harm_judge, score_of, threshold_of
from alignprism.training.examples import make_examples, texts_of_pairs


def write_json(path: Path, content: object) -> Path:
    """Write JSON whole or not at all; returns the path."""
    write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True).encode())
    return path


def write_prompts(context: Context) -> list[Path]:
    """Stage ``prompts``: the study's prompts, and those that the handling rules keep out (ids and reasons only)."""
    prompts, aside = select_prompts(context.study)
    if aside:
        context.say(f"{len(aside)} prompts were set aside by the handling rules (see stages/prompts/set_aside.json)")
    return [
        context.write("prompts", "prompts.parquet", prompts, Prompt),
        write_json(context.run.stage_folder("prompts") / "set_aside.json", [asdict(row) for row in aside]),
    ]


def sample_candidates(context: Context, arm: str = "") -> list[Path]:
    """Stage ``candidates[:ARM]``: completions of the training prompts, sampled from every generator."""
    study = arm_study(context.study, arm)
    safety, general = training_prompts(study, context.prompts())
    requests = [Request(p.id, p.text) for p in [*safety, *general]]
    rows: list[Completion] = []
    withheld = 0
    failures: Counter[str] = Counter()
    for number, name in enumerate(study.generators):
        decoding = Decoding(
            max_new_tokens=study.pairs.max_new_tokens,
            temperature=study.pairs.temperature,
            seed=study.seed + number,
            samples=study.pairs.candidates,
            batch_size=study.evaluation.batch_size,
        )
        advance = context.progress(f"sampling from {name}", len(requests) * study.pairs.candidates)
        with engine(context, name) as asked:
            outcomes = answers_of(asked, requests, decoding, advance)
            answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
            kept = [answer for answer in answers if not forbidden(answer.text)]
            rows += [completion_row(asked, answer, decoding, answer.sample, "candidate") for answer in kept]
        withheld += len(answers) - len(kept)
        failures += Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Failed))
    if withheld:
        context.say(f"{withheld} candidates were withheld by the handling rules")
    for reason, count in sorted(failures.items()):
        context.say(f"{count} candidates could not be had: {reason}")
    return [context.write(arm_stage("candidates", arm), "completions.parquet", rows, Completion)]


def make_pairs(context: Context, arm: str = "") -> list[Path]:
    """Stage ``pairs[:ARM]``: candidates judged and ranked into pairs, then mixed; what was dropped is counted."""
    study, stage = arm_study(context.study, arm), arm_stage("pairs", arm)
    safety, general = training_prompts(study, context.prompts())
    completions: dict[str, list[Completion]] = defaultdict(list)
    for row in context.read(arm_stage("candidates", arm), "completions.parquet", Completion):
        completions[row.prompt_id].append(row)
    with harm_judge(context, "preference") as judge:
        scored, unjudged = _scored(context, [*safety, *general], completions, judge)
        made_safety = safety_pairs(
            safety,
            scored,
            threshold=threshold_of(study.judges.as_settings("preference")),
            tie_margin=study.pairs.tie_margin,
            judge=judge.name,
            seed=study.seed,
        )
    made_general = general_pairs(general, scored, seed=study.seed)
    made_safety, made_general = (_fitting(context, made) for made in (made_safety, made_general))
    pairs = mix(made_safety.pairs, made_general.pairs, study.pairs.total, study.mixture, study.seed)
    summary = {**_summary(pairs, made_safety, made_general), "unjudged_candidates": unjudged}
    return [
        context.write(stage, "pairs.parquet", pairs, Pair),
        write_json(context.run.stage_folder(stage) / "summary.json", summary),
    ]


def _fitting(context: Context, made: Made) -> Made:
    """Without the pairs that a side of would be cut in training: dropped here, so that the mixture stays what it says."""
    training = context.study.training
    tokenizer = load_tokenizer(start_of(context, context.study.baseline))
    examples, _ = make_examples(texts_of_pairs(made.pairs), tokenizer, training.max_tokens, training.over_limit)
    kept = {example.pair_id for example in examples}
    pairs = [pair for pair in made.pairs if pair.id in kept]
    over = len(made.pairs) - len(pairs)
    return Made(pairs, {**made.dropped, **({f"over {training.max_tokens} tokens a side": over} if over else {})})


def _scored(
    context: Context, prompts: Sequence[Prompt], completions: dict[str, list[Completion]], judge: HarmJudge
) -> tuple[dict[str, list[Candidate]], int]:
    """Every candidate of every prompt with the judge's score, the language and degeneration rules, and likelihood.

    Candidates that the judge could not decide on are in no pair; how many there are comes second.
    """
    listed = [(p, *candidate) for p in prompts for candidate in candidates_of(p, completions[p.id])]
    scores = _scores(context, listed, judge)
    sampled = [(p.text, text) for p, text, _, reference in listed if p.set != "redteam" and not reference]
    likelihoods = {}
    if sampled:
        with local_engine(context, start_of(context, context.study.baseline)) as loaded:
            found = loaded.negative_log_likelihood(sampled)
        likelihoods = {pair: row.sum_nats / max(row.characters, 1) for pair, row in zip(sampled, found, strict=True)}
    result: dict[str, list[Candidate]] = defaultdict(list)
    for (prompt, text, source, reference), score in zip(listed, scores, strict=True):
        if score is None:
            continue
        result[prompt.id].append(
            Candidate(
                text=text,
                source=source,
                harm=score,
                on_language=on_language(text, prompt.language).on_language is not False,
                degenerate=degenerate(text).degenerate,
                nll=likelihoods.get((prompt.text, text), 0.0),
                reference=reference,
            )
        )
    return result, sum(score is None for score in scores)


def _scores(context: Context, listed: Sequence[tuple[Prompt, str, str, bool]], judge: HarmJudge) -> list[float | None]:
    """The preference judge's P(harm) of each candidate; its verdict as 0 or 1 where it has no score, None where it could
    not decide."""
    items = [
        Item(str(number), prompt.text, text, prompt.language, prompt.seed_id, prompt.scope)
        for number, (prompt, text, _, _) in enumerate(listed)
    ]
    said = judge.judge(items, context.progress("judging candidates", len(items)))
    return [None if v.harm == "undecidable" else score_of(v) for v in said]


def _summary(pairs: Sequence[Pair], safety: Made, general: Made) -> dict[str, object]:
    by_language: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in pairs:
        by_language[pair.language][pair.kind] += 1
    lengths = {
        kind: {
            "chosen_characters": _mean([len(p.chosen) for p in pairs if p.kind == kind]),
            "rejected_characters": _mean([len(p.rejected) for p in pairs if p.kind == kind]),
        }
        for kind in ("safety", "general")
    }
    used = Counter(pair.kind for pair in pairs)
    return {
        "safety": {"made": len(safety.pairs), "used": used["safety"], "dropped": dict(safety.dropped)},
        "general": {"made": len(general.pairs), "used": used["general"], "dropped": dict(general.dropped)},
        "by_language": {code: dict(counts) for code, counts in sorted(by_language.items())},
        "lengths": lengths,
        "chosen_sources": dict(Counter(p.chosen_source for p in pairs)),
    }


def _mean(values: Sequence[int]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
