"""Tiny random models of several architectures and a tiny tokenizer: everything here runs in milliseconds."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Cohere2Config,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    MptConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3MoeConfig,
    XGLMConfig,
)

from alignprism.training.examples import Example

VOCABULARY = 97
_MIXED = ["sliding_attention", "full_attention"]
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 128,
}

CONFIGURATIONS: dict[str, Callable[[], PreTrainedConfig]] = {
    "cohere": lambda: CohereConfig(**_SIZES, logit_scale=0.25),
    "cohere2": lambda: Cohere2Config(**_SIZES, logit_scale=0.25, sliding_window=4, layer_types=_MIXED),
    "gemma2": lambda: Gemma2Config(**_SIZES, head_dim=8, final_logit_softcapping=3.0, sliding_window=4),
    "gemma3": lambda: Gemma3TextConfig(**_SIZES, head_dim=8, sliding_window=4, layer_types=_MIXED),
    "granite": lambda: GraniteConfig(**_SIZES, logits_scaling=4.0),
    "llama": lambda: LlamaConfig(**_SIZES),
    "mistral": lambda: MistralConfig(**_SIZES, sliding_window=4),
    "qwen2": lambda: Qwen2Config(**_SIZES, tie_word_embeddings=True),
}


EXPERTS: dict[str, Callable[[], PreTrainedConfig]] = {
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **_SIZES, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, router_aux_loss_coef=0.5
    ),
    "mixtral": lambda: MixtralConfig(
        **_SIZES, head_dim=8, num_local_experts=4, num_experts_per_tok=2, router_aux_loss_coef=0.5, sliding_window=None
    ),
}
"""Mixture-of-experts models; transformers runs their experts in float32 and below only."""


OLDER: dict[str, Callable[[], PreTrainedConfig]] = {
    "bloom": lambda: BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, hidden_dropout=0.1),
    "falcon": lambda: FalconConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True
    ),
    "mpt": lambda: MptConfig(vocab_size=VOCABULARY, d_model=32, n_layers=2, n_heads=4, max_seq_len=128),
    "opt": lambda: OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, word_embed_proj_dim=32, pad_token_id=0,
    ),
    "xglm": lambda: XGLMConfig(
        vocab_size=VOCABULARY, d_model=32, ffn_dim=48, num_layers=2, attention_heads=4, max_position_embeddings=128,
        pad_token_id=0,
    ),
}  # fmt: skip
"""Models with dropout outside of modules (OPT, XGLM: 0.1 as they come) or with distances that are no position ids."""


def tiny_model(architecture: str, seed: int = 0) -> PreTrainedModel:
    """A random model whose logits spread enough for differences to show."""
    torch.manual_seed(seed)
    configuration = (CONFIGURATIONS | EXPERTS | OLDER)[architecture]()
    model = AutoModelForCausalLM.from_config(configuration, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte-sized letter of an ASCII text; a chat template with an end-of-turn token."""
    names = ["<pad>", "<s>", "<end>", "<user>", "<assistant>"]
    vocabulary = {token: number for number, token in enumerate([*names, *map(chr, range(32, 32 + VOCABULARY - 5))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<end>",
        extra_special_tokens={"user": "<user>", "assistant": "<assistant>"},
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return tokenizer


def random_examples(count: int, seed: int = 0, longest: int = 12) -> list[Example]:
    """Rows of random ids with uneven lengths, in two languages."""
    draw = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(5, VOCABULARY) for _ in range(draw.randint(low, high)))

    return [
        Example(
            pair_id=f"pair-{number}",
            prompt_ids=(1, *ids(2, longest)),
            chosen_ids=(*ids(1, longest), 2),
            rejected_ids=(*ids(1, longest), 2),
            language=("en", "hi")[number % 2],
            kind="safety",
            random_side=("chosen", "rejected")[draw.randrange(2)],
        )
        for number in range(count)
    ]
