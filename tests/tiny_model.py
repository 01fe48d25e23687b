"""A whole run in seconds: a tiny Gemma 3 with random weights, a study for it, and one finished run that tests copy.

Everything else is real: training, decoding, the call store, the e5 judge, the figures and the page. The vocabulary is
256 bytes (so every prompt can be asked) and 600 invented words, which the random model mostly writes: a completion is
then a text that stands nowhere else, which is what the tests of purging and of silence look for.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

STUDY = """\
name: tiny
languages:
  train: [en, ar]
  test: [en, hi, ar]
data:
  translated: null
  per_language: 1
models:
  base:
    source: {model}
methods: [sft-preferred, dpo-sft]
judges:
  preference: e5-harm-v1
  evaluation: e5-harm-v1
allow_shared_judge: true
mixture: 0.25
pairs:
  total: 4
  candidates: 1
  tie_margin: 0
  max_new_tokens: 6
training:
  sft_epochs: 2
  dpo_epochs: 2
  batch_size: 2
  max_tokens: 900
  dev_checks: 1
  checkpoint_every: 1
evaluation:
  max_new_tokens: 6
  batch_size: 8
  bootstrap: 200
"""


def invented_words(count: int = 600) -> list[str]:
    """Words of three syllables that no language has, always the same."""
    draw = random.Random(7)
    onsets, nuclei = "bdfgklmnprstvz", "aeiou"
    words: set[str] = set()
    while len(words) < count:
        words.add("".join(draw.choice(onsets) + draw.choice(nuclei) + draw.choice("xqw") for _ in range(3)))
    return sorted(words)


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """A folder in transformers' format: Gemma 3, 2 layers, hidden 16, random weights from `seed`."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

    specials = ["<pad>", "<eos>", "<bos>"]
    entries = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"Ġ{word}" for word in invented_words())]
    vocabulary = {token: number for number, token in enumerate(entries)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )
    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        vocab_size=len(entries),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=64,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=4096,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Bench:
    """Two tiny models and a way to ask the command line, inside this process or in one of its own."""

    folder: Path
    model: Path
    other: Path
    cache: Path

    def study(self, folder: Path, text: str = "", **changes: str) -> Path:
        """The tiny study as a file; `changes` replace whole lines: ``seed="seed: 1"`` or ``total="  total: 6"``."""
        lines = (text or STUDY).format(model=self.model).splitlines()
        for key, line in changes.items():
            found = [n for n, old in enumerate(lines) if old.strip().startswith(f"{key}:")]
            lines[found[0] : found[0] + 1] = [line] if found else lines[found[0]]
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "study.yaml"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "ALIGNPRISM_CACHE": str(self.cache),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": str(REPOSITORY / "src"),
        }

    def call(self, *arguments: str | Path) -> Said:
        """The command line in this process: the same code without the seconds of starting it."""
        import torch
        from typer.testing import CliRunner

        from alignprism import cli

        threads = torch.get_num_threads()
        # One, as in `start`: sums are only bit-equal when they are cut into the same parts; and a model this small
        # spends its time on waking the second.
        torch.set_num_threads(1)
        try:
            return _invoke(CliRunner(), cli, [str(a) for a in arguments], {"ALIGNPRISM_CACHE": str(self.cache)})
        finally:
            torch.set_num_threads(threads)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """The command line as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "alignprism", *map(str, arguments)],
            env=self.environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _invoke(runner: Any, cli: Any, arguments: Sequence[str], environment: dict[str, str]) -> Said:
    # The consoles were made at import; they look up sys.stdout each time they print, so the runner sees them.
    result = runner.invoke(cli.app, arguments, env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two tiny models with different weights, and a cache of their own."""
    folder = tmp_path_factory.mktemp("bench")
    return Bench(folder, write_tiny_model(folder / "one"), write_tiny_model(folder / "two", 1), folder / "cache")


@pytest.fixture(scope="session")
def finished(bench: Bench) -> tuple[Path, Said]:
    """One uninterrupted run of the tiny study, and what it said. Read it, or take a `copied` one."""
    run = bench.folder / "finished"
    said = bench.call("run", bench.study(bench.folder / "study"), "--run", run)
    assert said.code == 0, said.all
    return run, said


@pytest.fixture
def copied(finished: tuple[Path, Said], tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return copy_of(finished[0], tmp_path / "run")


def copy_of(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    to.chmod(0o700)
    return to


def results(run: Path) -> dict[str, Any]:
    """``results.json`` without what may differ between two runs of the same study: times."""
    document: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    document.pop("timing")
    return document


def manifest(run: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return document


def texts_of(run: Path) -> dict[str, list[str]]:
    """Every prompt-like and completion-like text of a finished run, by kind."""
    from alignprism.rows import Completion, Pair, Prompt, read_rows

    prompts = read_rows(run / "stages" / "prompts" / "prompts.parquet", Prompt)
    completions = [
        row for file in sorted(run.glob("stages/*/completions.parquet")) for row in read_rows(file, Completion)
    ]
    pairs = read_rows(run / "stages" / "pairs" / "pairs.parquet", Pair)
    fields: Sequence[Callable[[Prompt], str | None]] = (
        lambda p: p.text,
        lambda p: p.reference,
        lambda p: p.explanation,
        lambda p: p.literal_translation,
        lambda p: p.semantic_translation,
    )
    return {
        "prompts": [text for p in prompts for field in fields if (text := field(p))],
        "completions": [row.text for row in completions if row.text],
        "pairs": [text for p in pairs for text in (p.prompt, p.chosen, p.rejected)],
    }


def fragments(texts: Sequence[str]) -> set[str]:
    """Pieces by which a text would be recognised, wherever it was cut: its beginning and its middle."""
    found = set()
    for text in texts:
        line = max(text.splitlines(), key=len, default="").strip()
        if len(line) >= 12:
            found |= {line[:24], line[len(line) // 2 :][:24]}
    return {piece for piece in found if len(piece) >= 10}
