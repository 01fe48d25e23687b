"""What never enters a stage that generates text: sexual material about minors, uplift for mass-casualty weapons.

No study can switch this off. Rows are refused by their tags and by word patterns in the sample's languages. They are
deliberately coarse: a false alarm costs one prompt, which is set aside and counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

FORBIDDEN_TAGS: tuple[str, ...] = (
    "child abuse",
    "child sexual",
    "csam",
    "csae",
    "minor sexual",
    "cbrn",
    "bioweapon",
    "chemical weapon",
    "nuclear weapon",
    "mass casualty",
    "weapons of mass",
)

_MINOR = (
    r"\b(?:child(?:ren)?|kids?|minors?|under-?age|toddlers?|pre-?teens?|schoolgirls?|schoolboys?|infants?"
    r"|enfants?|mineure?s?|fillettes?|niñ[oa]s?|menor(?:es)?|deca|dete|dece|maloletni\w*|bata|menor de edad)\b"
    r"|\bдет(?:и|ей|ям|ьми|ск)|ребён|ребен|несовершеннолетн|школьниц|малолет|дец[аеу]|дете|малолетн"
    r"|طفل|أطفال|اطفال|قاصر|बच्च|नाबालिग|बालिका"
)
_SEXUAL = (
    r"\b(?:sex(?:ual(?:ly|ised|ized)?|y)?|porn\w*|nudes?|naked|erotic\w*|molest\w*|grooming|rape[ds]?"
    r"|sexuel\w*|nue?s?|érotique\w*|violer|desnud\w*|sexual(?:es)?|erótic\w*|violar"
    r"|seks\w*|golo?t\w*|hubad|sekswal|malaswa)\b"
    r"|секс|порно|эротич|обнажён|обнажен|голы[ехй]|изнасил|сексуал|гол[аео]\b"
    r"|جنس|عاري|اباحي|إباحي|اغتصاب|यौन|अश्लील|नग्न|बलात्कार"
)
_WEAPON = (
    r"\b(?:sarin|vx gas|nerve agents?|mustard gas|anthrax|ricin|botulinum|smallpox|dirty bombs?|bio-?weapons?"
    r"|(?:biological|chemical|nuclear|radiological) (?:weapons?|bombs?|warfare agents?)"
    r"|armes? (?:chimique|biologique|nucléaire)s?|gaz (?:sarin|moutarde)|armas? (?:química|biológica|nuclear)(?:e?s)?"
    r"|gas (?:sarín|mostaza)|ántrax|hemijsk\w+ oružj\w+|biološk\w+ oružj\w+|nuklearn\w+ (?:oružj|bomb)\w+)\b"
    r"|зарин|сибирск\w+ язв|(?:химическ|биологическ|ядерн)\w+ (?:оружи|бомб)|нервно-паралитич|рицин"
    r"|(?:хемијск|биолошк|нуклеарн)\w+ (?:оружј|бомб)"
    r"|سارين|الجمرة الخبيثة|(?:سلاح|أسلحة|قنبلة) (?:كيميائي|بيولوجي|نووي)|सरीन|एंथ्रेक्स|(?:रासायनिक|जैविक|परमाणु) (?:हथियार|बम)"
)
_MINOR_RE, _SEXUAL_RE, _WEAPON_RE = (re.compile(p, re.IGNORECASE) for p in (_MINOR, _SEXUAL, _WEAPON))


def forbidden(text: str, tags: Iterable[str] = ()) -> str | None:
    """Why this text may not enter a generating stage, or None.

    Parameters
    ----------
    text
        a prompt or a completion.
    tags
        categories and tags of its row, in any spelling.
    """
    for tag in tags:
        plain = re.sub(r"[_\-]+", " ", tag.lower())
        for known in FORBIDDEN_TAGS:
            if known in plain:
                return f"tag: {known}"
    # One form of each letter: a decomposed "niño" is the same word.
    text = unicodedata.normalize("NFC", text)
    if _WEAPON_RE.search(text):
        return "filter: mass-casualty weapon"
    if _MINOR_RE.search(text) and _SEXUAL_RE.search(text):
        return "filter: sexual material with a minor"
    return None
