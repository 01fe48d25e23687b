"""From a GGUF file to a folder in transformers' format, straight from its tensors.

transformers reads GGUF itself, but takes minutes for what is a renaming: this module writes the same weights
(dequantised to float32), the same configuration and the same tokenizer in seconds. Two architectures are known, those
of the embedded models: ``gemma3`` (SentencePiece vocabulary) and ``llama`` (byte-level BPE vocabulary).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from alignprism.errors import Failure

CONVERTER_VERSION = 1

Weights = NDArray[np.float32]


class GGUFError(Failure):
    """A GGUF file that this converter cannot read."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokenizer part of a GGUF file: tokens by id, and the ids of the special ones."""

    tokens: list[str]
    kinds: list[int]
    bos: int
    eos: int
    unknown: int
    padding: int
    adds_bos: bool

    def added(self) -> list[AddedToken]:
        """Tokens that are matched in the text before it is split: control tokens (special) and user-defined ones."""
        wanted = {int(TokenType.CONTROL): True, int(TokenType.USER_DEFINED): False}
        return [
            AddedToken(token, special=wanted[kind], normalized=False)
            for token, kind in zip(self.tokens, self.kinds, strict=True)
            if kind in wanted
        ]


def convert(source: Path, folder: Path) -> None:
    """Write `source` as ``model.safetensors`` (float32), ``config.json`` and tokenizer files into `folder`.

    Raises
    ------
    GGUFError
        the file is no GGUF file, or of an architecture that is not known here.
    """
    try:
        reader = GGUFReader(source)
    except (ValueError, OSError) as error:
        raise GGUFError(f"{source}: not a readable GGUF file ({error})") from error
    architecture = str(_value(reader, "general.architecture"))
    if architecture not in _ARCHITECTURES:
        known = ", ".join(sorted(_ARCHITECTURES))
        raise GGUFError(f"{source}: architecture {architecture!r} is not known here; known: {known}")
    form = _ARCHITECTURES[architecture]
    vocabulary = _vocabulary(reader)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(form.tensors(reader)), folder / "model.safetensors", metadata={"format": "pt"})
    config = form.config(reader, vocabulary)
    _write_json(folder / "config.json", config)
    tokenizer = form.tokenizer(reader, vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(vocabulary, form.tokenizer_class))
    _write_json(folder / "generation_config.json", _generation_config(vocabulary))
    template = _value(reader, "tokenizer.chat_template", None)
    if template is not None:
        (folder / "chat_template.jinja").write_text(str(template), encoding="utf-8")


_REQUIRED = object()


def _value(reader: GGUFReader, key: str, default: object = _REQUIRED) -> Any:
    field = reader.get_field(key)
    if field is not None:
        return field.contents()
    if default is _REQUIRED:
        raise GGUFError(f"GGUF metadata has no {key!r}")
    return default


