"""From a model's folder to its tokenizer, which always has a chat template."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from alignprism.models import template

_CONFIG, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


def brings_its_own(adapter: Path) -> bool:
    """Whether an adapter has a tokenizer or a chat template, which come before its base's."""
    return any((adapter / name).is_file() for name in (_CONFIG, _TEMPLATE))


def open_tokenizer(folder: Path, adapter: Path | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer with a chat template and a padding token; an adapter's own comes before its base's.

    Raises
    ------
    alignprism.models.template.TemplateError
        the chat template leaves out the texts that it is given.
    """
    own = adapter is not None and (adapter / _CONFIG).is_file()
    tokenizer = AutoTokenizer.from_pretrained(adapter if own else folder, local_files_only=True)
    if adapter is not None and (adapter / _TEMPLATE).is_file():
        tokenizer.chat_template = (adapter / _TEMPLATE).read_text(encoding="utf-8")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    try:
        return template.with_chat_template(tokenizer)
    except template.TemplateError as error:
        raise template.TemplateError(f"{adapter if own else folder}: {error}") from error
