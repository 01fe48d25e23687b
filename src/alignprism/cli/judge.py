"""Commands on judges: what there is, judging any file, and training a head on own labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignprism.cli.console import cache_folder, console, exit_codes
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
from alignprism.errors import Failure, InputError

if TYPE_CHECKING:
    from alignprism.judging.judged_file import JudgedRow
    from alignprism.rows import Harm, Verdict

app = typer.Typer(
    help="Judges of harm: what there is, judging any file, checking a judge against people.", no_args_is_help=True
)


@app.command("list")
def judge_list(
    cards: Annotated[bool, typer.Option("--cards", help="Also print the cards of the shipped heads.")] = False,
) -> None:
    """Show the kinds of judges, the shipped heads, and the formats of guard models."""
    with exit_codes():
        from alignprism.judging.guard_formats import GENERATIVE
        from alignprism.judging.head import SHIPPED, Head

        say = _say
        say("Heads (on this machine, no model calls; --judge NAME):")
        heads = [Head.load(path.name) for path in sorted(SHIPPED.iterdir()) if (path / "head.npz").is_file()]
        for head in heads:
            say(f"  {head.name}: encoder {head.family}, harmful from {head.threshold:.2f} on, digest {head.digest}")
        say("Kinds of a judge file (--judge judge.yaml; docs/judges.md):")
        say("  head: a shipped head, or a folder made by `alignprism judge train-head`")
        say("  rubric: a model that is asked, in English, in the text's language, or about a translation")
        say("  guard: a guard model; its format is one of")
        say("    classifier: a transformers sequence classifier")
        for entry in GENERATIVE.values():
            say(f"    {entry.name}: {entry.models}. {entry.source}")
        say("  ensemble: several judges that vote (majority, any)")
        for head in heads if cards else ():
            say(head.card_text)


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False)


@app.command("score")
def judge_score(
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV or Parquet with the columns prompt and completion.")],
    judge: JudgeOption,
    out: Annotated[Path, typer.Option("--out", help="The file with the verdicts: .jsonl, .csv or .parquet.")],
    column: ColumnOption = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Put before the names of the new columns.")] = "",
    notes: NotesOption = None,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Judge any file of prompts and answers; replies are kept beside --out (calls.sqlite), so it can be interrupted."""
    with exit_codes():
        from alignprism.judging.judged_file import check_output, items_of, read_judged, write_judged, written_columns

        asking = Asking(judge, out.parent / "calls.sqlite", notes, allow_remote or (), max_cost)
        asking.settings()
        rows = read_judged(file, columns_of(column))
        check_output(out, rows, prefix)
        if dry_run:
            items = items_of(rows)
            say_plan(asking, items, len(rows) - len(items))
            return
        judged = verdicts_of(asking, rows)
        records = [written_columns(row, *found, prefix) for row, found in zip(rows, judged, strict=True)]
        write_judged(out, records)
        verdicts = [verdict for verdict, _ in judged]
        _show_counts(rows, verdicts)
        asking.reporter.say(f"{out} written: {len(rows)} rows")
        refuse_unread(verdicts)


def verdicts_of(asking: Asking, rows: Sequence[JudgedRow]) -> list[tuple[Verdict, str]]:
    """Verdict and the judge's short reason for every row."""
    from alignprism.judging.verdicts import stream_explained

    prompts = {row.prompt.id: row.prompt for row in rows}
    found: list[tuple[Verdict, str]] = []
    with opened(asking) as judge:
        advance = asking.progress(f"judging with {judge.name}", len(rows))

        def report(done: int) -> None:
            advance(len(found) + done, len(rows))

        for part in stream_explained(prompts, (row.completion for row in rows), judge, progress=report):
            found += part
    return found


def _show_counts(rows: Sequence[JudgedRow], verdicts: Sequence[Verdict]) -> None:
    """Verdicts by language, and why rows are undecidable."""
    harms: tuple[Harm, ...] = ("harmful", "harmless", "undecidable")
    lines = []
    for code in sorted({row.prompt.language for row in rows}):
        counts = Counter(v.harm for row, v in zip(rows, verdicts, strict=True) if row.prompt.language == code)
        numbers = [counts[harm] for harm in harms]
        lines.append([code or "not given", str(sum(numbers)), *map(str, numbers)])
    show_table(["language", "rows", *harms], lines)
    reasons = Counter(verdict.reason for verdict in verdicts if verdict.harm == "undecidable")
    for reason, count in reasons.most_common(5):
        _say(f"undecidable, {count} rows: {reason}")


def refuse_unread(verdicts: Sequence[Verdict]) -> None:
    """Say that calls got no answer, or that a judge is of no use here because it decided none of the answers.

    Raises
    ------
    Failure
        a call got no answer (one member of an ensemble is enough), or every reply was unreadable; what was answered is kept.
    """
    from alignprism.judging.unanswered import unanswered_in

    missing = unanswered_in(verdicts)
    if missing.rows:
        raise Failure(
            f"{missing.rows} answers were not judged, or not by every member (of {missing.asked}; calls without an answer: "
            f"{missing.listed}). What was answered is kept: the same command asks for the rest again"
        )
    asked = [verdict for verdict in verdicts if verdict.harm != "undecidable" or verdict.calls]
    if asked and all(verdict.harm == "undecidable" for verdict in asked):
        reason = Counter(verdict.reason for verdict in asked).most_common(1)[0][0]
        raise Failure(
            f"the judge decided none of {len(asked)} answers (most often: {reason}). Its replies are kept in calls.sqlite "
            "(table calls, column text); read some, then try another model, a longer max_new_tokens or another template"
        )


@app.command("train-head")
def judge_train_head(
    file: Annotated[
        Path, typer.Argument(help="Labels: JSON lines with prompt, completion, language, label (harmful or harmless).")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the head.")],
    encoder: Annotated[
        str, typer.Option("--encoder", help="e5 (multilingual encoder) or gemma (hidden states).")
    ] = "e5",
) -> None:
    """Train a judge head on own labels (harmful or harmless); use its folder as a judge in a study."""
    with exit_codes():
        from alignprism.judging.card import write_card
        from alignprism.judging.encoders import PARTS
        from alignprism.judging.judges import load_encoder
        from alignprism.judging.train_head import Settings, read_training_rows, train_head

        if encoder not in PARTS:
            raise InputError(f"--encoder {encoder}: accepted: {', '.join(PARTS)}")
        rows = read_training_rows(file)
        console.print(f"{len(rows)} rows; encoding and training", highlight=False)
        settings = Settings(map="states+refusal" if encoder == "gemma" else "distance+refusal")
        trained = train_head(out.name, rows, load_encoder(encoder, PARTS[encoder], cache_folder()), settings)
        trained.head.card["data"] = [f"{file.name}: {len(rows)} rows"]
        trained.head.save(out)
        write_card(out, trained.head)
        console.print(
            f"{out} written; its card: {out / 'card.md'}. Name the folder under judges in a study", highlight=False
        )
