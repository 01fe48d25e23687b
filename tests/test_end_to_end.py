"""The smoke path on the real embedded model, and the page as a person sees it in a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from alignprism.prompts.read import read_sample
from alignprism.rows import Completion, read_rows

pytestmark = pytest.mark.slow

COMMAND = str(Path(sys.executable).with_name("alignprism"))


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory: pytest.TempPathFactory, gemma_folder: Path) -> Path:
    """`alignprism quickstart --size smoke`, as the Makefile runs it."""
    run = tmp_path_factory.mktemp("smoke") / "run"
    process = subprocess.run(
        [COMMAND, "quickstart", "--size", "smoke", "--run", str(run)],
        # One thread: beside other tests a second one would spin, not work.
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert process.returncode == 0, process.stderr
    (run / "output.txt").write_text(process.stdout, encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def page(smoke_run: Path) -> Iterator[Page]:
    """The report, opened from disk in headless Chromium; any request that leaves the file fails the test."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium fonts-noto-core)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        opened = browser.new_page(viewport={"width": 1200, "height": 900})
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto((smoke_run / "report.html").as_uri())
        assert all(url.startswith(("file:", "data:")) for url in asked)
        yield opened
        browser.close()


def test_all_four_methods_are_on_the_page_with_their_figures(smoke_run: Path, page: Page) -> None:
    text = page.inner_text("body")
    for method in ("base", "sft-random", "sft-preferred", "dpo-ift", "dpo-sft"):
        assert method in text
    assert "Judge only: no person has read these completions; this demonstrates the tool" in text
    document = json.loads((smoke_run / "results.json").read_text(encoding="utf-8"))
    primary = document["headline"]["primary"]
    assert f"n = {primary['n']}" in text
    assert "too few" in text
    assert "e5-harm-v1" in text


def test_what_a_person_sees_in_the_first_box_is_the_primary_figure(smoke_run: Path, page: Page) -> None:
    document = json.loads((smoke_run / "results.json").read_text(encoding="utf-8"))
    primary = document["headline"]["primary"]
    points = abs(round(100 * primary["estimate"]))
    first = (
        page.inner_text("main section >> nth=0") if page.locator("main section").count() else page.inner_text("body")
    )
    assert f"{points} points" in first.replace("\u00a0", " ")


def test_right_to_left_names_are_shaped_and_directed(page: Page) -> None:
    arabic = page.locator("[lang=ar]").first
    assert arabic.evaluate("element => getComputedStyle(element).direction") == "rtl"
    assert "العربية" in arabic.inner_text()
    hindi = page.locator("[lang=hi]").first
    assert "हिन्दी" in hindi.inner_text()
    # A missing glyph is drawn as a box whose width does not depend on the letters.
    widths = arabic.evaluate(
        "element => ['العربية', 'ااااااا'].map(t => {element.textContent = t; return element.getBoundingClientRect().width})"
    )
    assert widths[0] != widths[1]


def test_nothing_is_cut_off_at_desktop_width(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_runs_no_script_and_shows_no_text_of_any_prompt(smoke_run: Path, page: Page) -> None:
    assert page.locator("script").count() == 0
    html = (smoke_run / "report.html").read_text(encoding="utf-8")
    for prompt in read_sample("redteam"):
        assert prompt.text not in html
    for row in read_rows(smoke_run / "stages" / "complete-dpo-sft" / "completions.parquet", Completion):
        assert len(row.text) < 25 or row.text not in html


def test_output_says_what_was_done_and_holds_no_text_of_a_prompt(smoke_run: Path) -> None:
    output = (smoke_run / "output.txt").read_text(encoding="utf-8")
    assert "report.html" in output
    assert all(prompt.text not in output for prompt in read_sample("redteam"))


def test_a_second_run_computes_nothing_says_so_and_is_quick(smoke_run: Path) -> None:
    before = (smoke_run / "results.json").read_bytes()
    started = time.monotonic()
    process = subprocess.run(
        [COMMAND, "quickstart", "--size", "smoke", "--run", str(smoke_run)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert "nothing to compute" in process.stdout
    assert (smoke_run / "results.json").read_bytes() == before
    assert time.monotonic() - started < 60  # under 20 s on idle cores (docs/benchmarks.md)
