"""The stage that grows human seeds into many training prompts (paper, section 2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alignprism.construct.checker import Checker
from alignprism.construct.output import ORIGINS, write_lines, write_report, write_set_aside
from alignprism.construct.rephrase import ENDED, decoding_of, first_requests, rephrase
from alignprism.construct.seeds import SYNTHETIC, usable_seeds
from alignprism.construct.sifting import WrittenPrompts
from alignprism.models.cost import Estimate, dollars, estimate_tokens
from alignprism.models.protocol import Engine
from alignprism.models.settings import ModelSettings
from alignprism.prompts.select import all_prompts
from alignprism.rows import Prompt
from alignprism.stages.context import Context
from alignprism.stages.engines import CallsStopped, opened
from alignprism.stages.estimate import RUBRIC_TOKENS, Sent, sent_texts
from alignprism.study import Study

_STAGE = "rephrase"


def seeds_of(study: Study, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The human red-team prompts of split train in the trained languages."""
    return [
        p
        for p in prompts
        if p.set == "redteam" and p.split == "train" and p.language in study.languages.train and SYNTHETIC not in p.tags
    ]


def grow_seeds(context: Context) -> list[Path]:
    """Stage ``rephrase``: new training prompts, those set aside with their reasons, and the report (no texts).

    Raises
    ------
    CallsStopped
        the budget, the run or the answers ended before the quota was reached; what was answered is kept.
    """
    study = context.study
    settings = study.rephrase
    assert settings is not None
    seeds = seeds_of(study, context.prompts())
    known = {seed.id for seed in seeds}
    # Those that `data.per_language` leaves out as well: a later study may test on them.
    others = [prompt for prompt in all_prompts(study) if prompt.id not in known]
    with ExitStack() as stack:
        writer = stack.enter_context(_opened(context, settings.writer))
        checking = settings.checker and stack.enter_context(_opened(context, settings.checker))
        checker = Checker(checking, settings.check_max_new_tokens) if checking else None
        found = rephrase(seeds, others, writer, checker, settings, seed=study.seed, progress=context.progress)
    _refuse_stopped(found, writer.name)
    context.say(
        f"{len(seeds)} seeds grew into {len(found.prompts)} prompts; {len(found.set_aside)} were set aside "
        f"(ended by: {found.stopped})"
    )
    folder = context.run.stage_folder(_STAGE)
    path = context.write(_STAGE, "prompts.parquet", found.prompts, Prompt)
    write_lines(folder / ORIGINS, found.origins)
    write_set_aside(folder, found.set_aside)
    write_report(folder, found.report)
    return [path, folder / ORIGINS, folder / "set_aside.jsonl", folder / "report.json"]


@contextmanager
def _opened(context: Context, model: ModelSettings) -> Iterator[Engine]:
    from alignprism.judging.open import model_name

    with opened(context, model, model_name(model)) as engine:
        yield engine


def _refuse_stopped(found: WrittenPrompts, writer: str) -> None:
    """A stage that ended for want of money or answers would freeze too few prompts into everything behind it."""
    if found.stopped not in ENDED:
        why = "budget.max_cost is reached" if found.stopped == "over budget" else found.stopped
        raise CallsStopped(f"{writer}: {why} after {len(found.prompts)} new prompts; what was answered is kept")
    if not found.prompts:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in found.report["set_aside"].items()) or found.stopped
        raise CallsStopped(f"{writer}: no prompt could be made of any seed: {reasons}")


def sent_to_writer(study: Study, seeds: Sequence[Prompt]) -> tuple[Sent, ...]:
    """What the writer and the checker will be asked at most: every seed in every round."""
    settings = study.rephrase
    assert settings is not None
    usable, _ = usable_seeds(seeds, settings.seeds_per_language, study.seed)
    asked = [one.request for one in first_requests(usable, settings, study.seed)] * settings.rounds
    writer = sent_texts(
        "human seeds and their explanations", "rephrase.writer", settings.writer, asked, decoding_of(settings, 0, 0)
    )
    if settings.checker is None:
        return (writer,)
    checks = len(asked) * settings.variants
    read = checks * (RUBRIC_TOKENS + max((estimate_tokens(seed.text) for seed in usable), default=0))
    written = checks * settings.check_max_new_tokens
    price = settings.checker.endpoint.price if settings.checker.endpoint else None
    use = Estimate(checks, read, written, dollars(price, read, written) if price else None)
    hosts = settings.checker.endpoint.hosts if settings.checker.endpoint else ()
    return (writer, Sent("new prompts", "rephrase.checker", hosts, use))
