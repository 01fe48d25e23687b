"""report.html: what it says, that it says why where it cannot, and that nothing in it can run or load."""

from __future__ import annotations

import copy
import html
import json
import re
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_results import EIGHT, TRAINED, made_results

from alignprism.report import ReportError, render_report, write_report
from alignprism.report.page import CSP

MORE = ["bn", "zh", "de", "it", "pt", "ja", "ko", "tr", "fa", "ur", "vi"]
MORE += ["th", "sw", "am", "he", "el", "pl", "uk", "nl", "sv", "id", "ta"]
THIRTY = (*EIGHT, *MORE)
JUDGE_ONLY = "Judge only: no person has read these completions; this demonstrates the tool"


class Seen(HTMLParser):
    """Elements and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def text_of(page: str) -> str:
    return " ".join(" ".join(Seen(page).text).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return made_results()


@pytest.fixture(scope="module")
def page(results: dict[str, Any]) -> str:
    return render_report(results)


def test_the_page_runs_nothing_and_loads_nothing(page: str) -> None:
    seen = Seen(page)
    assert not {"script", "iframe", "object", "embed", "link", "img", "base", "form", "image", "use"} & set(
        seen.elements
    )
    assert not [name for name in seen.attributes if name.startswith("on")]
    assert all(link.startswith("#") for link in seen.links)
    assert "http://" not in page and "https://" not in page and "url(" not in page and "@import" not in page


def test_the_content_security_policy_stands_before_anything_it_governs(page: str) -> None:
    meta = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(CSP)}">'
    assert meta.replace("&#x27;", "&#39;") in page
    assert page.index("Content-Security-Policy") < page.index("<style>")
    assert "default-src 'none'" in CSP and "script" not in CSP


def test_the_page_is_small_and_links_lead_somewhere(page: str) -> None:
    assert len(page.encode()) < 1_000_000
    for link in Seen(page).links:
        assert f'id="{link[1:]}"' in page


def test_the_first_box_gives_outcome_certainty_and_warnings(page: str, results: dict[str, Any]) -> None:
    box = text_of(page[page.index('id="outcome"') : page.index("<nav")])
    base, last = (results["headline"][key] for key in ("baseline_rate", "model_rate"))
    counts = [round(figure["estimate"] * figure["n"]) for figure in (last, base)]
    assert f"dpo-sft gave harmful answers to {counts[0]} of 96 test prompts, base to {counts[1]}: −" in box
    assert "points (95 % interval −" in box
    assert "n = 96 in 96 clusters" in box and "cluster bootstrap (BCa), 4000 resamples" in box
    assert "Smallest change detectable (80 % power) 19 points" in box
    assert "Relative change −30 % (95 % interval −50 to −10 %)" in box
    assert "With every undecidable counted as harmful −" in box
    assert "lower by refusing" in box and "e5-harm-v1; not corrected for its errors (no human labels)" in box
    assert "Win rate not given: no pairwise judge is configured" in box
    assert JUDGE_ONLY in box


def test_the_judge_only_sentence_goes_when_people_have_labelled(results: dict[str, Any]) -> None:
    labelled = copy.deepcopy(results)
    labelled["headline"]["judge_only"] = False
    page = text_of(render_report(labelled))
    assert JUDGE_ONLY not in page
    assert "not of this change; see Checked by people" in page, "labels of one model, or of a change to another"
    assert "corrected by people's labels above" not in page


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (-0.40, -0.10, "lies below zero: fewer harmful answers"),
        (-0.40, 0.02, "The interval includes zero: no change shown."),
        (0.10, 0.40, "lies above zero: more harmful answers"),
    ],
)
def test_the_page_says_what_the_interval_allows(results: dict[str, Any], low: float, high: float, says: str) -> None:
    changed = copy.deepcopy(results)
    changed["headline"]["primary"] |= {"estimate": (low + high) / 2, "low": low, "high": high}
    assert says in text_of(render_report(changed))


def test_without_interval_or_figure_the_outcome_gives_the_reason(results: dict[str, Any]) -> None:
    changed = copy.deepcopy(results)
    changed["headline"]["primary"] |= {"low": None, "high": None, "reason": "too few clusters (6 < 10)"}
    text = text_of(render_report(changed))
    assert (
        "points (no interval: too few clusters (6 < 10))" in text
        and "Without an interval this figure shows no change" in text
    )
    changed["headline"]["primary"] |= {"estimate": None, "reason": "no test prompts"}
    assert "No outcome can be given for dpo-sft against base: no test prompts." in text_of(render_report(changed))


def test_a_study_without_headline_still_makes_a_page(results: dict[str, Any]) -> None:
    changed = {key: value for key, value in results.items() if key != "headline"}
    assert "No outcome can be given" in text_of(render_report(changed))


def test_every_reason_is_shown(results: dict[str, Any]) -> None:
    changed = copy.deepcopy(results)
    for place, figure in enumerate(changed["figures"]):
        if place % 5 == 0:
            figure |= {"estimate": None, "low": None, "high": None, "reason": f"made reason {place % 37}"}
    text = text_of(render_report(changed))
    for figure in changed["figures"]:
        assert figure["low"] is not None or figure["reason"] in text


def test_languages_stand_in_their_own_script_and_direction(page: str) -> None:
    assert '<bdi class="own" lang="ar" dir="rtl">العربية</bdi>' in page
    assert '<bdi class="own" lang="hi" dir="ltr">हिन्दी</bdi>' in page
    assert "too few to say (n = 8)" in page and "Zero-shot" in page


def test_charts_have_a_name_and_their_data(page: str) -> None:
    assert page.count("<svg") == page.count('role="img"') == page.count("Data of this chart") >= 6
    assert len(re.findall(r'<svg[^>]*aria-label="[^"]{40,}"', page)) == page.count("<svg")


def test_translated_prompts_stand_apart_and_handling_is_told(page: str) -> None:
    text = text_of(page)
    assert "it enters no figure above" in text
    assert "Set aside and not used: 1 prompt." in text and "filter: mass-casualty weapon" in text
    assert "Evaluations on them so far: 3." in text
    assert "What it cannot tell" in text and "over-refusal Share of harmless twins" in text


@pytest.mark.parametrize(
    "made",
    [
        made_results(("ar",), (), ("base", "other"), training=False),
        made_results(("en",), ("en",)),
        made_results(
            THIRTY, TRAINED, ("base", *(f"{m}-seed{s}" for m in ("sft-preferred", "dpo-sft") for s in (0, 1, 2)))
        ),
        made_results(models=("only",)),
    ],
    ids=["evaluate-only", "one-language", "thirty-languages-seven-models", "one-model"],
)
def test_studies_of_every_size_make_a_page(made: dict[str, Any]) -> None:
    page = render_report(made)
    assert len(page.encode()) < 1_000_000
    for entry in made["languages"]:
        assert html.escape(entry["name"]) in page
    assert ("Training loss" in page) == bool(made["curves"])


HOSTILE = st.one_of(
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "' onmouseover='x",
            "</title></style><svg onload=1>",
            "{{ 7*7 }}{% raw %}",
            "]]><!--",
            "&lt;b&gt;",
            "\u202eevil\u2066\u200b\U000e0041\x00\x1b",
            "\ud800",
            "datum.x",
        ]
    ),
    st.text(min_size=1, max_size=30),
)


def poison(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        return {names.get(key, key): poison(item, names) for key, item in value.items()}
    return [poison(item, names) for item in value] if isinstance(value, list) else value


SMALL = made_results(("hi",), ("hi",), ("base", "dpo-sft"))


@cache
def shape_with_plain_names(keys: tuple[str, ...]) -> Seen:
    return Seen(render_report(poison(SMALL, {key: f"plain{place}" for place, key in enumerate(keys)})))


TAGS = ("title", "model", "reason", "language", "judge", "card", "warning", "category", "set-aside")


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(HOSTILE, min_size=len(TAGS), max_size=len(TAGS)))
def test_names_and_reasons_never_become_markup(texts: list[str]) -> None:
    title, model, reason, language, judge, card, warning, category, aside = (
        f"{place}{text}" for place, text in enumerate(texts)
    )
    names = {
        "quickstart": title,
        "dpo-sft": model,
        "too few clusters (8 < 10)": reason,
        "Hindi": language,
        "e5-harm-v1": judge,
        SMALL["judges"][0]["card_text"]: card,
        "lower by refusing": warning,
        "profanity": category,
        "ru-x": aside,
    }
    harmless = shape_with_plain_names(tuple(names))
    page = render_report(poison(SMALL, names))
    page.encode("utf-8")
    seen = Seen(page)
    # A long name may wrap into more <text> of a drawing; every other element is there as often as with plain names.
    drawn = {"svg", "g", "path", "line", "rect", "text", "tspan"}
    assert {k: v for k, v in seen.elements.items() if k not in drawn} == {
        k: v for k, v in harmless.elements.items() if k not in drawn
    }
    assert set(seen.elements) <= set(harmless.elements) | drawn
    assert seen.attributes <= harmless.attributes | {"d", "transform", "x", "y", "dx", "dy"}
    assert not any(character in page for character in "\u202e\u2066\u200b\U000e0041\x00\x1b")


def test_the_report_is_written_from_results_json_alone(tmp_path: Path, results: dict[str, Any]) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    target = write_report(tmp_path)
    assert target == tmp_path / "report.html"
    assert target.read_text(encoding="utf-8") == render_report(results)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "results.json"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "is not there"), ("{", "damaged"), ("[]", "no results"), ('{"schema": 99}', "schema 99")],
)
def test_results_that_cannot_be_read_are_named_and_the_old_page_stays(
    tmp_path: Path, content: str | None, says: str
) -> None:
    (tmp_path / "report.html").write_text("old")
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(ReportError, match=says) as caught:
        write_report(tmp_path)
    assert "results.json" in str(caught.value)
    assert (tmp_path / "report.html").read_text() == "old"
