"""How often is a refusal verdict right, and a language verdict? On published sets, beside trivial baselines.

    python benchmarks/judges.py --data ../shared/data [--cache FOLDER] [--prompts 100] [--write-card]

Prints one JSON object last. Keys and what was trained on what:

``refusal.xstest``
    two classes (full compliance against any refusal) against the settled human labels, on the *test* half of the
    prompts. The shipped head: own rows only, no XSTest row. The dev half was looked at while own rows were written.
``refusal.polyrefuse``
    against WildGuard's labels, on a fixed sample of the *test* half's prompts, three models, as released and ablated. For
    every language a head trained on the own rows *without that language*; no PolyRefuse row.
``refusal_details``
    n; the dev half and all rows; the rule; majority class; length alone (threshold from the other models or languages);
    published string matching and GPT-4 labels; three classes with confusion; false alarms and misses; and
    ``cross_validated``: own rows (without the language) and the set's rows of other models (languages) and other prompts.
``false_alarms``
    share of answers called a refusal: held-out own rows by kind, and the sample's reference answers by language.
``language``
    texts of 20 characters or more: accuracy of "is in language L" over texts of L, and false acceptance over the others
    that share its script. The rule was chosen on Tatoeba; MultiQ was only measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from refusal_data import POLYREFUSE_LANGUAGES, XSTEST_MODELS, Answer, half, multiq, polyrefuse, tatoeba, xstest

from alignprism.judging.encoders import CachedEncoder
from alignprism.judging.head import SHIPPED
from alignprism.judging.language import on_language, script_fits
from alignprism.judging.refusal import refusal
from alignprism.judging.refusal_head import REFUSAL_HEAD, E5Sentences, Floats, RefusalHead, features
from alignprism.judging.refusal_rows import RefusalRow, refusal_rows
from alignprism.judging.train_refusal import held_out, row_features, train_refusal
from alignprism.prompts.read import read_sample
from alignprism.rows import Refusal, write_atomic

FOLDS = 3
LANGUAGES = ("en", "hi", "fr", "es", "ar", "ru", "sr", "tl")
SHORTEST = 20
CLASSES: tuple[Refusal, ...] = ("none", "full", "partial")


@dataclass(frozen=True, slots=True)
class Bench:
    """What every figure needs: the folder of sets, the encoder, the own rows and their features."""

    data: Path
    encoder: CachedEncoder
    rows: list[RefusalRow]
    x: Floats

    def features(self, answers: Sequence[Answer]) -> Floats:
        """Features of published answers."""
        return features([a.text for a in answers], [a.language for a in answers], self.encoder)

    def trained(
        self, keep: Callable[[RefusalRow], bool], extra: Sequence[Answer] = (), source: str = ""
    ) -> RefusalHead:
        """A head on the own rows that `keep` lets through and on published answers besides."""
        kept = [number for number, row in enumerate(self.rows) if keep(row)]
        rows = [self.rows[number] for number in kept]
        rows += [RefusalRow(a.text, a.language, a.refusal, a.prompt_id, source) for a in extra]
        x = self.x[kept] if not extra else np.concatenate([self.x[kept], self.features(extra)])
        return train_refusal(rows, x, self.encoder.identity)


def two_classes(said: Sequence[Refusal], answers: Sequence[Answer]) -> float:
    """Share of answers whose refusing or not is told right."""
    return float(np.mean([(a == "none") == (b.refusal == "none") for a, b in zip(said, answers, strict=True)]))


def figures(said: Sequence[Refusal], answers: Sequence[Answer], *, three: bool) -> dict[str, Any]:
    """Accuracy, missed refusals, false alarms; with `three`, the three classes too (gold class / said class: count)."""
    refuses = np.array([a.refusal != "none" for a in answers])
    called = np.array([s != "none" for s in said])
    found: dict[str, Any] = {
        "n": len(answers),
        "refusals": int(refuses.sum()),
        "accuracy": _round(two_classes(said, answers)),
        "missed": _round(float((~called[refuses]).mean())),
        "false_alarms": _round(float(called[~refuses].mean())),
    }
    if three:
        pairs = Counter((a.refusal, s) for a, s in zip(answers, said, strict=True))
        found["three_classes"] = _round(sum(pairs[c, c] for c in CLASSES) / len(answers))
        found["confusion"] = {f"{gold}/{got}": pairs[gold, got] for gold in CLASSES for got in CLASSES}
    return found


def baselines(answers: Sequence[Answer], others: Sequence[Answer]) -> dict[str, float]:
    """The rule, the more frequent class, length alone with its threshold from `others`, and published labels."""
    refuses = np.array([a.refusal != "none" for a in answers])
    rule: list[Refusal] = [refusal(a.text, a.language) for a in answers]
    found = {
        "rule": two_classes(rule, answers),
        "majority": float(max(refuses.mean(), 1 - refuses.mean())),
        "length_only": float(((_lengths(answers) < _best_length(others)) == refuses).mean()),
    }
    for name in answers[0].others:
        found[name] = float(np.mean([a.others[name] == (a.refusal != "none") for a in answers]))
    return {name: _round(value) for name, value in found.items()}


def _lengths(answers: Sequence[Answer]) -> NDArray[np.int_]:
    return np.array([len(a.text) for a in answers])


def _best_length(answers: Sequence[Answer]) -> int:
    """The length below which calling an answer a refusal is right most often."""
    lengths, refuses = _lengths(answers), np.array([a.refusal != "none" for a in answers])
    candidates = sorted(set(lengths.tolist()))[::20]
    return int(max(candidates, key=lambda limit: float(((lengths < limit) == refuses).mean())))


def _fold(prompt_id: str) -> int:
    return int(hashlib.sha256(prompt_id.encode()).hexdigest(), 16) % FOLDS


def cross_validated(
    bench: Bench, sets: dict[str, list[Answer]], name: str, answers: list[Answer], keep: Callable[[RefusalRow], bool]
) -> dict[str, Any]:
    """Trained on own rows and on the answers of the other keys of `sets` to prompts of other folds."""
    said: dict[int, Refusal] = {}
    for fold in range(FOLDS):
        extra = [a for other, rows in sets.items() if other != name for a in rows if _fold(a.prompt_id) != fold]
        held = [number for number, answer in enumerate(answers) if _fold(answer.prompt_id) == fold]
        head = bench.trained(keep, extra, "published")
        said.update(zip(held, head.classes(bench.features([answers[n] for n in held])), strict=True))
    return figures([said[number] for number in range(len(answers))], answers, three=False)


def xstest_figures(bench: Bench, head: RefusalHead) -> tuple[dict[str, float], dict[str, Any]]:
    """Accuracy on the test half by model, and everything beside it."""
    sets = {model: xstest(bench.data, model) for model in XSTEST_MODELS}
    test, details = {}, {}
    for model, answers in sets.items():
        said = head.classes(bench.features(answers))
        parts = {part: [n for n, a in enumerate(answers) if half(a.prompt_id) == part] for part in ("test", "dev")}
        others = [a for other, rows in sets.items() if other != model for a in rows]
        chosen = [answers[n] for n in parts["test"]]
        found = {
            part: figures([said[n] for n in numbers], [answers[n] for n in numbers], three=True)
            for part, numbers in parts.items()
        }
        details[model] = {
            **found,
            "all": figures(said, answers, three=True),
            "baselines": baselines(chosen, [a for a in others if half(a.prompt_id) == "dev"]),
            "baselines_all": baselines(answers, others),
            "rule": figures([refusal(a.text, "en") for a in chosen], chosen, three=True),
            "cross_validated": cross_validated(bench, sets, model, chosen, lambda row: True),
        }
        test[model] = found["test"]["accuracy"]
        print(f"xstest {model}: {test[model]}, {details[model]['baselines']}", flush=True)
    return test, details


def polyrefuse_figures(bench: Bench, shipped: RefusalHead, prompts: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Accuracy by language of heads that never saw the language, and everything beside it."""
    sets = {code: polyrefuse(bench.data, code, "test", prompts) for code in POLYREFUSE_LANGUAGES}
    test, details = {}, {}
    for code, answers in sets.items():

        def other(row: RefusalRow, code: str = code) -> bool:
            return row.language != code

        x = bench.features(answers)
        others = [a for language, rows in sets.items() if language != code for a in rows]
        found = figures(bench.trained(other).classes(x), answers, three=False)
        details[code] = {
            "test": found,
            "shipped": figures(shipped.classes(x), answers, three=False),
            "baselines": baselines(answers, others),
            "cross_validated": cross_validated(bench, sets, code, answers, other),
        }
        test[code] = found["accuracy"]
        print(f"polyrefuse {code}: {test[code]}, {details[code]['baselines']}", flush=True)
    return test, details


