"""The command that mixes safety and general pairs: construct mix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignprism.cli.console import exit_codes
from alignprism.cli.construct import (
    Asking,
    CostOption,
    DryRunOption,
    OutOption,
    RemoteOption,
    SeedOption,
    app,
    destinations,
    refuse_output,
    say,
)
from alignprism.cli.judge_options import show_table
from alignprism.cli.pair_options import LanguagesOption, codes_of, open_harm_judge, show_pairs
from alignprism.errors import InputError

if TYPE_CHECKING:
    from alignprism.construct.mix import Mixed
    from alignprism.construct.output import SetAside
    from alignprism.construct.pair_inputs import ReadPairs
    from alignprism.rows import Pair

SCOPES = ("all", "global", "local", "both")


@app.command("mix")
def mix_command(
    safety: Annotated[
        Path, typer.Argument(help="Safety pairs: a folder or table of pairs, or any file in TRL's preference format.")
    ],
    general: Annotated[Path, typer.Argument(help="General pairs, in the same forms.")],
    out: OutOption,
    mixture: Annotated[
        str, typer.Option("--mixture", help="Share of safety pairs: 0, 0.15, 1, or safety to general as 1:5.")
    ] = "0.15",
    total: Annotated[
        int | None,
        typer.Option("--total", min=1, help="Number of pairs, both kinds together (default: the most there can be)."),
    ] = None,
    scope: Annotated[
        str,
        typer.Option(
            "--scope",
            help="Safety pairs of global or local harm only; both: a mixture of each, equal in size in every language.",
        ),
    ] = "all",
    languages: LanguagesOption = None,
    language: Annotated[str | None, typer.Option("--language", help="Language of rows that name none.")] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", help="Judge of harm that reads the chosen sides of the safety pairs; harmful ones are refused."
        ),
    ] = None,
    seed: SeedOption = 0,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Safety and general pairs in one ratio in every language; drawn by seed, none twice, a smaller total a part of a larger."""
    with exit_codes():
        from alignprism.construct.pair_inputs import read_pairs

        if scope not in SCOPES:
            raise InputError(f"--scope {scope}: accepted: {', '.join(SCOPES)}")
        share, codes = share_of(mixture), codes_of(languages) or None
        if not dry_run:
            refuse_output(out)
        asking = Asking(out, allow_remote or (), max_cost)
        found = {"safety": read_pairs(safety, "safety", language), "general": read_pairs(general, "general", language)}
        if judge is not None and dry_run:
            _say_judging(judge, found["safety"].pairs, allow_remote or ())
        elif judge is not None:
            found["safety"] = _judged(judge, asking, found["safety"])
        found["general"] = _apart(found["general"], found["safety"])
        arms = _mixed(found["safety"].pairs, found["general"].pairs, total, share, scope, seed, codes)
        if dry_run:
            for name, mixed in arms.items():
                say(
                    f"{name or 'all'}: {len(mixed.pairs)} pairs, {share:.4g} of them safety pairs. Nothing was written."
                )
                _show_cells(mixed)
            return
        counts = {
            kind: {
                "read": len(read.pairs) + len(read.set_aside),
                "usable": len(read.pairs),
                "set_aside": dict(Counter(row.reason for row in read.set_aside)),
            }
            for kind, read in found.items()
        }
        report = {"command": "mix", "mixture": share, "seed": seed, "judged_by": judge, "pairs": counts}
        if scope != "all":
            scopes = Counter(pair.scope or "none" for pair in found["safety"].pairs)
            report["usable_by_scope"] = dict(sorted(scopes.items()))
        _write(out, arms, [row for read in found.values() for row in read.set_aside], report)
        unscoped = sum(pair.scope is None for pair in found["safety"].pairs) if scope != "all" else 0
        if unscoped:
            say(f"{unscoped} safety pairs name no scope and are in no mixture of one")
        if judge is None:
            say("Chosen sides were not judged: --judge refuses harmful ones")


def share_of(mixture: str) -> float:
    """``--mixture`` as the share of safety pairs.

    Raises
    ------
    InputError
        it is neither a number from 0 to 1 nor a ratio.
    """
    from alignprism.study.settings import mixture_share

    try:
        share = float(mixture_share(mixture))  # type: ignore[arg-type]  # what is no number is told below
    except ValueError as error:
        raise InputError(f"--mixture {mixture}: a number from 0 to 1 is accepted, or a ratio as 1:5") from error
    if not 0 <= share <= 1:
        raise InputError(f"--mixture {mixture}: a share is from 0 to 1")
    return share


