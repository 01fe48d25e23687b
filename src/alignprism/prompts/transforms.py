"""Robustness slices by rule alone: the same prompt in another script or with English words in it.

People write Hindi and Arabic in Latin letters, Serbian in both scripts, and mix languages inside a sentence. Each
function is pure: one text in, one out, the same each time. No model is asked, and none is optimised against.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from alignprism.prompts.code_mixing import WORDS
from alignprism.prompts.serbian import TO_LATIN
from alignprism.rows import Prompt

_CONSONANTS = dict(
    zip(
        "कखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसहळ",
        "k kh g gh n ch chh j jh n t th d dh n t th d dh n p ph b bh m y r l v sh sh s h l".split(),  # noqa: SIM905
        strict=True,
    )
) | {"क़": "q", "ख़": "kh", "ग़": "g", "ज़": "z", "ड़": "r", "ढ़": "rh", "फ़": "f", "ऩ": "n", "ऱ": "r", "ऴ": "l"}
_VOWELS = dict(
    zip("अआइईउऊऋएऐओऔऑऍ", ["a", "aa", "i", "ee", "u", "oo", "ri", "e", "ai", "o", "au", "o", "e"], strict=True)
)
_SIGNS = dict(zip("ािीुूृेैोौॉॅ", ["aa", "i", "ee", "u", "oo", "ri", "e", "ai", "o", "au", "o", "e"], strict=True))
_VIRAMA, _NUKTA, _NASAL, _VISARGA = "्", "़", "ँं", "ः"
_DEVANAGARI_WORD = re.compile("[\u0900-\u0963\u0970-\u097f\u200c\u200d]+")
_DIGITS = str.maketrans("०१२३४५६७८९٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹", "012345678901234567890123456789")


def romanised_hindi(text: str) -> str:
    """Hindi as it is typed in Latin letters: no diacritics, silent vowels left out (क्या तुम बता सकते हो → kya tum bata sakte ho)."""
    return _DEVANAGARI_WORD.sub(lambda m: _romanised_word(m.group()), text).translate(_DIGITS).replace("।", ".")


def _romanised_word(word: str) -> str:
    # One form of each letter: keyboards type ज़ as one character or as two.
    syllables = _syllables(unicodedata.normalize("NFC", word))
    last = len(syllables) - 1
    # The inherent vowel is silent at the end of a word, and between a vowel-consonant and a consonant-vowel.
    for place in range(last, -1, -1):
        consonants, vowel, tail = syllables[place]
        if vowel != "A":
            continue
        if place == last:
            silent = place > 0 and not tail
        else:
            before = place > 0 and syllables[place - 1][1] != "" and not syllables[place - 1][2]
            after = syllables[place + 1][1] not in ("", "A") or (place + 1 < last and syllables[place + 1][1] == "A")
            silent = bool(before and after and not tail and _single(consonants) and _single(syllables[place + 1][0]))
        syllables[place] = (consonants, "" if silent else "a", tail)
    written = "".join("".join(part) for part in syllables)
    # A long a at the end is typed once: "bata", not "bataa".
    return re.sub(r"aa\b", "a", written) if len(written) > 2 else written


def _single(consonants: str) -> bool:
    return consonants in _CONSONANTS.values()


def _syllables(word: str) -> list[tuple[str, str, str]]:
    """Consonants, vowel (``A`` where it is the inherent one) and nasal or aspirate behind it."""
    found: list[tuple[str, str, str]] = []
    consonants, place = "", 0
    while place < len(word):
        character = word[place]
        if word[place : place + 2] in _CONSONANTS:
            character, place = word[place : place + 2], place + 1
        place += 1
        if character in _CONSONANTS:
            consonants += _CONSONANTS[character]
            following = word[place : place + 1]
            if following == _NUKTA:
                place += 1
                following = word[place : place + 1]
            if following == _VIRAMA:
                place += 1
            elif following in _SIGNS and following:
                found.append((consonants, _SIGNS[following], ""))
                consonants, place = "", place + 1
            else:
                found.append((consonants, "A", ""))
                consonants = ""
        elif character in _VOWELS:
            found.append((consonants, _VOWELS[character], ""))
            consonants = ""
        elif character in _NASAL and found:
            found[-1] = (found[-1][0], found[-1][1], "n")
        elif character == _VISARGA and found:
            found[-1] = (found[-1][0], found[-1][1], "h")
    if consonants:
        found.append((consonants, "", ""))
    return found


_ARABIC = dict(
    zip(
        "ءأإآؤئابتثجحخدذرزسشصضطظعغفقكلمنهةىپچژگ",
        "2 a i aa 2 2 a b t th j 7 kh d dh r z s sh s d t z 3 gh f q k l m n h a a p ch j g".split(),  # noqa: SIM905
        strict=True,
    )
)
_HARAKAT = {"\u064e": "a", "\u064f": "u", "\u0650": "i", "\u064b": "an", "\u064c": "un", "\u064d": "in", "\u0670": "a"}
_SHADDA, _IGNORED = "\u0651", "\u0652\u0640"
_ARABIC_WORD = re.compile("[\u0621-\u0652\u0670\u067e\u0686\u0698\u06af]+")


def romanised_arabic(text: str) -> str:
    """Arabic as it is typed in Latin letters and digits (Arabizi: 2 ء, 3 ع, 7 ح); short vowels only where written."""
    return (
        _ARABIC_WORD.sub(lambda m: _arabizi(m.group()), text).translate(_DIGITS).translate(str.maketrans("؟،؛", "?,;"))
    )


def _arabizi(word: str) -> str:
    written: list[str] = []
    if word.startswith("ال") and len(word) > 3:
        written, word = ["al"], word[2:]
    for place, character in enumerate(word):
        following = word[place + 1 : place + 2]
        if character in _HARAKAT:
            written.append(_HARAKAT[character])
        elif character == _SHADDA and written:
            written.append(written[-1])
        elif character in "وي":
            # A consonant at the start of a word, before alif and before a written short vowel; else a long vowel.
            consonant = place == 0 or (following in ("ا", "ى", "ة", "و", "ي", *_HARAKAT) and following != "")
            written.append(("w" if consonant else "u") if character == "و" else ("y" if consonant else "i"))
        elif character == "ة":
            written.append("t" if following in _HARAKAT and following else "" if written[-1:] == ["a"] else "a")
        elif character not in _IGNORED:
            written.append(_ARABIC.get(character, character))
    return "".join(written)


_TO_CYRILLIC = {latin: cyrillic for cyrillic, latin in TO_LATIN.items()}
_DIGRAPHS = ("lj", "nj", "dž")
# Where the two letters are two sounds: prefix and stem meet between them.
_TWO_SOUNDS = re.compile(
    r"konju(?=nk|g)|inje(?=kc|kt)|inju(?=nk)|nadž(?=iv|nj|up)|odž(?=al|iv|up|val)|podž(?=anr|up)|predž(?=et)|tanju(?=g)|vanje(?=zič)",
    re.IGNORECASE,
)
_FOREIGN = re.compile(r"[qwxyQWXY@]|\w+://|www\.")
_LATIN_WORD = re.compile(r"[^\s]+")


def serbian_latin(text: str) -> str:
    """Serbian in Latin script; letters that are no Serbian Cyrillic stay as they are."""
    out: list[str] = []
    for place, character in enumerate(text):
        latin = TO_LATIN.get(character.lower())
        if latin is None:
            out.append(character)
        elif character.islower():
            out.append(latin)
        else:
            # Љ is LJ among capitals and Lj at the head of a word.
            around = text[place + 1 : place + 2] or text[place - 1 : place]
            out.append(latin.upper() if around.isupper() else latin.capitalize())
    return "".join(out)


def serbian_cyrillic(text: str) -> str:
    """Serbian in Cyrillic script; words with q, w, x, y, addresses and links stay Latin."""
    return _LATIN_WORD.sub(lambda m: m.group() if _FOREIGN.search(m.group()) else _cyrillic_word(m.group()), text)


def _cyrillic_word(word: str) -> str:
    apart = {m.end() - 1 - (m.group()[-1].lower() in "ue") for m in _TWO_SOUNDS.finditer(word)}
    out: list[str] = []
    place = 0
    while place < len(word):
        two = word[place : place + 2]
        step = 2 if two.lower() in _DIGRAPHS and place + 1 not in apart else 1
        found = _TO_CYRILLIC.get(word[place : place + step].lower())
        if found is None:
            out.append(word[place])
            step = 1
        else:
            out.append(found if word[place].islower() else found.upper())
        place += step
    return "".join(out)


_SENTENCE = re.compile(r"(?<=[.!?।؟。！？])\s+")
_WORD = re.compile(r"[^\W\d_]+(?:[\u0901-\u0903\u093c-\u094d\u064b-\u065f\u0670][^\W\d_]*)*")
_ARABIC_MARKS = re.compile("[\u0640\u064b-\u065f\u0670]")


def code_mixed(text: str, translation: str | None, language: str) -> str | None:
    """Every second sentence in English where text and translation have as many, two or more; else common words.

    None where neither rule changes anything: such a prompt has no code-mixed form by rule.
    """
    if translation:
        own, english = _SENTENCE.split(text.strip()), _SENTENCE.split(translation.strip())
        if len(own) == len(english) >= 2:
            return " ".join(e if place % 2 else o for place, (o, e) in enumerate(zip(own, english, strict=True)))
    words = WORDS.get(language, {})
    # Vowel marks and tatweel are written or not: the list of words has none.
    mixed = _WORD.sub(lambda m: words.get(_ARABIC_MARKS.sub("", m.group().lower()), m.group()), text)
    return mixed if mixed != text else None


@dataclass(frozen=True, slots=True)
class Transform:
    """A transform of one language (any, where empty): the text it makes, or None, and the locale of what it makes."""

    language: str
    locale: str
    apply: Callable[[Prompt], str | None]


def _changed(function: Callable[[str], str]) -> Callable[[Prompt], str | None]:
    def apply(prompt: Prompt) -> str | None:
        made = function(prompt.text)
        return made if made != prompt.text else None

    return apply


TRANSFORMS: dict[str, Transform] = {
    "romanised-hi": Transform("hi", "hi-Latn", _changed(romanised_hindi)),
    "romanised-ar": Transform("ar", "ar-Latn", _changed(romanised_arabic)),
    "sr-latin": Transform("sr", "sr-Latn", _changed(serbian_latin)),
    "sr-cyrillic": Transform("sr", "sr-Cyrl", _changed(serbian_cyrillic)),
    "code-mixed": Transform("", "", lambda p: code_mixed(p.text, p.semantic_translation, p.language)),
}


def transformed(prompts: Iterable[Prompt], names: Iterable[str]) -> list[Prompt]:
    """Prompts in every named form that changes them; the same seed and split, a tag, and an id that says the form."""
    chosen = list(names)
    made = []
    for prompt in prompts:
        for name in chosen:
            rule = TRANSFORMS[name]
            if rule.language not in ("", prompt.language) or prompt.language == "en":
                continue
            text = rule.apply(prompt)
            if text is not None:
                made.append(
                    dataclasses.replace(
                        prompt, id=f"{prompt.id}~{name}", text=text, locale=rule.locale or prompt.locale,
                        tags=(*prompt.tags, f"robustness: {name}"),
                    )
                )  # fmt: skip
    return made
