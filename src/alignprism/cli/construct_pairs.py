"""The command that ranks completions into preference pairs: construct pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignprism.cli import construct_mix  # noqa: F401  # its command joins construct.app
from alignprism.cli.console import exit_codes
from alignprism.cli.construct import (
    MODEL,
    Asking,
    CostOption,
    DryRunOption,
    OutOption,
    RemoteOption,
    SeedOption,
    app,
    destinations,
    say,
)
from alignprism.cli.pair_options import (
    LanguagesOption,
    codes_of,
    open_harm_judge,
    show_pairs,
)
from alignprism.errors import Failure, InputError

if TYPE_CHECKING:
    from alignprism.construct.candidates import Supplied
    from alignprism.construct.output import SetAside
    from alignprism.construct.pair_plan import Planned
    from alignprism.construct.pairing import Judged, Ranking
    from alignprism.construct.prefer import Made, RankedBy
    from alignprism.construct.ranking import Compared
    from alignprism.judging.settings import JudgeSettings, PairwiseSettings
    from alignprism.models.protocol import Decoding
    from alignprism.rows import Completion, Prompt


@app.command("pairs")
def pairs_command(
    prompts: Annotated[
        Path,
        typer.Argument(help="Prompts: a folder of `data import`, or .parquet, .jsonl or .csv; split train is used."),
    ],
    out: OutOption,
    generator: Annotated[
        list[str] | None, typer.Option("--generator", help=f"A model that answers, may be repeated: {MODEL}.")
    ] = None,
    completions: Annotated[
        Path | None,
        typer.Option(
            "--completions",
            help="Answers that you bring: prompt_id or prompt, text, source, and kind (model, human, supplied).",
        ),
    ] = None,
    judge: Annotated[
        str, typer.Option("--judge", help="Judge of harm: a shipped head, a head's folder, or a judge file.")
    ] = "gemma-harm-v1",
    pairwise: Annotated[
        Path | None, typer.Option("--pairwise", help="File of a pairwise judge, which compares in both orders.")
    ] = None,
    ranking: Annotated[
        str | None,
        typer.Option("--ranking", help="scores, comparisons, or both (default: both with --pairwise, else scores)."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Answers of each generator to each prompt.")] = 2,
    temperature: Annotated[float, typer.Option("--temperature", help="Of the generators.")] = 0.9,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 256,
    tie_margin: Annotated[
        float, typer.Option("--tie-margin", min=0.0, help="Scores closer than this are a tie, which gives no pair.")
    ] = 0.1,
    length_tolerance: Annotated[
        float | None,
        typer.Option(
            "--match-lengths",
            min=0.0,
            help="Drop pairs until the mean difference in length is at most this share of the mean length, as 0.05.",
        ),
    ] = None,
    languages: LanguagesOption = None,
    seed: SeedOption = 0,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Answers of several generators, ranked by judges into preference pairs; a harmful answer is never the chosen one."""
    with exit_codes():
        from alignprism.judging.judge_file import judge_settings, read_pairwise_file
        from alignprism.models.protocol import Decoding

        compared = read_pairwise_file(pairwise) if pairwise is not None else None
        rule = ranking or ("scores" if compared is None else "both")
        try:
            decoding = Decoding(max_new_tokens, temperature, seed=seed, samples=samples)
        except ValueError as error:
            raise InputError(f"--samples, --temperature: {error}") from error
        asking = Asking(out, allow_remote or (), max_cost)
        run = _Pairs(asking, generator or [], judge_settings(judge), compared, rule, tie_margin, decoding)
        run.read(prompts, completions, codes_of(languages))
        if dry_run:
            run.say_plan()
            return
        run.make(length_tolerance)


