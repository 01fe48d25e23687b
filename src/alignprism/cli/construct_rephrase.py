"""Commands of ``alignprism construct``: rephrasings and benign twins of seeds."""

from __future__ import annotations
