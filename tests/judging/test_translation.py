"""Translation scores: sacrebleu's own corpus scores, spBLEU from a named file, pairs against the baseline, no download."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import sacrebleu

from alignprism.errors import InputError
from alignprism.judging.translation import (
    NO_SPM_MODEL,
    Translation,
    as_scored,
    metrics,
    request_id,
    translation_figures,
    translation_requests,
    translation_scores,
)
from alignprism.prompts.parallel import ParallelText

SENTENCES = [
    ("Надо купить {} яблок на рынке.", "We must buy {} apples at the market."),
    ("В доме {} комнат и сад.", "The house has {} rooms and a garden."),
    ("Поезд уходит через {} минут.", "The train leaves in {} minutes."),
    ("Она прочитала {} книг за лето.", "She read {} books during the summer."),
]
PARALLEL = [
    ParallelText(f"ru:{n}", "ru", ru.format(n + 2), en.format(n + 2), str(n))
    for n in range(48)
    for ru, en in [SENTENCES[n % 4]]
]


def with_words_dropped(text: str, every: int, start: int) -> str:
    return " ".join(word for n, word in enumerate(text.split()) if (n + start) % every)


def made(every: int) -> list[Translation]:
    return [
        Translation(s, direction, with_words_dropped(reference, every, n))
        for n, s in enumerate(PARALLEL)
        for direction, reference in (("to English", s.english), ("from English", s.text))
    ]


@pytest.fixture(scope="session")
def spm_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, tiny SentencePiece model, trained on the sentences of this file."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("spm")
    (folder / "text.txt").write_text("\n".join(f"{s.text}\n{s.english}" for s in PARALLEL), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "tiny"), vocab_size=100, minloglevel=9,
        hard_vocab_limit=False,
    )  # fmt: skip
    return folder / "tiny.model"


def test_scores_are_sacrebleus(spm_model: Path) -> None:
    hypotheses, references = [t.hypothesis for t in made(4)], [t.reference for t in made(4)]
    chrf, spbleu, bleu = metrics(spm_model)
    for metric, expected in (
        (chrf, sacrebleu.corpus_chrf(hypotheses, [references], word_order=2)),
        (bleu, sacrebleu.corpus_bleu(hypotheses, [references], tokenize="intl", force=True)),
    ):
        counts = translation_scores(hypotheses, references, "en", metric)
        assert metric.score(counts.sum(axis=0)) == pytest.approx(expected.score / 100)
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(spm_model))
    ours, theirs = ([" ".join(pieces.encode(t, out_type=str)) for t in side] for side in (hypotheses, references))
    expected = sacrebleu.corpus_bleu(ours, [theirs], tokenize="none", force=True)
    counts = translation_scores(hypotheses, references, "en", spbleu)
    assert spbleu.score(counts.sum(axis=0)) == pytest.approx(expected.score / 100)


def test_signatures_are_sacrebleus_and_name_the_model_file(spm_model: Path) -> None:
    chrf, spbleu, bleu = metrics(spm_model, "char")
    version = sacrebleu.__version__
    assert chrf.signature == f"sacrebleu nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:{version}"
    assert bleu.signature == f"sacrebleu nrefs:1|case:mixed|eff:no|tok:char|smooth:exp|version:{version}"
    assert spbleu.tokenizer.startswith("tok:spm-tiny-") and spbleu.tokenizer in spbleu.signature


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, spm_model: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    for model in (None, spm_model):
        assert translation_figures({"m": made(4)}, None, metrics(model), 50, 0)


def test_figures_by_direction_against_the_baseline(spm_model: Path) -> None:
    models = {"base": made(3), "tuned": made(6)}
    found = {
        (f.metric, f.estimand, f.model): f for f in translation_figures(models, "base", metrics(spm_model), 300, 0)
    }
    for estimand in ("to English", "from English"):
        base, tuned = (found["chrf++", estimand, model] for model in ("base", "tuned"))
        change = found["chrf++", f"b - a, paired; {estimand}", "tuned"]
        assert (base.language, base.n, base.clusters, change.baseline) == ("ru", 48, 48, "base")
        assert change.estimate == pytest.approx(tuned.estimate - base.estimate)
        assert 0 < change.low < change.high and change.p < 0.05
    spm = next(estimand for metric, estimand, _ in found if metric == "spbleu")
    assert spm.startswith("to English; tok:spm-tiny-")
    assert found["bleu", "to English; tok:intl", "tuned"].judge.endswith(sacrebleu.__version__)


def test_spbleu_without_a_model_file_is_a_reason_beside_bleu() -> None:
    found = translation_figures({"m": made(4)}, "m", metrics(), 50, 0)
    assert [(f.metric, f.reason) for f in found if f.language == "ru"][:3] == [
        ("chrf++", ""), ("bleu", ""), ("spbleu", NO_SPM_MODEL),
    ]  # fmt: skip


def test_a_sentence_that_one_model_did_not_translate_is_in_no_change() -> None:
    models = {"base": made(3), "tuned": [t for t in made(6) if t.sentence.seed_id != "7"]}
    found = translation_figures(models, "base", metrics(), 50, 0)
    assert {f.n for f in found if f.baseline} == {47}


def test_serbian_is_scored_in_one_script() -> None:
    assert as_scored("Љубав и џез, Ђорђе!", "sr") == "Ljubav i džez, Đorđe!"
    assert as_scored("Привет", "ru") == "Привет"
    sentence = ParallelText("sr:1", "sr", "Ово је моја кућа.", "This is my house.", "1")
    found = translation_figures(
        {"m": [Translation(sentence, "from English", "Ovo je moja kuća.")]}, None, metrics(), 50, 0
    )
    assert found[0].estimate == pytest.approx(1) and found[0].estimand == "from English; sr in Latin letters"
    assert found[0].reason == "too few clusters for a bootstrap (1 < 30)"


def test_a_model_is_asked_in_both_directions() -> None:
    there, back = translation_requests(PARALLEL[:1])
    assert (there.id, back.id) == ("ru:0/to-English", "ru:0/from-English")
    assert there.id == request_id(PARALLEL[0], "to English")
    assert "from Russian into English" in str(there.prompt) and str(there.prompt).endswith(PARALLEL[0].text)
    assert "from English into Russian" in str(back.prompt) and str(back.prompt).endswith(PARALLEL[0].english)


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.model"
    broken.write_bytes(b"nothing")
    for path in (broken, tmp_path / "absent.model"):
        with pytest.raises(InputError, match=path.name):
            metrics(path)
