"""Commands of ``alignprism construct``: translations and general preference data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
from alignprism.cli.translators import Chosen
from alignprism.errors import Failure, InputError

if TYPE_CHECKING:
    from alignprism.construct.output import SetAside

ToOption = Annotated[str, typer.Option("--to", help="Languages to translate into, with commas between: hi,ar,sr-Latn.")]
TranslatorOption = Annotated[
    str,
    typer.Option(
        "--translator",
        help=f"A translation model (hub id or folder of NLLB, M2M100, mBART, MADLAD, Marian, T5), an LLM ({MODEL}), or a file "
        "with id, language, text.",
    ),
]
KindOption = Annotated[
    str | None,
    typer.Option("--translator-kind", help="seq2seq, model or file (default: from the name and the model's config)."),
]
BackOption = Annotated[
    str | None,
    typer.Option(
        "--back", help="What translates back, to measure quality (default: the translator, if it is a model)."
    ),
]
NoBackOption = Annotated[bool, typer.Option("--no-back", help="Translate nothing back; quality is not measured.")]
ChrfOption = Annotated[
    float | None,
    typer.Option("--min-chrf", help="chrF++ of the back-translation (0 to 1) below which a row is set aside."),
]
KeepOption = Annotated[
    bool | None,
    typer.Option("--keep-source", help="A prompt whose language is among the targets is taken as it is."),
]
BeamsOption = Annotated[int | None, typer.Option("--beams", help="Of a translation model; 1 is greedy.")]
LengthOption = Annotated[
    int | None, typer.Option("--translation-tokens", help="Longest translation of one text or line, in tokens.")
]
BatchOption = Annotated[
    int | None, typer.Option("--batch-size", help="Texts at once in a model in this process (memory).")
]


@app.command("translate")
def translate_command(
    prompts: Annotated[
        Path, typer.Argument(help="A folder of `data import`, or .parquet, .jsonl or .csv with text and language.")
    ],
    to: ToOption,
    translator: TranslatorOption,
    out: OutOption,
    translator_kind: KindOption = None,
    back: BackOption = None,
    no_back: NoBackOption = False,
    as_set: Annotated[
        str, typer.Option("--as", help="The set of the new prompts: translated (red-team tests) or general.")
    ] = "translated",
    references: Annotated[
        bool | None, typer.Option("--references", help="Translate the reference answers as well (else left out).")
    ] = None,
    keep_source: KeepOption = None,
    min_chrf: ChrfOption = None,
    beams: BeamsOption = None,
    translation_tokens: LengthOption = None,
    batch_size: BatchOption = None,
    seed: SeedOption = 0,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Every prompt in other languages, checked, and translated back to see what was lost."""
    with exit_codes():
        from alignprism.construct.translate import translate_prompts
        from alignprism.construct.translation_settings import TranslateSettings
        from alignprism.models.translation_codes import targets_of
        from alignprism.rows import Prompt

        if as_set not in ("translated", "general"):
            raise InputError(f"--as {as_set}: accepted: translated, general")
        settings = settings_of(
            TranslateSettings, references=references, keep_source=keep_source, min_chrf=min_chrf, beams=beams,
            max_new_tokens=translation_tokens, batch_size=batch_size, seed=seed,
        )  # fmt: skip
        targets = targets_of(to.split(","))
        given, unread = _prompts_of(prompts)
        asking = Asking(out, allow_remote or (), max_cost)
        chosen = Chosen(asking, translator, translator_kind, back, no_back, settings)
        if dry_run:
            chosen.say_plan(given, targets)
            say("Answers that are in the call store already are not asked for again. Nothing was asked.")
            return
        with asking.opened(), chosen.opened() as (there, and_back):
            bars = asking.progress
            found = translate_prompts(given, targets, there, and_back, settings, as_set=as_set, bar=bars)
        aside = [*unread, *found.set_aside]
        _write(out, "prompts", Prompt, found.prompts, aside, "translate", found.report)
        _show_translation(found.report)
        _finish(out, len(found.prompts), aside, "prompts")


