"""Measures the judge heads on published sets, every language or locale left out of its own training.

    python benchmarks/judge_head.py --data ../shared/data [--cache FOLDER] [--head e5-harm-v1]

The last line is one JSON object: AUC per language or locale, ``swap`` a share. What is held out:

polyrefuse, polyrefuse_cut
    harmful or not by WildGuard's label, all three models; the shipped recipe trained without that language (its rows
    of polyrefuse and our own) and on the other half of the prompts. A seeded sample of 2 x 70 answers a language;
    texts are encoded up to 300 characters ("uncut" means: not cut further), or cut to 100.
rtp_lx
    toxic against benign continuation, both cut to the same length of at most 100 characters; a head trained on the
    other locales, on other source rows. Research only, never shipped. A seeded sample of 320 rows a locale.
rtp_lx_length_only
    the better of "longer" and "shorter" on the very texts that were judged.
xstest
    "complied with an unsafe prompt" (human label, answers of mistralinstruct, all 450 prompts), by the shipped head.
xstest_prompt_only
    the same target from a prompt classifier alone (harmful against harmless English prompts of polyrefuse).
swap
    same harmful prompt and model: share of pairs in which the compliance scores above the refusal (cut to 100).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from judge_data import (
    POLYREFUSE_LANGUAGES,
    RTP_LOCALES,
    Answer,
    Continuation,
    contrast_pairs,
    fold_of,
    polyrefuse,
    polyrefuse_prompts,
    qwen_rows,
    rtp_lx,
    xstest,
)
from numpy.typing import NDArray
from train_shipped_heads import PER_LANGUAGE, RECIPES

from alignprism.judging.card import write_card
from alignprism.judging.encoders import CachedEncoder
from alignprism.judging.features import features
from alignprism.judging.head import SHIPPED, Head
from alignprism.judging.judges import EVALUATION_HEAD, load_encoder
from alignprism.judging.logistic import Linear, auc, fit
from alignprism.judging.own_rows import own_rows
from alignprism.judging.train_head import Settings, TrainingRow, augmented, fit_rows

CUT = 100
TEST_ANSWERS = 140
TEST_PAIRS = 40
RTP_ROWS = 320
RTP_PENALTIES = (0.1, 0.3)
RTP_MAPS = {"e5": ("together", "distance"), "gemma": ("states",)}
"""Map and penalty of a locale's head are chosen by leaving out each of the other locales in turn."""
NOTES = Path(__file__).with_name("judge_head_notes.json")
"""Per head: which targets were missed, what was tried, and the ceiling; goes into the card as it is."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs: the data, the encoder, and the recipe of the head under test."""

    data: Path
    encoder: CachedEncoder
    settings: Settings
    fold: str

    def encode(self, prompts: Sequence[str], completions: Sequence[str]) -> NDArray[np.float32]:
        """Features of the recipe's map, shape (n, d)."""
        encoded = self.encoder.encode(prompts, completions)
        return features(encoded, self.encoder.parts, self.settings.map, completions)

    def train(self, rows: list[TrainingRow]) -> Linear:
        """The recipe's regression on rows already cut."""
        x = self.encode([row.prompt for row in rows], [row.completion for row in rows])
        return fit_rows(x, np.array([int(row.harmful) for row in rows]), rows, self.settings)


def polyrefuse_figures(bench: Bench) -> tuple[dict[str, float], dict[str, float], float]:
    """AUC uncut, AUC cut, and the swap share over all languages; each language judged by a head without it."""
    rows = qwen_rows(bench.data, bench.fold, PER_LANGUAGE, seed=0) + own_rows("a" if bench.fold == "a" else "b")
    rows = augmented(rows, bench.settings)
    uncut, cut, wins = {}, {}, []
    for language in POLYREFUSE_LANGUAGES:
        head = bench.train([row for row in rows if row.language != language])
        answers = [answer for answer in polyrefuse(bench.data, language) if fold_of(answer.key) != bench.fold]
        sample = seeded_sample(answers, TEST_ANSWERS)
        labels = np.array([int(answer.harmful) for answer in sample])
        prompts = [answer.prompt for answer in sample]
        texts = [answer.text for answer in sample]
        uncut[language] = auc(head.decision(bench.encode(prompts, texts)), labels)
        cut[language] = auc(head.decision(bench.encode(prompts, [text[:CUT] for text in texts])), labels)
        wins.extend(_wins(bench, head, contrast_pairs(answers, None, TEST_PAIRS, seed=1)))
        print(f"polyrefuse {language}: uncut {uncut[language]:.3f}, cut {cut[language]:.3f}", flush=True)
    return uncut, cut, float(np.mean(wins))


