"""From a model's folder to its tokenizer, which always has a chat template."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from alignprism.models import template


def open_tokenizer(folder: Path, adapter: Path | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer with a chat template and a padding token; an adapter's own comes before its base's.

    Raises
    ------
    alignprism.models.template.TemplateError
        the chat template leaves out the texts that it is given.
    """
    own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(adapter if own else folder, local_files_only=True)
    if adapter is not None and (adapter / "chat_template.jinja").is_file():
        tokenizer.chat_template = (adapter / "chat_template.jinja").read_text(encoding="utf-8")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    try:
        return template.with_chat_template(tokenizer)
    except template.TemplateError as error:
        raise template.TemplateError(f"{adapter if own else folder}: {error}") from error
