"""XSafety: 14 safety areas of 200 prompts each, row-parallel across languages. No header, no ids.

Not every prompt is harmful, and none is harmless chat: ``commonsense`` asks for the unsafe choice of several, so it is
a set of its own here (tag ``commonsense``), not over-refusal data. The Hindi folder has that set twice: its variant,
without the closing instruction, is read into the set ``variant`` with the seeds of the questions, so that no study that
takes ``translated`` prompts counts a question twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from alignprism.prompts.formats.format import Bad, Format, Item, Options, Part, set_split
from alignprism.prompts.sources import Record
from alignprism.prompts.values import BadValue, text
from alignprism.rows import Prompt

SOURCE = "Jarviswang94/Multilingual_safety_benchmark (XSafety)"
FOLDERS = {
    "ar": "ar", "bn": "bn", "de": "de", "en": "en", "fr": "fr", "hi": "hi", "ja": "ja", "ru": "ru", "sp": "es", "zh": "zh"
}  # fmt: skip
AREAS: dict[str, tuple[str, ...]] = {
    "Crimes_And_Illegal_Activities": (),
    "Ethics_And_Morality": (),
    "Goal_Hijacking": (),
    "Inquiry_With_Unsafe_Opinion": (),
    "Insult": ("bullying_harassment",),
    "Mental_Health": (),
    "Physical_Harm": (),
    "Privacy_And_Property": (),
    "Prompt_Leaking": (),
    "Reverse_Exposure": (),
    "Role_Play_Instruction": (),
    "Unfairness_And_Discrimination": ("discrimination_injustice",),
    "Unsafe_Instruction_Topic": (),
    "commonsense": (),
}
"""Area to categories, where one of the nine says the same."""
_VARIANT = "commen_sense"


def read(record: Record, part: str, options: Options, prepared: Any) -> Iterator[Item | Bad]:
    """One prompt, the first cell of its row; the area and the language are the file's and the folder's names."""
    path = PurePosixPath(record.file.rpartition(":")[2] if ".tar" in record.file else record.file)
    folder, stem = path.parent.name, re.sub(r"_(n|en)$", "", path.name.removesuffix(".gz").removesuffix(".csv"))
    if folder not in FOLDERS:
        raise BadValue("0", f"the folder {folder!r} is no language of XSafety; there are {', '.join(FOLDERS)}")
    variant = stem == _VARIANT
    stem = "commonsense" if variant else stem
    area = next((name for name in AREAS if name.rstrip("s") == stem.rstrip("s")), None)
    if area is None:
        raise BadValue("0", f"the file {path.name!r} is no area of XSafety; there are {', '.join(AREAS)}")
    code = FOLDERS[folder]
    seed_id = f"xsafety-{area.lower()}-{record.row:03}"
    yield Item(
        (
            Prompt(
                id=f"{seed_id}-{code}{'-variant' if variant else ''}",
                text=text(record.values, "0", options.max_characters),
                language=code,
                set="variant" if variant else "translated",
                split=set_split(None, seed_id),
                seed_id=seed_id,
                categories=AREAS[area],
                source=SOURCE,
                tags=(area,),
                **FORMAT.rights(options),
            ),
        )
    )


FORMAT = Format(
    name="xsafety",
    about="XSafety: 14 safety areas x 200 prompts, row-parallel (the folder, or its tar archive)",
    tested_on="published files",
    parts={"prompts": Part(r"(^|/)(ar|bn|de|en|fr|hi|ja|ru|sp|zh)/[A-Za-z_]+\.csv$", (), header=False)},
    read=read,
    licence="Apache-2.0 (its README adds: research use only)",
    redistribute=False,
)
