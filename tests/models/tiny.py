"""Tiny models with random weights and a byte-level tokenizer, for tests that need any causal language model.

``python tiny.py FOLDER STORE LOG`` completes a fixed list of prompts with the model in FOLDER; the tests kill it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alignprism.models.local import LocalEngine, load
from alignprism.models.protocol import Decoding, Outcome, Request, in_order
from alignprism.models.spec import ResolvedModel
from alignprism.models.store import Call, CallStore, Purpose

PROMPTS = [
    "Name a river.",
    "What is bread made of?",
    "नमस्ते दुनिया",
    "كيف حالك اليوم؟",
    "Why is the sky blue in the daytime and dark at night?",
    "x",
    "Où est la gare, s'il vous plaît ?",
    "Расскажите о погоде.",
    "Ano ang pangalan mo?",
    "Write two short lines about a mountain, a lake and the wind between them in early spring.",
]


def tiny_tokenizer(*, turns: bool) -> PreTrainedTokenizerFast:
    """256 bytes and special tokens; with `turns` the vocabulary has Gemma's turn tokens."""
    specials = ["<pad>", "<eos>", "<bos>", *(["<start_of_turn>", "<end_of_turn>"] if turns else [])]
    vocabulary = {token: n for n, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )


def write_gemma(folder: Path, seed: int = 0) -> Path:
    """A Gemma 3 of two kinds of layers whose sliding window (8) is shorter than the prompts."""
    tokenizer = tiny_tokenizer(turns=True)
    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=False,  # tied and untrained, it would say the last token again and again
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_llama(folder: Path, seed: int = 0) -> Path:
    """A Llama with grouped heads."""
    tokenizer = tiny_tokenizer(turns=False)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def engine(folder: Path, store: CallStore | None = None, digest: str = "d") -> LocalEngine:
    model, tokenizer = load(ResolvedModel("tiny", folder, None, digest), device="cpu")
    return LocalEngine(model, tokenizer, "tiny", digest, store)


def requests() -> list[Request]:
    return [Request(f"p{n}", text) for n, text in enumerate(PROMPTS)]


SAMPLED = Decoding(max_new_tokens=12, temperature=0.9, top_p=0.9, seed=3, samples=3, batch_size=2)


def complete(engine: LocalEngine, asked: list[Request], decoding: Decoding) -> list[Outcome]:
    return in_order(engine.complete(asked, decoding), asked, decoding.samples)


def answers(folder: Path, store: CallStore | None) -> list[Outcome]:
    return complete(engine(folder, store), requests(), SAMPLED)


class LoggedStore(CallStore):
    """A real store that also notes, in a file, each key that it acknowledged."""

    def __init__(self, path: Path, log: Path) -> None:
        super().__init__(path)
        self.log = log

    def put_many(self, calls: Iterable[Call], purposes: Iterable[Purpose] = ()) -> None:
        rows = list(calls)
        super().put_many(rows, purposes)
        with self.log.open("a") as handle:
            handle.writelines(f"{row.key}\n" for row in rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with LoggedStore(Path(sys.argv[2]), Path(sys.argv[3])) as _store:
        answers(Path(sys.argv[1]), _store)
