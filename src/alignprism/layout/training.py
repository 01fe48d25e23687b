"""Stages that train and merge."""

from __future__ import annotations

from collections.abc import Iterator

from alignprism import stages
from alignprism.layout.plan import Plan, Stage, own_tokenizer, taught


def training_stages(layout: Plan, count: stages.Counts) -> Iterator[Stage]:
    """One stage for every cell, starts and parts first."""
    study = layout.study
    for cell in layout.cells:
        if cell.parts:
            yield Stage(
                f"train:{cell.name}",
                f"Merging {cell.name}",
                ("prompts", *(f"train:{part}" for part in cell.parts)),
                {
                    "base": layout.digests[study.baseline],
                    "method": cell.method,
                    "merging": study.merging.model_dump(),
                },
                lambda context, cell=cell: stages.merge_cell(context, cell),  # type: ignore[misc]
                seconds=60,
            )
            continue
        training = stages.training_settings(study, cell.method)
        settings = {
            "base": layout.digests[study.baseline],
            "method": cell.method,
            "seed": cell.seed,
            **own_tokenizer(layout, study.baseline),
        }
        # Only what changes the weights, and which steps answer dev prompts: those of a finished training are gone. How long
        # the answers may be is written down with them.
        of_cell = training if cell.evaluated else {k: v for k, v in training.items() if k != "dev_checks"}
        start = (f"train:{cell.start}",) if cell.start else taught(study, study.baseline)
        yield Stage(
            f"train:{cell.name}",
            f"Training {cell.name}",
            ("prompts", stages.arm_stage("pairs", cell.arm), *start),
            settings | {"training": of_cell},
            lambda context, cell=cell: stages.train_cell(context, cell),  # type: ignore[misc]
            seconds=count.training_seconds(cell.method),
            earlier=settings | {"training": training, "max_new_tokens": study.evaluation.max_new_tokens},
        )
