"""Translators by the options of a command: which kind, opened beside the call store, and what they would be asked."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alignprism.cli.console import cache_folder
from alignprism.cli.construct import Asking, destinations
from alignprism.errors import InputError

if TYPE_CHECKING:
    from alignprism.construct.general import GeneralModels
    from alignprism.construct.translation_settings import GeneralSettings, TranslateSettings
    from alignprism.construct.translators import Text, Translator
    from alignprism.judging.settings import PairwiseSettings
    from alignprism.models.protocol import Decoding, Request
    from alignprism.models.settings import ModelSettings
    from alignprism.rows import Prompt

KINDS = ("seq2seq", "model", "file")
_TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".gz")


@dataclass(frozen=True)
class Chosen:
    """The translator and what translates back, as the options name them."""

    asking: Asking
    translator: str
    kind: str | None
    back: str | None
    no_back: bool
    settings: TranslateSettings

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise InputError(f"--translator-kind {self.kind}: accepted: {', '.join(KINDS)}")
        if self.no_back and self.back is not None:
            raise InputError(
                "--back names what translates back, and --no-back says that nothing does; give one of them"
            )
        if self.back is not None and _is_table(self.back):
            raise InputError(f"--back {self.back}: a file holds no back-translations; name a model")

    @contextmanager
    def opened(self) -> Iterator[tuple[Translator, Translator | None]]:
        """Both; the one is the other where a model translates back what it translated."""
        with ExitStack() as stack:
            there = stack.enter_context(self._open(self.translator, self.kind))
            if self._back_is_translator():
                yield there, there
            elif self.back is not None:
                yield there, stack.enter_context(self._open(self.back, None))
            else:
                yield there, None

    def models(self, generator: str, comparing: PairwiseSettings) -> GeneralModels:
        """How general preference data opens what it asks."""
        from alignprism.construct.general import GeneralModels

        back, same = self.back, self._back_is_translator()
        return GeneralModels(
            translator=lambda: self._open(self.translator, self.kind),
            generator=lambda: self.asking.model(generator),
            judge=lambda: self.asking.pairwise(comparing),
            back=None if same or back is None else lambda: self._open(back, None),
            back_is_translator=same,
        )

    def _back_is_translator(self) -> bool:
        if self.no_back or kind_of(self.translator, self.kind) == "file":
            return False
        return self.back is None or self.back == self.translator

    def _open(self, named: str, kind: str | None) -> AbstractContextManager[Translator]:
        return _opened(self.asking, named, kind_of(named, kind), self.settings)

    # --- the dry run -------------------------------------------------------------------------------------------------

    def say_plan(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> None:
        """Calls of translation and back-translation, at what cost, and where texts go."""
        from alignprism.construct.translation_rows import planned_texts
        from alignprism.construct.translators import Text

        texts = planned_texts(prompts, targets, self.settings)
        self._say_translator("translations", self.translator, kind_of(self.translator, self.kind), texts)
        if self.no_back or (self.back is None and not self._back_is_translator()):
            self.asking.reporter.say("back-translations: none; quality is not measured")
            return
        # The source stands for what is not translated yet, which is about as long; references are not translated back.
        named, kind = (self.back, None) if self.back is not None else (self.translator, self.kind)
        ids = {prompt.id for prompt in prompts}
        backs = [Text(text.id, text.text, text.target, text.source) for text in texts if text.id in ids]
        self._say_translator("back-translations", named, kind_of(named, kind), backs)

    def say_general_plan(
        self,
        prompts: Sequence[Prompt],
        targets: Sequence[str],
        generator: str,
        comparing: PairwiseSettings,
        settings: GeneralSettings,
    ) -> None:
        """Calls of the generator and the judge; sources stand for what is not written yet."""
        from alignprism.construct.general import planned_comparisons
        from alignprism.judging.pairwise import PairwiseQuestions
        from alignprism.models.model_file import model_settings
        from alignprism.models.protocol import Request

        rows = [(target, prompt) for target in targets for prompt in prompts]
        asked = [Request(f"{prompt.id}-{target}", prompt.text) for target, prompt in rows]
        self._say_model("completions", generator, model_settings(generator), asked, settings.decoding())
        questions = PairwiseQuestions(comparing)
        matchups = planned_comparisons(prompts, targets)
        questions.check(matchups)
        trials = [request for matchup in matchups for request in questions.requests(matchup)]
        self._say_model("comparisons", "the judge", comparing.model, trials, questions.decoding)

    def _say_translator(self, what: str, named: str, kind: str, texts: Sequence[Text]) -> None:
        from alignprism.construct.translators import FromFile, question
        from alignprism.models.model_file import model_settings

        if kind == "model":
            asked = [question(text) for text in texts]
            self._say_model(what, named, model_settings(named), asked, self.settings.decoding())
        else:
            if kind == "file":
                FromFile(Path(named)).check({(text.source, text.target) for text in texts})
            done = "looked up" if kind == "file" else "translated"
            self.asking.reporter.say(f"{what} by {named}: {len(texts):,} texts, {done} on this machine")

    def _say_model(
        self, what: str, named: str, model: ModelSettings, requests: Sequence[Request], decoding: Decoding
    ) -> None:
        from alignprism.models.cost import estimate

        endpoint = model.endpoint
        planned = estimate(requests, decoding, endpoint.price if endpoint else None)
        self.asking.reporter.say(f"{what} by {named}: {planned}")
        where = destinations(endpoint.hosts if endpoint else (), self.asking.allow_remote)
        self.asking.reporter.say(f"    texts go to: {where}")


def kind_of(named: str, kind: str | None) -> str:
    """seq2seq, model or file: as given, or by the name, or by what the model's configuration says.

    Raises
    ------
    InputError
        the name leads to no model.
    """
    if kind is not None:
        return kind
    path = Path(named).expanduser()
    if _is_table(named):
        return "file"
    if named.endswith((".yaml", ".yml")) or named.startswith(("script:", "embedded:")):
        return "model"
    if (path / "adapter_config.json").is_file():
        return "model"
    from alignprism.models.seq2seq import is_seq2seq

    return "seq2seq" if is_seq2seq(named) else "model"


def _is_table(named: str) -> bool:
    return named.endswith(_TABLES) and not named.startswith("script:")


@contextmanager
def _opened(asking: Asking, named: str, kind: str, settings: TranslateSettings) -> Iterator[Translator]:
    from alignprism.construct.translators import ByModel, FromFile, Seq2Seq

    if kind == "file":
        yield FromFile(Path(named))
    elif kind == "model":
        with asking.model(named) as engine:
            yield ByModel(engine, settings.decoding())
    else:
        from alignprism.models.seq2seq import load_seq2seq

        name = named.rstrip("/").split("/")[-1]
        whole = load_seq2seq(named, name, cache_folder(), asking.store, settings.beams, asking.reporter.say)
        yield Seq2Seq(whole, settings.decoding())
        del whole
        gc.collect()
