"""A translator, a generator and a judge for general pairs, all scripted: who wins is in the lengths of the answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext

from parallel_sample import asked_of

from alignprism.construct.general import GeneralModels
from alignprism.construct.translators import ByModel
from alignprism.judging.pairwise import PairwiseJudge
from alignprism.judging.settings import PairwiseSettings
from alignprism.models.protocol import Decoding, Request
from alignprism.models.scripted import Line, ScriptedEngine
from alignprism.models.store import CallStore
from alignprism.rows import Prompt

HINDI = {
    "How do I boil an egg?": "मैं अंडा कैसे उबालूँ?",
    "Put it in boiling water for eight minutes.": "इसे आठ मिनट तक उबलते पानी में रखें।",
    "Why do leaves turn red?": "पत्तियाँ लाल क्यों हो जाती हैं?",
    "The green colour fades in autumn.": "शरद ऋतु में हरा रंग फीका पड़ जाता है।",
    "Which month is the coldest?": "सबसे ठंडा महीना कौन सा है?",
    "In many places it is January.": "कई जगहों पर जनवरी का महीना सबसे ठंडा होता है।",
}
LONG = "सबसे पहले एक बर्तन में पानी उबालें, फिर धीरे से अंडा डालें और आठ मिनट तक पकने दें, फिर ठंडे पानी में रखें।"
SHORT = "आठ मिनट।"
ANSWERS = {  # the generator wins, loses, and ties
    "मैं अंडा कैसे उबालूँ?": LONG,
    "पत्तियाँ लाल क्यों हो जाती हैं?": SHORT,
    "सबसे ठंडा महीना कौन सा है?": "कई जगहों पर जनवरी का महीना सबसे ठंडा रहता है।",  # as long as the translation
}


def prompts() -> list[Prompt]:
    texts = list(HINDI)
    return [
        Prompt(
            f"g{n}", texts[2 * n], "en", "general", "train", f"g{n}", reference=texts[2 * n + 1], licence="MIT",
            redistribute=True,
        )
        for n in range(3)
    ]  # fmt: skip


def longer(request: Request, sample: int) -> str:
    """A judge that prefers the longer answer, wherever it stands."""
    first, second = (
        len(re.search(rf"<<<ANSWER \({side}\) (\w+)>>>\n(.*?)\n<<<END OF ANSWER", str(request.prompt), re.DOTALL)[2])  # type: ignore[index]
        for side in "AB"
    )
    said = "TIE" if first == second else "Answer (A)" if first > second else "Answer (B)"
    return f"Comparison: by length\nPreferred: {said}"


def first_place(request: Request, sample: int) -> str:
    return "Comparison: the first\nPreferred: Answer (A)"


class Bench:
    """The three models; what they say can be changed, and how often each was asked is counted."""

    def __init__(
        self,
        store: CallStore | None = None,
        translations: Mapping[str, str | Line] | None = None,
        answers: Mapping[str, str | Line] | None = None,
        judge: object = longer,
    ) -> None:
        hindi: dict[str, str | Line] = {**HINDI, **(translations or {})}
        english = {other: text for text, other in HINDI.items()}
        said: dict[str, str | Line] = {**ANSWERS, **(answers or {})}

        def translate(request: Request, sample: int) -> str | Line:
            text, target = asked_of(request)
            return hindi[text] if target == "hi" else english.get(text, text)

        self.translator = ScriptedEngine("nllb", translate, digest="t", store=store)
        self.generator = ScriptedEngine("writer", lambda r, s: said[str(r.prompt)], digest="g", store=store)
        self.judge = ScriptedEngine("referee", judge, digest="j", store=store)  # type: ignore[arg-type]

    def models(self, back: bool = True) -> GeneralModels:
        settings = PairwiseSettings.model_validate({"model": {"source": "some/judge"}})
        return GeneralModels(
            translator=lambda: nullcontext(ByModel(self.translator, Decoding(max_new_tokens=200))),
            generator=lambda: nullcontext(self.generator),
            judge=lambda: nullcontext(PairwiseJudge(self.judge, settings)),
            back_is_translator=back,
        )

    @property
    def asked(self) -> tuple[int, int, int]:
        return self.translator.asked, self.generator.asked, self.judge.asked
