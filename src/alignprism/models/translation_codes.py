"""How translation models name languages: NLLB ``hin_Deva``, mBART ``hi_IN``, M2M100 ``__hi__``, Marian ``>>hin<<``, MADLAD ``<2hi>``.

What a model knows is read from its own vocabulary and put under our codes through CLDR, so that no table of a model's
two hundred languages can grow old here. Only what CLDR does not say stands below.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alignprism.errors import InputError, shown
from alignprism.languages import (
    UnknownLanguage,
    find_language,
    home_region,
    language,
    region_of,
    region_script,
    script_of,
)

_TOKENS = (
    re.compile(r"(?P<label>[a-z]{2,3}_(?:[A-Z][a-z]{3}|[A-Z]{2}))"),
    re.compile(r"__(?P<label>[a-z]{2,3})__"),
)
_TAGS = (
    re.compile(r">>(?P<label>[a-z]{2,3}(?:_[A-Z][a-z]{3})?)<<"),
    re.compile(r"<2(?P<label>[a-z]{2,3}(?:_[A-Z][a-z]{3})?)>"),
)
# Members of a macrolanguage that stand for it in NLLB, where CLDR names no member; and Norwegian without more is Bokmål.
_MEMBERS = {"pbt": "ps", "quy": "qu", "no": "nb"}


@dataclass(frozen=True, slots=True)
class LanguageToken:
    """One of a model's languages: our code, the script where the model names one, its token, and the label inside it."""

    code: str
    script: str | None
    token: str
    label: str


def target_of(label: str) -> str:
    """A language to translate into, as it is written here: a code, and a script where the language has several (``sr-Latn``).

    A region counts by the script that is written there: ``zh-TW`` is ``zh-Hant``.

    Raises
    ------
    UnknownLanguage
        no language is called so.
    """
    found = find_language(label)
    script = script_of(label) or region_script(found.code, region_of(label))
    if script is None or (script == found.scripts[0] and len(found.scripts) == 1):
        return found.code
    return f"{found.code}-{script}"


def targets_of(labels: Sequence[str]) -> list[str]:
    """Target languages by any label (``hi``, ``Hindi``, ``srp_Latn``), each once.

    Raises
    ------
    InputError
        none, an unknown one, one twice, or the variety of a region (``pt-PT``).
    """
    found = [_checked_target(label) for label in labels if label.strip()]
    if not found:
        raise InputError("name at least one language to translate into, such as hi or sr-Latn")
    twice = [target for target, count in Counter(found).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is named twice among the languages to translate into")
    return found


def _checked_target(label: str) -> str:
    """`target_of`, but a region that would go unheard is refused: no translator is told of it, and no check knows it."""
    target = target_of(label)
    region = region_of(label)
    if region and script_of(target) is None and region != home_region(target):
        raise InputError(
            f"{shown(label.strip())}: a translation cannot be asked for the variety of a region; "
            f"write {target} for {target_name(target)}"
        )
    return target


def code_of(target: str) -> str:
    """The language of a target, without its script."""
    return target.partition("-")[0]


def target_name(target: str) -> str:
    """What people call it: ``Serbian (Latin script)``."""
    script = script_of(target)
    names = {"Latn": "Latin", "Cyrl": "Cyrillic", "Arab": "Arabic", "Deva": "Devanagari"}
    return language(code_of(target)).name + (f" ({names.get(script, script)} script)" if script else "")


def language_tokens(vocabulary: Iterable[str], *, tags: bool) -> list[LanguageToken]:
    """The languages that a vocabulary has tokens for, in their order.

    `tags`: words that are put before a text (``>>hin<<``, ``<2hi>``), not tokens that a tokenizer sets (``hin_Deva``).
    """
    found = []
    forms = _TAGS if tags else _TOKENS
    for token in sorted(vocabulary):
        match = next((m for form in forms if (m := form.fullmatch(token))), None)
        if match is None:
            continue
        try:
            code = find_language(_MEMBERS.get(match["label"].partition("_")[0], match["label"])).code
        except UnknownLanguage:
            continue
        found.append(LanguageToken(_MEMBERS.get(code, code), script_of(match["label"]), token, match["label"]))
    return found


def token_for(target: str, known: Sequence[LanguageToken], name: str) -> LanguageToken:
    """The model's token for a language; of several scripts the asked one, else the language's first.

    Serbian in Latin letters is taken from Cyrillic where a model knows only that: every letter of it has one Latin form.

    Raises
    ------
    InputError
        the model has none.
    """
    code = _MEMBERS.get(code_of(target), code_of(target))
    mine = [token for token in known if token.code == code]
    wanted = script_of(target)
    scripts = [wanted, None] if wanted else [language(code).scripts[0], None]
    if target == "sr-Latn":
        scripts.append("Cyrl")
    for script in scripts:
        for token in mine:
            if token.script == script:
                return token
    if mine and wanted is None:
        return mine[0]
    has = sorted({token.code for token in known})
    raise InputError(
        f"{name} does not know {target_name(target)} ({target}); it knows {', '.join(has) if has else 'no languages'}"
    )
