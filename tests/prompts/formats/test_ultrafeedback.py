"""UltraFeedback, both forms; rows made after the published schemas."""

from __future__ import annotations

from typing import Any


def messages(asked: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def test_binarized_rows_are_pairs_with_scores(made: Any) -> None:
    row = {
        "prompt": "Why?", "prompt_id": "p1", "chosen": messages("Why?", "Because."), "rejected": messages("Why?", "No."),
        "score_chosen": 8.5, "score_rejected": 4.0,
    }  # fmt: skip
    outcome = made(
        "ultrafeedback", {"ultrafeedback_binarized.jsonl": [row, row | {"prompt_id": "p2", "rejected": row["chosen"]}]}
    )
    (pair,) = outcome.tables["pairs"]
    assert (pair.chosen, pair.rejected, pair.chosen_score, pair.rejected_score) == ("Because.", "No.", 8.5, 4.0)
    assert (pair.kind, pair.language, pair.licence) == ("general", "en", "MIT")
    assert [a["column"] for a in outcome.aside] == ["rejected"]


def test_downloaded_files_keep_the_published_split(made: Any) -> None:
    row = {"prompt": "Why?", "chosen": messages("Why?", "Because."), "rejected": messages("Why?", "No.")}
    files = {f"data/{split}_prefs-00000-of-00001.jsonl": [row | {"prompt_id": split}] for split in ("train", "test")}
    prompts = made("ultrafeedback", files).tables["prompts"]
    assert {prompt.seed_id: prompt.split for prompt in prompts} == {
        "ultrafeedback-train": "train", "ultrafeedback-test": "test",
    }  # fmt: skip


def test_of_several_completions_the_best_and_the_worst_are_a_pair(made: Any) -> None:
    given = [
        {"model": m, "response": f"by {m}", "overall_score": s} for m, s in (("a", 5), ("b", 9), ("c", 2), ("d", None))
    ]
    tied = [{"model": m, "response": f"by {m}", "overall_score": 5} for m in "ab"]
    outcome = made("ultrafeedback", {"ultrafeedback.jsonl": [{"instruction": "Why?", "completions": given}, {"instruction": "How?", "completions": tied}]})  # fmt: skip
    (pair,) = outcome.tables["pairs"]
    assert (pair.chosen, pair.rejected, pair.chosen_source) == ("by b", "by c", "b")
    assert len(outcome.tables["completions"]) == 6
