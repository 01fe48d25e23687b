"""Commands that score texts against references, without asking a model: judge translations, judge summaries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignprism.cli.console import console, exit_codes
from alignprism.cli.judge import app
from alignprism.cli.judge_options import ColumnOption, columns_of, show_table
from alignprism.cli.judge_pair import RESAMPLES, percent
from alignprism.errors import InputError

if TYPE_CHECKING:
    from alignprism.rows import Figure

OutOption = Annotated[Path, typer.Option("--out", help="The file with the figures: .jsonl, .csv or .parquet.")]
BaselineOption = Annotated[
    str | None, typer.Option("--baseline", help="The model that the others are compared with (column model).")
]


@app.command("translations")
def judge_translations(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines, CSV or Parquet with completion, reference, language (of both); where there are: id, model, "
            "source_language (needed for translations into English)."
        ),
    ],
    out: OutOption,
    baseline: BaselineOption = None,
    spm_model: Annotated[
        Path | None,
        typer.Option("--spm-model", help="SentencePiece model file of spBLEU; without it no spBLEU is given."),
    ] = None,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", help="Tokens of BLEU: intl, char, 13a, zh or none.")
    ] = "intl",
    column: ColumnOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the intervals' resamples.")] = 0,
) -> None:
    """Score translations against references: chrF++, spBLEU, BLEU; paired with a baseline. No model is asked."""
    with exit_codes():
        from alignprism.judging.judged_file import check_output, write_judged
        from alignprism.judging.scored_file import read_translations
        from alignprism.judging.translation import TOKENIZERS, metrics, translation_figures

        chosen = next((name for name in TOKENIZERS if name == tokenizer), None)
        if chosen is None:
            raise InputError(f"--tokenizer {tokenizer}: accepted: {', '.join(TOKENIZERS)}")
        translations, missing = read_translations(file, columns_of(column))
        check_output(out, ())
        _check_baseline(baseline, translations)
        figures = translation_figures(translations, baseline, metrics(spm_model, chosen), RESAMPLES, seed)
        write_judged(out, [asdict(figure) for figure in figures])
        _show_scores(figures)
        _say_written(out, figures, missing)


@app.command("summaries")
def judge_summaries(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines, CSV or Parquet with completion, reference, language; where there are: id, model."
        ),
    ],
    out: OutOption,
    baseline: BaselineOption = None,
    column: ColumnOption = None,
) -> None:
    """Score summaries against references: ROUGE-1, ROUGE-2 and ROUGE-L in any script. No model is asked."""
    with exit_codes():
        from alignprism.judging.judged_file import check_output, write_judged
        from alignprism.judging.scored_file import read_summaries
        from alignprism.judging.summaries import summary_figures

        summaries, missing = read_summaries(file, columns_of(column))
        check_output(out, ())
        _check_baseline(baseline, summaries)
        figures = summary_figures(summaries, baseline)
        write_judged(out, [asdict(figure) for figure in figures])
        _show_scores(figures)
        _say_written(out, figures, missing)


def _show_scores(figures: Sequence[Figure]) -> None:
    lines = [
        (f.model, f.language or "all", f.metric, f.estimand, str(f.n), percent(f, 1))
        for f in figures
        if f.estimate is not None
    ]
    show_table(("model", "language", "metric", "what", "n", "score x 100"), lines)
    for reason, count in Counter(f.reason for f in figures if f.reason).most_common(5):
        _say(f"{count} figures: {reason}")


def _say_written(out: Path, figures: Sequence[Figure], missing: int) -> None:
    left_out = f"; {missing} rows without a completion are in no figure" if missing else ""
    _say(f"{out} written: {len(figures)} figures{left_out}")


def _check_baseline(baseline: str | None, models: Collection[str]) -> None:
    if baseline is not None and baseline not in models:
        raise InputError(f"--baseline {baseline}: no such model in the file; there are {', '.join(sorted(models))}")


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False)
