"""The command that compares two answers to each prompt: judge pair."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignprism.cli.console import cache_folder, console, exit_codes, quiet_libraries
from alignprism.cli.judge import app
from alignprism.cli.judge_options import (
    ColumnOption,
    CostOption,
    DryRunOption,
    RemoteOption,
    columns_of,
    show_table,
)
from alignprism.errors import Failure
from alignprism.progress import ConsoleReporter

if TYPE_CHECKING:
    from alignprism.judging.pairwise import Matchup, PairwiseJudge
    from alignprism.judging.settings import PairwiseSettings
    from alignprism.judging.win_rates import Judged
    from alignprism.rows import Figure

RESAMPLES = 4000


@app.command("pair")
def judge_pair(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines, CSV or Parquet with prompt, completion_a, completion_b, language; where there are: id, seed_id, "
            "model_a and model_b."
        ),
    ],
    judge: Annotated[Path, typer.Option("--judge", help="A pairwise judge file (docs/win_rates.md).")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="The file with the preferences: .jsonl, .csv or .parquet. Figures go beside it (NAME.figures.SUFFIX).",
        ),
    ],
    column: ColumnOption = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Put before the names of the new columns.")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the intervals' resamples.")] = 0,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Compare two answers to each prompt in both orders; win rates by language, with ties, flips and length control."""
    with exit_codes():
        from alignprism.judging.judge_file import read_pairwise_file
        from alignprism.judging.judged_file import check_output, write_judged
        from alignprism.judging.paired_file import WRITTEN, compared_columns, matchups_of, read_paired
        from alignprism.judging.pairwise import PairwiseQuestions
        from alignprism.judging.win_rates import judged, pairwise_figures

        settings = read_pairwise_file(judge)
        rows = read_paired(file, columns_of(column))
        check_output(out, rows, prefix, WRITTEN)
        matchups = matchups_of(rows)
        PairwiseQuestions(settings).check(matchups)
        reporter = ConsoleReporter(console)
        if dry_run:
            _say_plan(settings, matchups, len(rows) - len(matchups), allow_remote or (), reporter)
            return
        with _opened(settings, out.parent / "calls.sqlite", allow_remote or (), max_cost, reporter) as asking:
            tally = getattr(asking.engine, "tally", "")
            advance = reporter.progress(f"comparing with {asking.name}", len(matchups), lambda: tally)
            found = judged(matchups, list(asking.compare(matchups, advance)))
        figures = pairwise_figures(found, asking.name, RESAMPLES, seed)
        write_judged(out, compared_columns(rows, found, asking.name, asking.digest, prefix))
        beside = out.with_name(f"{out.stem}.figures{out.suffix}")
        write_judged(beside, [asdict(figure) for figure in figures])
        _show_wins(figures)
        reporter.say(f"{out} written: {len(rows)} rows; {beside.name}: {len(figures)} figures")
        _refuse_unread(found)


@contextmanager
def _opened(
    settings: PairwiseSettings,
    path: Path,
    allow_remote: Sequence[str],
    max_cost: float | None,
    reporter: ConsoleReporter,
) -> Iterator[PairwiseJudge]:
    """The judge, ready to be asked; replies are kept at `path`."""
    from alignprism.judging.open import model_name
    from alignprism.judging.pairwise import PairwiseJudge
    from alignprism.models.cost import Budget
    from alignprism.models.engines import open_engine
    from alignprism.models.store import CallStore

    endpoint = settings.model.endpoint
    key = endpoint.api_key_env if endpoint is not None else None
    keys = {key: os.environ[key]} if key is not None and key in os.environ else {}
    if endpoint is None:
        quiet_libraries()
    with CallStore(path) as store:
        cap = None if max_cost is None else Budget(max_cost, store.spent())
        with open_engine(
            settings.model, model_name(settings.model), store=store, cache=cache_folder(), allow_remote=allow_remote,
            keys=keys, cap=cap, say=reporter.say,
        ) as engine:  # fmt: skip
            try:
                yield PairwiseJudge(engine, settings)
            finally:
                reporter.close()


