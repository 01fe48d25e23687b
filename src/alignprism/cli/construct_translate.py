"""Commands of ``alignprism construct``: translations and general preference data."""

from __future__ import annotations
