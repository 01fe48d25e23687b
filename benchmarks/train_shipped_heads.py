"""Makes the two shipped judge heads, with their cards.

    python benchmarks/train_shipped_heads.py --data ../shared/data [--cache FOLDER] [--only e5-harm-v1]

Data: Qwen2.5 rows of polyrefuse (Apache-2.0) and the project's own rows, each half by prompt: fold a for the
evaluation head (e5), fold b for the preference head (gemma). Deterministic: the same data gives the same bytes.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from judge_data import qwen_rows

from alignprism.judging.card import write_card
from alignprism.judging.encoders import CachedEncoder, Encoder
from alignprism.judging.head import SHIPPED
from alignprism.judging.judges import EVALUATION_HEAD, PREFERENCE_HEAD, load_encoder
from alignprism.judging.own_rows import own_rows
from alignprism.judging.train_head import Settings, train_head

PER_LANGUAGE = 60
RECIPES = {
    EVALUATION_HEAD: ("e5", ("prompt", "completion", "both"), "a", Settings(map="answered+refusal", penalty=0.3)),
    PREFERENCE_HEAD: (
        "gemma",
        ("prompt9", "mean9", "last9"),
        "b",
        Settings(map="states+refusal", penalty=0.3, copies=1),
    ),
}


def make(name: str, data: Path, cache: Path, out: Path) -> None:
    """Train one head and write its folder."""
    encoder_name, parts, fold, settings = RECIPES[name]
    encoder: Encoder = load_encoder(encoder_name, parts, cache)
    cached = CachedEncoder(encoder, cache / "judge-training" / f"{encoder_name}.sqlite", print)
    rows = qwen_rows(data, fold, PER_LANGUAGE, seed=0) + own_rows("a" if fold == "a" else "b")
    trained = train_head(name, rows, cached, settings)
    trained.head.card.update(data=_sources(fold), settings=asdict(settings))
    trained.head.save(out / name)
    write_card(out / name, trained.head)
    print(f"{name}: {len(trained.rows)} rows, digest {trained.head.digest}")


def _sources(fold: str) -> list[str]:
    return [
        "PolyRefuse (mainlp/Multilingual-Refusal, Apache-2.0): answers of Qwen2.5-7B-Instruct as released and with its "
        f"refusal direction removed, en es fr de it, {PER_LANGUAGE} pairs a language, labels by WildGuard; the half "
        f"of the prompts called fold {fold}. None of Llama or Gemma.",
        f"Own rows of this project, fold {fold} (`judging/data/own_*.jsonl`): written and labelled by a language model, "
        "mild, eight languages; compliance (also clumsy), refusals, off-topic chatter, helpful answers to benign "
        "twins, toxic answers to benign prompts; contrast pairs on thirty themes (fold a only: an unsafe prompt complied "
        "with and refused, two harmless look-alikes answered); and kind `model`: what the Gemma base model really answered to these "
        "same prompts (Gemma Terms of Use), labelled by a language model. No study prompt and no answer to one.",
        "Completions of one prompt are cut to one common random length of 50 to 200 characters, so that length tells "
        "nothing; there is no length feature. The refusal rule's answer is a feature; the e5 head sees the prompt by itself "
        "only where the completion does not refuse, the Gemma head never.",
        "Not used: rtp_lx (research only), xstest (measuring only).",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds polyrefuse/")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "alignprism")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--only", choices=sorted(RECIPES))
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else RECIPES:
        make(name, arguments.data, arguments.cache, arguments.out)


if __name__ == "__main__":
    main()