def _say_plan(
    settings: PairwiseSettings,
    matchups: Sequence[Matchup],
    left_out: int,
    allow_remote: Sequence[str],
    reporter: ConsoleReporter,
) -> None:
    from alignprism.judging.open import model_name
    from alignprism.judging.pairwise import PairwiseQuestions
    from alignprism.models.cost import estimate
    from alignprism.models.engines import is_this_machine

    questions, endpoint, say = PairwiseQuestions(settings), settings.model.endpoint, reporter.say
    requests = (request for matchup in matchups for request in questions.requests(matchup))
    identical = sum(matchup.identical for matchup in matchups)
    say(
        f"{len(matchups)} pairs to compare in both orders, {identical} of them identical and not sent; {left_out} lack an answer"
    )
    price = endpoint.price if endpoint is not None else None
    say(f"{model_name(settings.model)}: {estimate(requests, questions.decoding, price)}")
    remote = [host for host in (endpoint.hosts if endpoint is not None else ()) if not is_this_machine(host)]
    missing = [host for host in remote if host.lower() not in {name.lower() for name in allow_remote}]
    say(
        f"    prompts and answers go to: {', '.join(remote) if remote else 'this machine only'}"
        + (f" (not allowed yet: --allow-remote {missing[0]})" if missing else "")
    )
    say("Answers that are in the call store already are not asked for again. Nothing was asked.")


def _show_wins(figures: Sequence[Figure]) -> None:
    """A line per pair of models and language, a line per model's strength, and what the figures that lack something say."""
    from alignprism.judging.win_rates import EQUAL_LENGTH, TIES_DROPPED, TIES_HALF

    by_place = {(f.model, f.baseline, f.language, f.metric, f.estimand): f for f in figures}
    shares = {(f.model, f.baseline, f.language, f.metric): f for f in figures}
    columns = (TIES_HALF, TIES_DROPPED, EQUAL_LENGTH)
    head = (
        "win rate of", "language", "prompts", "win/tie/loss %", "ties half %", "ties dropped %", "equal length %", "flips %", "first place +%",
    )  # fmt: skip
    lines = []
    places = dict.fromkeys((f.model, f.baseline, f.language) for f in figures if f.metric == "win_rate")
    for place in places:
        counts = [shares[*place, f"{name}_share"] for name in ("win", "tie", "loss")]
        lines.append((
            f"{place[0]} over {place[1]}", place[2] or "all", str(counts[0].n), "/".join(map(_share, counts)),
            *(percent(by_place[*place, "win_rate", estimand]) for estimand in columns),
            percent(shares[*place, "flip_rate"]), percent(shares[*place, "position_bias"]),
        ))  # fmt: skip
    show_table(head, lines)
    undecided = [shares[*place, "undecidable_rate"] for place in places]
    for f in undecided:
        if f.estimate:
            _say(f"{f.model} over {f.baseline}, {f.language or 'all'}: {percent(f)} % undecidable, in no win rate")
    for f in figures:
        if f.metric == "strength":
            _say(f"chance that {f.model} beats {f.baseline} (Bradley-Terry): {percent(f)} %")
    for reason, count in Counter(f.reason for f in figures if f.reason and f.estimate != 0.5).most_common(5):
        _say(f"{count} figures: {reason}")


def percent(figure: Figure, digits: int = 0) -> str:
    """The figure times 100 with its interval; a dash where there is none."""
    if figure.estimate is None:
        return "-"
    value = f"{100 * figure.estimate:.{digits}f}"
    if figure.low is None or figure.high is None:
        return value
    return f"{value} ({100 * figure.low:.{digits}f} to {100 * figure.high:.{digits}f})"


def _share(figure: Figure) -> str:
    return "-" if figure.estimate is None else f"{100 * figure.estimate:.0f}"


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False)


def _refuse_unread(found: Sequence[Judged]) -> None:
    """Say that calls got no answer, or that the judge is of no use here; what it said is kept.

    Raises
    ------
    Failure
        a call got no answer, or no comparison that was asked for is decided.
    """
    from alignprism.judging.unanswered import unanswered_in

    rows = [row for judged in found for row in (judged.ab, judged.ba)]
    missing = unanswered_in(rows)
    if missing.rows:
        raise Failure(
            f"{missing.rows} comparisons were not made (of {missing.asked}; calls without an answer: {missing.listed}). What "
            "was answered is kept: the same command asks for the rest again"
        )
    asked = [row for row in rows if row.calls]
    if asked and all(row.preferred == "undecidable" for row in asked):
        reason = Counter(row.reason for row in asked).most_common(1)[0][0]
        raise Failure(
            f"the judge decided none of {len(asked)} comparisons (most often: {reason}). Its replies are kept; try another "
            "model, a longer max_new_tokens or another template"
        )
