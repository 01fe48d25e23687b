"""Language codes, names, scripts and writing direction, from CLDR through Babel: no list of our own to grow old."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from babel import Locale, UnknownLocaleError
from babel.core import get_global

from alignprism.errors import InputError, shown

_CODE = re.compile(r"[a-z]{2,3}")
# Filipino is the standard name of standardised Tagalog; data sets use both codes for the same texts.
_NAMES = {"tl": "Filipino (Tagalog)"}
_ALIASES = {"fil": "tl"}
_MORE_SCRIPTS = {"sr": ("Cyrl", "Latn"), "hi": ("Deva",)}
_SCRIPT = re.compile(r"[-_]([A-Z][a-z]{3})(?![A-Za-z])")
_REGION = re.compile(r"[A-Z]{2}|[0-9]{3}")
_RIGHT_TO_LEFT = frozenset({"Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm", "Rohg"})


class UnknownLanguage(InputError):  # noqa: N818
    """A code that is no language known to CLDR."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language: BCP-47 primary subtag, English name, ISO 15924 scripts it is written in, direction."""

    code: str
    name: str
    scripts: tuple[str, ...]
    direction: str


@cache
def language(code: str) -> Language:
    """Look a language up by its BCP-47 primary subtag (``hi``; ``fil`` reads as ``tl``).

    Raises
    ------
    UnknownLanguage
        if CLDR does not know the code.
    """
    code = _ALIASES.get(code, code)
    if not _CODE.fullmatch(code):
        raise UnknownLanguage(f"{shown(code)} is no language code; use a two- or three-letter BCP-47 code such as 'hi'")
    subtags = get_global("likely_subtags").get(code)
    if subtags is None:
        raise UnknownLanguage(f"{shown(code)} is no language known to CLDR; use a BCP-47 code such as 'hi' or 'ar'")
    script = next((part for part in str(subtags).split("_") if len(part) == 4), "Latn")
    try:
        name = _NAMES.get(code) or Locale("en").languages.get(code) or Locale(code).english_name or code
    except UnknownLocaleError:
        name = code
    scripts = _MORE_SCRIPTS.get(code, (script,))
    return Language(code, name, scripts, "rtl" if scripts[0] in _RIGHT_TO_LEFT else "ltr")


def script_of(label: str) -> str | None:
    """The ISO 15924 script that a label names, if it names one: ``Latn`` of ``sr-Latn`` or ``srp_Latn``."""
    found = _SCRIPT.search(label)
    return found[1] if found else None


def region_of(label: str) -> str:
    """The region that a label names behind a language's code: ``TW`` of ``zh-TW`` or ``zh_Hant_TW``; empty for none."""
    first, *others = re.split("[-_]", label.strip())
    if not _CODE.fullmatch(first.lower()):
        return ""
    return next((part.upper() for part in others if _REGION.fullmatch(part.upper())), "")


@cache
def region_script(code: str, region: str) -> str | None:
    """The script in which a language is written in a region, by CLDR: ``Hant`` for zh in TW; None where it says nothing."""
    subtags = get_global("likely_subtags").get(f"{code}_{region}")
    return script_of(str(subtags)) if subtags else None


def home_region(code: str) -> str:
    """The region whose variety a language's code alone stands for, by CLDR: BR for pt, IN for hi; empty where none is."""
    last = str(get_global("likely_subtags").get(code, "")).rpartition("_")[2]
    return last if _REGION.fullmatch(last) else ""


@cache
def find_language(label: str) -> Language:
    """Look a language up by any label that data sets use: ``hi``, ``pt-BR``, ``zh_Hans``, ``arb`` (ISO 639-3), ``Hindi``.

    Raises
    ------
    UnknownLanguage
        naming the label and what is accepted.
    """
    plain = label.strip()
    first = re.split(r"[-_]", plain, maxsplit=1)[0].lower()
    named = _codes_by_name().get(plain.lower())
    alias = get_global("language_aliases").get(first)
    for code in (named, str(alias).split("_")[0] if alias else None, first):
        if code:
            try:
                return language(code)
            except UnknownLanguage:
                continue
    raise UnknownLanguage(
        f"{shown(plain)} is no language known to CLDR; use a BCP-47 code such as 'hi', an ISO 639-3 code such as 'hin', "
        "or an English name such as 'Hindi'"
    )


@cache
def _codes_by_name() -> dict[str, str]:
    ours = {name.lower(): code for code, name in _NAMES.items()}
    return ours | {name.lower(): code for code, name in Locale("en").languages.items() if _CODE.fullmatch(code)}
