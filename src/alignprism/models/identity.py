"""What a model is: a digest of its weights, adapter, tokenizer and chat template, never its name.

Hashing a gigabyte takes a second or two, so digests of files are remembered in a small index, keyed by everything
that changes when a file is rewritten: path, size, modification time in nanoseconds and inode.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from alignprism.errors import InputError
from alignprism.models.stops import added_stops, named_stops
from alignprism.models.template import BASE_CHAT_TEMPLATE
from alignprism.rows import file_digest, write_atomic

_WEIGHTS = ("*.safetensors", "*.bin")
_DESCRIPTION = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "merges.txt")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_ADAPTER = ("adapter_config.json",)
_PLACES = frozenset(
    ("_name_or_path", "transformers_version", "base_model_name_or_path", "name_or_path", "is_local", "revision")
)
# A file changed again within the clock's tick keeps its time stamp: what was written just now is not remembered.
_SETTLED_SECONDS = 2.0


class IdentityError(InputError):
    """A folder holds no weights that could be named."""


def cached_file_digest(path: Path, index: Path | None) -> str:
    """sha256 of a file's bytes as hex, remembered in `index` (a JSON file) when one is given."""
    state = path.stat()
    key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{state.st_ino}"
    known = _read_index(index)
    if key in known:
        return known[key]
    digest = file_digest(path)
    if index is not None and time.time() - state.st_mtime > _SETTLED_SECONDS:
        write_atomic(index, json.dumps(_read_index(index) | {key: digest}, indent=0).encode())
    return digest


def _read_index(index: Path | None) -> dict[str, str]:
    if index is None or not index.is_file():
        return {}
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except ValueError:  # the index only saves time: a damaged one is forgotten
        return {}
    return {str(k): str(v) for k, v in content.items()} if isinstance(content, dict) else {}


def weights_digest(folder: Path, adapter: Path | None = None, index: Path | None = None) -> str:
    """sha256 (hex) over everything in `folder` and `adapter` that can change a model's answers.

    Of ``generation_config.json`` only the tokens count that end an answer and that nothing else gives.

    File names count relative to their folder, so that a moved model keeps its digest. A folder without a chat
    template is given one of ours when it is loaded; ours are hashed in its place.

    Raises
    ------
    IdentityError
        no weight files in `folder`, or no adapter in `adapter`.
    """
    total = hashlib.sha256(b"alignprism model 1\n")
    for part, root, required in (("model", folder, _WEIGHTS), ("adapter", adapter, (*_ADAPTER, *_WEIGHTS))):
        if root is None:
            continue
        weights = _present(root, required)
        if not any(path.suffix in {".safetensors", ".bin"} for path in weights):
            raise IdentityError(f"{root}: no weights (*.safetensors or *.bin) in this folder")
        for path in sorted({*weights, *_present(root, _DESCRIPTION), *_present(root, _TEMPLATES)}):
            digest = _digest_of(path, index)
            total.update(f"{part}/{path.name} {digest}\n".encode())
    if not has_chat_template(folder) and not (adapter is not None and has_chat_template(adapter)):
        total.update(hashlib.sha256(BASE_CHAT_TEMPLATE.encode()).digest())
    if stops := _added_stops(folder, adapter, total.hexdigest(), index):
        total.update(f"stops {stops}\n".encode())
    return total.hexdigest()


def _added_stops(folder: Path, adapter: Path | None, digest: str, index: Path | None) -> str:
    """The tokens that end an answer only because the generation configuration says so, as words; mostly none.

    Those that the template or the tokenizer gives as well are left out: they are hashed with them. Opening a tokenizer
    takes a second, so that what is found is remembered under the digest of everything else.
    """
    named = named_stops(folder)
    if not named:
        return ""
    key = f"added stops|{digest}|{sorted(named)}"
    known = _read_index(index)
    if key in known:
        return known[key]
    added = frozenset() if named <= _tokenizer_eos(folder, adapter) else added_stops(folder, adapter)
    found = " ".join(map(str, sorted(added)))
    if index is not None:
        write_atomic(index, json.dumps(_read_index(index) | {key: found}, indent=0).encode())
    return found


def _tokenizer_eos(folder: Path, adapter: Path | None) -> frozenset[int]:
    """The tokenizer's end-of-sequence token, read from its files without opening it; empty if they do not say it."""
    own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
    root = adapter if own and adapter is not None else folder
    try:
        eos = json.loads((root / "tokenizer_config.json").read_text(encoding="utf-8"))["eos_token"]
        text = eos["content"] if isinstance(eos, dict) else eos
        # Only the list of added tokens is parsed: the vocabulary behind it may be 30 MB.
        whole = (root / "tokenizer.json").read_text(encoding="utf-8")
        added, _ = json.JSONDecoder().raw_decode(whole, whole.index("[", whole.index('"added_tokens"')))
        return frozenset(int(token["id"]) for token in added if token["content"] == text)
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def _present(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    names = {path for pattern in patterns for path in root.glob(pattern)}
    # Trainer leftovers are no weights: the answers do not depend on them.
    return sorted(path for path in names if path.name not in {"training_args.bin", "optimizer.bin", "scheduler.bin"})


def _digest_of(path: Path, index: Path | None) -> str:
    if path.suffix == ".json" and path.name.endswith("config.json"):
        return hashlib.sha256(_without_places(path)).hexdigest()
    return cached_file_digest(path, index)


def _without_places(path: Path) -> bytes:
    """A configuration without the entries that say where the model came from or who wrote the file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in content.items() if key not in _PLACES}
    return json.dumps(kept, sort_keys=True).encode()


def has_chat_template(folder: Path) -> bool:
    """Whether a model folder brings a chat template of its own."""
    if any((folder / name).is_file() for name in _TEMPLATES):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))
