"""The example study from a published set to a report, with a tiny model in the place of the real one."""

from __future__ import annotations

import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_model import REPOSITORY, Bench, results

from alignprism.rows import Pair, Prompt, read_rows


def keep_a_quarter(folder: Path) -> None:
    """Rows of every fourth seed, in all languages: comparing all of them with the held-out prompts takes minutes."""
    for file in (folder / name for name in ("prompts.parquet", "pairs.parquet")):
        table = pq.read_table(file)
        kept = [zlib.crc32(seed.encode()) % 4 == 0 for seed in table["seed_id"].to_pylist()]
        pq.write_table(table.filter(pa.array(kept)), file)


@pytest.mark.slow
def test_polyrefuse_goes_from_import_to_report(bench: Bench, tmp_path: Path, shared_data: Path) -> None:
    steps = [
        ("data", "import", shared_data / "polyrefuse", "--format", "polyrefuse", "--out", tmp_path / "imported"),
        ("data", "split", tmp_path / "imported", "--out", tmp_path / "split"),
    ]
    for step in steps:
        said = bench.call(*step)
        assert said.code == 0, said.all
    pairs_of = {
        name: read_rows(tmp_path / "split" / name, Pair) for name in ("pairs.parquet", "held_out_pairs.parquet")
    }
    assert sum(map(len, pairs_of.values())) == 7366, "every pair is in one of the two files"
    keep_a_quarter(tmp_path / "split")
    study = tmp_path / "study.yaml"
    study.write_text((REPOSITORY / "examples" / "polyrefuse" / "study.yaml").read_text("utf-8"), "utf-8")
    small = {
        "models.base": f"{{source: {bench.model}}}",
        "data.per_language": 2,
        "pairs.total": 6,
        "pairs.candidates": 1,
        "pairs.max_new_tokens": 6,
        "training.max_tokens": 900,
        "training.sft_epochs": 1,
        "training.dpo_epochs": 1,
        "training.dev_checks": 0,
        "evaluation.max_new_tokens": 6,
        "evaluation.bootstrap": 200,
    }
    changes = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    said = bench.call("run", study, "--run", tmp_path / "run", *changes)
    assert said.code == 0, said.all
    split = {p.seed_id: p.split for p in read_rows(tmp_path / "split" / "prompts.parquet", Prompt)}
    pairs = read_rows(tmp_path / "run" / "stages" / "pairs" / "pairs.parquet", Pair)
    safety = [pair for pair in pairs if pair.kind == "safety"]
    assert len(safety) == 3 and {split[pair.seed_id] for pair in safety} == {"train"}
    assert {pair.language for pair in pairs} <= {"en", "es", "fr"}
    found = results(tmp_path / "run")
    counted = found["pairs"]["safety"]
    train = len(read_rows(tmp_path / "split" / "pairs.parquet", Pair))
    assert 500 < train < len(pairs_of["pairs.parquet"])
    assert counted["made"] + sum(counted["dropped"].values()) == train, (
        "every pair of a train prompt is used or counted"
    )
    assert {row["language"] for row in found["figures"] if row["metric"] == "harmful_rate"} >= {"de", "it", "ar"}
    assert "polyrefuse" in (tmp_path / "run" / "report.html").read_text("utf-8")
