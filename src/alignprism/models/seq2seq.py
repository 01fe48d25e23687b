"""Encoder-decoder translation models in this process: NLLB, M2M100, mBART, MADLAD, Marian, T5.

An engine is one direction of a model. It is asked with plain texts and goes through the call store in units, like every
engine that holds weights (`alignprism.models.units`): what was killed goes on with the same numbers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerBase

from alignprism.errors import InputError
from alignprism.languages import language
from alignprism.models.identity import weights_digest
from alignprism.models.protocol import Decoding, Outcome, Progress, Request
from alignprism.models.store import CallStore
from alignprism.models.translation_codes import code_of, language_tokens, token_for
from alignprism.models.units import Asking, Done, Tick, Unit, Written
from alignprism.processes import processes
from alignprism.rows import content_id, file_digest

_FILES = ["*.json", "*.safetensors", "*.model", "*.spm", "*.txt"]
_VOCABULARIES = ("*.spm", "sentencepiece*.model", "spiece.model", "generation_config.json")


@dataclass(frozen=True, slots=True)
class _Direction:
    """How a model is told what to translate into what.

    ``source``: what the tokenizer's ``src_lang`` is set to; ``start``: the token that a translation begins with;
    ``prefix``: what is put before every text.
    """

    source: str | None = None
    start: int | None = None
    prefix: str = ""


class Seq2SeqModel:
    """A loaded translation model. `direction` gives the engine that translates from one language into another."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        digest: str,
        store: CallStore | None = None,
        beams: int = 1,
    ) -> None:
        self.model, self.tokenizer, self.name, self.store, self.beams = model, tokenizer, name, store, beams
        self.digest = digest
        self.longest: int | None = getattr(model.config, "max_position_embeddings", None)
        self._tokenizer_knows = hasattr(tokenizer, "src_lang")
        special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
        special.update(getattr(tokenizer, "lang_code_to_token", {}).values())  # M2M100 has its languages only there
        words = special if self._tokenizer_knows else tokenizer.get_vocab()
        self.tokens = language_tokens(words, tags=not self._tokenizer_knows)

    def direction(self, source: str, target: str) -> Seq2SeqEngine:
        """The engine from `source` into `target` (see `translation_codes.target_of`).

        Raises
        ------
        InputError
            the model does not translate that way.
        """
        return Seq2SeqEngine(self, source, target, self._direction(source, target))

    def _direction(self, source: str, target: str) -> _Direction:
        if self._tokenizer_knows:
            start = token_for(target, self.tokens, self.name)
            label = token_for(source, self.tokens, self.name).label
            return _Direction(label, int(self.tokenizer.convert_tokens_to_ids(start.token)))
        if self.tokens:
            return _Direction(prefix=f"{token_for(target, self.tokens, self.name).token} ")
        tasks = getattr(self.model.config, "task_specific_params", None) or {}
        pair = (code_of(source), code_of(target))
        if task := tasks.get(f"translation_{pair[0]}_to_{pair[1]}"):
            return _Direction(prefix=str(task.get("prefix", "")))
        only = (getattr(self.tokenizer, "source_lang", None), getattr(self.tokenizer, "target_lang", None))
        if only == pair:
            return _Direction()
        can = f"only {only[0]} to {only[1]}" if all(only) else "no direction that it names"
        raise InputError(
            f"{self.name} translates {can}, not {language(pair[0]).name} ({pair[0]}) into {language(pair[1]).name} ({pair[1]})"
        )


