"""A model is what its files say, not what it is called."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import tiny
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from alignprism.models.identity import IdentityError, cached_file_digest, weights_digest
from alignprism.models.local import LocalEngine, load
from alignprism.models.protocol import Decoding
from alignprism.models.spec import ModelSpec, SpecError, resolve


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "copy"))


@pytest.fixture
def adapter(tiny_llama: Path, tmp_path: Path) -> Path:
    """A LoRA adapter with weights that matter."""
    base = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_moved_model_is_the_same_model(tiny_llama: Path, copy: Path) -> None:
    assert weights_digest(copy) == weights_digest(tiny_llama)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json"])
def test_every_part_that_can_change_an_answer_counts(tiny_llama: Path, copy: Path, name: str) -> None:
    path = copy / name
    if name == "config.json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 0.5}))
    else:
        path.write_bytes((path.read_bytes() if path.exists() else b"") + b" ")
    assert weights_digest(copy) != weights_digest(tiny_llama)


def test_where_a_model_came_from_does_not_count(tiny_llama: Path, copy: Path) -> None:
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_name_or_path": "elsewhere"}))
    assert weights_digest(copy) == weights_digest(tiny_llama)


def _with_ends(folder: Path, *ends: int) -> Path:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(ends)}))
    return folder


def test_an_end_that_only_the_generation_configuration_names_counts(
    tiny_llama: Path, copy: Path, tmp_path: Path
) -> None:
    """Such as GLM-4's ``<|user|>``. One that is an end already leaves the digest as it was before these counted."""
    index = tmp_path / "digests.json"
    before = weights_digest(tiny_llama)
    assert weights_digest(_with_ends(copy, 1)) == before
    assert weights_digest(_with_ends(copy, 1, 7), index=index) != before
    assert weights_digest(copy, index=index) == weights_digest(copy) != weights_digest(_with_ends(copy, 1, 8))
    (copy / "generation_config.json").unlink()  # transformers takes config.json's then
    assert weights_digest(copy) == before


def test_an_end_that_the_chat_template_writes_does_not_count_twice(tiny_gemma: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_gemma, tmp_path / "turns"))
    (copy / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}<end_of_turn>{% endfor %}")
    before = weights_digest(_with_ends(copy, 1))
    assert weights_digest(_with_ends(copy, 1, 4)) == before  # 4 is <end_of_turn>
    assert weights_digest(_with_ends(copy, 1, 4, 9)) != before


def test_the_ends_of_a_translation_model_are_no_chats(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text()) | {"is_encoder_decoder": True}
    (copy / "config.json").write_text(json.dumps(config))
    assert weights_digest(_with_ends(copy, 1, 7)) == weights_digest(_with_ends(copy, 1))


def test_an_adapter_counts(tiny_llama: Path, adapter: Path) -> None:
    assert weights_digest(tiny_llama, adapter) != weights_digest(tiny_llama)


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="no weights"):
        weights_digest(tmp_path)


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    path, index = tmp_path / "file", tmp_path / "digests.json"
    path.write_bytes(b"one")
    os.utime(path, (time.time() - 60, time.time() - 60))
    first = cached_file_digest(path, index)
    assert first in index.read_text()
    path.write_bytes(b"two")
    assert cached_file_digest(path, index) != first
    index.write_text("{damaged")
    assert cached_file_digest(path, index) != first


def test_an_adapter_folder_finds_its_base_and_changes_the_answers(
    tiny_llama: Path, adapter: Path, tmp_path: Path
) -> None:
    over = resolve(ModelSpec("m", str(tiny_llama), str(adapter)), tmp_path)
    named = resolve(ModelSpec("n", str(adapter)), tmp_path)
    assert over.digest == named.digest != resolve(ModelSpec("b", str(tiny_llama)), tmp_path).digest
    texts = []
    for resolved in (named, resolve(ModelSpec("b", str(tiny_llama)), tmp_path)):
        model, tokenizer = load(resolved, device="cpu")
        engine = LocalEngine(model, tokenizer, resolved.name, resolved.digest, None)
        texts.append([a.text for a in tiny.complete(engine, tiny.requests(), Decoding(max_new_tokens=8))])
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("embedded:nothing", "embedded:gemma-3-270m"),
        ("/no/such/folder", "there is no folder"),
        ("org/no-such-model", "HF_HUB_OFFLINE"),
    ],
)
def test_a_source_that_leads_nowhere_says_what_is_accepted(source: str, says: str, tmp_path: Path) -> None:
    with pytest.raises((SpecError, RuntimeError), match=says):
        resolve(ModelSpec("m", source), tmp_path)


def test_a_folder_without_a_model_and_two_adapters_are_errors(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=r"no config\.json"):
        resolve(ModelSpec("m", str(tmp_path / "empty")), tmp_path)
    with pytest.raises(SpecError, match="itself an adapter"):
        resolve(ModelSpec("m", str(adapter), str(adapter)), tmp_path)
