"""Commands of ``alignprism construct``: rephrasings and benign twins of seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    say,
    settings_of,
)
from alignprism.cli.judge_options import show_table
from alignprism.cli.writing_plan import WritingPlan
from alignprism.errors import Failure

if TYPE_CHECKING:
    from alignprism.construct.checker import Checker
    from alignprism.construct.seeds import Given
    from alignprism.construct.sifting import WrittenPrompts
    from alignprism.models.protocol import Engine

PromptsArgument = Annotated[
    Path, typer.Argument(help="The seeds: a folder of `data import`, or .parquet, .jsonl or .csv with prompts.")
]
WriterOption = Annotated[str, typer.Option("--writer", help=f"The model that writes: {MODEL}.")]
CheckerOption = Annotated[
    str | None, typer.Option("--checker", help="The model that checks what was written; without it nothing is checked.")
]
LanguagesOption = Annotated[
    list[str] | None, typer.Option("--language", help="Only seeds of this language. May be repeated (default: all).")
]
RoundsOption = Annotated[int | None, typer.Option("--rounds", help="How often what lacks prompts is asked for again.")]
VariantsOption = Annotated[int | None, typer.Option("--variants", help="Prompts asked for in one call.")]
TemperatureOption = Annotated[float | None, typer.Option("--temperature", help="Of the writer; 0 is greedy.")]
TokensOption = Annotated[int | None, typer.Option("--max-new-tokens", help="Longest reply of the writer, in tokens.")]
TemplateOption = Annotated[
    str | None, typer.Option("--template", help="A template of your own for the writer (docs/construct.md).")
]


@app.command("rephrase")
def rephrase_command(
    prompts: PromptsArgument,
    writer: WriterOption,
    out: OutOption,
    checker: CheckerOption = None,
    language: LanguagesOption = None,
    per_seed: Annotated[int | None, typer.Option("--per-seed", help="Most new prompts from one seed.")] = None,
    quota: Annotated[
        int | None,
        typer.Option(
            "--quota", help="Prompts wanted per language, scope and category (default: --per-seed times its seeds)."
        ),
    ] = None,
    seeds_per_language: Annotated[
        int | None, typer.Option("--seeds-per-language", help="Most seeds of a language.")
    ] = None,
    rounds: RoundsOption = None,
    variants: VariantsOption = None,
    shots: Annotated[int | None, typer.Option("--shots", help="Other human seeds shown with each call.")] = None,
    style: Annotated[
        str | None,
        typer.Option(
            "--style", help="ask (a chat model is asked for a list) or continue (a base model goes on with one)."
        ),
    ] = None,
    embed: Annotated[
        bool | None,
        typer.Option(
            "--embed/--no-embed", help="Sentence vectors for shots, diversity and duplicates across languages."
        ),
    ] = None,
    temperature: TemperatureOption = None,
    max_new_tokens: TokensOption = None,
    template: TemplateOption = None,
    seed: SeedOption = 0,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """From a few human seeds of split train to many new training prompts, filtered, checked and counted.

    Prompts of every split are read, so that none of them is written again; only red-team seeds of split train are shown.
    """
    with exit_codes():
        from alignprism.construct.rephrase import decoding_of, first_requests, rephrase, template_of
        from alignprism.construct.seeds import read_seeds, usable_seeds
        from alignprism.construct.settings import RephraseSettings

        settings = settings_of(
            RephraseSettings, per_seed=per_seed, quota=quota, seeds_per_language=seeds_per_language, rounds=rounds,
            variants=variants, shots=shots, embed=embed, temperature=temperature, max_new_tokens=max_new_tokens,
            template=template, style=style,
        )  # fmt: skip
        given = read_seeds(prompts, language or (), ("train",))
        run = _Run(Asking(out, allow_remote or (), max_cost), writer, checker, given)
        if dry_run:
            used, _ = usable_seeds(given.seeds, settings.seeds_per_language, seed)
            asked = first_requests(used, settings, seed)
            plan = WritingPlan(asked, decoding_of(settings, seed, 0), settings.rounds, settings.check_max_new_tokens)
            plan.say(writer, checker, allow_remote or ())
            return
        template_of(settings)  # better known before a model is opened
        with run.opened(settings.check_max_new_tokens) as (writing, checking):
            bars = run.asking.reporter.progress
            found = rephrase(given.seeds, given.others, writing, checking, settings, seed=seed, progress=bars)
        run.finish("rephrase", found)
        _show_diversity(found.report["diversity"])
        _refuse_stopped(found.stopped, found.report)


@app.command("twins")
def twins_command(
    prompts: PromptsArgument,
    writer: WriterOption,
    out: OutOption,
    checker: CheckerOption = None,
    language: LanguagesOption = None,
    per_seed: Annotated[int | None, typer.Option("--per-seed", help="Twins wanted of each seed.")] = None,
    rounds: RoundsOption = None,
    variants: VariantsOption = None,
    temperature: TemperatureOption = None,
    max_new_tokens: TokensOption = None,
    template: TemplateOption = None,
    seed: SeedOption = 0,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Harmless prompts that look like the seeds, for the over-refusal rate; each lies in the split of its seed."""
    with exit_codes():
        from alignprism.construct.seeds import allowed_seeds, read_seeds
        from alignprism.construct.settings import TwinSettings
        from alignprism.construct.twins import twin_decoding, twin_requests, twins
        from alignprism.construct.writing import writing_template

        settings = settings_of(
            TwinSettings, per_seed=per_seed, rounds=rounds, variants=variants, temperature=temperature,
            max_new_tokens=max_new_tokens, template=template,
        )  # fmt: skip
        given = read_seeds(prompts, language or (), ("train", "dev", "test"))
        run = _Run(Asking(out, allow_remote or (), max_cost), writer, checker, given)
        if dry_run:
            used, _ = allowed_seeds(given.seeds)
            asked = twin_requests(used, settings, writing_template("twin", settings.template), 0)
            plan = WritingPlan(asked, twin_decoding(settings, seed, 0), settings.rounds, settings.check_max_new_tokens)
            plan.say(writer, checker, allow_remote or ())
            return
        writing_template("twin", settings.template)  # better known before a model is opened
        with run.opened(settings.check_max_new_tokens) as (writing, checking):
            bars = run.asking.reporter.progress
            found = twins(given.seeds, given.others, writing, checking, settings, seed=seed, progress=bars)
        run.finish("twins", found)
        lacking = found.report["seeds_without_twins"]
        if lacking:
            say(f"{len(lacking)} seeds have no twin; report.json lists them")
        _refuse_stopped(found.stopped, found.report)


