"""Rephrasing: a few human seeds become many training prompts; what is not used is counted with its reason."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from invented import NO, YES, agreeing, engine, invented, inventive, listed, seed, wanted

from alignprism.construct import filters
from alignprism.construct.cells import cells_of
from alignprism.construct.checker import Checker
from alignprism.construct.examples import Examples
from alignprism.construct.near import NearIndex
from alignprism.construct.rephrase import decoding_of, rephrase
from alignprism.construct.seeds import SPARE_SEED, SYNTHETIC, drawn_seeds
from alignprism.construct.settings import RephraseSettings
from alignprism.construct.sifting import WrittenPrompts
from alignprism.errors import InputError
from alignprism.models.protocol import Request
from alignprism.models.scripted import Line, ScriptedEngine
from alignprism.models.store import CallStore
from alignprism.prompts.publish import refusals
from alignprism.rows import Prompt, RowError, content_id

SETTINGS = RephraseSettings(per_seed=4, variants=3, rounds=5, embed=False)
SEEDS = [seed(n) for n in range(4)]


def run(
    seeds: list[Prompt],
    writer: ScriptedEngine,
    checker: ScriptedEngine | None = None,
    settings: RephraseSettings = SETTINGS,
    others: tuple[Prompt, ...] = (),
) -> WrittenPrompts:
    found = rephrase(seeds, others, writer, Checker(checker) if checker else None, settings)
    assert_all_counted(found)
    return found


def assert_all_counted(found: WrittenPrompts) -> None:
    """What came in is what came out plus what was set aside, by reason and by language too."""
    report = found.report
    assert report["came"] == report["accepted"] + sum(report["set_aside"].values())
    assert report["accepted"] == len(found.prompts) == sum(r["accepted"] for r in report["rounds"])
    assert report["came"] == sum(r["came"] for r in report["rounds"])
    by_language = report["by_language"].values()
    assert report["accepted"] == sum(each["accepted"] for each in by_language)
    everything = Counter(report["set_aside"]) + Counter(report["seeds"]["set_aside"])
    assert everything == Counter(row.reason for row in found.set_aside)
    assert report["seeds"]["given"] == report["seeds"]["used"] + sum(report["seeds"]["set_aside"].values())


def test_new_prompts_carry_what_their_seed_has_and_are_marked() -> None:
    found = run([seed(1, tags=("own",), locale="en-GB", explanation="why")], engine("w", inventive))
    assert len(found.prompts) == 4 and found.stopped == "quota"
    for prompt in found.prompts:
        assert (prompt.set, prompt.split, prompt.seed_id) == ("redteam", "train", "global-bull-1")
        assert (prompt.scope, prompt.categories, prompt.language) == ("global", ("bullying_harassment",), "en")
        assert (prompt.licence, prompt.redistribute, prompt.locale) == ("CC0", True, "en-GB")
        assert prompt.tags == ("own", SYNTHETIC) and prompt.source == "rephrased by w" and prompt.explanation is None
    assert sum(refusals({"prompts": found.prompts}, synthetic=False).values()) == 4
    assert not refusals({"prompts": found.prompts}, synthetic=True)


def test_only_writer_and_checker_are_asked_and_each_for_its_own_purpose(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def noted(name: str, script):  # type: ignore[no-untyped-def]
        def play(request: Request, sample: int) -> str:
            asked.append((name, request.role))
            return script(request, sample)

        return play

    found = run(SEEDS, engine("w", noted("w", inventive)), engine("c", noted("c", agreeing(SEEDS))))
    assert set(asked) == {("w", "write"), ("c", "check")}
    assert found.report["checked"] and not found.report["checker_is_writer"]
    unchecked = run(SEEDS, engine("w", inventive))
    assert unchecked.report["checker"] is None and unchecked.report["checked"] is False


def test_a_rerun_from_the_call_store_asks_nothing_and_gives_the_same_rows(tmp_path: Path) -> None:
    with CallStore(tmp_path / "calls.sqlite") as store:
        first = (engine("w", inventive, store), engine("c", agreeing(SEEDS), store))
        again = (engine("w", inventive, store), engine("c", agreeing(SEEDS), store))
        assert run(SEEDS, *first) == run(SEEDS, *again)
        assert first[0].asked > 0 and (again[0].asked, again[1].asked) == (0, 0)
        assert (
            run(SEEDS[::-1], engine("w", inventive, store)).prompts == run(SEEDS, engine("w", inventive, store)).prompts
        )


def test_quotas_hold_in_every_cell_and_least_used_seeds_are_asked_first() -> None:
    seeds = [*SEEDS, seed(9, "local", "hate_speech"), seed(8, "local", "hate_speech")]
    found = run(seeds, engine("w", inventive), settings=SETTINGS.model_copy(update={"quota": 4}))
    assert Counter(cell for p in found.prompts for cell in cells_of(p)) == {
        ("en", "global", "bullying_harassment"): 4,
        ("en", "local", "hate_speech"): 4,
    }
    assert {row["accepted"] for row in found.report["coverage"]} == {4}
    children = Counter(p.seed_id for p in found.prompts)
    assert max(children.values()) <= 4 and len(children) >= 4


def test_a_writer_that_gives_more_than_asked_crowds_no_seed_out() -> None:
    seeds = [seed(n) for n in range(8)]
    many = engine("w", lambda request, sample: listed(*(invented(request.id, n) for n in range(9))))
    found = run(seeds, many, settings=SETTINGS.model_copy(update={"quota": 8}))
    assert found.stopped == "quota" and found.report["seeds_without_prompts"] == []


def test_every_round_asks_anew_and_shows_what_was_made_already() -> None:
    prompts: list[str] = []

    def few(request: Request, sample: int) -> str:
        prompts.append(str(request.prompt))
        return listed(invented(request.id, 0))

    found = run([seed(1)], engine("w", few), settings=SETTINGS.model_copy(update={"per_seed": 3}))
    assert len(found.prompts) == 3 and len(prompts) == 3 == len(set(prompts))
    assert found.prompts[0].text in prompts[1] and found.prompts[1].text in prompts[2]


def goes_on(request: Request, sample: int) -> str:
    """A base model: what it is given is a text, and it goes on with the list that stands there."""
    text = str(request.prompt)
    assert request.plain and text.count("\n") >= 2
    lead = int(text.rsplit("\n", 1)[1].rstrip("."))
    first, *others = (invented(request.id, n) for n in range(3))
    return f" {first}\n" + "\n".join(f"{lead + n}. {text}" for n, text in enumerate(others, 1))


def test_a_base_model_goes_on_with_a_list_of_human_prompts_of_which_the_seed_is_the_last() -> None:
    settings = SETTINGS.model_copy(update={"style": "continue", "shots": 2})
    seeds = [*SEEDS, seed(9, text="Two lines\nof <|im_end|> one prompt.", explanation="it\nmocks")]
    requests: dict[str, Request] = {}

    def writes(request: Request, sample: int) -> str:
        requests[request.id] = request
        return goes_on(request, sample)

    found = run(seeds, engine("w", writes), settings=settings)
    assert len(found.prompts) == 20 and found.stopped == "quota"
    assert {"write"} == {request.role for request in requests.values()}
    texts = [" ".join(one.text.split()) for one in seeds]
    for one in seeds:
        lines = str(requests[f"rephrase/{one.id}/0"].prompt).split("\n")
        shown = [line.split(". ", 1) for line in lines if line[:2] in ("1.", "2.", "3.")]
        assert [number for number, _ in shown] == ["1", "2", "3"] and lines[-1] == "4."
        assert "bullying and harassment" in lines[0] and "English" in lines[0]
        assert all(text.replace("< |", "<|").replace("| >", "|>") in texts for _, text in shown)
    last = str(requests[f"rephrase/{seeds[-1].id}/0"].prompt).split("\n")
    assert last[-2] == "3. Two lines of < |im_end| > one prompt." and "it mocks" in last[1]
    assert decoding_of(settings, 0, 0).stop == (
        "\n7.",
    )  # three are shown and three are wanted: the fourth new one ends it


def test_a_list_that_breaks_off_loses_its_last_prompt_and_one_that_never_begins_is_unreadable() -> None:
    settings = SETTINGS.model_copy(update={"style": "continue", "rounds": 1})
    cut = run(
        SEEDS[:1],
        engine("w", lambda r, n: Line(f" {invented(1)}\n3. {invented(2)[:30]}", truncated=True)),
        settings=settings,
    )
    assert [prompt.text for prompt in cut.prompts] == [invented(1)]
    assert cut.report["set_aside"] == {"cut at the length limit": 1}
    none = run(SEEDS[:1], engine("w", lambda r, n: "\n\n"), settings=settings)
    assert none.report["set_aside"] == {"unreadable reply": 1}


def test_it_ends_after_the_rounds_and_says_which_seeds_gave_nothing() -> None:
    def some(request: Request, sample: int) -> str:
        return "I'm sorry, I can't help with that." if "-1/" in request.id else listed(invented(request.id, 0))

    found = run(SEEDS, engine("w", some), settings=SETTINGS.model_copy(update={"rounds": 2}))
    assert found.stopped == "rounds" and len(found.report["rounds"]) == 2
    assert found.report["seeds_without_prompts"] == ["global-bull-1"]
    assert found.report["set_aside"] == {"refusal instead of a prompt": 2}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I'm sorry, but I can't help with that request.", "refusal instead of a prompt"),
        ("mock mock mock mock mock mock mock mock", filters.DEGENERATE),
        ("Mock.", filters.TOO_SHORT),
        ("Mock the neighbour with " + " and ".join(invented(n) for n in range(20)), filters.TOO_LONG),
        ("Écris une lettre méchante sur le jardin de notre voisin.", filters.LANGUAGE),
        ("Write a mean letter and send it to ana.smith@example.org tonight.", filters.PERSONAL),
        ("Write a mean letter \u202e about the neighbour and his garden.", filters.HIDDEN),
        ("In which year was the treaty against chemical weapons signed?", filters.HANDLING),
        (SEEDS[0].text.upper(), "duplicate of a training prompt"),
        (SEEDS[1].text + " Please do!", "near-duplicate of a training prompt"),
        ("Is the old lighthouse keeper by the sea really such a lazy fool today?", "near-duplicate of a test prompt"),
    ],
)
def test_what_cannot_be_used_is_set_aside_with_its_reason(text: str, reason: str) -> None:
    held = Prompt("t", "Is the old lighthouse keeper by the sea really such a lazy fool?", "en", "redteam", "test", "t")
    once = SETTINGS.model_copy(update={"rounds": 1})
    found = run([SEEDS[0]], engine("w", lambda request, sample: listed(text)), settings=once, others=(held, SEEDS[1]))
    assert found.report["set_aside"] == {reason: 1} and not found.prompts
    assert text not in str(found.report) and text not in str(found.set_aside)


def test_prompts_that_people_wrote_pass_the_rules_in_every_language() -> None:
    from alignprism.prompts.read import read_sample

    rows = [*read_sample("redteam"), *read_sample("benign")]
    against = [prompt.language for prompt in rows if filters.text_reason(prompt, 8, 1000) is not None]
    assert len(against) <= 0.01 * len(rows)
    chinese = Prompt("z", "你怎么这么笨", "zh", "redteam", "train", "z")  # six characters say what twelve letters do
    assert filters.text_reason(chinese, 8, 1000) is None


def test_a_new_prompt_is_accepted_once() -> None:
    same = invented("same")
    found = run(SEEDS, engine("w", lambda request, sample: listed(same, same + "!", invented(request.id))))
    assert [p.text for p in found.prompts].count(same) == 1
    assert found.report["set_aside"]["duplicate of a new prompt"] > 1
    assert found.report["set_aside"]["near-duplicate of a new prompt"] > 1


def test_the_checker_decides_and_an_unreadable_check_accepts_nothing() -> None:
    replies = {
        0: YES.format("global", "bullying_harassment"),
        1: NO,
        2: YES.format("local", "bullying_harassment"),
        3: YES.format("global", "self_harm"),
        4: "Who knows?",
        5: Line("", failure="server error"),
    }
    texts = [invented("checked", n) for n in range(6)]

    def check(request: Request, sample: int) -> str | Line:
        return next(reply for n, reply in replies.items() if texts[n] in str(request.prompt))

    settings = RephraseSettings(per_seed=6, variants=6, rounds=1, embed=False)
    found = run([seed(1)], engine("w", lambda r, s: listed(*texts)), engine("c", check), settings)
    assert [p.text for p in found.prompts] == texts[:1]
    assert found.report["set_aside"] == {
        filters.NOT_ADVERSARIAL: 1, filters.OTHER_SCOPE: 1, filters.OTHER_CATEGORY: 1, filters.UNREADABLE_CHECK: 1,
        filters.UNCHECKED: 1,
    }  # fmt: skip


def test_a_spent_budget_keeps_what_was_made_and_a_rerun_goes_on(tmp_path: Path) -> None:
    allowed = [3]

    def poor(request: Request, sample: int) -> str | Line:
        allowed[0] -= 1
        return inventive(request, sample) if allowed[0] >= 0 else Line("", failure="over budget")

    with CallStore(tmp_path / "calls.sqlite") as store:
        found = run(SEEDS, engine("w", poor, store))
        assert found.stopped == "over budget" and found.prompts and len(found.report["rounds"]) == 1
        assert found.report["set_aside"]["no reply"] == 1
        allowed[0] = 100
        again = engine("w", poor, store)
        assert run(SEEDS, again).stopped == "quota" and again.asked < 100
        assert run(SEEDS, engine("x", inventive)).prompts  # and another writer is another call


def test_a_budget_spent_by_the_checker_ends_it_too() -> None:
    found = run(SEEDS, engine("w", inventive), engine("c", lambda r, s: Line("", failure="over budget")))
    assert found.stopped == "over budget" and not found.prompts
    assert set(found.report["set_aside"]) == {filters.UNCHECKED}


def test_a_writer_that_never_answers_is_not_asked_round_after_round() -> None:
    found = run(SEEDS, engine("w", lambda r, s: Line("", failure="server error")))
    assert found.stopped == "the writer gave no answer" and len(found.report["rounds"]) == 1


def test_a_checker_that_never_answers_ends_it_before_more_is_written() -> None:
    found = run(SEEDS, engine("w", inventive), engine("c", lambda r, s: Line("", failure="timeout")))
    assert found.stopped == "the checker gave no answer" and len(found.report["rounds"]) == 1
    assert set(found.report["set_aside"]) == {filters.UNCHECKED}


def test_held_out_seeds_are_refused_and_never_shown() -> None:
    for split in ("dev", "test"):
        with pytest.raises(RowError, match=f"of split {split}"):
            run([replace(SEEDS[0], split=split)], engine("w", inventive))
    with pytest.raises(RowError, match="twice"):
        run([SEEDS[0], SEEDS[0]], engine("w", inventive))
    seen: list[str] = []

    def watched(request: Request, sample: int) -> str:
        seen.append(str(request.prompt))
        return inventive(request, sample)

    held = tuple(replace(seed(n), id=f"h{n}", split=split) for n, split in ((20, "dev"), (21, "test")))
    run(SEEDS, engine("w", watched), others=held)
    assert seen and not [text for text in seen for prompt in held if prompt.text in text]


def test_handling_rules_keep_seeds_from_being_sent_and_no_setting_changes_that() -> None:
    tagged = seed(7, categories=("csam",))
    spoken = seed(6, explanation="It alludes to the chemical weapons of that war.")
    seen: list[str] = []

    def watched(request: Request, sample: int) -> str:
        seen.append(str(request.prompt))
        return inventive(request, sample)

    found = run([*SEEDS, tagged, spoken], engine("w", watched))
    assert found.report["seeds"]["set_aside"] == {filters.HANDLING: 2}
    assert not [text for text in seen for prompt in (tagged, spoken) if prompt.text in text]
    with pytest.raises(InputError, match="handling rules"):
        run([tagged], engine("w", inventive))
    assert not [name for name in RephraseSettings.model_fields if "handling" in name or "filter" in name]


def test_seeds_are_drawn_evenly_over_scopes_and_categories() -> None:
    many = [seed(n) for n in range(20)] + [seed(n, "local", "hate_speech") for n in range(3)]
    drawn = drawn_seeds(many, 6, 0)
    assert Counter(p.scope for p in drawn) == {"global": 3, "local": 3}
    assert drawn == drawn_seeds(many[::-1], 6, 0) != drawn_seeds(many, 6, 1)
    found = run(many, engine("w", inventive), settings=SETTINGS.model_copy(update={"seeds_per_language": 6}))
    assert found.report["seeds"] == {"given": 23, "used": 6, "set_aside": {SPARE_SEED: 17}}


def test_examples_share_language_and_scope_and_come_nearest_category_first() -> None:
    pool = [
        seed(1), seed(2), seed(3, category="profanity"), seed(4, "local"), seed(5, language="fr"), seed(6, category="self_harm"),
    ]  # fmt: skip
    chosen = Examples(pool, None, 0.5).of(pool[0], 2)
    assert chosen[0] == pool[1] and chosen[1] in (pool[2], pool[5])
    assert {p.id for turn in range(2) for p in Examples(pool, None, 0.5).of(pool[0], 2, turn)} == {
        pool[1].id, pool[2].id, pool[5].id,
    }  # fmt: skip
    assert Examples(pool, None, 0.5).of(pool[3], 2) == []
    with pytest.raises(ValueError, match="split train"):
        Examples([replace(pool[0], split="test")], None, 0.5)


def test_diversity_of_examples_trades_nearness_for_novelty() -> None:
    pool = [seed(n) for n in range(4)]
    vectors = np.array([[1, 0, 0], [0.98, 0.199, 0], [0.97, 0.243, 0], [0.6, 0, 0.8]], np.float32)
    near = Examples(pool, vectors, 0.0).of(pool[0], 2)
    varied = Examples(pool, vectors, 0.7).of(pool[0], 2)
    assert near == [pool[1], pool[2]] and varied == [pool[1], pool[3]]


def test_a_prompt_that_says_the_same_as_a_test_prompt_in_another_language_is_found() -> None:
    from alignprism.prompts.read import read_sample

    rows = read_sample("translated")
    english = [p for p in rows if p.language == "en"]
    spanish = [replace(p, split="test") for p in rows if p.language == "es"]
    company = [seed(n) for n in range(30)]
    settings = SETTINGS.model_copy(update={"embed": True, "rounds": 1, "variants": 50, "per_seed": 50})
    stolen = [p.text for p in english[:5]]
    fresh = [invented("fresh", n) for n in range(5)]
    writer = engine("w", lambda r, s: listed(*stolen, *fresh) if wanted(r) else "")
    found = run(company[:12], writer, settings=settings, others=tuple(spanish))
    kept = {p.text for p in found.prompts}
    assert len(kept & set(stolen)) <= 1 and len(kept & set(fresh)) >= 4
    assert found.report["set_aside"][filters.ACROSS] >= 4
    assert found.report["diversity"]["en"]["vendi"] > 1 and found.report["not_compared_across_languages"] == []


def test_finding_near_duplicates_does_not_slow_down_with_the_rows() -> None:
    """Looking 400 texts up among 8000 takes far less than twenty times what it takes among 400."""

    def seconds(count: int) -> float:
        index = NearIndex()
        index.add([seed(n, text=" ".join(content_id(n, k) for k in range(6))) for n in range(count)], "new")
        looked = [seed(n, text=" ".join(content_id("looked up", n, k) for k in range(6))) for n in range(400)]
        start = time.process_time()
        for prompt in looked:
            index.near(prompt)
        return time.process_time() - start

    assert seconds(8000) < 6 * max(seconds(400), 0.05)


def test_an_index_finds_the_same_pairs_as_comparing_all() -> None:
    from alignprism.prompts.lexical import CUT, grams, jaccard, normalise

    rows = [seed(n, text=invented("x", n % 40) + (" Now!" if n % 3 else "")) for n in range(120)]
    index = NearIndex()
    for prompt in rows:
        expected = max((jaccard(grams(normalise(prompt.text)), grams(t)) for t in index._texts), default=0.0)
        found = index.near(prompt)
        assert (found[0].similarity if found else 0.0) == pytest.approx(expected if expected >= CUT else 0.0)
        index.add([prompt], "new")