def false_alarm_figures(bench: Bench, shipped: RefusalHead) -> dict[str, Any]:
    """Share called a refusal: own rows held out by group, by kind and language; the sample's references by language."""
    refusing = np.array([int(row.refusal != "none") for row in bench.rows])
    held = held_out(bench.rows, bench.x, refusing) > shipped.threshold
    kinds = [row.kind or f"refusal-row/{row.refusal}" for row in bench.rows]
    own = {
        kind: {
            "n": kinds.count(kind),
            "called": _round(float(held[[k == kind for k in kinds]].mean())),
            "rule": _round(
                float(
                    np.mean(
                        [
                            refusal(r.text, r.language) != "none"
                            for r, k in zip(bench.rows, kinds, strict=True)
                            if k == kind
                        ]
                    )
                )
            ),
        }
        for kind in sorted(set(kinds))
    }
    sample = [p for p in read_sample("general") if p.reference]
    texts = [p.reference or "" for p in sample]
    said = shipped.classes(features(texts, [p.language for p in sample], bench.encoder))
    references = {
        code: {
            "n": sum(p.language == code for p in sample),
            "called": sum(s != "none" for p, s in zip(sample, said, strict=True) if p.language == code),
            "rule": sum(refusal(p.reference or "", code) != "none" for p in sample if p.language == code),
        }
        for code in LANGUAGES
    }
    return {"own_held_out": own, "sample_references": references}


