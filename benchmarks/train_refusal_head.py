"""Makes the shipped refusal head from the project's own rows. Deterministic; needs no published data.

    python benchmarks/train_refusal_head.py [--cache FOLDER] [--out FOLDER]

The card's figures are put in by `benchmarks/judges.py --write-card`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from alignprism.judging.encoders import CachedEncoder
from alignprism.judging.head import SHIPPED
from alignprism.judging.refusal_head import REFUSAL_HEAD, E5Sentences
from alignprism.judging.refusal_rows import refusal_rows
from alignprism.judging.train_refusal import row_features, train_refusal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "alignprism")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    arguments = parser.parse_args()
    encoder = CachedEncoder(E5Sentences(), arguments.cache / "judge-training" / "sentences.sqlite", print)
    rows = refusal_rows()
    head = train_refusal(rows, row_features(rows, encoder), encoder.identity)
    head.save(arguments.out / REFUSAL_HEAD)
    print(f"{head.name}: {len(rows)} rows, threshold {head.threshold}, {len(head.as_bytes())} bytes")


if __name__ == "__main__":
    main()
