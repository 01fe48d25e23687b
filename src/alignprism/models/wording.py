"""What a server is sent for a prompt, and the one text that stands for it in a call's key."""

from __future__ import annotations

import hashlib
import json

from alignprism.models.protocol import Asked

_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode


def messages(prompt: Asked) -> list[dict[str, str]]:
    """A prompt as the ``messages`` of a chat request; a text is one user message."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def rendered(prompt: Asked, plain: bool) -> str:
    """The text that stands for a prompt whose template is applied elsewhere: its turns as JSON, or itself if plain."""
    if plain:
        return f"plain\n{prompt}"
    return "chat\n" + _canonical(messages(prompt))


def sample_seed(seed: int, text: str, sample: int) -> int:
    """The seed that is sent for one sample: by content, 31 bits, which every server takes."""
    digest = hashlib.sha256(f"{seed}\x1f{sample}\x1f{text}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
