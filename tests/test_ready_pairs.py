"""Ready pairs are kept apart from held-out prompts of other languages: a translation is a leak as well."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tiny_model import STUDY, Bench, invented_words

from alignprism.construct.prefer import Made
from alignprism.judging.protocol import HarmVerdict, Item
from alignprism.models.protocol import Progress
from alignprism.models.spec import ModelSpec, resolve
from alignprism.prompts.read import read_sample
from alignprism.rows import Pair, Prompt
from alignprism.run_folder import RunFolder
from alignprism.stages.context import Context
from alignprism.stages.data import Limit
from alignprism.stages.ready import SPARE, Across, Ready, ready_pairs
from alignprism.study import Study, parse


def pairs_of(prompts: list[Prompt]) -> list[Pair]:
    rows = []
    for n, prompt in enumerate(prompts):
        rows.append(
            Pair(
                id=f"pair {n}", prompt_id=f"other {n}", prompt=prompt.text, chosen="No.", rejected="Yes.",
                language=prompt.language, kind="safety", scope=None, categories=(), seed_id=f"seed {n}",
                chosen_source="a", rejected_source="b", chosen_score=None, rejected_score=None, judge="", licence="", redistribute=False, random_side="chosen",
            )
        )  # fmt: skip
    return rows


def test_translations_of_held_out_prompts_are_set_aside_and_other_prompts_are_not() -> None:
    sample = read_sample("translated")
    french = [prompt for prompt in sample if prompt.language == "fr"]
    translations = [prompt for prompt in sample if prompt.language == "en"]
    others = [prompt for prompt in read_sample("general") if prompt.language == "en"][: len(translations)]
    assert len(french) == len(translations) >= 8 and len(others) >= 8
    pairs = pairs_of([*translations, *others])
    again = [*pairs, *(replace(pair, id=f"{pair.id} again") for pair in pairs)]  # several pairs of one prompt
    across = Across([replace(prompt, split="test") for prompt in french])
    kept, aside = across.apart(again)
    assert across.uncompared == ()
    assert sorted([*(p.id for p in kept), *(row.id for row in aside)]) == sorted(p.id for p in again)
    wrong = {row.id for row in aside} & {pair.id for pair in pairs[len(translations) :]}
    found = {row.id for row in aside} & {pair.id for pair in pairs[: len(translations)]}
    assert len(found) >= 0.75 * len(translations) and len(wrong) <= 1, (sorted(found), sorted(wrong))
    assert {row.reason for row in aside} == {"says the same as a dev or test prompt in another language"}
    names = {row.id for row in aside}
    assert all((f"{name} again" in names) for name in found)
    assert not [row for row in aside if any(pair.prompt in row.detail for pair in pairs)]


def test_held_out_prompts_of_the_same_language_only_need_no_vectors() -> None:
    english = [prompt for prompt in read_sample("translated") if prompt.language == "en"]
    pairs = pairs_of(english)
    for held_out, asked in ((english, pairs), ([], pairs), (english, [])):
        across = Across(held_out)
        assert across.apart(asked) == (asked, []) and across.uncompared == ()


def test_later_prompts_are_compared_in_the_company_of_earlier_ones_and_each_once() -> None:
    sample = read_sample("translated")
    french = [replace(prompt, split="test") for prompt in sample if prompt.language == "fr"]
    pairs = pairs_of([prompt for prompt in sample if prompt.language == "en"])
    others = pairs_of([prompt for prompt in read_sample("general") if prompt.language == "en"])
    across = Across(french)
    _, first = across.apart([*pairs[:4], *(replace(pair, id="other") for pair in others)])
    again, later = across.apart([replace(pair, id=f"{pair.id} again") for pair in pairs])
    found = {row.id for row in first} - {"other"}
    assert len(found) >= 3 and {f"{name} again" for name in found} <= {row.id for row in later}
    assert len(later) >= 0.75 * len(pairs) and len(later) + len(again) == len(pairs)


def test_too_few_prompts_to_compare_are_named() -> None:
    sample = read_sample("translated")
    french = [replace(prompt, split="test") for prompt in sample if prompt.language == "fr"]
    pairs = pairs_of([prompt for prompt in sample if prompt.language == "en"])
    few_held_out = Across(french[:7])
    assert few_held_out.apart(pairs) == (pairs, []) and few_held_out.uncompared == ("en",)
    few_new = Across(french)
    assert few_new.apart(pairs[:7]) == (pairs[:7], []) and few_new.uncompared == ("en",)


# --- rounds ----------------------------------------------------------------------------------------------------------


class Judge:
    """Calls an answer harmful that says so, and remembers how many it was shown at once."""

    name, digest = "judge", "d"

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def judge(self, items: Sequence[Item], progress: Progress | None = None) -> Iterator[HarmVerdict]:
        self.rounds.append(len(items))
        for item in items:
            yield HarmVerdict(item.id, "harmful" if item.completion == "Mean." else "harmless", score=0.2)

    def check(self, languages: object) -> None:
        """Any language."""


def study_of(folder: Path, mean: int, kind: int) -> Study:
    """A study that needs 8 safety pairs and tries 12, and a file with some pairs that are harmful."""
    words = invented_words()
    rows = [
        {
            "prompt": f"{' '.join(words[7 * n : 7 * n + 7])}?", "chosen": "Mean." if n < mean else "Kind.",
            "rejected": "Rude.", "language": "en",
        }
        for n in range(mean + kind)
    ]  # fmt: skip
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    changes = (
        "pairs.total=16",
        "mixture=0.5",
        "languages.train=[en]",
        "languages.test=[en]",
        f"data.safety_pairs={file}",
    )
    return parse(STUDY.format(model="nobody/nothing"), overrides=changes)


def made_of(folder: Path, study: Study, judge: Judge) -> tuple[Ready, list[str]]:
    said: list[str] = []
    run = RunFolder.__new__(RunFolder)  # not read: ready pairs lie in a file of the study
    context = Context(study, run, folder, {}, said.append, lambda title, total: lambda done, of: None)
    return ready_pairs(context, study, "safety", judge, lambda made: made), said


def test_what_the_judge_refuses_is_made_up_for_by_pairs_that_were_not_tried(tmp_path: Path) -> None:
    judge = Judge()
    ready, said = made_of(tmp_path, study_of(tmp_path, mean=50, kind=20), judge)
    assert len(ready.made.pairs) >= 8
    assert judge.rounds[0] == 12 and len(judge.rounds) == 2 <= len(said)
    assert len(ready.made.pairs) + len(ready.made.set_aside) == 70


def test_no_more_are_tried_than_it_takes(tmp_path: Path) -> None:
    judge = Judge()
    ready, _ = made_of(tmp_path, study_of(tmp_path, mean=0, kind=40), judge)
    assert judge.rounds == [12] and len(ready.made.pairs) == 12
    assert ready.made.dropped == {SPARE: 28}


def test_where_all_are_refused_all_were_tried(tmp_path: Path) -> None:
    judge = Judge()
    ready, _ = made_of(tmp_path, study_of(tmp_path, mean=60, kind=3), judge)
    assert sum(judge.rounds) == 63 and len(ready.made.pairs) == 3 and SPARE not in ready.made.dropped


def test_each_pair_that_training_would_leave_out_has_its_own_reason_and_its_language(
    bench: Bench, tmp_path: Path
) -> None:
    study = parse(
        f"languages: {{train: [en, ar]}}\nmodels: {{base: {{source: {bench.model}}}}}\ntraining: {{max_tokens: 300}}"
    )
    model = resolve(ModelSpec("base", str(bench.model)), bench.cache)
    context = Context(study, RunFolder(tmp_path), bench.cache, {"base": model}, print, lambda *_: lambda *_: None)
    good, long, empty, equal = pairs_of([p for p in read_sample("redteam") if p.language == "en"][:4])
    long = replace(long, chosen="No. " * 100, language="ar")
    pairs = [good, long, replace(empty, rejected=""), replace(equal, rejected=equal.chosen)]
    limit = Limit(context)
    made = limit.within("safety", Made(pairs))
    assert made.pairs == [good]
    assert [(row.reason, row.language) for row in made.set_aside] == [
        ("over 300 tokens a side", "ar"),
        ("an empty completion", "en"),
        ("equal sides", "en"),
    ]
    assert limit.within("safety", made).pairs == [good]
    arabic, english = limit.reports["safety"]
    assert (arabic.rows, arabic.kept, arabic.over_limit) == (1, 0, 1), "of all pairs, before any was dropped"
    assert (english.rows, english.kept, english.empty, english.identical) == (3, 1, 1, 1)