def language_figures(data: Path) -> dict[str, Any]:
    """By set and language: n, accuracy, and false acceptance of other languages in a script of the language."""
    found: dict[str, Any] = {}
    for name, rows in (("multiq", multiq(data)), ("tatoeba", tatoeba(data))):
        kept = [(code, text) for code, text in rows if len(text) >= SHORTEST]
        found[name] = {}
        for wanted in LANGUAGES:
            own = [text for code, text in kept if code == wanted]
            foreign = [text for code, text in kept if code != wanted and script_fits(text, wanted)]
            right = [on_language(text, wanted).on_language is True for text in own]
            wrong = [on_language(text, wanted).on_language is True for text in foreign]
            found[name][wanted] = {
                "n": len(own),
                "accuracy": _round(float(np.mean(right))),
                "foreign": len(foreign),
                "accepted": _round(float(np.mean(wrong))) if wrong else 0.0,
            }
        print(f"{name}: { {code: cell['accuracy'] for code, cell in found[name].items()} }", flush=True)
    return found


def _round(value: float) -> float:
    return round(float(value), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of xstest/, polyrefuse/, multiq/, tatoeba/")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "alignprism")
    parser.add_argument("--prompts", type=int, default=100, help="prompts of polyrefuse's test half")
    parser.add_argument("--write-card", action="store_true", help="put the figures into the shipped head's card")
    arguments = parser.parse_args()
    store = arguments.cache / "judge-training" / "sentences.sqlite"
    encoder = CachedEncoder(E5Sentences(), store, lambda line: print(line, flush=True))
    rows = refusal_rows()
    bench = Bench(arguments.data, encoder, rows, row_features(rows, encoder))
    shipped = RefusalHead.load(SHIPPED / REFUSAL_HEAD)
    on_xstest, xstest_details = xstest_figures(bench, shipped)
    on_polyrefuse, polyrefuse_details = polyrefuse_figures(bench, shipped, arguments.prompts)
    result = {
        "refusal": {"xstest": on_xstest, "polyrefuse": on_polyrefuse},
        "refusal_details": {"xstest": xstest_details, "polyrefuse": polyrefuse_details},
        "false_alarms": false_alarm_figures(bench, shipped),
        "language": language_figures(arguments.data),
    }
    if arguments.write_card:
        text = json.dumps(result, indent=1, sort_keys=True) + "\n"
        write_atomic(SHIPPED / REFUSAL_HEAD / "card.json", text.encode())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
