"""Summaries as a task: ROUGE-1, ROUGE-2 and ROUGE-L against references, in any script.

F1 as in Lin (2004, "ROUGE", ACL workshop): the rouge-score package keeps only a-z and 0-9 and gives 0.0 to identical
Hindi, Arabic and Russian. Here a token is a run of letters, marks and digits, case-folded; where a script has no
spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) it is one letter with its marks.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import regex

from alignprism.judging.template_file import shipped
from alignprism.judging.translation import as_scored
from alignprism.languages import language
from alignprism.models.protocol import Request
from alignprism.rows import Figure
from alignprism.statistics import Estimate, paired_mean_change

SET = "summary"
METRICS = ("rouge1", "rouge2", "rougeL")
ESTIMAND = "mean F1, Unicode tokens"

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_TOKEN = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|(?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}])+")
# Joiners and direction marks change no word; a soft hyphen does not either.
_INVISIBLE = regex.compile(r"\p{Cf}")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model made of one text. ``seed_id`` is the cluster."""

    id: str
    language: str
    seed_id: str
    hypothesis: str
    reference: str


@dataclass(frozen=True, slots=True)
class Rouge:
    """F1 of one summary, each in [0, 1]."""

    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815  # the metric's name


def tokens(text: str) -> list[str]:
    """The words of a text: composed (NFC), case-folded, without punctuation and invisible marks."""
    found: list[str] = _TOKEN.findall(_INVISIBLE.sub("", unicodedata.normalize("NFC", text).casefold()))
    return found


def rouge(hypothesis: str, reference: str) -> Rouge:
    """ROUGE F1 of a summary against one reference; 0 where either holds no word. Identical texts with words give 1, and
    ROUGE-2 of a single word is 0, because there is no pair of words."""
    ours, theirs = tokens(hypothesis), tokens(reference)
    return Rouge(
        _f1(_overlap(ours, theirs, 1), len(ours), len(theirs)),
        _f1(_overlap(ours, theirs, 2), max(len(ours) - 1, 0), max(len(theirs) - 1, 0)),
        _f1(longest_common_subsequence(ours, theirs), len(ours), len(theirs)),
    )


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Its length, bit-parallel (Hyyrö 2004): one machine word of work per 64 tokens of ``a`` and token of ``b``."""
    places: dict[str, int] = {}
    for number, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << number
    every = (1 << len(a)) - 1
    row = every
    for token in b:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & every
    return len(a) - row.bit_count()


def summary_requests(texts: Mapping[str, tuple[str, str]]) -> Iterator[Request]:
    """What a model is asked: one request per id of ``texts`` (id to language code and text)."""
    template = shipped("summaries/summarise")
    for key, (code, text) in texts.items():
        yield Request(key, template.render({"language": language(code).name, "text": text}))


def summary_scores(summaries: Sequence[Summary]) -> list[Rouge]:
    """ROUGE of each summary, both sides in one script (`as_scored`)."""
    return [rouge(*(as_scored(text, s.language) for text in (s.hypothesis, s.reference))) for s in summaries]


def summary_figures(summaries: Mapping[str, Sequence[Summary]], baseline: str | None) -> list[Figure]:
    """Mean ROUGE by model and language, and its change against the baseline on the same texts, clustered by seed."""
    figures: list[Figure] = []
    scores = {
        model: {s.id: (s, score) for s, score in zip(found, summary_scores(found), strict=True)}
        for model, found in summaries.items()
    }
    for model, ours in scores.items():
        theirs = scores.get(baseline, {}) if baseline is not None and baseline != model else {}
        for code in sorted({summary.language for summary, _ in ours.values()}):
            base = Figure("", ESTIMAND, model, language=code, set=SET)
            ids = [key for key, (summary, _) in ours.items() if summary.language == code]
            both = [key for key in ids if key in theirs]
            for metric in METRICS:
                figures.append(_filled(replace(base, metric=metric), _change({}, ours, ids, metric)))
                if theirs:
                    frame = replace(base, metric=metric, estimand=f"b - a, paired; {ESTIMAND}", baseline=baseline)
                    figures.append(_filled(frame, _change(theirs, ours, both, metric)))
    return figures


Scored = Mapping[str, tuple[Summary, Rouge]]


def _change(before: Scored, after: Scored, ids: Sequence[str], metric: str) -> Estimate:
    """Mean of after less before; without before, the mean itself, which has no p-value."""
    b = np.array([getattr(after[key][1], metric) for key in ids])
    a = np.array([getattr(before[key][1], metric) for key in ids]) if before else np.zeros(len(b))
    found = paired_mean_change(a, b, [after[key][0].seed_id for key in ids])
    return found if before else replace(found, p_value=None)


def _filled(base: Figure, found: Estimate) -> Figure:
    return replace(
        base, n=found.n, clusters=found.clusters, estimate=found.estimate, low=found.low, high=found.high,
        interval=found.interval, reason=found.reason, p=found.p_value,
    )  # fmt: skip


def _overlap(a: Sequence[str], b: Sequence[str], order: int) -> int:
    counts = [Counter(zip(*(side[k:] for k in range(order)), strict=False)) for side in (a, b)]
    return sum((counts[0] & counts[1]).values())


def _f1(matches: int, ours: int, theirs: int) -> float:
    return 2 * matches / (ours + theirs) if ours and theirs else 0.0
