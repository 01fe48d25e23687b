"""What a run asked of its models, counted from the call store: for the page, where cost and failures belong."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

_CALLS = """
SELECT DISTINCT p.role, p.model, c.id, c.status, c.error, c.filtered, c.prompt_tokens,
    coalesce(c.completion_tokens, c.n_tokens), c.cost
FROM purposes p JOIN calls c ON c.id = p.call
"""


def call_summary(run: Path) -> list[dict[str, Any]]:
    """One row per purpose and model: calls, answers, failures by reason, tokens, dollars. Without a store, none."""
    file = run / "calls.sqlite"
    if not file.is_file():
        return []
    found: dict[tuple[str, str], dict[str, Any]] = {}
    reasons: dict[tuple[str, str], Counter[str]] = {}
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)) as connection:
        for role, model, _, status, error, filtered, read, written, cost in connection.execute(_CALLS):
            row = found.setdefault((role, model), dict.fromkeys(_COUNTED, 0) | {"dollars": 0.0})
            row["calls"] += 1
            row["answered"] += status == "answered"
            row["filtered"] += filtered
            row["prompt tokens"] += read or 0
            row["answer tokens"] += written if status == "answered" else 0
            row["dollars"] += cost
            if status == "failed":
                reasons.setdefault((role, model), Counter())[error] += 1
    return [
        {
            "for": role,
            "model": model,
            **row,
            "dollars": round(row["dollars"], 4),
            "failed": ", ".join(f"{why}: {n}" for why, n in reasons.get((role, model), Counter()).most_common())
            or "none",
        }
        for (role, model), row in sorted(found.items())
    ]


_COUNTED = ("calls", "answered", "filtered", "prompt tokens", "answer tokens")
