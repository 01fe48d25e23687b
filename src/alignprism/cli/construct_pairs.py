"""Commands of ``alignprism construct``: completions, pairs and mixtures."""

from __future__ import annotations
