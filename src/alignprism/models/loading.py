"""From a model's files to a model in memory and its tokenizer."""

from __future__ import annotations

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
        the adapter is of another model; or it changes an output head that is the embedding too: merged, it would change both.
    """
    try:
        wrapped = PeftModel.from_pretrained(model, str(adapter))
    except (
        RuntimeError,
        ValueError,
    ) as error:  # peft's words for weights of another size, and for layers that are not there
        if not any(words in str(error) for words in ("size mismatch", "not found in the base model")):
            raise
        raise InputError(
            f"{adapter}: this adapter does not fit {type(model).__name__} with hidden size {model.config.hidden_size}: it was "
            "trained on another model; name that one (adapter_config.json: base_model_name_or_path)"
        ) from error
    head = wrapped.get_base_model().get_output_embeddings()
    if isinstance(head, LoraLayer) and head.get_base_layer().weight is model.get_input_embeddings().weight:
        raise InputError(
            f"{adapter}: it changes the output head, whose weights are the embedding's as well (tied); applied to the weights "
            "it would change both"
        )
    return wrapped.merge_and_unload(safe_merge=True)


def load_tokenizer(resolved: ResolvedModel) -> PreTrainedTokenizerBase:
    """The tokenizer of a resolved model (see `alignprism.models.tokenizer`)."""
    return open_tokenizer(resolved.folder, resolved.adapter)
