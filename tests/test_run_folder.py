"""A run folder is private, says what was done from which bytes, and is never touched when it is not ours."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from alignprism.rows import file_digest
from alignprism.run_folder import (
    MANIFEST_SCHEMA,
    RunFolder,
    RunFolderError,
    locked,
    open_run,
    read_manifest,
    refuse_unfinished,
)


def finished(run: RunFolder, stage: str = "complete", text: bytes = b"rows") -> Path:
    file = run.stage_folder(stage) / "completions.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text)
    run.record(stage, "key-1", [file], 1.5)
    return file


def test_a_new_folder_is_private_and_has_a_manifest(tmp_path: Path) -> None:
    run = open_run(tmp_path / "runs" / "a")
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    manifest = json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["schema"] == MANIFEST_SCHEMA
    assert {"alignprism", "versions", "machine", "stages", "timing", "test"} <= set(manifest)
    assert {"python", "torch", "transformers"} <= set(manifest["versions"])


def test_an_existing_folder_is_made_private_when_it_becomes_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir(mode=0o755)
    assert stat.S_IMODE(open_run(folder).path.stat().st_mode) == 0o700


def test_a_finished_stage_is_done_under_its_key_only(tmp_path: Path) -> None:
    run = open_run(tmp_path / "a")
    assert not run.done("complete", "key-1")
    file = finished(run)
    again = open_run(run.path)
    assert again.done("complete", "key-1")
    assert not again.done("complete", "key-2")
    assert again.outputs_of("complete") == {"stages/complete/completions.parquet": file_digest(file)}
    assert again.manifest["timing"]["complete"]["seconds"] == 1.5


def test_a_missing_output_is_not_done(tmp_path: Path) -> None:
    run = open_run(tmp_path / "a")
    finished(run).unlink()
    assert not run.done("complete", "key-1")
    assert run.damaged("complete") == []


def test_a_damaged_output_is_named_and_set_aside_never_lost(tmp_path: Path) -> None:
    run = open_run(tmp_path / "a")
    name = "stages/complete/completions.parquet"
    for count in (1, 2):
        file = finished(run)
        assert run.damaged("complete") == []
        file.write_bytes(b"rowz%d" % count)
        assert run.damaged("complete") == [name]
        moved = run.set_aside(name)
        assert moved.read_bytes() == b"rowz%d" % count
        assert not run.done("complete", "key-1")
    assert len(list(file.parent.iterdir())) == 2


def test_a_run_of_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    run = open_run(tmp_path / "a")
    file = run.path / "manifest.json"
    file.write_text(json.dumps(run.manifest | {"schema": MANIFEST_SCHEMA + 1}), encoding="utf-8")
    run.path.chmod(0o755)
    before = (file.read_bytes(), file.stat().st_mtime_ns, run.path.stat().st_mtime_ns, run.path.stat().st_mode)
    with pytest.raises(RunFolderError, match=r"newer alignprism .*left untouched"):
        open_run(run.path)
    assert before == (file.read_bytes(), file.stat().st_mtime_ns, run.path.stat().st_mtime_ns, run.path.stat().st_mode)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": "x"}', '{"schema": null}'])
def test_a_damaged_manifest_is_named_and_left(tmp_path: Path, content: str) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(RunFolderError, match="damaged") as caught:
        open_run(tmp_path)
    assert str(file) in str(caught.value)
    assert file.read_text(encoding="utf-8") == content


def test_a_folder_that_holds_something_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunFolderError, match="not empty"):
        open_run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_missing_manifest_says_that_this_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        read_manifest(tmp_path / "manifest.json")


def test_a_purged_run_is_refused_untouched(tmp_path: Path) -> None:
    run = open_run(tmp_path / "a")
    run.manifest["purged"] = "2026-11-23"
    run.save()
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(RunFolderError, match="texts were purged on 2026-11-23"):
        open_run(run.path)
    assert (run.path / "manifest.json").read_bytes() == before


def test_an_unfinished_run_is_refused_with_the_way_on(tmp_path: Path) -> None:
    refuse_unfinished(tmp_path, {"stages": {}})
    with pytest.raises(RunFolderError, match=f"has not ended.*alignprism run STUDY --run {tmp_path}"):
        refuse_unfinished(tmp_path, {"unfinished": "2026-11-23T10:00:00+00:00"})
    with pytest.raises(RunFolderError, match="texts were purged since; name a new folder"):
        refuse_unfinished(tmp_path, {"unfinished": "2026-11-23T10:00:00+00:00", "purged": "2026-11-24"})


def test_one_process_works_in_a_run_folder_and_another_is_told(tmp_path: Path) -> None:
    run = open_run(tmp_path / "a")
    with locked(run.path), pytest.raises(RunFolderError, match="another alignprism is working"), locked(run.path):
        pass
    with locked(run.path):
        pass


def test_stage_names_become_folder_names(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.stage_folder("train:dpo-sft") == tmp_path / "stages" / "train-dpo-sft"
    assert run.cell_folder("dpo-sft") == tmp_path / "models" / "dpo-sft"