class Seq2SeqEngine:
    """One direction of a translation model: greedy, or by beams. Requests are plain texts."""

    def __init__(self, whole: Seq2SeqModel, source: str, target: str, how: _Direction) -> None:
        self.whole, self.how = whole, how
        self.name, self.digest = whole.name, whole.digest
        model = whole.model
        self.numerics = {
            "dtype": str(model.dtype), "device": model.device.type, "beams": str(whole.beams),
            "from": how.source or source, "start": str(how.start), "prefix": how.prefix, "to": target,
        }  # fmt: skip

    def complete(
        self, requests: Iterable[Request], decoding: Decoding, progress: Progress | None = None
    ) -> Iterator[Outcome]:
        """One outcome per request, each stored before it is handed out, in the order of their lengths.

        Raises
        ------
        InputError
            more new tokens than the model has positions for.
        ValueError
            sampling, stop strings or log-probabilities, which translations have none of.
        """
        if decoding.temperature > 0.0 or decoding.stop or decoding.log_probs:
            raise ValueError("translations are greedy or by beams, without stop strings and log-probabilities")
        longest = self.whole.longest
        if longest is not None and decoding.max_new_tokens >= longest:
            raise InputError(
                f"max_new_tokens is {decoding.max_new_tokens}, but {self.name} has {longest} positions; set it below"
            )
        asking = Asking(
            _Encoder(self.whole.tokenizer, self.how), self.name, self.digest, self.numerics, None, self.whole.store
        )

        def run(units: Iterator[Unit], tick: Tick) -> Iterator[Done]:
            for unit in units:
                began = time.monotonic()
                written = self._write(unit, decoding) if unit.calls is None else []
                yield unit, written, time.monotonic() - began

        return asking.outcomes(requests, decoding, run, progress)

    def _write(self, unit: Unit, decoding: Decoding) -> list[Written]:
        """Translate a unit's texts; those that are longer than the model's positions are failures of their own."""
        longest = self.whole.longest or max(map(len, unit.prompts), default=0)
        fits = [ids for ids in unit.prompts if len(ids) <= longest]
        done = iter([
            written
            for start in range(0, len(fits), decoding.batch_size)
            for written in self._fitting(fits[start : start + decoding.batch_size], decoding)
        ])  # fmt: skip
        return [
            next(done)
            if len(ids) <= longest
            else Written(failure="prompt too long", detail=f"{len(ids)} tokens, and {self.name} reads {longest}")
            for ids in unit.prompts
        ]

    def _fitting(self, rows: Sequence[Sequence[int]], decoding: Decoding) -> list[Written]:
        """Translate with as many rows at once as memory allows; a text that is too much alone is a failure."""
        try:
            return self._translated(rows, decoding)
        except RuntimeError as error:
            # The CPU's allocator has no error class of its own.
            if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
                raise
        if len(rows) == 1:
            return [Written(failure="out of memory", detail=f"{len(rows[0])} tokens do not fit the memory")]
        middle = len(rows) // 2
        return self._fitting(rows[:middle], decoding) + self._fitting(rows[middle:], decoding)

    @torch.inference_mode()
    def _translated(self, rows: Sequence[Sequence[int]], decoding: Decoding) -> list[Written]:
        model, tokenizer = self.whole.model, self.whole.tokenizer
        width = max(map(len, rows))
        pad = int(tokenizer.pad_token_id or 0)
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
        start = {} if self.how.start is None else {"forced_bos_token_id": self.how.start}
        made = model.generate(
            input_ids=ids,
            attention_mask=mask,
            num_beams=self.whole.beams,
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            # Some models are set to end with this token whatever they write: a cut text would look like a whole one.
            forced_eos_token_id=None,
            **start,
        )
        return [self._written(row) for row in made[:, 1:].tolist()]  # without the token that starts every decoder

    def _written(self, row: list[int]) -> Written:
        tokenizer, model = self.whole.tokenizer, self.whole.model
        ends = model.generation_config.eos_token_id
        stop = {ends} if isinstance(ends, int) else set(ends or ())
        end = next((place for place, token in enumerate(row) if token in stop), None)
        kept = row if end is None else row[:end]
        # M2M100's tokenizer does not take its language tokens for special ones.
        said = kept[1:] if self.how.start is not None and kept[:1] == [self.how.start] else kept
        text = str(tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return Written(text.strip(), len(kept), truncated=end is None)


class _Encoder:
    """A tokenizer as `Asking` calls it: texts in, token ids out, with the direction's own tokens around them."""

    bos_token_id = None  # what begins a text is the tokenizer's own business here

    def __init__(self, tokenizer: PreTrainedTokenizerBase, how: _Direction) -> None:
        self.tokenizer, self.how = tokenizer, how

    def __call__(self, texts: Sequence[str], add_special_tokens: bool = False) -> dict[str, list[list[int]]]:
        if self.how.source is not None:
            self.tokenizer.src_lang = self.how.source
        # A text that spells </s> or a language's token is only a text.
        found = self.tokenizer([self.how.prefix + text for text in texts], split_special_tokens=not self.how.prefix)
        return {"input_ids": [list(ids) for ids in found["input_ids"]]}


def load_seq2seq(
    source: str,
    name: str,
    cache: Path,
    store: CallStore | None = None,
    beams: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Seq2SeqModel:
    """A translation model of a folder or of the Hugging Face Hub, in memory.

    Raises
    ------
    InputError
        the source leads nowhere, or to a model that is no encoder-decoder.
    """
    if not is_seq2seq(source):
        raise InputError(
            f"{source} is no encoder-decoder model (NLLB, M2M100, mBART, MADLAD, Marian, T5); a chat model translates with kind model"
        )
    folder = _folder(source, say)
    device = processes().device
    dtype: torch.dtype | str = torch.float32 if device.type == "cpu" else "auto"
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    # Beyond the weights: the vocabularies of SentencePiece, and the model's own settings of generation.
    more = sorted({path for pattern in _VOCABULARIES for path in folder.glob(pattern)})
    digest = content_id(weights_digest(folder, None, cache / "digests.json"), [(p.name, file_digest(p)) for p in more])
    return Seq2SeqModel(model, tokenizer, name, hashlib.sha256(digest.encode()).hexdigest(), store, beams)


def is_seq2seq(source: str) -> bool:
    """Whether a folder or hub id is an encoder-decoder model, by its configuration.

    Raises
    ------
    InputError
        it has none that can be read.
    """
    try:
        return bool(
            AutoConfig.from_pretrained(
                str(Path(source).expanduser()) if Path(source).is_dir() else source
            ).is_encoder_decoder
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source}: no configuration of a transformers model there ({str(error).strip().splitlines()[0]}); accepted: a folder "
            "with config.json, or a model id of the Hugging Face Hub"
        ) from error


def _folder(source: str, say: Callable[[str], None]) -> Path:
    local = Path(source).expanduser()
    if local.is_dir():
        return local
    say(f"looking for {source} on the Hugging Face Hub and in its local cache")
    try:
        folder = Path(snapshot_download(source, allow_patterns=_FILES))
        if not any(folder.glob("*.safetensors")):  # many translation models have only the older format
            snapshot_download(source, allow_patterns=["*.bin"])
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(f"{source} is no folder here, and the Hugging Face Hub did not give it ({error})") from error
    return folder
