"""The command that completes the prompts of a file: generate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from alignprism.cli.console import FAILED, cache_folder, console, errors, exit_codes, quiet_libraries
from alignprism.errors import InputError
from alignprism.progress import ConsoleReporter


def generate(
    file: Annotated[
        Path,
        typer.Argument(
            help=".jsonl, .csv or .parquet with a column prompt or text: a text, or a list of {role, content} messages. "
            "Optional: id. Other columns are carried through."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="File for the rows with their answers; calls.sqlite beside it keeps every answer as it comes."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Hub id, folder, LoRA adapter's folder, embedded:NAME, or script:FILE (plays answers)."
        ),
    ] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", help="LoRA adapter on top of the model.")] = None,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray (actors over a Ray cluster).")] = "local",
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint", help="A server instead: its address, as http://localhost:8000/v1. Repeated for replicas."
        ),
    ] = None,
    served_model: Annotated[
        str | None, typer.Option("--served-model", help="The name that the server knows the model by.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="Environment variable that holds the server's key.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE of an endpoint as in a study (connections, price, extra, ...): 'price={input: 1, output: 4}'.",
        ),
    ] = None,
    allow_remote: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-remote", help="A host that texts may be sent to. May be repeated; this machine always may."
        ),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option("--max-cost", help="Dollars that all calls in calls.sqlite may cost, earlier ones included."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What to call the model in the output (default: from its source).")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Completions of each prompt.")] = 1,
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Nucleus: share of probability that is drawn from.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Longest completion, in tokens.")] = 256,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="A text that ends a completion. May be repeated.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Continue the text as it stands, without a chat template.")
    ] = False,
    column: Annotated[str | None, typer.Option("--column", help="The column that holds the prompt.")] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Text before the names of the new columns.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many calls, at what cost, and where the text goes; ask nothing.")
    ] = False,
) -> None:
    """Complete every prompt of a file with any model; rows without an answer carry their reason, and then the exit code is 1.

    Stopped, or with rows that got no answer, the same command goes on from there: no stored answer is asked for again.
    """
    with exit_codes():
        from alignprism.generate_file import check_output, failures_sentence, read_prompt_rows, requests_of
        from alignprism.generate_file import generate as generate_rows
        from alignprism.models.cost import Budget, estimate
        from alignprism.models.engines import open_engine, refuse_remote
        from alignprism.models.protocol import Decoding
        from alignprism.models.store import CallStore

        chosen = _model_settings(model, adapter, engine, endpoint, served_model, api_key_env, settings)
        called = name or _name(model or served_model or "")
        try:
            decoding = Decoding(
                max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, samples=samples,
                stop=tuple(stop or ()),
            )  # fmt: skip
        except ValueError as error:
            raise InputError(str(error)) from error
        rows = read_prompt_rows(file, column)
        check_output(out, rows, prefix)
        requests = requests_of(rows, plain=plain)
        price = chosen.endpoint.price if chosen.endpoint else None
        planned = estimate(requests, decoding, price)
        if chosen.endpoint is not None:
            refuse_remote(chosen.endpoint, called, allow_remote or ())
        reporter = ConsoleReporter(console)
        reporter.say(f"{called}: {planned if chosen.endpoint else f'{planned.calls:,} completions'}")
        if dry_run:
            hosts = ", ".join(chosen.endpoint.hosts) if chosen.endpoint else "this machine"
            reporter.say(f"Prompts go to {hosts}. Nothing was asked; stored answers are not taken off.")
            return
        if chosen.endpoint is None:
            quiet_libraries()
        keys = {api_key_env: os.environ[api_key_env]} if api_key_env and api_key_env in os.environ else {}
        out.parent.mkdir(parents=True, exist_ok=True)
        with CallStore(out.parent / "calls.sqlite") as store:
            cap = None if max_cost is None else Budget(max_cost, store.spent())
            try:
                with open_engine(
                    chosen, called, store=store, cache=cache_folder(), allow_remote=allow_remote or (), keys=keys, cap=cap,
                    say=reporter.say,
                ) as opened:  # fmt: skip
                    tally = getattr(opened, "tally", None)
                    advance = reporter.progress(
                        f"completions of {called}", len(requests) * samples, None if tally is None else lambda: tally
                    )
                    failures = generate_rows(opened, rows, decoding, out, plain=plain, prefix=prefix, progress=advance)
            finally:
                reporter.close()
        total = len(requests) * samples
        reporter.say(f"{out}: {total} rows" + (f"; {tally}" if tally is not None and str(tally) else ""))
        if failures:
            failures_sentence(failures, total, lambda text: errors.print(text, markup=False, highlight=False))
            raise typer.Exit(FAILED)


def _model_settings(
    model: str | None,
    adapter: str | None,
    engine: str,
    endpoint: list[str] | None,
    served_model: str | None,
    api_key_env: str | None,
    settings: list[str] | None,
) -> Any:
    """The options as the settings that a study would hold.

    Raises
    ------
    InputError
        not exactly one of --model and --endpoint, options of the one with the other, or a value that is not accepted.
    """
    from pydantic import ValidationError

    from alignprism.models.settings import ModelSettings

    if (model is None) == (not endpoint):
        raise InputError("name either --model (files on this machine) or --endpoint (a server)")
    if endpoint and not served_model:
        raise InputError("--endpoint needs --served-model, the name that the server knows the model by")
    if not endpoint and (served_model or api_key_env or settings):
        raise InputError("--served-model, --api-key-env and --set belong to --endpoint")
    values: dict[str, Any] = {"source": model, "adapter": adapter, "engine": engine}
    if endpoint:
        served = {"urls": endpoint, "model": served_model, "api_key_env": api_key_env}
        values["endpoint"] = served | dict(_setting(text) for text in settings or ())
    try:
        return ModelSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "model"
        raise InputError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error


def _setting(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    try:
        return key.strip(), yaml.safe_load(value) if found else None
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is not YAML; write it like price={{input: 1, output: 4}}") from error


def _name(source: str) -> str:
    return source.rstrip("/").split("/")[-1].split(":")[-1] or "model"
