"""Translation as a task of every model: to English and from it, scored against references.

chrF++ always; spBLEU where a SentencePiece model file is named, since sacrebleu would fetch one at run time; beside it BLEU
over a named tokenizer. sacrebleu is the scorer: it gives counts per sentence, sums of counts give the corpus score, and
sums over resampled sentences its interval (`alignprism.statistics.corpus`). Scores are shares: chrF++ 45.3 is 0.453.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from alignprism.errors import InputError
from alignprism.judging.template_file import shipped
from alignprism.languages import language
from alignprism.models.protocol import Request
from alignprism.prompts.parallel import ParallelText
from alignprism.rows import Figure, content_id
from alignprism.statistics import Estimate, corpus_change, corpus_score
from alignprism.statistics.clusters import Floats

Direction = Literal["to English", "from English"]
Tokenizer = Literal["intl", "char", "13a", "zh", "none"]
"""Tokenizers of sacrebleu that need no file."""

TOKENIZERS: tuple[Tokenizer, ...] = ("intl", "char", "13a", "zh", "none")

DIRECTIONS: tuple[Direction, ...] = ("to English", "from English")
NO_SPM_MODEL = "no SentencePiece model is named (evaluation.spm_model)"
SET = "translation"

_CYRILLIC = "абвгдђежзијклљмнњопрстћуфхцчџш"
_LATIN = [
    "a",
    "b",
    "v",
    "g",
    "d",
    "đ",
    "e",
    "ž",
    "z",
    "i",
    "j",
    "k",
    "l",
    "lj",
    "m",
    "n",
    "nj",
    "o",
    "p",
    "r",
    "s",
    "t",
    "ć",
    "u",
    "f",
    "h",
    "c",
    "č",
    "dž",
    "š",
]
_TO_LATIN = str.maketrans(
    dict(zip(_CYRILLIC, _LATIN, strict=True))
    | {upper: latin.capitalize() for upper, latin in zip(_CYRILLIC.upper(), _LATIN, strict=True)}
)


@dataclass(frozen=True, slots=True)
class Translation:
    """What a model made of one sentence in one direction."""

    sentence: ParallelText
    direction: Direction
    hypothesis: str

    @property
    def reference(self) -> str:
        """What it is scored against."""
        return self.sentence.english if self.direction == "to English" else self.sentence.text


@dataclass(frozen=True, slots=True)
class CorpusMetric:
    """A metric of sacrebleu over summed counts. ``signature`` is sacrebleu's own, ``tokenizer`` what it says of tokens."""

    name: Literal["chrf++", "spbleu", "bleu"]
    tokenizer: str
    signature: str
    _scorer: BLEU | CHRF = field(repr=False, compare=False)

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> Floats:
        """Counts per sentence, shape (n, s): 24 for chrF++, 10 for BLEU.

        Raises
        ------
        ValueError
            not one reference per hypothesis.
        """
        if len(hypotheses) != len(references):
            raise ValueError(f"{len(hypotheses)} hypotheses and {len(references)} references")
        if not hypotheses:
            return np.zeros((0, 24 if isinstance(self._scorer, CHRF) else 10))
        found = self._scorer._extract_corpus_statistics(hypotheses, [references])
        return np.array(found, dtype=np.float64)

    def score(self, sums: Floats) -> float:
        """The corpus score of summed counts, in [0, 1]."""
        return float(self._scorer._compute_score_from_stats(list(sums)).score) / 100


def metrics(spm_model: Path | None = None, tokenizer: Tokenizer = "intl") -> tuple[CorpusMetric, ...]:
    """chrF++, BLEU over ``tokenizer``, and spBLEU if a SentencePiece model is named.

    Raises
    ------
    InputError
        the model file cannot be read, or the sentencepiece package is missing.
    """
    chrf, bleu = CHRF(word_order=2), BLEU(tokenize=tokenizer, force=True)
    found = [
        CorpusMetric("chrf++", "", _signature(chrf), chrf),
        CorpusMetric("bleu", f"tok:{tokenizer}", _signature(bleu), bleu),
    ]
    if spm_model is not None:
        pieces, name = _pieces(spm_model)
        scorer = BLEU(tokenize="none", force=True)
        scorer.tokenizer = pieces
        scorer.tokenizer_signature = name
        found.insert(1, CorpusMetric("spbleu", f"tok:{name}", _signature(scorer), scorer))
    return tuple(found)


def translation_scores(
    hypotheses: Sequence[str], references: Sequence[str], target: str, metric: CorpusMetric
) -> Floats:
    """Counts per sentence, shape (n, s), after both sides were brought into one script (`as_scored`)."""
    return metric.statistics(
        [as_scored(text, target) for text in hypotheses], [as_scored(t, target) for t in references]
    )


def as_scored(text: str, target: str) -> str:
    """The text as it is scored. Serbian is written in two scripts of which a reference has one: both sides become Latin."""
    return text.translate(_TO_LATIN) if target == "sr" else text