@app.command("general")
def general_command(
    file: Annotated[
        Path,
        typer.Argument(
            help="General prompts with a good answer: pairs of `data import`, .jsonl, .csv or .parquet with prompt and chosen, "
            "or with text and reference."
        ),
    ],
    to: ToOption,
    translator: TranslatorOption,
    generator: Annotated[
        str, typer.Option("--generator", help=f"The model that answers the translated prompts: {MODEL}.")
    ],
    judge: Annotated[Path, typer.Option("--judge", help="A pairwise judge file (docs/win_rates.md).")],
    out: OutOption,
    language: Annotated[str | None, typer.Option("--language", help="Language of rows that name none.")] = None,
    translator_kind: KindOption = None,
    back: BackOption = None,
    no_back: NoBackOption = False,
    keep_source: KeepOption = None,
    min_chrf: ChrfOption = None,
    beams: BeamsOption = None,
    translation_tokens: LengthOption = None,
    ties: Annotated[
        str | None, typer.Option("--ties", help="drop, or the side that a tie goes to: translated, regenerated.")
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Of the generator; 0 is greedy.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", help="Longest completion of the generator, in tokens.")
    ] = None,
    batch_size: BatchOption = None,
    generator_licence: Annotated[
        str | None, typer.Option("--generator-licence", help="Terms of the generator's answers (default: unknown).")
    ] = None,
    generator_redistribute: Annotated[
        bool | None, typer.Option("--generator-redistribute", help="These terms let its answers be passed on.")
    ] = None,
    seed: SeedOption = 0,
    allow_remote: RemoteOption = None,
    max_cost: CostOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """General preference pairs in every language: the translated answer against one written natively, the better one chosen."""
    with exit_codes():
        from alignprism.construct.general import general_pairs_of
        from alignprism.construct.general_file import read_general
        from alignprism.construct.translation_settings import GeneralSettings, TranslateSettings
        from alignprism.judging.judge_file import read_pairwise_file
        from alignprism.models.translation_codes import targets_of
        from alignprism.rows import Pair

        translation = settings_of(
            TranslateSettings, references=True, keep_source=keep_source, min_chrf=min_chrf, beams=beams,
            max_new_tokens=translation_tokens, batch_size=batch_size, seed=seed,
        )  # fmt: skip
        settings = settings_of(
            GeneralSettings, translation=translation, ties=ties, temperature=temperature, max_new_tokens=max_new_tokens,
            batch_size=batch_size, seed=seed, generator_licence=generator_licence,
            generator_redistribute=generator_redistribute,
        )  # fmt: skip
        comparing = read_pairwise_file(judge)
        targets = targets_of(to.split(","))
        given, unread = read_general(file, language)
        _refuse_none(file, given, unread)
        asking = Asking(out, allow_remote or (), max_cost)
        chosen = Chosen(asking, translator, translator_kind, back, no_back, translation)
        if dry_run:
            chosen.say_plan(given, targets)
            chosen.say_general_plan(given, targets, generator, comparing, settings)
            say("Answers that are in the call store already are not asked for again. Nothing was asked.")
            return
        with asking.opened():
            bars = asking.progress
            found = general_pairs_of(given, targets, chosen.models(generator, comparing), settings, bar=bars)
        aside = [*unread, *found.set_aside]
        _write(out, "pairs", Pair, found.pairs, aside, "general", found.report)
        _show_translation(found.report["translation"])
        _show_wins(found.report)
        _finish(out, len(found.pairs), aside, "pairs")


def _prompts_of(path: Path) -> tuple[list[Any], list[SetAside]]:
    from alignprism.construct.output import unreadable
    from alignprism.prompts.formats.format import Options
    from alignprism.prompts.prompt_files import read_prompts
    from alignprism.prompts.sources import Unreadable

    prompts, aside = [], []
    for found in read_prompts([path], Options()):
        if isinstance(found, Unreadable):
            aside.append(unreadable(found))
        else:
            prompts.append(found[2])
    _refuse_none(path, prompts, aside)
    return prompts, aside


def _refuse_none(path: Path, given: Sequence[Any], aside: Sequence[SetAside]) -> None:
    from alignprism.construct.output import first_unreadable

    if not given:
        reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(row.reason for row in aside).items())
        raise InputError(f"{path}: no row can be used ({reasons}{first_unreadable(aside)})")


def _write(
    out: Path, name: str, row_type: type[Any], rows: Sequence[Any], aside: Sequence[SetAside], command: str, report: Mapping[str, Any]
) -> None:  # fmt: skip
    from alignprism.construct.output import new_folder, write_report, write_set_aside
    from alignprism.prompts.tables import TableWriter

    with new_folder(out) as folder:
        with TableWriter(folder / f"{name}.parquet", row_type) as table:
            for row in rows:
                table.write(row)
        write_set_aside(folder, aside)
        write_report(folder, {"command": command, name: len(rows), "rows set aside": len(aside), **report})


def _show_translation(report: Mapping[str, Any]) -> None:
    head = ("translated into", "prompts", "translated", "as they are", "set aside", "chrF++ of back-translations")
    lines = []
    for target, one in report["by language"].items():
        counts = (one["prompts"], one["translated"], one["taken as they are"], sum(one["set aside"].values()))
        lines.append((target, *map(str, counts), _figure(one["chrf++ of back-translations"])))
    show_table(head, lines)
    if report["back-translator"] is None:
        say("Quality was not measured: nothing was translated back")
    for name, count in report["translator"].items():
        if name not in ("name", "digest") and count:
            say(f"{count} {name}")


def _show_wins(report: Mapping[str, Any]) -> None:
    head = ("pairs in", "compared", "pairs", "regenerated won, of decided", "ties", "contradicting", "undecidable")
    lines = []
    for target, one in report["by language"].items():
        ties = (one["ties"], one["of them contradicting orders"], one["undecidable"])
        won = _figure(one["regenerated won, of decided"])
        lines.append((target, str(one["compared"]), str(one["pairs"]), won, *map(str, ties)))
    show_table(head, lines)


def _figure(found: Mapping[str, Any] | None) -> str:
    """An estimate as it is kept in a report; a dash where there is none."""
    if found is None or found["estimate"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['estimate']:.2f}"
    return f"{found['estimate']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _finish(out: Path, made: int, aside: Sequence[SetAside], what: str) -> None:
    """Say what is there, and what got no answer and could get one.

    Raises
    ------
    Failure
        calls without an answer, or nothing was made.
    """
    for reason, count in Counter(row.reason for row in aside).most_common(8):
        say(f"set aside: {count} ({reason})")
    say(f"{out}: {made} {what}; {len(aside)} set aside")
    lost = sum(
        ("no answer: " in row.reason or row.reason.startswith(("no completion: ", "no verdict: ")))
        and not row.reason.endswith("prompt too long")  # it will be as long the next time
        for row in aside
    )
    if lost:
        raise Failure(f"{lost} rows got no answer; remove {out} and run the same command: only they are asked again")
    if not made:
        raise Failure(f"no {what} were made; {out}/set_aside.jsonl has the reasons")
