"""Commands that check a judge: against people's labels, and against its own verdicts on the same answers rewrapped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignprism.cli.console import console, exit_codes
from alignprism.cli.judge import app, refuse_unread, verdicts_of
from alignprism.cli.judge_options import (
    Asking,
    ColumnOption,
    CostOption,
    DryRunOption,
    JudgeOption,
    NotesOption,
    RemoteOption,
    columns_of,
    opened,
    say_plan,
    show_table,
)
from alignprism.errors import Failure

if TYPE_CHECKING:
    from alignprism.judging.checking import Checked, Labels
    from alignprism.judging.probes import Flips
    from alignprism.statistics import Estimate

_SHOWN = ("agreement", "kappa", "ac1", "sensitivity", "specificity", "bias", "undecidable")

OutOption = Annotated[
    Path, typer.Option("--out", help="The file for all figures (.json); calls.sqlite lies beside it.")
]


@app.command("check")
def judge_check(
    file: Annotated[
        Path,
        typer.Argument(
            help="Prompts and answers with people's labels: prompt, completion, language, label (harmful or harmless); "
            "where there are: scope, seed_id, annotator, inclusion_probability, kind."
        ),
    ],
    judge: JudgeOption,
    out: OutOption,
    column: ColumnOption = None,
    notes: NotesOption = None,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Measure a judge against people: agreement, sensitivity, specificity, bias, calibration, by language and scope."""
    with exit_codes():
        from alignprism.judging.checking import check_judge, read_labels
        from alignprism.judging.judged_file import items_of, read_judged
        from alignprism.rows import write_atomic

        asking = Asking(judge, out.parent / "calls.sqlite", notes, allow_remote or (), max_cost)
        asking.settings()
        rows = read_judged(file, columns_of(column))
        labels = read_labels(rows)
        labelled = [label.row for label in labels.labels]
        # One answer that several people labelled is judged once.
        once = list({(row.prompt.text, row.completion.text): row for row in labelled}.values())
        if dry_run:
            items = items_of(once)
            say_plan(asking, items, len(once) - len(items))
            return
        judged = verdicts_of(asking, once)
        by_text = {
            (row.prompt.text, row.completion.text): verdict for row, (verdict, _) in zip(once, judged, strict=True)
        }
        verdicts = {row.number: by_text[(row.prompt.text, row.completion.text)] for row in labelled}
        checked = check_judge(labels, verdicts)
        write_atomic(
            out,
            json.dumps(_document(checked, labels, judged[0][0].judge, judged[0][0].judge_digest), indent=1).encode(),
        )
        _show(checked, labels)
        asking.reporter.say(f"{out} written: all figures with their intervals")
        refuse_unread([verdict for verdict, _ in judged])


def _document(checked: Checked, labels: Labels, judge: str, digest: str) -> dict[str, object]:
    return {
        "judge": judge,
        "judge_digest": digest,
        "labels": len(labels.labels),
        "annotators": len([name for name in labels.annotators if name]),
        "left_out": dict(labels.left_out),
        "without_an_answer": checked.unanswered,
        "between_people": {"metric": "alpha", **asdict(checked.between_people)},
        "figures": [
            {"metric": row.metric, "language": row.language, "scope": row.scope, **asdict(row.figure)}
            for row in checked.figures
        ],
        "calibration": [
            {"language": language, **asdict(row)} for language, bins in checked.bins.items() for row in bins
        ],
    }


def _show(checked: Checked, labels: Labels) -> None:
    lines = []
    places = list(dict.fromkeys((row.language, row.scope) for row in checked.figures))
    for language, scope in places:
        found = {row.metric: row.figure for row in checked.figures if (row.language, row.scope) == (language, scope)}
        n = str(found["bias"].n)
        lines.append([language or "all", scope or "all", n, *(_written(found[name]) for name in _SHOWN)])
    show_table(["language", "scope", "labels", *_SHOWN], lines)
    if labels.left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in labels.left_out.items())
        console.print(f"labels left out: {counts}", markup=False, highlight=False)
    if checked.unanswered:
        console.print(f"in no figure: {checked.unanswered} labels, calls of the judge got no answer", highlight=False)
    between = checked.between_people
    alpha = f"alpha {_written(between)}" if between.estimate is not None else between.reason
    console.print(f"between people: {alpha}", markup=False, highlight=False)
    reasons = {row.figure.reason for row in checked.figures if row.metric in _SHOWN and row.figure.reason}
    for reason in sorted(reasons):
        console.print(f"without an interval or a figure: {reason}", markup=False, highlight=False)


def _written(figure: Estimate) -> str:
    if figure.estimate is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.estimate:.2f}"
    return f"{figure.estimate:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


@app.command("probe")
def judge_probe(
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV or Parquet with prompt, completion, language.")],
    judge: JudgeOption,
    out: OutOption,
    column: ColumnOption = None,
    notes: NotesOption = None,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """How many verdicts flip when the answer stays the same: an apology, a disclaimer, a longer tail, another formatting."""
    with exit_codes():
        from alignprism.judging.judged_file import items_of, read_judged
        from alignprism.judging.probes import NO_ANSWER, PROBES, probed, run_probes
        from alignprism.rows import write_atomic

        asking = Asking(judge, out.parent / "calls.sqlite", notes, allow_remote or (), max_cost)
        asking.settings()
        rows = read_judged(file, columns_of(column))
        items = items_of(rows)
        left_out = len(rows) - len(items)
        if dry_run:
            variants = [variant for item in items for probe in PROBES if (variant := probed(item, probe)) is not None]
            say_plan(asking, [*items, *variants], left_out)
            return
        with opened(asking) as opened_judge:
            name, digest = opened_judge.name, opened_judge.digest
            advance = asking.progress(f"probing {name}", (1 + len(PROBES)) * len(items))
            flips, without = run_probes(opened_judge, items, advance)
        document = {
            "judge": name,
            "judge_digest": digest,
            "left_out": {"nothing to judge": left_out, **without},
            "figures": [
                {
                    **asdict(row.flipped),
                    "probe": row.probe,
                    "language": row.language,
                    "verdict": row.verdict,
                    "undecided": row.undecided,
                }
                for row in flips
            ],
        }
        write_atomic(out, json.dumps(document, indent=1).encode())
        _show_flips(flips)
        asking.reporter.say(f"{out} written: share of verdicts that flip, by probe, language and verdict")
        unanswered = sum(count for reason, count in without.items() if reason.endswith(NO_ANSWER))
        if unanswered:
            raise Failure(
                f"{unanswered} verdicts are in no figure: calls of the judge got no answer. What was answered is kept: the "
                "same command asks for the rest again"
            )


def _show_flips(flips: Sequence[Flips]) -> None:
    lines = [
        [f.probe, f.language or "all", f.verdict or "any", str(f.flipped.n), _written(f.flipped), str(f.undecided)]
        for f in flips
    ]
    show_table(["probe", "language", "verdict before", "answers", "flipped", "undecidable after"], lines)
