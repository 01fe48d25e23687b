"""Stage of translation: every model translates the same sentences to and from English; scored when figures are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alignprism.judging.translation import DIRECTIONS, Translation, request_id, translation_requests
from alignprism.models.protocol import Decoding
from alignprism.prompts.parallel import ParallelText, drawn, read_parallel
from alignprism.rows import Completion
from alignprism.stages.context import Context
from alignprism.stages.engines import answers_of, completion_row, engine
from alignprism.study import Study


def sentences_of(study: Study) -> list[ParallelText]:
    """The sentences of the task, in the tested languages; none where the study names no file.

    Raises
    ------
    InputError
        the file is wrong, or a tested language is not in it.
    """
    task = study.evaluation.translation
    if task.data is None:
        return []
    languages = [code for code in study.languages.test if code != "en"]
    return drawn(read_parallel(Path(task.data), languages), task.sentences, study.seed)


def translation_decoding(study: Study) -> Decoding:
    """Greedy, whatever the test prompts are: the task has one answer per sentence."""
    evaluation = study.evaluation
    return Decoding(max_new_tokens=evaluation.translation.max_new_tokens, batch_size=evaluation.batch_size)


def translate(context: Context, name: str) -> list[Path]:
    """Stage ``translate:MODEL``: both directions of every sentence."""
    requests = list(translation_requests(sentences_of(context.study)))
    decoding = translation_decoding(context.study)
    advance = context.progress(f"translations by {name}", len(requests))
    with engine(context, name) as asked:
        outcomes = answers_of(asked, requests, decoding, advance)
        rows = [completion_row(asked, outcome, decoding, "translation") for outcome in outcomes]
    return [context.write(f"translate:{name}", "completions.parquet", rows, Completion)]


def translations_of(context: Context, name: str, sentences: Sequence[ParallelText]) -> list[Translation]:
    """What a model made of the sentences; calls without an answer are no translations."""
    rows = context.read(f"translate:{name}", "completions.parquet", Completion)
    said = {row.prompt_id: row.text for row in rows if not row.failure}
    return [
        Translation(sentence, direction, said[request_id(sentence, direction)])
        for sentence in sentences
        for direction in DIRECTIONS
        if request_id(sentence, direction) in said
    ]
