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

# One line or more per language; English words are used in all of them. Prefix match where no \b follows.
_MINOR = (
    r"\b(?:child(?:ren)?|kids?|minors?|under-?age|toddlers?|(?:pre-?)?teen(?:s|ager|agers|age)?|adolescents?|juveniles?"
    r"|schoolgirls?|schoolboys?|infants?|(?:little|young) (?:girl|boy)s?|age[ds]? (?:[1-9]|1[0-7])"
    r"|(?:[1-9]|1[0-7])[- ](?:years?[- ]old|ans|años|лет|taong gulang))\b",
    r"\b(?:enfants?|mineure?s?|fillettes?|gamine?s?|ados?|adolescente?s?|coll[ée]gien(?:ne)?s?|lyc[ée]en(?:ne)?s?)\b",
    r"\b(?:niñ(?:it)?[oa]s?|menor(?:es)?|adolescentes?|colegial[ae]?s?|chiquill[oa]s?)\b",
    r"\b(?:de[ct]e|dec[aiu]|decom|detet\w+|detinj\w+|malole\w+|devojčic\w+|deča[kc]\w*|tinejdžer\w*)\b",
    r"\b(?:дет(?:и|ей|ям|ьми|ях|ск|е\b|ет|ињ)|дец(?:[аеиу]|ом)\b|ребён|ребен|несовершеннолетн|малолет|школьни[кц]"
    r"|девоч[ке]|мальчи[кш]|подрост|девојчиц|деча[кц]|тинејџер)",
    r"طفل|[أا]طفال|قاصر|مراهق|رضيع|فتيات صغيرات|बच्च|नाबालिग|बालिका|बालक|किशोर|छोटी लड़क",
    r"\b(?:(?:mga )?bata(?:ng)?|menor de edad|paslit|musmos|sanggol|dalagita(?:ng)?|binatilyo(?:ng)?)\b",
)
_SEXUAL = (
    r"\b(?:sex(?:ual\w*|ting|y)?|porn\w*|nudes?|nudity|naked|topless|undress\w*|lewd|erotic\w*|molest\w*|grooming"
    r"|rape[ds]?)\b",
    r"\b(?:sexe|sexuel\w*|nue?s?|érotique\w*|violer|sexo|desnud\w*|erótic\w*|violar)\b",
    r"\b(?:seks\w*|gol(?:[aeiou]|ih|im|og|oj|otinj\w*|išav\w*)|silova\w*)\b",
    r"секс|порно|эротич|еротск|обнаж|изнасил|\bголы[ехйм]"
    r"|\bгол(?:[аеиоу]|ая|ую|ой|ого|ому|их|им|ог|ој|отињ\w*)\b|силова",
    r"جنس|عاري|عراة|[إا]باحي|اغتصاب|नंग[ाीे]|यौन|अश्लील|नग्न|बलात्कार|सेक्स|पोर्न|कामुक",
    r"\b(?:hubad|hubo't|sekswal|malaswa|mahalay|kahalayan)",
)
_WEAPON = (
    r"\b(?:sar[ií]n|vx (?:gas|agent)|novichok|nerve (?:agents?|gas(?:es)?)|mustard gas|anthrax|ricin|botulin\w*"
    r"|smallpox|bio-?weapon\w*|bioterror\w*|weapons? of mass destruction|wmds?|(?:dirty|hydrogen|atom) bombs?"
    r"|(?:biological|chemical|nuclear|radiological|atomic) (?:weapon\w*|bombs?|warheads?|warfare))\b",
    r"\b(?:armes? (?:chimique|biologique|bactériologique|nucléaire|atomique)s?|armes? de destruction massive"
    r"|bombes? (?:nucléaire|atomique|sale|radiologique)s?|gaz (?:sarin|moutarde|innervant|neurotoxique)s?|ricine)\b",
    r"\b(?:armas? (?:química|biológica|bacteriológica|nuclear|atómica)(?:e?s)?|armas? de destrucción masiva"
    r"|bombas? (?:nuclear(?:es)?|atómicas?|sucias?|radiológicas?)|gas(?:es)? (?:mostaza|nervioso)s?|ántrax|ricina)\b",
    r"\b(?:(?:hemijsk|biološk|nuklearn|atomsk|radiološk)\w+ (?:oružj|bomb)|oružj\w+ za masovno|sarin|ricin|antraks"
    r"|iperit|(?:хемијск|биолошк|нуклеарн|атомск|радиолошк)\w+ (?:оружј|бомб)|оружј\w+ за масовно|сарин|рицин"
    r"|антракс|иперит)",
    r"\b(?:зарин|зоман|иприт|рицин|ботулотоксин|сибирск\w+ язв|нервно-паралитич|оружи\w+ массового|грязн\w+ бомб"
    r"|(?:химическ|биологическ|бактериологическ|ядерн|атомн|радиологическ)\w+ (?:оружи|бомб|боеголов))",
    r"سارين|الجمرة الخبيثة|الدمار الشامل|غاز الأعصاب|غاز الخردل"
    r"|(?:سلاحا?|[أا]سلحة|قنبلة|قنابل) (?:ال)?(?:كيميائي|كيماوي|بيولوجي|جرثومي|نووي|ذري)",
    r"सरीन|सारिन|एंथ्रेक्स|राइसिन|नर्व गैस|मस्टर्ड गैस|सामूहिक विनाश|एटम बम"
    r"|(?:रासायनिक|जैविक|परमाणु|नाभिकीय) (?:हथियार|बम|अस्त्र)",
    r"\b(?:(?:sandata|armas|bomba)\w* (?:na )?(?:kemikal|bi?[oa]y?olohikal|nuk?leyar|nuclear|atomik)"
    r"|(?:kemikal|biyolohikal|nukleyar) na (?:sandata|armas|bomba)"
    r"|(?:pangmaramihan|malawakan)g pag(?:puksa|patay|lipol))",
)


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(unicodedata.normalize("NFC", "|".join(patterns)), re.IGNORECASE)


_MINOR_RE, _SEXUAL_RE, _WEAPON_RE = _any_of(_MINOR), _any_of(_SEXUAL), _any_of(_WEAPON)


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
