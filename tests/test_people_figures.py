"""Figures of people's labels: what is given when only some came back, which plan gives what, and that nothing is mixed.

What people say is one thing in each language and stratum, so that every figure that is given must hit the truth exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from alignprism.figures import PAIRED, Answer, Further, Settings, figures, find
from alignprism.figures.answers import clusters_of, generator_of
from alignprism.figures.people import CORRECTED, HUMAN_ONLY, PPI, ROGAN_GLADEN, labelled
from alignprism.labels.plan import Item, LabelPlan, Stratum
from alignprism.rows import Completion, Figure, Harm, Label, Prompt, Verdict
from alignprism.stages.headline import headline
from alignprism.statistics.correction_change import corrected_change
from alignprism.statistics.labelled import drawn_labels

LANGUAGES = ("en", "hi", "tl")
EACH = 60
SETTINGS = Settings(
    baseline="base",
    models=("base", "dpo"),
    train_seeds={},
    primary_model="dpo",
    primary_set="redteam",
    trained_languages=(),
    languages=LANGUAGES,
    judge="judge",
    bootstrap=200,
    seed=0,
)
WAYS_OF_A_RATE = (HUMAN_ONLY, CORRECTED, PPI, ROGAN_GLADEN)


def judged(model: str, number: int) -> Harm:
    """Of 60 prompts: base harmful to 40, dpo to 20, so that three joint strata of 20 occur."""
    return "harmful" if number < (40 if model == "base" else 20) else "harmless"


def people(model: str, language: str, number: int) -> Harm:
    """The judge is right in English; in the others people call harmless what base wrote to the first 20."""
    wrong = language != "en" and model == "base" and number < 20
    return "harmless" if wrong else judged(model, number)


def answers(model: str, prompt_set: str = "redteam") -> list[Answer]:
    found = []
    for language in LANGUAGES:
        for number in range(EACH):
            name = f"{prompt_set}-{language}-{number}"
            prompt = Prompt(name, "t", language, prompt_set, "test", name, scope="global")
            completion = Completion(f"{model}-{name}", name, model, "d", "t", 0, 4, False, 0.0, 0)
            verdict = Verdict(completion.id, "judge", "d", judged(model, number), None, True, language, False, "none")
            found.append(Answer(prompt, completion, verdict))
    return found


ALL = {model: answers(model) for model in ("base", "dpo")}


def plan(
    name: str,
    languages: Sequence[str] = LANGUAGES,
    models: tuple[str, ...] = ("base", "dpo"),
    per_stratum: int = 10,
    prompt_set: str = "redteam",
) -> LabelPlan:
    """The first few of every stratum; plans are as old as their names sort."""
    rows = {model: answers(model, prompt_set) for model in models}
    population: dict[str, str] = {}
    members: dict[tuple[str, str], list[tuple[Answer, ...]]] = {}
    for unit in zip(*rows.values(), strict=True):
        language = unit[0].prompt.language
        if language in languages:
            stratum = "/".join(answer.verdict.harm for answer in unit)
            population |= {answer.completion.id: stratum for answer in unit}
            members.setdefault((language, stratum), []).append(unit)
    items = tuple(
        Item(
            f"{name}-{a.completion.id}", a.completion.id, a.prompt.id, model, language, stratum, per_stratum / len(own)
        )
        for (language, stratum), own in members.items()
        for unit in own[:per_stratum]
        for model, a in zip(models, unit, strict=True)
    )
    strata = tuple(Stratum(*place, len(own), per_stratum) for place, own in members.items())
    return LabelPlan(name, name, 0, 0.05, prompt_set, models, "judge", "d", strata, items, population)


def labels(*plans: LabelPlan, back: Callable[[Item, int], bool] = lambda item, number: True) -> list[Label]:
    """What people say of the items of plans that came `back`, each completion once."""
    found: dict[str, Label] = {}
    for item in (item for made in plans for item in made.items):
        number = int(item.prompt_id.rsplit("-", 1)[1])
        if back(item, number):
            said = people(item.model, item.language, number)
            found[item.completion_id] = Label(item.completion_id, "ines", said, item.probability)
    return list(found.values())


def made(plans: Sequence[LabelPlan], said: Sequence[Label]) -> list[Figure]:
    more = Further(people=labelled(plans, said, ALL))
    return figures(ALL, {}, {a.prompt.id: a.prompt for a in ALL["base"]}, SETTINGS, more)


def given(rows: Sequence[Figure], metric: str, model: str, way: str, language: str | None = None) -> Figure:
    [found] = [
        r
        for r in rows
        if (r.metric, r.model, r.correction, r.language, r.set) == (metric, model, way, language, "redteam")
        and r.scope is None
    ]
    return found


def truth(model: str, languages: Sequence[str] = LANGUAGES) -> float:
    said = [people(model, language, number) for language in languages for number in range(EACH)]
    return said.count("harmful") / len(said)


def only(*codes: str) -> Callable[[Item, int], bool]:
    return lambda item, number: item.language in codes


def test_one_language_labelled_is_not_given_as_all_languages() -> None:
    first = plan("p1")
    rows = made([first], labels(first, back=only("en")))
    for way in (HUMAN_ONLY, CORRECTED, PPI):
        whole, english = (given(rows, "harmful_change", "dpo", way, language) for language in (None, "en"))
        assert whole.estimate is None and whole.reason == "no labels yet in hi, tl"
        assert whole.n_labels == 30 and "rater" in whole.estimand
        assert english.estimate == pytest.approx(truth("dpo", ["en"]) - truth("base", ["en"]))
    for way in (HUMAN_ONLY, CORRECTED):
        relative = given(rows, "harmful_relative_change", "dpo", way)
        assert relative.estimate is None and relative.reason == "no labels yet in hi, tl"
    for way in WAYS_OF_A_RATE:
        rate = given(rows, "harmful_rate", "dpo", way)
        assert rate.estimate is None and rate.reason == "no labels yet in hi, tl"
    assert given(rows, "harmful_rate", "dpo", CORRECTED, "hi").reason == "no human labels"
    judge = [r for r in rows if r.metric == "judge_sensitivity" and r.scope is None and r.language is None]
    assert {r.reason for r in judge} == {"no labels yet in hi, tl"} and not [r for r in judge if r.estimate is not None]
    head = headline(rows, SETTINGS, [])
    assert head["judge_only"] is False, "people have read some of these completions"
    assert head["corrected"]["estimate"] is None and head["corrected"]["reason"] == "no labels yet in hi, tl"


def test_a_stratum_without_a_label_refuses_every_way_and_is_named() -> None:
    first = plan("p1")
    rows = made(
        [first],
        labels(first, back=lambda item, number: item.language != "tl" or item.stratum != "harmful/harmless"),
    )
    for way in (HUMAN_ONLY, CORRECTED, PPI):
        for language in (None, "tl"):
            found = given(rows, "harmful_change", "dpo", way, language)
            assert found.estimate is None
            assert found.reason == "no labels in stratum tl: harmful/harmless (20 rows)"
    assert given(rows, "harmful_change", "dpo", CORRECTED, "hi").estimate is not None


def test_languages_that_came_back_by_half_do_not_weigh_less() -> None:
    first = plan("p1")
    few = labels(first, back=lambda item, number: item.language == "en" or number % 20 < 2)
    # Of two answers one label is not a change: it counts for the rate of its model only.
    few = [label for label in few if label.completion_id != "dpo-redteam-tl-1"]
    rows = made([first], few)
    change = truth("dpo") - truth("base")
    for way in (HUMAN_ONLY, CORRECTED):
        found = given(rows, "harmful_change", "dpo", way)
        assert found.estimate == pytest.approx(change), way
        assert found.low is not None and found.high is not None and found.low < change < found.high
        assert given(rows, "harmful_rate", "base", way).estimate == pytest.approx(truth("base")), way
        assert given(rows, "harmful_relative_change", "dpo", way).estimate == pytest.approx(change / truth("base"))
    assert found.n_labels == 30 + 2 * 6 - 1
    sensitivity = next(r for r in rows if r.metric == "judge_sensitivity" and r.model == "base" and r.language is None)
    assert sensitivity.estimate == pytest.approx(1), "all that people call harmful the judge calls harmful"


def test_finished_sheets_give_what_the_drawn_probabilities_give() -> None:
    first = plan("p1")
    said = labels(first)
    rows = made([first], said)
    drawn = []
    for model in ("base", "dpo"):
        place = {a.completion.id: n for n, a in enumerate(ALL[model])}
        own = [label for label in said if label.completion_id in place]
        drawn.append(
            drawn_labels(
                [place[label.completion_id] for label in own],
                [label.harm == "harmful" for label in own],
                [label.inclusion_probability for label in own],
                [label.annotator for label in own],
            )
        )
    expected = corrected_change(
        [a.verdict.harm for a in ALL["base"]],
        [a.verdict.harm for a in ALL["dpo"]],
        clusters_of(ALL["dpo"]),
        *drawn,
        generator_of(SETTINGS, "corrected", "dpo", "redteam", None),
    )
    ways = {HUMAN_ONLY: expected.human_only, CORRECTED: expected.corrected, PPI: expected.ppi}
    for way, estimate in ways.items():
        found = given(rows, "harmful_change", "dpo", way)
        assert (found.estimate, found.low, found.high) == (estimate.estimate, estimate.low, estimate.high)
    assert expected.corrected.estimate == pytest.approx(truth("dpo") - truth("base"))


def test_topping_up_one_language_leaves_the_others_with_their_plan() -> None:
    first, more = plan("p1"), plan("p2", ["hi"], per_stratum=15)
    before, after = made([first], labels(first)), made([first, more], labels(first, more))
    for metric in ("harmful_change", "harmful_rate"):
        for language in (None, "en", "tl"):
            assert given(after, metric, "dpo", CORRECTED, language) == given(before, metric, "dpo", CORRECTED, language)
    assert given(after, "harmful_change", "dpo", CORRECTED, "hi").n_labels == 45
    assert find(after, "harmful_change", "dpo", "redteam", correction=CORRECTED).estimate is not None
    agreement = {r.language for r in after if r.metric == "judge_specificity" and r.model == "base"}
    assert agreement == {None, *LANGUAGES}


def test_a_newer_plan_takes_over_once_it_can_give_the_figure() -> None:
    first = plan("p1", per_stratum=5)
    # Another judge: what is now one stratum was drawn as another, and so far little of it came back.
    newer = replace(plan("p2"), population=dict.fromkeys(plan("p2").population, "harmful/harmful"))
    newer = replace(newer, items=tuple(replace(item, stratum="harmful/harmful") for item in newer.items))
    few = labels(first) + [label for label in labels(newer, back=only("en")) if label not in labels(first)]
    few = list({label.completion_id: label for label in few}.values())
    waiting = made([first, newer], [label for label in few if "-tl-" not in label.completion_id])
    assert given(waiting, "harmful_change", "dpo", CORRECTED, "en").n_labels == 30, "the newer one"
    assert given(waiting, "harmful_change", "dpo", CORRECTED).reason == "no labels yet in tl"
    done = made([first, newer], labels(newer))
    assert given(done, "harmful_change", "dpo", CORRECTED).n_labels == 90


def test_a_plan_of_one_language_says_what_all_languages_need() -> None:
    first = plan("p1", ["hi"])
    rows = made([first], labels(first))
    whole = given(rows, "harmful_change", "dpo", CORRECTED)
    assert whole.estimate is None and "label plan p1 drew nothing in en, tl" in whole.reason
    assert given(rows, "harmful_change", "dpo", CORRECTED, "hi").estimate is not None
    assert headline(rows, SETTINGS, [])["judge_only"] is False


def test_a_plan_of_one_model_takes_the_judge_only_sentence_away_and_gives_its_rate() -> None:
    first = plan("p1", models=("dpo",))
    rows = made([first], labels(first))
    assert given(rows, "harmful_rate", "dpo", CORRECTED).estimate == pytest.approx(truth("dpo"))
    head = headline(rows, SETTINGS, [])
    assert head["judge_only"] is False and head["corrected"] is None
    assert headline(made([], []), SETTINGS, [])["judge_only"] is True
    assert headline(made([first], []), SETTINGS, [])["judge_only"] is True, "a plan alone is no reading"


def test_a_plan_on_another_set_does_not_take_the_figures_of_the_first() -> None:
    first, other = plan("p1"), plan("p2", prompt_set="benign")
    everything = {model: [*answers(model), *answers(model, "benign")] for model in ("base", "dpo")}
    said = labels(first, other)
    rows = figures(
        everything,
        {},
        {a.prompt.id: a.prompt for a in everything["base"]},
        SETTINGS,
        Further(people=labelled([first, other], said, everything)),
    )
    alone = made([first], labels(first))
    for way in (HUMAN_ONLY, CORRECTED):
        assert given(rows, "harmful_change", "dpo", way) == given(alone, "harmful_change", "dpo", way)
    assert find(rows, "harmful_change", "dpo", "benign", correction=CORRECTED).estimate is not None
    assert {r.set for r in rows if r.metric == "judge_bias"} == {"redteam"}, "the judge is measured on the primary set"
    assert find(rows, "harmful_change", "dpo", "redteam", PAIRED).correction == "none: judge only"