def _vocabulary(reader: GGUFReader) -> Vocabulary:
    prefix = "tokenizer.ggml."
    tokens = list(_value(reader, f"{prefix}tokens"))
    kinds = list(_value(reader, f"{prefix}token_type"))
    for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        # llama.cpp spells Gemma's runs of spaces out; in the tokenizer they are ordinary pieces, made by merges.
        if kind == int(TokenType.USER_DEFINED) and token.strip(" ") == "":
            tokens[number], kinds[number] = token.replace(" ", "▁"), int(TokenType.NORMAL)
    return Vocabulary(
        tokens=tokens,
        kinds=kinds,
        bos=int(_value(reader, f"{prefix}bos_token_id")),
        eos=int(_value(reader, f"{prefix}eos_token_id")),
        unknown=int(_value(reader, f"{prefix}unknown_token_id")),
        padding=int(_value(reader, f"{prefix}padding_token_id")),
        adds_bos=bool(_value(reader, f"{prefix}add_bos_token", default=False)),
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _generation_config(vocabulary: Vocabulary) -> dict[str, Any]:
    return {"bos_token_id": vocabulary.bos, "eos_token_id": vocabulary.eos, "pad_token_id": vocabulary.padding}


def _tokenizer_config(vocabulary: Vocabulary, tokenizer_class: str) -> dict[str, Any]:
    tokens = vocabulary.tokens
    return {
        "tokenizer_class": tokenizer_class,
        "bos_token": tokens[vocabulary.bos],
        "eos_token": tokens[vocabulary.eos],
        "pad_token": tokens[vocabulary.padding],
        "unk_token": tokens[vocabulary.unknown],
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
    }


# --- tensors ---------------------------------------------------------------------------------------------------------

_GLOBAL_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_COMMON_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LLAMA_NAMES = _COMMON_NAMES | {"ffn_norm": "post_attention_layernorm"}
_GEMMA_NAMES = _COMMON_NAMES | {
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def _named(reader: GGUFReader, names: dict[str, str]) -> Iterator[tuple[str, Weights]]:
    """Dequantised tensors under transformers' names. Both models tie the output head to the embedding."""
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name in _GLOBAL_NAMES:
            yield _GLOBAL_NAMES[tensor.name], values
            continue
        _, layer, part, kind = tensor.name.split(".")
        if part not in names:
            raise GGUFError(f"tensor {tensor.name!r} has no place in this architecture")
        yield f"model.layers.{layer}.{names[part]}.{kind}", values


def _gemma_tensors(reader: GGUFReader) -> Iterator[tuple[str, Weights]]:
    for name, values in _named(reader, _GEMMA_NAMES):
        # GGUF stores the factor 1 + w of Gemma's RMSNorm, transformers the w.
        yield name, values - np.float32(1.0) if name.endswith("norm.weight") else values


def _llama_tensors(reader: GGUFReader) -> Iterator[tuple[str, Weights]]:
    heads = int(_value(reader, "llama.attention.head_count"))
    kv_heads = int(_value(reader, "llama.attention.head_count_kv"))
    for name, values in _named(reader, _LLAMA_NAMES):
        if name.endswith("q_proj.weight"):
            values = _unpermute(values, heads)
        elif name.endswith("k_proj.weight"):
            values = _unpermute(values, kv_heads)
        yield name, values


def _unpermute(weights: Weights, heads: int) -> Weights:
    """Rows from llama.cpp's interleaved rotary order back to transformers' halves, head by head."""
    half = weights.shape[0] // heads // 2
    return np.ascontiguousarray(weights.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(weights.shape))


# --- configuration ---------------------------------------------------------------------------------------------------


def _common_config(reader: GGUFReader, prefix: str, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "vocab_size": len(vocabulary.tokens),
        "hidden_size": int(_value(reader, f"{prefix}.embedding_length")),
        "intermediate_size": int(_value(reader, f"{prefix}.feed_forward_length")),
        "num_hidden_layers": int(_value(reader, f"{prefix}.block_count")),
        "num_attention_heads": int(_value(reader, f"{prefix}.attention.head_count")),
        "num_key_value_heads": int(_value(reader, f"{prefix}.attention.head_count_kv")),
        "max_position_embeddings": int(_value(reader, f"{prefix}.context_length")),
        "rms_norm_eps": float(_value(reader, f"{prefix}.attention.layer_norm_rms_epsilon")),
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
        "pad_token_id": vocabulary.padding,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


_GEMMA3_GLOBAL_EVERY = 6  # five sliding-window layers, then one with full attention (Gemma 3 report, section 2)


def _gemma_config(reader: GGUFReader, vocabulary: Vocabulary) -> dict[str, Any]:
    config = _common_config(reader, "gemma3", vocabulary)
    head_dim = int(_value(reader, "gemma3.attention.key_length"))
    layers = range(1, config["num_hidden_layers"] + 1)
    theta = float(_value(reader, "gemma3.rope.freq_base"))
    return config | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "head_dim": head_dim,
        "query_pre_attn_scalar": head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": int(_value(reader, "gemma3.attention.sliding_window")),
        "layer_types": ["sliding_attention" if n % _GEMMA3_GLOBAL_EVERY else "full_attention" for n in layers],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    }


def _llama_config(reader: GGUFReader, vocabulary: Vocabulary) -> dict[str, Any]:
    config = _common_config(reader, "llama", vocabulary)
    return config | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "head_dim": config["hidden_size"] // config["num_attention_heads"],
        "hidden_act": "silu",
        "rope_parameters": {"rope_type": "default", "rope_theta": float(_value(reader, "llama.rope.freq_base"))},
    }


# --- tokenizers ------------------------------------------------------------------------------------------------------


def sentencepiece_merges(ids: dict[str, int]) -> list[tuple[str, str]]:
    """BPE merges of a SentencePiece vocabulary (token -> id, in id order): every split of a token into two tokens.

    A merge ranks by the id of its result, as SentencePiece numbers its tokens from the best score down; of the splits
    of one token the longest left part comes first, as in transformers' converter.
    """
    return [
        (token[:at], token[at:])
        for token in ids
        for at in range(len(token) - 1, 0, -1)
        if token[:at] in ids and token[at:] in ids
    ]


def _sentencepiece_tokenizer(_: GGUFReader, vocabulary: Vocabulary) -> Tokenizer:
    tokens = vocabulary.tokens
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=ids,
            merges=sentencepiece_merges(ids),
            unk_token=tokens[vocabulary.unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    # No space is put before the text (add_space_prefix is false) and none is stripped: decoding gives the text back.
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    _add_tokens(tokenizer, vocabulary)
    return tokenizer


def _byte_level_tokenizer(reader: GGUFReader, vocabulary: Vocabulary) -> Tokenizer:
    merges = [tuple(merge.split(" ")) for merge in _value(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(vocabulary.tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _add_tokens(tokenizer, vocabulary)
    return tokenizer


def _add_tokens(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    tokenizer.add_tokens(vocabulary.added())
    bos = vocabulary.tokens[vocabulary.bos]
    if vocabulary.adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, vocabulary.bos)]
        )


@dataclass(frozen=True, slots=True)
class _Architecture:
    tensors: Callable[[GGUFReader], Iterator[tuple[str, Weights]]]
    config: Callable[[GGUFReader, Vocabulary], dict[str, Any]]
    tokenizer: Callable[[GGUFReader, Vocabulary], Tokenizer]
    tokenizer_class: str


_ARCHITECTURES = {
    "gemma3": _Architecture(_gemma_tensors, _gemma_config, _sentencepiece_tokenizer, "GemmaTokenizer"),
    "llama": _Architecture(_llama_tensors, _llama_config, _byte_level_tokenizer, "PreTrainedTokenizerFast"),
}
