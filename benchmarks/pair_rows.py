"""Rows of the training benchmark: real pairs as token ids, cut, sampled, or with their lengths only.

The data is harmful and never printed.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from alignprism.models.local import load_tokenizer
from alignprism.models.spec import ModelSpec, resolve
from alignprism.training.examples import Example, Text, make_examples

LANGUAGES = ("en", "es", "fr", "de", "it")
GEMMA = "embedded:gemma-3-270m"


def real_pairs(folder: Path, cache: Path, *, quick: bool) -> list[Example]:
    """All polyrefuse pairs as Gemma's token ids; a quick run guesses the lengths from characters instead."""
    texts = []
    for language in LANGUAGES:
        with gzip.open(folder / "polyrefuse" / f"pairs_{language}.jsonl.gz", "rt", encoding="utf-8") as handle:
            rows = [json.loads(line) for line in handle]
        for row in rows[:40] if quick else rows:
            name = f"{language}/{row['id']}"
            texts.append(Text(name, row["prompt"], row["chosen"], row["rejected"], language, "safety"))
    if quick:
        return [_guessed(text) for text in texts]
    tokenizer = load_tokenizer(resolve(ModelSpec("lengths", GEMMA), cache, print))
    return make_examples(texts, tokenizer, max_tokens=1_000_000)[0]


def _guessed(text: Text) -> Example:
    def ids(characters: int) -> tuple[int, ...]:
        return tuple(3 + number % 60 for number in range(max(characters // 4, 2)))

    prompt, chosen, rejected = (ids(len(str(side))) for side in (text.prompt, text.chosen, text.rejected))
    return Example(text.id, prompt, chosen, rejected, text.language, text.kind)


def cut(examples: Iterable[Example], limit: int) -> list[Example]:
    """Completions cut so that no side is longer than `limit` tokens with its prompt: both trainers get the same ids."""
    result = []
    for example in examples:
        room = limit - len(example.prompt_ids)
        if room > 0:
            chosen, rejected = example.chosen_ids[:room], example.side("rejected")[:room]
            result.append(replace(example, chosen_ids=chosen, rejected_ids=rejected))
    return result


def sample(examples: Sequence[Example], count: int, seed: int = 0) -> list[Example]:
    """A seeded sample with the languages in turn."""
    pools = []
    for language in LANGUAGES:
        pool = [example for example in examples if example.language == language]
        random.Random(f"{seed}/{language}").shuffle(pool)
        pools.append(pool)
    return [pools[number % len(pools)][number // len(pools)] for number in range(count)]


def with_random_ids(examples: Iterable[Example], vocabulary: int, seed: int = 0) -> list[Example]:
    """The same lengths, other tokens."""
    draw = random.Random(seed)

    def ids(old: Sequence[int]) -> tuple[int, ...]:
        return tuple(draw.randrange(3, vocabulary) for _ in old)

    return [
        replace(e, prompt_ids=ids(e.prompt_ids), chosen_ids=ids(e.chosen_ids), rejected_ids=ids(e.side("rejected")))
        for e in examples
    ]


def natural_lengths(examples: Sequence[Example], seed: int = 0) -> list[Example]:
    """Both answers of a pair as long as two real answers of its language that ended by themselves.

    The rejected answers of the data do not say how long answers are: most were cut at the same number of tokens.
    """
    draw = random.Random(seed)
    lengths: dict[str, list[int]] = {}
    for example in examples:
        lengths.setdefault(example.language, []).append(len(example.chosen_ids))

    def answer(example: Example) -> tuple[int, ...]:
        return (3,) * draw.choice(lengths[example.language])

    return [replace(e, chosen_ids=answer(e), rejected_ids=answer(e)) for e in examples]


def short_rows(count: int, vocabulary: int, seed: int = 0) -> list[Example]:
    """Rows of a few tokens, for the scaling case."""
    draw = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, vocabulary) for _ in range(draw.randint(low, high)))

    return [Example(f"row-{n}", ids(4, 12), ids(2, 12), ids(4, 16), "en", "safety") for n in range(count)]