@dataclass
class _Pairs:
    """One command's prompts, models and judges, and what it writes."""

    asking: Asking
    generators: Sequence[str]
    judge: JudgeSettings
    pairwise: PairwiseSettings | None
    rule: str
    tie_margin: float
    decoding: Decoding

    def read(self, path: Path, completions: Path | None, languages: Collection[str]) -> None:
        """Prompts and supplied answers, and whether pairs can be made of them, before anything is asked."""
        from alignprism.construct.candidates import Supplied, supplied_candidates
        from alignprism.construct.pair_inputs import read_training_prompts
        from alignprism.construct.prefer import kind_of
        from alignprism.construct.ranking import RULES
        from alignprism.judging.open import check_settings

        if self.rule not in RULES:
            raise InputError(f"--ranking {self.rule}: accepted: {', '.join(RULES)}")
        if (self.rule != "scores") != (self.pairwise is not None):
            raise InputError(f"--ranking {self.rule}: --pairwise goes with comparisons and both, and they need it")
        check_settings(self.judge)
        self.given = read_training_prompts(path, languages)
        self.prompts: list[Prompt] = self.given.prompts
        none = Supplied({}, [])
        self.supplied: Supplied = supplied_candidates(completions, self.prompts) if completions is not None else none
        self._refuse_one_source()
        # Whether the judges can be spoken to in every language is better known before completions are paid for.
        self._planned(list({prompt.language: prompt for prompt in self.prompts}.values()), 2)
        general = [p for p in self.prompts if kind_of(p) == "general"]
        if general and self.rule == "scores":
            raise InputError(
                f"{len(general)} prompts are no red-team prompts (the first: {general[0].id!r}), and scores of harm do not rank "
                "answers to them; give --pairwise, leave them out, or see `alignprism construct general`"
            )

    def _refuse_one_source(self) -> None:
        from alignprism.construct.output import first_unreadable

        repeated = [name for name, count in Counter(self.generators).items() if count > 1]
        if repeated:
            raise InputError(f"--generator {repeated[0]}: named twice; --samples takes more answers of one model")
        references = {"reference"} if any(prompt.reference for prompt in self.prompts) else set()
        sources = [*self.generators, *sorted(self.supplied.sources | references)]
        if len(sources) < 2:
            unused = Counter(row.reason for row in self.supplied.set_aside)
            listed = ", ".join(f"{reason} ({count})" for reason, count in unused.most_common())
            listed += first_unreadable(self.supplied.set_aside)
            raise InputError(
                f"candidates come from {', '.join(sources) or 'nowhere'}: two sources at least are needed, or pairs show one model's "
                "chance only. Name another --generator, or bring answers with --completions"
                + (f"; of those brought some were not used: {listed}" if listed else "")
            )

    def say_plan(self) -> None:
        """Calls, cost and destinations, without asking."""
        supplied = sum(map(len, self.supplied.by_prompt.values()))
        each = len(self.generators) * self.decoding.samples + -(-supplied // len(self.prompts))
        each += any(prompt.reference for prompt in self.prompts)
        for part in self._planned(self.prompts, each):
            say(f"{part.text} to {part.to}: {part.calls or 'no model calls'}")
            say(f"    texts go to: {destinations(part.hosts, self.asking.allow_remote)}")
        say(
            f"{len(self.prompts)} prompts with up to {each} candidates each. Stored answers cost nothing. Nothing was asked."
        )

    def _planned(self, prompts: Sequence[Prompt], candidates: int) -> list[Planned]:
        from alignprism.construct.pair_plan import planned
        from alignprism.models.model_file import model_settings

        generators = [(name, model_settings(name)) for name in self.generators]
        return list(planned(prompts, generators, self.decoding, self.judge, self.pairwise, candidates))

    def make(self, length_tolerance: float | None) -> None:
        """Sample, judge, rank, balance; then write everything at once."""
        from alignprism.construct.pairing import length_matched

        with self.asking.opened():
            rows, missing = self._sampled()
            judged, ranking, by = self._judged(rows)
            made, compared = self._ranked(judged, ranking, by)
        if length_tolerance is not None:
            made = length_matched(made, length_tolerance, self.decoding.seed)
        report = {
            "command": "pairs",
            "seed": self.decoding.seed,
            "prompts": {**self.given.counts, "pairs": len(made.pairs), "without_pair": made.dropped},
            "supplied_not_used": dict(Counter(row.reason for row in self.supplied.set_aside)),
            "answers_missing": dict(Counter(row.reason for row in missing)),
            "candidates_not_judged": len(judged.set_aside),
            "candidates": judged.sources(),
            "ranking": {"rule": self.rule, "tie_margin": self.tie_margin, "harmful_from": ranking.threshold},
            "judge": {"name": by.judge, "digest": by.judge_digest},
            "length_tolerance": length_tolerance,
            "comparisons": compared.counts() if compared is not None else None,
        }
        aside = [*self.given.set_aside, *self.supplied.set_aside, *missing, *judged.set_aside, *made.set_aside]
        self._write(made, rows, compared, aside, report)

    def _sampled(self) -> tuple[list[Completion], list[SetAside]]:
        """Answers of every generator, one in memory at a time; each has its own seed."""
        from dataclasses import replace

        from alignprism.construct.pairing import sample

        rows: list[Completion] = []
        missing: list[SetAside] = []
        digests: dict[str, str] = {}
        for number, named in enumerate(self.generators):
            with self.asking.model(named) as engine:
                if engine.digest in digests:
                    raise InputError(f"--generator {named}: the same weights as {digests[engine.digest]}; name another")
                digests[engine.digest] = named
                advance = self.asking.progress(
                    f"sampling from {engine.name}", len(self.prompts) * self.decoding.samples
                )
                decoding = replace(self.decoding, seed=self.decoding.seed + number)
                found, aside = sample(engine, self.prompts, decoding, advance)
            rows += found
            missing += aside
        return rows, missing

    def _judged(self, rows: Sequence[Completion]) -> tuple[Judged, Ranking, RankedBy]:
        from alignprism.construct.candidates import candidates_of
        from alignprism.construct.pair_plan import harmful_from
        from alignprism.construct.pairing import Ranking, judge_candidates
        from alignprism.construct.prefer import RankedBy

        by_prompt: dict[str, list[Completion]] = {prompt.id: [] for prompt in self.prompts}
        for row in rows:
            by_prompt[row.prompt_id].append(row)
        written = {
            prompt.id: candidates_of(prompt, by_prompt[prompt.id], self.supplied.by_prompt.get(prompt.id, ()))
            for prompt in self.prompts
        }
        with ExitStack() as stack:
            judge = open_harm_judge(self.judge, self.asking, self.prompts, stack)
            advance = self.asking.progress(f"judging with {judge.name}", sum(map(len, written.values())))
            judged = judge_candidates(self.prompts, written, judge, advance)
            by = RankedBy(judge.name, judge.digest)
        rule: Any = self.rule
        return judged, Ranking(rule, harmful_from(self.judge), self.tie_margin, self.decoding.seed), by

    def _ranked(self, judged: Judged, ranking: Ranking, by: RankedBy) -> tuple[Made, Compared | None]:
        from alignprism.construct.pairing import rank
        from alignprism.construct.ranking import n_meetings

        if self.pairwise is None:
            return rank(self.prompts, judged.candidates, ranking, by)
        with self.asking.pairwise(self.pairwise) as comparer:
            total = 2 * sum(n_meetings(len(own)) for own in judged.candidates.values())
            advance = self.asking.progress(f"comparing with {comparer.name}", total)
            return rank(self.prompts, judged.candidates, ranking, by, comparer, advance)

    def _write(
        self, made: Made, rows: Sequence[Completion], compared: Compared | None, aside: Sequence[SetAside],
        report: Mapping[str, Any],
    ) -> None:  # fmt: skip
        from alignprism.construct.output import new_folder, write_report, write_set_aside
        from alignprism.construct.pairing import pairs_summary
        from alignprism.rows import Comparison, Completion, Pair, write_rows

        with new_folder(self.asking.out) as folder:
            write_rows(folder / "pairs.parquet", made.pairs, Pair)
            write_rows(folder / "completions.parquet", rows, Completion)
            if compared is not None:
                write_rows(folder / "comparisons.parquet", compared.rows, Comparison)
            write_set_aside(folder, aside)
            write_report(folder, {**report, **pairs_summary(made.pairs)})
        show_pairs(made.pairs)
        for what in ("supplied_not_used", "answers_missing"):
            for reason, count in sorted(report[what].items()):
                say(f"{what.replace('_', ' ')}, {count}: {reason}")
        if report["candidates_not_judged"]:
            say(
                f"candidates that the judge could not decide on: {report['candidates_not_judged']}; they are in no pair"
            )
        for reason, count in sorted(made.dropped.items()):
            say(f"no pair, {count} prompts: {reason}")
        say(f"{self.asking.out}: {len(made.pairs)} pairs of {len(self.prompts)} prompts")
        if not made.pairs:
            raise Failure(f"{self.asking.out}: not one pair was made; report.json says why")
