"""From what a study says about a model to the files it means.

A source is one of: ``embedded:NAME``; a local folder in transformers' format; a folder with a LoRA adapter (its base
is read from its ``adapter_config.json``, and may be an embedded model); a model id of the Hugging Face Hub. A second
adapter may be laid over a model that has none of its own.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from alignprism.errors import InputError
from alignprism.models import embedded
from alignprism.models.identity import weights_digest

ACCEPTED = (
    "accepted: 'embedded:gemma-3-270m', 'embedded:smollm2-135m-instruct', a folder with config.json and weights, "
    "a folder with adapter_config.json (LoRA), or a model id of the Hugging Face Hub such as 'org/name'"
)
SHIPPED_ADAPTERS = Path(__file__).parent / "adapters"
"""Adapters inside the package, each with its card and terms: ``embedded:gemma-3-270m-ift``."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# Weights once, in the safe format; other frameworks' copies of them are not downloaded.
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


class SpecError(InputError):
    """A model source that leads nowhere. The message names what was tried and what is accepted."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as the study names it; `adapter` is a folder or hub id of a LoRA adapter, if any."""

    name: str
    source: str
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model on this disk. `digest` is its identity: weights, adapter, tokenizer and chat template."""

    name: str
    folder: Path
    adapter: Path | None
    digest: str


def resolve(spec: ModelSpec, cache: Path, report: embedded.Report = lambda _: None) -> ResolvedModel:
    """Find a model's files, fetching them if need be, and say what it is.

    Raises
    ------
    SpecError
        the source is none of the accepted kinds, or cannot be reached.
    alignprism.models.embedded.EmbeddedError
        an embedded model cannot be fetched.
    alignprism.models.identity.IdentityError
        a folder has no weights.
    """
    folder, adapter = _base_and_adapter(spec.source, spec.name, cache, report)
    if spec.adapter is not None:
        if adapter is not None:
            raise SpecError(
                f"model {spec.name!r}: {spec.source} is itself an adapter, so 'adapter: {spec.adapter}' cannot be laid "
                "over it; name the base model as source, or merge the first adapter"
            )
        adapter = _folder_of(spec.adapter, spec.name, cache, report)
        if not _is_adapter(adapter):
            raise SpecError(f"model {spec.name!r}: {spec.adapter} has no adapter_config.json, so it is no LoRA adapter")
    return ResolvedModel(spec.name, folder, adapter, weights_digest(folder, adapter, cache / "digests.json"))


def name_under(spec: ModelSpec, resolved: ResolvedModel) -> str:
    """What the base of an adapter made from this model is called.

    The source; or, where the source is itself an adapter, the base that it names: what lies on it is stacked with it.
    """
    if resolved.adapter is None or spec.adapter is not None:
        return spec.source
    settings = json.loads((resolved.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return str(settings["base_model_name_or_path"])


def _base_and_adapter(source: str, name: str, cache: Path, report: embedded.Report) -> tuple[Path, Path | None]:
    folder = _folder_of(source, name, cache, report)
    if not _is_adapter(folder):
        return folder, None
    config = folder / "adapter_config.json"
    base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise SpecError(f"model {name!r}: {config} names no base_model_name_or_path")
    base_folder = _folder_of(str(base), name, cache, report)
    if _is_adapter(base_folder):
        raise SpecError(f"model {name!r}: the base of {folder} is an adapter too; merge that one first")
    return base_folder, folder


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def _folder_of(source: str, name: str, cache: Path, report: embedded.Report) -> Path:
    if source.startswith("embedded:"):
        shipped = SHIPPED_ADAPTERS / source.removeprefix("embedded:")
        if (shipped / "adapter_config.json").is_file():
            return shipped
        return embedded.ensure(source, cache, report)
    local = Path(source).expanduser()
    if (local / "config.json").is_file() or (local / "adapter_config.json").is_file():
        return local
    if local.is_dir():
        raise SpecError(f"model {name!r}: folder {source} has no config.json and no adapter_config.json; {ACCEPTED}")
    if not _HUB_ID.fullmatch(source):
        raise SpecError(f"model {name!r}: there is no folder {source}; {ACCEPTED}")
    return _from_hub(source, name, report)


def _from_hub(source: str, name: str, report: embedded.Report) -> Path:
    report(f"looking for {source} on the Hugging Face Hub and in its local cache")
    try:
        return Path(snapshot_download(source, allow_patterns=_HUB_FILES))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SpecError(
            f"model {name!r}: {source!r} is no folder here, and the Hugging Face Hub did not give it ({reason}). "
            f"Check the spelling, the network (HF_HUB_OFFLINE) and, for gated models, 'hf auth login'; {ACCEPTED}"
        ) from error
