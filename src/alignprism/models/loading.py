"""From a model's files to a model in memory and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from alignprism.errors import InputError
from alignprism.models.spec import ResolvedModel
from alignprism.models.tokenizer import open_tokenizer
from alignprism.processes import processes


def load(
    resolved: ResolvedModel, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A model ready for inference, its adapter merged, and its tokenizer with a chat template.

    Without arguments the device is accelerate's, and the dtype float32 on a CPU, the checkpoint's own elsewhere.

    Raises
    ------
    InputError
        as `check_causal` and `with_adapter`.
    """
    check_causal(resolved)
    place = torch.device(device) if device is not None else processes().device
    chosen: torch.dtype | str = dtype if dtype is not None else (torch.float32 if place.type == "cpu" else "auto")
    model = AutoModelForCausalLM.from_pretrained(resolved.folder, dtype=chosen, local_files_only=True)
    if resolved.adapter is not None:
        model = with_adapter(model, resolved.adapter)
    return model.to(place).eval(), load_tokenizer(resolved)


def check_causal(resolved: ResolvedModel) -> None:
    """Refuse, from its ``config.json`` alone, a model that is no causal language model.

    Raises
    ------
    InputError
        naming what it is; or the configuration cannot be read, or asks for code of its own.
    """
    try:
        config = AutoConfig.from_pretrained(resolved.folder, local_files_only=True)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{resolved.name}: {resolved.folder / 'config.json'} cannot be used: {first}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        what = ", ".join(getattr(config, "architectures", None) or [type(config).__name__])
        raise InputError(f"{resolved.name}: {what} is no causal language model, the only kind that can be used here")


def with_adapter(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """The model with a LoRA adapter merged into its weights, in place.

    Raises
    ------
    InputError
        the adapter is of another model, be it in one tensor; or it changes an output head that is the embedding too: merged, it
        would change both.
    """
    try:
        wrapped = PeftModel.from_pretrained(model, str(adapter))
        # Once more, only for what it returns: peft leaves tensors out that fit nowhere, and says nothing of them.
        loaded = wrapped.load_adapter(str(adapter), wrapped.active_adapter)
    except KeyError as error:  # of whole modules and of trained tokens
        raise _of_another_model(model, adapter, f"{error.args[0]!r} is missing") from error
    except (
        RuntimeError,
        ValueError,
    ) as error:  # peft's words for weights of another size, and for layers that are not there
        if not any(words in str(error) for words in ("size mismatch", "not found in the base model")):
            raise
        raise _of_another_model(model, adapter) from error
    left_over, missing = loaded.unexpected_keys, loaded.missing_keys
    if left_over or missing:
        found = [_listed(left_over, "have no place in it")] if left_over else []
        found += [_listed(missing, "that it needs are missing")] if missing else []
        raise _of_another_model(model, adapter, "; ".join(found))
    _refuse_tied(wrapped, adapter)
    return wrapped.merge_and_unload(safe_merge=True)


def _of_another_model(model: PreTrainedModel, adapter: Path, why: str = "") -> InputError:
    size = f"{type(model).__name__} with hidden size {model.config.get_text_config().hidden_size}"
    return InputError(
        f"{adapter}: this adapter does not fit {size}{f' ({why})' if why else ''}: it was "
        "trained on another model; name that one (adapter_config.json: base_model_name_or_path)"
    )


def _listed(names: Sequence[str], what: str) -> str:
    """How many tensors there are, and the first of them as peft's files name them."""
    shown = ", ".join(name.replace(".default", "") for name in sorted(names)[:2])
    return f"{len(names)} tensors {what}: {shown}{', ...' if len(names) > 2 else ''}"


def _refuse_tied(wrapped: PeftModel, adapter: Path) -> None:
    inner = wrapped.get_base_model()
    head, embedding = inner.get_output_embeddings(), inner.get_input_embeddings()
    if head is None or _weight(head) is not _weight(embedding):
        return
    for layer, name, other in ((head, "output head", "embedding"), (embedding, "embedding", "output head")):
        if isinstance(layer, LoraLayer):
            raise InputError(
                f"{adapter}: it changes the {name}, whose weights are the {other}'s as well (tied); applied to the weights "
                "it would change both"
            )


def _weight(layer: Any) -> Any:
    return (layer.get_base_layer() if isinstance(layer, LoraLayer) else layer).weight


def load_tokenizer(resolved: ResolvedModel) -> PreTrainedTokenizerBase:
    """The tokenizer of a resolved model (see `alignprism.models.tokenizer`)."""
    return open_tokenizer(resolved.folder, resolved.adapter)
