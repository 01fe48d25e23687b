"""Where an answer of a model in this process ends: the end of turn, the end of sequence, and what its generation
configuration names besides.

Some templates write nothing after the assistant's turn, because the next turn's opening ends it: GLM-4's models end an
answer with ``<|user|>``, which only their ``generation_config.json`` says. Training is another matter: it teaches the end
that the template shows (`alignprism.models.template.end_of_turn_id`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from alignprism.models import template
from alignprism.models.tokenizer import open_tokenizer


def stop_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens after which an answer of a loaded model is complete."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return template.stop_ids(tokenizer) | _ids(named)


def named_stops(folder: Path) -> frozenset[int]:
    """The end-of-sequence tokens that a model folder's generation configuration names; none of a translation model,
    which is no chat.

    Without a ``generation_config.json`` those of ``config.json``, as transformers reads them.
    """
    config = _read(folder / "config.json")
    if config.get("is_encoder_decoder"):
        return frozenset()
    path = folder / "generation_config.json"
    return _ids((_read(path) if path.is_file() else config).get("eos_token_id"))


def added_stops(folder: Path, adapter: Path | None) -> frozenset[int]:
    """Those of `named_stops` that neither the chat template nor the tokenizer gives; opens the tokenizer."""
    named = named_stops(folder)
    if not named:
        return named
    try:
        return named - template.stop_ids(open_tokenizer(folder, adapter))
    except (OSError, ValueError):  # whoever loads the model is told why; here there is nothing that it could say
        return frozenset()


def _ids(eos: object) -> frozenset[int]:
    listed = eos if isinstance(eos, list | tuple) else [eos]
    return frozenset(token for token in listed if isinstance(token, int))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