@dataclass
class _Run:
    """One command's models and what it writes."""

    asking: Asking
    writer: str
    checker: str | None
    given: Given

    @contextmanager
    def opened(self, check_tokens: int) -> Iterator[tuple[Engine, Checker | None]]:
        """Writer and checker; one model in both roles is opened once."""
        from contextlib import ExitStack

        from alignprism.construct.checker import Checker

        with self.asking.opened(), ExitStack() as stack:
            writing = stack.enter_context(self.asking.model(self.writer))
            if self.checker is None:
                yield writing, None
                return
            same = self.checker == self.writer
            yield (
                writing,
                Checker(writing if same else stack.enter_context(self.asking.model(self.checker)), check_tokens),
            )

    def finish(self, command: str, found: WrittenPrompts) -> None:
        """Write the folder, and say what is in it."""
        from alignprism.construct.output import ORIGINS, new_folder, write_lines, write_report, write_set_aside
        from alignprism.prompts.tables import TableWriter
        from alignprism.rows import Prompt

        prompts, report = found.prompts, found.report
        with new_folder(self.asking.out) as folder:
            with TableWriter(folder / "prompts.parquet", Prompt) as table:
                for prompt in prompts:
                    table.write(prompt)
            write_lines(folder / ORIGINS, found.origins)
            write_set_aside(folder, [*self.given.unreadable, *found.set_aside])
            write_report(folder, {"command": command, "unreadable_rows": len(self.given.unreadable), **report})
        _show_counts(report)
        seeds = report["seeds"]
        say(f"{self.asking.out}: {len(prompts)} prompts of {seeds['used']} seeds")
        if seeds["set_aside"]:
            say(
                f"{seeds['given'] - seeds['used']} more seeds were not used: {_listed(list(seeds['set_aside'].items()))}"
            )
        if self.given.unreadable:
            say(f"{len(self.given.unreadable)} rows could not be read; set_aside.jsonl says why")
        if not report["checked"]:
            say("Nothing was checked: --checker names a model that does")
        if report["checker_is_writer"]:
            say("The writer checked its own prompts; another model's opinion is worth more")


def _show_counts(report: Mapping[str, Any]) -> None:
    """A line for each language, and one for each reason."""
    lines = []
    for code, counts in report["by_language"].items():
        reasons = sorted(counts["set_aside"].items(), key=lambda item: (-item[1], item[0]))
        lines.append((code, str(counts["accepted"]), str(sum(counts["set_aside"].values())), _listed(reasons)))
    show_table(("language", "accepted", "set aside", "reasons"), lines)


def _listed(reasons: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons)


def _show_diversity(figures: Mapping[str, Mapping[str, Any]]) -> None:
    def shown(value: Any) -> str:
        return "-" if value is None else f"{value['mean'] if isinstance(value, dict) else value:.2f}"

    head = ("language", "Vendi score", "of the seeds", "distance to seed (cosine)", "(letters)")
    names = ("vendi", "vendi_seeds", "cosine_distance", "letter_distance")
    show_table(head, [(code, *(shown(found[name]) for name in names)) for code, found in figures.items()])


def _refuse_stopped(stopped: str, report: Mapping[str, Any]) -> None:
    """Say that the work ended early, or brought nothing; what was made is written.

    Raises
    ------
    Failure
        money, the run or the writer's answers ended it, or nothing was accepted.
    """
    from alignprism.construct.rephrase import ENDED

    if stopped not in ENDED:
        raise Failure(
            f"ended early: {stopped}. What was made is written. Answers are kept in calls.sqlite: with the cause mended (as by "
            "--max-cost), the same command with another --out beside it goes on from there"
        )
    if not report["accepted"]:
        reasons = sorted(report["set_aside"].items(), key=lambda item: (-item[1], item[0]))
        raise Failure(
            f"nothing was accepted ({_listed(reasons[:3]) or 'the writer wrote nothing'}). Try another writer or checker"
        )
