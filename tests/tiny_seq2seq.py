"""Tiny translation models with random weights: NLLB, M2M100, Marian and T5, each in the way that it names languages.

``python tiny_seq2seq.py FOLDER STORE LOG`` translates a list of texts with the NLLB in FOLDER; the tests kill it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import sentencepiece
import torch
from tokenizers import processors
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from alignprism.models.protocol import Decoding, Outcome, Request, in_order
from alignprism.models.seq2seq import load_seq2seq
from alignprism.models.store import Call, CallStore, Purpose

LANGUAGES = ["eng_Latn", "hin_Deva", "arb_Arab", "rus_Cyrl", "srp_Cyrl", "fra_Latn"]
PHRASES = {"hin_Deva": "एक नदी का नाम और उसकी कहानी बताइए।", "eng_Latn": "Name a river and tell its story."}
"""What a taught model says in each language, whatever it is asked."""
LATIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!'"
LETTERS = LATIN + "".join(sorted({*PHRASES["hin_Deva"]} - {" ", *LATIN}))
TEXTS = [
    "Name a river.",
    "What is bread made of?",
    "Why is the sky blue in the daytime and dark at night?",
    "x",
    "Tell me about the weather in spring, please.",
    "Write two short lines about a mountain, a lake and the wind.",
    "The end </s> and hin_Deva more",
]
GREEDY = Decoding(max_new_tokens=12, batch_size=2)


def write_nllb(folder: Path, seed: int = 0, spread: float = 0.8) -> Path:
    """M2M100's architecture, as NLLB has it; every letter is a token, and so is every language."""
    entries = ["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS]
    tokenizer = NllbTokenizer(
        vocab={token: number for number, token in enumerate(entries)}, merges=[], extra_special_tokens=LANGUAGES
    )
    torch.manual_seed(seed)
    config = M2M100Config(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=200, init_std=spread,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_taught(folder: Path) -> Path:
    """An NLLB that has learned `PHRASES`: its translations end, and are in the language that was asked for."""
    write_nllb(folder, spread=0.1)
    model = M2M100ForConditionalGeneration.from_pretrained(folder)
    tokenizer = NllbTokenizer.from_pretrained(folder)
    rows = [tokenizer(text)["input_ids"][1:] for text in PHRASES.values()]
    starts = [tokenizer.convert_tokens_to_ids(code) for code in PHRASES]
    width = max(map(len, rows))
    wanted = [[start, *row, *[-100] * (width - len(row))] for start, row in zip(starts, rows, strict=True)]
    asked = tokenizer([text for text in TEXTS[:3] for _ in rows], padding=True, return_tensors="pt")
    labels = torch.tensor(wanted * 3)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(400):
        loss = model(**asked, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss.item() < 0.02:
            break
    model.save_pretrained(folder)
    return folder


def write_m2m100(folder: Path) -> Path:
    """M2M100 with the tokenizer of its own, which adds a hundred languages behind the vocabulary."""
    _sentencepiece(folder, "source")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    words = ["<s>", "<pad>", "</s>", "<unk>", *(pieces.id_to_piece(n) for n in range(3, len(pieces)))]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8")
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(words) + 108, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=100, init_std=0.8,
        decoder_start_token_id=2,
    )  # fmt: skip
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "source.spm")).save_pretrained(folder)
    return folder


def write_t5(folder: Path) -> Path:
    """A T5, which is told in words what to do: English to French only."""
    tokenizer = NllbTokenizer.from_pretrained(write_nllb(folder.parent / "letters")).backend_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=1, pad_token_id=1, eos_token_id=2,
        task_specific_params={"translation_en_to_fr": {"prefix": "translate English to French: "}},
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def _sentencepiece(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20), model_prefix=str(folder / name), vocab_size=60, model_type="char",
        minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    (folder / f"{name}.model").rename(folder / f"{name}.spm")
    (folder / f"{name}.vocab").unlink()


def write_marian(folder: Path, tags: Iterable[str] = (), seed: int = 0) -> Path:
    """English to French only; with `tags` (``>>fra<<``) into what they name."""
    for side in ("source", "target"):
        _sentencepiece(folder, side)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    words = dict.fromkeys(["</s>", "<unk>", *tags, *(pieces.id_to_piece(n) for n in range(len(pieces))), "<pad>"])
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}), encoding="utf-8")
    tokenizer = MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"), source_lang="en",
        target_lang="fr",
    )  # fmt: skip
    torch.manual_seed(seed)
    config = MarianConfig(
        vocab_size=len(words), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, init_std=0.8,
        pad_token_id=len(words) - 1, eos_token_id=0, decoder_start_token_id=len(words) - 1, forced_eos_token_id=0,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


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


def many() -> list[Request]:
    return [Request(f"t{n}", f"{TEXTS[n % len(TEXTS)]} {n}", plain=True, role="translate") for n in range(60)]


def translated(folder: Path, store: CallStore) -> list[Outcome]:
    whole = load_seq2seq(str(folder), "tiny", folder.parent / "cache", store)
    return in_order(whole.direction("en", "hi").complete(many(), GREEDY), many())


if __name__ == "__main__":
    torch.set_num_threads(1)
    with LoggedStore(Path(sys.argv[2]), Path(sys.argv[3])) as _store:
        translated(Path(sys.argv[1]), _store)
