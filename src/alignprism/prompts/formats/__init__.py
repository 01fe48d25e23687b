"""Formats that can be imported: one file each, registered by being in this folder and having a ``FORMAT``."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from alignprism.errors import InputError
from alignprism.prompts.formats.format import Format


@cache
def formats() -> dict[str, Format]:
    """All formats by name, in the order of their names."""
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        made = getattr(import_module(f"{__name__}.{module.name}"), "FORMAT", None)
        if isinstance(made, Format):
            found[made.name] = made
    return found


def find_format(name: str) -> Format:
    """A format by its name; ``rtp_lx`` and ``RTP-LX`` are ``rtp-lx``.

    Raises
    ------
    InputError
        naming the formats that there are.
    """
    known = formats()
    plain = name.strip().lower().replace("_", "-")
    if plain not in known:
        raise InputError(f"--format {name}: accepted: {', '.join(known)}")
    return known[plain]
