"""PolyRefuse: prompts, pairs and completions of the compact files; duplicates share a seed in all three."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LABELS = {"request_harmful": 1, "refusal": 1, "response_harmful": 0}


def prompt(**change: Any) -> dict[str, Any]:
    return {
        "id": "harmful_test_0001", "language": "fr", "label": "harmful", "split": "test", "category": "chemical_biological",
        "prompt": "Une question.", "prompt_en": "A question.", "prompt_back_translated": None, "duplicate_of": None,
    } | change  # fmt: skip


def pair(**change: Any) -> dict[str, Any]:
    return {
        "id": "harmful_test_0001__m", "prompt_id": "harmful_test_0001", "language": "fr", "category": "Violence",
        "prompt": "Une question.", "prompt_en": "A question.", "chosen": "Non.", "rejected": "Oui.",
        "chosen_model": "m", "rejected_model": "m ablated", "chosen_labels": LABELS,
        "rejected_labels": LABELS | {"refusal": 0, "response_harmful": 1},
    } | change  # fmt: skip


def completion(**change: Any) -> dict[str, Any]:
    return {
        "prompt_id": "harmful_test_0001", "language": "fr", "model": "m", "variant": "baseline", "response": "Non.",
        "response_translated": "No.", "labels": LABELS, "is_jailbreak_substring_matching": 0, "truncated": True,
    } | change  # fmt: skip


def test_duplicates_of_a_prompt_share_its_seed_in_prompts_and_pairs(made: Any) -> None:
    copy = {"id": "harmful_test_0002", "duplicate_of": "harmful_test_0001"}
    outcome = made(
        "polyrefuse",
        {
            "prompts_fr.jsonl": [prompt(), prompt(**copy)],
            "pairs_fr.jsonl": [pair(), pair(id="harmful_test_0002__m", prompt_id="harmful_test_0002")],
        },
    )
    rows = (*outcome.tables["prompts"], *outcome.tables["pairs"])
    assert {row.seed_id for row in rows} == {"polyrefuse-harmful_test_0001"}
    assert {p.prompt_id for p in outcome.tables["pairs"]} == {p.id for p in outcome.tables["prompts"]}


def test_mass_casualty_tags_keep_a_prompt_out_of_every_generating_stage(made: Any) -> None:
    from alignprism.prompts.check import set_aside

    outcome = made("polyrefuse", {"prompts_fr.jsonl": [prompt(), prompt(id="x", category="Violence")]})
    kept, out = set_aside(outcome.tables["prompts"])
    assert [p.categories for p in kept] == [("violence_threats_incitement",)]
    assert [o.reason for o in out] == ["tag: cbrn"]


def test_harmless_prompts_are_general_and_not_to_be_republished(made: Any) -> None:
    outcome = made("polyrefuse", {"prompts_fr.jsonl": [prompt(label="harmless", id="harmless_val_1", split="val")]})
    (row,) = outcome.tables["prompts"]
    assert (row.set, row.split, row.redistribute) == ("general", "dev", False)
    assert "CC-BY-NC" in row.licence


def test_pairs_and_completions_carry_labels_and_models(made: Any) -> None:
    outcome = made("polyrefuse", {"pairs_fr.jsonl": [pair()], "completions_fr.jsonl": [completion(), completion(variant="ablated", response="")]})  # fmt: skip
    (row,) = outcome.tables["pairs"]
    assert (row.chosen_score, row.rejected_score, row.categories) == (0.0, 1.0, ("violence_threats_incitement",))
    assert [(c.model, c.text, c.truncated) for c in outcome.tables["completions"]] == [("m baseline", "Non.", True), ("m ablated", "", True)]  # fmt: skip
    assert {(r.scale, r.value) for r in outcome.tables["ratings"]} == {("request_harmful", 1), ("refusal", 1), ("response_harmful", 0)}  # fmt: skip


def test_damage_is_set_aside_by_column(made: Any) -> None:
    outcome = made(
        "polyrefuse",
        {
            "pairs_fr.jsonl": [pair(), pair(id="b", chosen=""), pair(id="c", chosen_labels={"refusal": 7}), pair(id="d", language="xx")],
            "completions_fr.jsonl": [completion(response=None), completion(variant="other")],
        },
    )  # fmt: skip
    assert [a["column"] for a in outcome.aside] == ["response", "variant", "chosen", "chosen_labels", "language"]
    assert len(outcome.tables["pairs"]) == 1


def test_real_files_a_slice_of_each(shared_data: Path, slice_of: Any, importing: Any) -> None:
    outcome = importing(slice_of(shared_data / "polyrefuse", 30), "polyrefuse")
    parts = {name: (p.read, p.kept) for name, p in outcome.imported.parts.items()}
    assert parts == {"prompts": (210, 210), "pairs": (150, 150), "completions": (150, 150)}
