"""``purge`` removes every text from a run and keeps what can be shown: hashes, figures, models, the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from tiny_model import Bench, Said, copy_of, fragments, manifest, results, texts_of

from alignprism.pipeline import execute, plan
from alignprism.progress import ConsoleReporter
from alignprism.rows import Completion, Pair, Prompt, read_rows
from alignprism.run_folder import RunFolderError, locked
from alignprism.study import load

SHORT = 6


def pieces_of(run: Path) -> set[bytes]:
    """Beginnings and middles of every text, as bytes in every form in which a file may hold them."""
    texts = texts_of(run)
    words = {word for text in texts["completions"] for word in text.split() if len(word) >= SHORT and word.isascii()}
    found = words | fragments([text for kind in texts.values() for text in kind])
    return {piece.encode() for piece in found} | {ascii(piece)[1:-1].encode() for piece in found}


def holders(folder: Path, pieces: set[bytes]) -> dict[str, list[bytes]]:
    """Files that hold any of the pieces, compressed Parquet pages unpacked."""
    found: dict[str, list[bytes]] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = file.read_bytes()
        if file.suffix == ".parquet":
            data += _parquet_text(file)
        inside = [piece for piece in pieces if piece in data]
        if inside:
            found[str(file.relative_to(folder))] = inside
    return found


def _parquet_text(file: Path) -> bytes:
    import pyarrow.parquet as pq

    return repr(pq.read_table(file).to_pydict()).encode()


@pytest.fixture(scope="module")
def purged(finished: tuple[Path, Said], bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    run = copy_of(finished[0], tmp_path_factory.mktemp("purge") / "run")
    assert bench.call("report", run, "--samples").code == 0
    # What a kill may leave: a file set aside as damaged, and one half written.
    pairs = run / "stages" / "pairs" / "pairs.parquet"
    (pairs.with_name("pairs.parquet.damaged")).write_bytes(pairs.read_bytes())
    text = texts_of(run)["prompts"][0]
    (pairs.with_name(".pairs.parquet.4711.tmp")).write_text(text, encoding="utf-8")
    return run, bench.call("purge", run)


def test_the_search_finds_texts_before_purging(finished: tuple[Path, Said]) -> None:
    holding = holders(finished[0], pieces_of(finished[0]))
    assert "calls.sqlite" in holding
    assert "stages/prompts/prompts.parquet" in holding
    assert "stages/pairs/pairs.parquet" in holding
    assert "stages/complete-base/completions.parquet" in holding
    assert "report.html" not in holding and "results.json" not in holding


def test_no_text_is_left_in_any_file(purged: tuple[Path, Said], finished: tuple[Path, Said]) -> None:
    run, said = purged
    assert said.code == 0, said.all
    assert holders(run, pieces_of(finished[0])) == {}
    assert not (run / "samples.html").exists()
    assert not list(run.rglob("*.damaged*")) and not list(run.rglob(".*.tmp"))
    assert not (run / "calls.sqlite-wal").exists() or (run / "calls.sqlite-wal").stat().st_size == 0


def test_it_says_how_many_texts_went(purged: tuple[Path, Said], finished: tuple[Path, Said]) -> None:
    removed = int(purged[1].out.split(": ")[1].split()[0])
    assert removed > len(texts_of(finished[0])["prompts"])


def test_hashes_rows_and_figures_stay(purged: tuple[Path, Said], finished: tuple[Path, Said]) -> None:
    run, before = purged[0], finished[0]
    assert results(run) == results(before)
    for name in ("results.parquet", "results.csv", "report.html"):
        assert (run / name).read_bytes() == (before / name).read_bytes()
    for file, kind in (
        ("stages/prompts/prompts.parquet", Prompt),
        ("stages/complete-base/completions.parquet", Completion),
        ("stages/pairs/pairs.parquet", Pair),
    ):
        mine, theirs = read_rows(run / file, kind), read_rows(before / file, kind)
        assert [row.id for row in mine] == [row.id for row in theirs]
    (first, *_), (was, *_) = (read_rows(r / "stages/prompts/prompts.parquet", Prompt) for r in (run, before))
    import hashlib

    assert first.text == f"sha256:{hashlib.sha256(was.text.encode()).hexdigest()}"
    assert (run / "models" / "dpo-sft" / "adapter_model.safetensors").is_file()
    assert manifest(run)["purged"]


def test_a_purged_run_is_not_continued(purged: tuple[Path, Said], bench: Bench, tmp_path: Path) -> None:
    said = bench.call("run", bench.study(tmp_path), "--run", purged[0])
    assert said.code == 2
    assert "texts were purged" in said.err and "new folder" in said.err


def test_a_purged_run_still_gives_its_page_but_no_samples(purged: tuple[Path, Said], bench: Bench) -> None:
    run = purged[0]
    assert bench.call("report", run).code == 0
    said = bench.call("report", run, "--samples")
    assert said.code == 2
    assert "no samples to show" in said.err
    assert not (run / "samples.html").exists()


def test_purging_twice_removes_nothing_more(purged: tuple[Path, Said], bench: Bench) -> None:
    said = bench.call("purge", purged[0])
    assert said.code == 0
    assert ": 0 texts removed" in said.out


def test_a_run_without_results_is_not_purged(copied: Path, bench: Bench) -> None:
    (copied / "results.json").unlink()
    said = bench.call("purge", copied)
    assert said.code == 2
    assert "let it finish first" in said.err
    assert any(text in (copied / "calls.sqlite").read_bytes() for text in pieces_of(copied))


def test_a_run_that_is_going_on_is_not_purged(copied: Path, bench: Bench) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with locked(copied):
        said = bench.call("purge", copied)
    assert said.code == 2
    assert "another alignprism is working in this folder" in said.err
    assert before == {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}


def test_a_run_that_was_planned_before_it_was_purged_does_not_go_on(copied: Path, bench: Bench, tmp_path: Path) -> None:
    reporter = ConsoleReporter(Console(quiet=True))
    layout = plan(load(bench.study(tmp_path / "study")), copied, bench.cache, reporter)
    assert bench.call("purge", copied).code == 0
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match="texts were purged"):
        execute(layout, reporter)
    assert before == {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}


def test_a_table_that_cannot_be_read_goes_whole_and_the_others_are_purged(
    copied: Path, finished: tuple[Path, Said], bench: Bench
) -> None:
    file = copied / "stages" / "candidates" / "completions.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    said = bench.call("purge", copied)
    assert said.code == 0, said.all
    assert str(file) in said.out.replace("\n", "") and not file.exists()
    assert holders(copied, pieces_of(finished[0])) == {}
    assert manifest(copied)["purged"]