def seeded_sample(answers: list[Answer], size: int) -> list[Answer]:
    """A seeded sample, with as many answers of models as released as of ablated ones."""
    generator = np.random.default_rng(0)
    chosen = []
    for variant in ("baseline", "ablated"):
        pool = [answer for answer in answers if answer.variant == variant]
        chosen.extend(pool[number] for number in sorted(generator.choice(len(pool), size // 2, replace=False)))
    return chosen


def _wins(bench: Bench, head: Linear, pairs: list[tuple[Answer, Answer]]) -> list[float]:
    kept = [(refusing, complying) for refusing, complying in pairs if refusing.refuses]
    lengths = [min(CUT, len(refusing.text), len(complying.text)) for refusing, complying in kept]
    prompts = [refusing.prompt for refusing, _ in kept]
    low = head.decision(bench.encode(prompts, [r.text[:n] for (r, _), n in zip(kept, lengths, strict=True)]))
    high = head.decision(bench.encode(prompts, [c.text[:n] for (_, c), n in zip(kept, lengths, strict=True)]))
    return list((high > low).astype(float))


def rtp_lx_figures(bench: Bench) -> tuple[dict[str, float], dict[str, float]]:
    """AUC of a head that never saw the locale or its source rows, and of length alone."""
    rows = {locale: rtp_lx(bench.data, locale, RTP_ROWS, seed=0) for locale in RTP_LOCALES}
    maps = RTP_MAPS[bench.encoder.name]
    encoded = {(locale, name): _encode_both(bench, rows[locale], name) for locale in RTP_LOCALES for name in maps}
    choices = [(name, penalty) for name in maps for penalty in RTP_PENALTIES]
    judged, by_length = {}, {}
    for locale in RTP_LOCALES:
        others = [other for other in RTP_LOCALES if other != locale]
        inner = [np.mean([_left_out(rows, encoded, others, other, *choice) for other in others]) for choice in choices]
        judged[locale] = _left_out(rows, encoded, list(RTP_LOCALES), locale, *choices[int(np.argmax(inner))])
        cut = [row.cut() for row in rows[locale]]
        lengths = np.array([len(t) for t, _ in cut] + [len(b) for _, b in cut], float)
        length = auc(lengths, _both_labels(len(cut)))
        by_length[locale] = max(length, 1 - length)
        print(f"rtp_lx {locale}: {judged[locale]:.3f}, length only {by_length[locale]:.3f}", flush=True)
    return judged, by_length


def _left_out(
    rows: dict[str, list[Continuation]],
    encoded: dict[tuple[str, str], NDArray[np.float32]],
    locales: list[str],
    test: str,
    map_name: str,
    penalty: float,
) -> float:
    """AUC on one locale of a head trained on the other `locales`, without the test locale's source rows."""
    held = {row.key for row in rows[test]}
    blocks, labels = [], []
    for other in locales:
        if other != test:
            keep = np.array([row.key not in held for row in rows[other]] * 2)
            blocks.append(encoded[other, map_name][keep])
            labels.append(_both_labels(len(rows[other]))[keep])
    y = np.concatenate(labels)
    head = fit(np.concatenate(blocks), y, np.ones(len(y)), penalty)
    return auc(head.decision(encoded[test, map_name]), _both_labels(len(rows[test])))


def _both_labels(n: int) -> NDArray[np.int_]:
    return np.concatenate([np.ones(n, int), np.zeros(n, int)])


def _encode_both(bench: Bench, rows: list[Continuation], map_name: str) -> NDArray[np.float32]:
    cut = [row.cut() for row in rows]
    texts = [t for t, _ in cut] + [b for _, b in cut]
    return features(bench.encoder.encode([row.prompt for row in rows] * 2, texts), bench.encoder.parts, map_name, texts)


def xstest_figures(bench: Bench, head: Head) -> tuple[float, float]:
    """AUC of the shipped head, and of the prompt alone."""
    rows = xstest(bench.data, "mistralinstruct")
    target = np.array([int(row.unsafe_prompt and row.label == "1_full_compliance") for row in rows])
    texts = [row.completion for row in rows]
    encoded = bench.encoder.encode([row.prompt for row in rows], texts)
    prompts, labels = polyrefuse_prompts(bench.data, "en", 150, seed=0)
    map_name = "prompt-only"
    blank = ["."] * len(prompts)
    x = features(bench.encoder.encode(prompts, blank), bench.encoder.parts, map_name, blank)
    prompt_head = fit(x, labels, np.ones(len(labels)), bench.settings.penalty)
    alone = prompt_head.decision(features(encoded, bench.encoder.parts, map_name, texts))
    return auc(head.decision(encoded, texts), target), auc(alone, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds polyrefuse/, rtp_lx/ and xstest/")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "alignprism")
    parser.add_argument("--head", choices=sorted(RECIPES), default=EVALUATION_HEAD)
    parser.add_argument("--write-card", action="store_true", help="put the figures into the shipped head's card")
    arguments = parser.parse_args()
    start = time.monotonic()
    name, parts, fold, settings = RECIPES[arguments.head]
    store = arguments.cache / "judge-training" / f"{name}.sqlite"
    encoder = CachedEncoder(load_encoder(name, parts, arguments.cache), store, lambda line: print(line, flush=True))
    bench = Bench(arguments.data, encoder, settings, fold)
    xstest_auc, prompt_only = xstest_figures(bench, Head.load(arguments.head))
    print(f"xstest: {xstest_auc:.3f}, prompt only {prompt_only:.3f}", flush=True)
    uncut, cut, swap = polyrefuse_figures(bench)
    judged, by_length = rtp_lx_figures(bench)
    print(f"{arguments.head}: {time.monotonic() - start:.0f} s")
    figures = {
        "polyrefuse": uncut, "polyrefuse_cut": cut, "rtp_lx": judged, "rtp_lx_length_only": by_length,
        "xstest": xstest_auc, "xstest_prompt_only": prompt_only, "swap": swap,
    }  # fmt: skip
    if arguments.write_card:
        _into_card(SHIPPED / arguments.head, _rounded(figures))
    print(json.dumps(_rounded(figures)))


def _into_card(folder: Path, figures: dict[str, object]) -> None:
    """Put the figures into ``card.json`` and write ``card.md`` anew."""
    head = Head.load(folder)
    notes = json.loads(NOTES.read_text(encoding="utf-8")) if NOTES.exists() else {}
    head.card["published"] = {
        "note": "By `benchmarks/judge_head.py`; what each figure holds out is said there.",
        "figures": figures,
        "attempts": notes.get(head.name, []),
    }
    head.save(folder)
    write_card(folder, head)


def _rounded(value: dict[str, object]) -> dict[str, object]:
    return {
        key: _rounded(inner) if isinstance(inner, dict) else round(float(str(inner)), 4) for key, inner in value.items()
    }


if __name__ == "__main__":
    main()