def translation_requests(
    sentences: Sequence[ParallelText], directions: Sequence[Direction] = DIRECTIONS
) -> Iterator[Request]:
    """What a model is asked, one request per sentence and direction; its id is `request_id`."""
    template = shipped("translation/translate")
    for sentence in sentences:
        other = language(sentence.language).name
        for direction in directions:
            to_english = direction == "to English"
            values = {
                "source_language": other if to_english else "English",
                "target_language": "English" if to_english else other,
                "text": sentence.text if to_english else sentence.english,
            }
            yield Request(request_id(sentence, direction), template.render(values), role="completion")


def request_id(sentence: ParallelText, direction: Direction) -> str:
    """The id of the request for one sentence in one direction."""
    return f"{sentence.id}/{direction.replace(' ', '-')}"


def translation_figures(
    translations: Mapping[str, Sequence[Translation]],
    baseline: str | None,
    found: Sequence[CorpusMetric],
    bootstrap: int,
    seed: int,
) -> list[Figure]:
    """Corpus scores by model, language and direction, and their changes against the baseline on the same sentences.

    Calls without an answer are left out by the caller: they are no translations. ``estimand`` names direction and tokens,
    ``judge`` is sacrebleu's signature.
    """
    figures: list[Figure] = []
    for model, mine in translations.items():
        for direction in DIRECTIONS:
            for code in sorted({t.sentence.language for t in mine if t.direction == direction}):
                ours = _of(mine, code, direction)
                theirs = _of(translations.get(baseline, ()), code, direction) if baseline not in (None, model) else {}
                base = Figure("", "", model, language=code, set=SET)
                for metric in found:
                    figures.extend(_scored(ours, theirs, metric, base, baseline, direction, bootstrap, seed))
                if not any(metric.name == "spbleu" for metric in found):
                    figures.append(replace(base, metric="spbleu", estimand=direction, reason=NO_SPM_MODEL))
    return figures


def _of(translations: Sequence[Translation], code: str, direction: Direction) -> dict[str, Translation]:
    return {t.sentence.id: t for t in translations if t.sentence.language == code and t.direction == direction}


def _scored(
    ours: Mapping[str, Translation],
    theirs: Mapping[str, Translation],
    metric: CorpusMetric,
    base: Figure,
    baseline: str | None,
    direction: Direction,
    bootstrap: int,
    seed: int,
) -> Iterator[Figure]:
    target = "en" if direction == "to English" else base.language or ""
    scripts = "; sr in Latin letters" if target == "sr" else ""
    estimand = direction + (f"; {metric.tokenizer}" if metric.tokenizer else "") + scripts
    base = replace(base, metric=metric.name, estimand=estimand, judge=metric.signature)

    def rng(name: str) -> np.random.Generator:
        return np.random.default_rng(int(content_id(seed, base.model, base.language, estimand, name), 16))

    def statistics(of: Mapping[str, Translation], ids: Sequence[str]) -> Floats:
        return translation_scores([of[i].hypothesis for i in ids], [of[i].reference for i in ids], target, metric)

    ids = list(ours)
    clusters = [ours[i].sentence.seed_id for i in ids]
    level = statistics(ours, ids)
    yield _figure(base, corpus_score(level, clusters, metric.score, rng("level"), resamples=bootstrap))
    if theirs:
        kept = [number for number, i in enumerate(ids) if i in theirs]
        before = statistics(theirs, [ids[number] for number in kept])
        change = corpus_change(
            before, level[kept], [clusters[k] for k in kept], metric.score, rng("change"), resamples=bootstrap
        )
        yield _figure(replace(base, estimand=f"b - a, paired; {estimand}", baseline=baseline), change)


def _figure(base: Figure, found: Estimate) -> Figure:
    return replace(
        base, n=found.n, clusters=found.clusters, estimate=found.estimate, low=found.low, high=found.high,
        interval=found.interval, reason=found.reason, p=found.p_value,
    )  # fmt: skip


def _signature(scorer: BLEU | CHRF) -> str:
    scorer.num_refs = 1  # sacrebleu knows it only after a corpus was scored
    return f"sacrebleu {scorer.get_signature()}"


class _Pieces:
    """SentencePiece as sacrebleu's tokenizers are called: a line in, pieces apart by spaces out."""

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_file=str(path))
        self._split = lru_cache(maxsize=2**16)(self._pieces)

    def _pieces(self, line: str) -> str:
        return " ".join(self._processor.encode(line, out_type=str))

    def __call__(self, line: str) -> str:
        return self._split(line)


def _pieces(path: Path) -> tuple[_Pieces, str]:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return _Pieces(path), f"spm-{path.stem}-{digest[:12]}"
    except ImportError as error:
        raise InputError("spBLEU needs the package sentencepiece; install it, or name no spm_model") from error
    except (OSError, RuntimeError) as error:
        raise InputError(f"spm_model {path}: not a readable SentencePiece model ({error})") from error