def _mixed(
    safety: Sequence[Pair], general: Sequence[Pair], total: int | None, share: float, scope: str, seed: int,
    codes: Sequence[str] | None,
) -> dict[str, Mixed]:  # fmt: skip
    """The mixture by the name of its folder; the only one has none."""
    from alignprism.construct.mix import available_pairs, largest_total, mix, scope_arms

    if scope != "all":
        arms = {str(name): arm for name, arm in scope_arms(safety, general, total, share, seed, codes).items()}
        named = arms if scope == "both" else {"": arms[scope]}
    else:
        size = largest_total(available_pairs(safety, general, codes), share) if total is None else total
        named = {"": mix(safety, general, size, share, seed, codes)}
    for name, arm in named.items():
        _refuse_one_sided(name or scope, arm, share)
    return named


def _refuse_one_sided(scope: str, arm: Mixed, share: float) -> None:
    """A mixture of nothing, or without a side that it asks for, is none, however few pairs it has."""
    there = {cell.kind for cell in arm.cells}
    for kind, asked in (("safety", share), ("general", 1 - share)):
        if asked > 0 and kind not in there:
            of_scope = f" of scope {scope}" if kind == "safety" and scope != "all" else ""
            raise InputError(
                f"the mixture asks for {asked:.4g} {kind} pairs, and there is none{of_scope} that can be used: look at --languages, "
                "at the scope column, and at what --judge refused"
            )


def _apart(general: ReadPairs, safety: ReadPairs) -> ReadPairs:
    """The general pairs that are not among the safety pairs as well: no pair is taken twice."""
    from alignprism.construct.output import SetAside
    from alignprism.construct.pair_inputs import ReadPairs

    known = {pair.id for pair in safety.pairs}
    twice = [SetAside(pair.id, "among the safety pairs as well") for pair in general.pairs if pair.id in known]
    return ReadPairs([pair for pair in general.pairs if pair.id not in known], [*general.set_aside, *twice])


def _judged(named: str, asking: Asking, read: ReadPairs) -> ReadPairs:
    """The pairs whose chosen side the judge calls harmless."""
    from alignprism.construct.pair_inputs import ReadPairs, refuse_harmful
    from alignprism.judging.judge_file import judge_settings

    with asking.opened(), ExitStack() as stack:
        harm = open_harm_judge(judge_settings(named), asking, (), stack)
        kept = refuse_harmful(read.pairs, harm, asking.progress(f"judging with {harm.name}", len(read.pairs)))
    return ReadPairs(kept.pairs, [*read.set_aside, *kept.set_aside])


def _say_judging(named: str, pairs: Sequence[Pair], allow_remote: Sequence[str]) -> None:
    from alignprism.judging.judge_file import judge_settings
    from alignprism.judging.planning import planned_calls
    from alignprism.judging.protocol import Item

    items = [Item(p.id, p.prompt, p.chosen, p.language, p.seed_id, p.scope) for p in pairs]
    for row in planned_calls(judge_settings(named), items):
        say(f"prompts and chosen answers to {row.model}: {row.calls or 'no model calls'}")
        say(f"    texts go to: {destinations(row.hosts, allow_remote)}")


def _write(out: Path, arms: dict[str, Mixed], aside: Sequence[SetAside], report: dict[str, Any]) -> None:
    from alignprism.construct.output import new_folder, write_report, write_set_aside
    from alignprism.construct.pairing import pairs_summary
    from alignprism.rows import Pair, write_rows

    made: dict[str, Any] = {}
    with new_folder(out) as folder:
        for name, mixed in arms.items():
            write_rows(folder / name / "pairs.parquet", mixed.pairs, Pair)
            made[name or "all"] = {**mixed.summary(), **pairs_summary(mixed.pairs)}
        write_set_aside(folder, aside)
        write_report(folder, {**report, "mixed": made})
    for name, mixed in arms.items():
        show_pairs(mixed.pairs)
        say(f"{out / name}: {len(mixed.pairs)} pairs; {len(aside)} rows were set aside")


def _show_cells(mixed: Mixed) -> None:
    lines = [(c.language, c.kind, c.scope or "-", str(c.available), str(c.taken)) for c in mixed.cells]
    show_table(("language", "kind", "scope", "available", "taken"), lines)
