"""XL-SafetyBench (AIM Intelligence and others): country-grounded jailbreaks and cultural sensitivity, ten countries.

Files as on the hub: ``jailbreak/COUNTRY/attack_prompts.csv`` and ``cultural/COUNTRY/*.csv``; the country stands nowhere else,
so the files are downloaded and their folder is given. Jailbreak prompts are published attacks for evaluation. Cultural
scenarios are innocuous requests with a hidden violation. No real file was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, identifier, optional_text, text
from alignprism.rows import Prompt, content_id

SOURCE = "AIM-Intelligence/XL-SafetyBench"
COUNTRIES = {
    "france": ("fr", "FR"), "germany": ("de", "DE"), "india": ("hi", "IN"), "indonesia": ("id", "ID"),
    "japan": ("ja", "JP"), "south_korea": ("ko", "KR"), "spain": ("es", "ES"), "turkey": ("tr", "TR"),
    "united_arab_emirates": ("ar", "AE"), "united_states": ("en", "US"),
}  # fmt: skip
CATEGORIES = {
    "Hate & Discrimination": ("hate_speech", "discrimination_injustice"),
    "Self-harm & Dangerous Advice": ("self_harm",),
}


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """An attack with its base query, or a scenario in the country's language; always a test prompt, never trained on."""
    row = record.values
    country = next((c for c in COUNTRIES if re.search(rf"(^|/){c}(/|[-_.])", record.file)), None)
    if country is None:
        raise BadValue("", f"no country in the file's path; one of these folders is expected: {', '.join(COUNTRIES)}")
    code, region = COUNTRIES[country]
    category = text(row, "category").strip()
    jailbreak = part == "jailbreak"
    english = optional_text(row, "base_query_english" if jailbreak else "scenario_english")
    # One base query stands behind several attacks; with them it is one cluster.
    key = f"{country}-{english}" if jailbreak and english else f"{country}-{identifier(row, 'id')}"
    prompt = Prompt(
        id=f"xl-{country}-{identifier(row, 'id')}",
        text=text(row, "attack_prompt" if jailbreak else "scenario_local", options.max_characters),
        language=code,
        set="redteam",
        split="test",
        seed_id=f"xl-{content_id(key)}",
        scope="local",
        categories=CATEGORIES.get(category, ()),
        cultures=(region,),
        locale=f"{code}-{region}",
        source=f"{SOURCE} ({part})",
        explanation=optional_text(row, "hidden_violation"),
        semantic_translation=english if code != "en" and not jailbreak else None,
        tags=(category, *((f"base query: {english}",) if jailbreak and english else ())),
        **FORMAT.rights(options),
    )
    yield Item((prompt,))


FORMAT = Format(
    name="xl-safetybench",
    about="XL-SafetyBench: country-grounded jailbreaks and cultural sensitivity",
    tested_on="rows made after the published schema",
    parts={
        "jailbreak": Part(r"(^|/)jailbreak/.*\.csv$|attack_prompts\.csv$", ("id", "category", "attack_prompt")),
        "cultural": Part(r"(^|/)cultural/.*\.csv$", ("id", "category", "scenario_local", "hidden_violation")),
    },
    read=read,
    licence="CC-BY-4.0",
    redistribute=True,
)  # fmt: skip
